"""Resizing by interpolation: bicubic enlargement, and the downscaling that test sets are made by."""
