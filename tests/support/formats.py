"""The table of formats in docs/upscaling.md. Run this file to write it anew."""

from __future__ import annotations

from pathlib import Path

from gsrcli.images import INPUT_SUFFIXES, OPTIONAL_SUFFIXES, Feature, Format, formats
from gsrcli.images.writers import ANIMATIONS, PAGES

__all__ = ["DOCUMENT", "with_table"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "upscaling.md"

_HEADINGS = ("format", "suffixes", "coding", "bits", "transparency", "colour tags", "metadata", "several", "at most")
_PIXELS = {Feature.SIXTEEN_BITS: "16", Feature.FLOAT: "float"}
_COLOURS = {Feature.PROFILE: "profile", Feature.CICP: "CICP", Feature.GAMMA: "gamma", Feature.HDR: "HDR"}
_PARTS = {*_PIXELS, *_COLOURS, Feature.NARROW, Feature.TRANSPARENCY}


def with_table(document: str) -> str:
    """Return the document with the table, and the list of formats that are only read, as they are in the package."""
    rows = [_HEADINGS, ("---",) * len(_HEADINGS), *map(_row, formats._FORMATS)]
    table = "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |").replace("|  |", "| |") for row in rows)
    written = {suffix for form in formats._FORMATS for suffix in form.suffixes}
    read = sorted({*INPUT_SUFFIXES, *OPTIONAL_SUFFIXES} - written)
    text = f"{table}\n\nFiles in {_listed(read)} are read too."
    before, _, rest = document.partition("<!-- formats -->\n")
    _, marker, after = rest.partition("\n<!-- end of formats -->")
    assert marker, "the table has lost its markers"
    return f"{before}<!-- formats -->\n{text}{marker}{after}"


def _row(form: Format) -> tuple[str, ...]:
    other = form.keeps - _PARTS
    return (
        form.name,
        " ".join(form.suffixes),
        _coding(form),
        _bits(form),
        "yes" if Feature.TRANSPARENCY in form.keeps else "",
        ", ".join(name for feature, name in _COLOURS.items() if feature in form.keeps),
        ", ".join(feature for feature in Feature if feature in other),
        "frames" if form.name in ANIMATIONS else "pages" if form.name in PAGES else "",
        _limit(form),
    )


def _coding(form: Format) -> str:
    if form.palette:
        return "palette"
    return "lossless" if form.quality is None else "lossy or lossless" if form.lossless else "lossy"


def _bits(form: Format) -> str:
    if form.palette:
        return "256 colours"
    deep = ["10"] if form.deep else [name for feature, name in _PIXELS.items() if feature in form.keeps]
    return ", ".join(["8", *deep])


def _limit(form: Format) -> str:
    limits = []
    if form.max_side < 2**31 - 1:
        limits.append(f"{form.max_side:,} pixels a side".replace(",", " "))
    if form.max_pixels is not None:
        limits.append(f"{form.max_pixels / 1e6:.0f} megapixels")
    if form.max_bytes is not None:
        limits.append("4 GiB uncompressed")
    return ", ".join(limits)


def _listed(names: list[str]) -> str:
    return f"{', '.join(f'`{name}`' for name in names[:-1])} and `{names[-1]}`"


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text("utf-8")), "utf-8")
