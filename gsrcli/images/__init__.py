"""Decode and encode picture files: colour, transparency, bit depth, profile and metadata. Needs no torch."""

from __future__ import annotations

from gsrcli.images.decode import DEFAULT_MAX_PIXELS, probe, read_picture
from gsrcli.images.encode import losses, make_folder, write_picture
from gsrcli.images.formats import (
    INPUT_SUFFIXES,
    OUTPUT_SUFFIXES,
    Format,
    check_limits,
    check_output,
    output_format,
    output_formats,
)
from gsrcli.images.picture import Picture, bleed_alpha, from_unit, to_eight_bits, to_unit

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "INPUT_SUFFIXES",
    "OUTPUT_SUFFIXES",
    "Format",
    "Picture",
    "bleed_alpha",
    "check_limits",
    "check_output",
    "from_unit",
    "losses",
    "make_folder",
    "output_format",
    "output_formats",
    "probe",
    "read_picture",
    "to_eight_bits",
    "to_unit",
    "write_picture",
]
