"""Encode PNG files and animations."""

from __future__ import annotations

from gsrcli.images.writers.png.encode import encode_png, encode_png_animation

__all__ = ["encode_png", "encode_png_animation"]
