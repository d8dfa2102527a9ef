"""Read and write files of one picture or several: pixels, transparency, colour tags, metadata. Needs no torch."""

from __future__ import annotations

from gsrcli.images.colour import Chromaticities, Cicp, Colour
from gsrcli.images.fit import Background, fit
from gsrcli.images.formats import (
    INPUT_SUFFIXES,
    OPTIONAL_SUFFIXES,
    OUTPUT_SUFFIXES,
    Format,
    check_limits,
    check_output,
    install_hint,
    memory_to_write,
    output_format,
    output_formats,
)
from gsrcli.images.ledger import Entry, Fate, Feature, Ledger, with_fate
from gsrcli.images.metadata import Metadata, Text
from gsrcli.images.picture import Origin, Picture, bleed_alpha, from_unit, to_eight_bits, to_unit, white
from gsrcli.images.read import DEFAULT_MAX_PIXELS, PictureFile, probe, read_picture
from gsrcli.images.write import make_folder, parse_colour, require_several, write_picture, write_pictures

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "INPUT_SUFFIXES",
    "OPTIONAL_SUFFIXES",
    "OUTPUT_SUFFIXES",
    "Background",
    "Chromaticities",
    "Cicp",
    "Colour",
    "Entry",
    "Fate",
    "Feature",
    "Format",
    "Ledger",
    "Metadata",
    "Origin",
    "Picture",
    "PictureFile",
    "Text",
    "bleed_alpha",
    "check_limits",
    "check_output",
    "fit",
    "from_unit",
    "install_hint",
    "make_folder",
    "memory_to_write",
    "output_format",
    "output_formats",
    "parse_colour",
    "probe",
    "read_picture",
    "require_several",
    "to_eight_bits",
    "to_unit",
    "white",
    "with_fate",
    "write_picture",
    "write_pictures",
]
