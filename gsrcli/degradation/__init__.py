"""Degradations beyond downscaling: the blur, noise, sharpening and JPEG of cameras, scanners and web sites."""
