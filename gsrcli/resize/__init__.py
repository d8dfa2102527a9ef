"""Resizing by interpolation: bicubic upscaling, and downscaling as test sets are made."""
