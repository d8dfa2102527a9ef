"""Read the picture size in AV1 data, and whether it is coded without loss (AV1 specification, 5.5 and 5.9)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gsrcli.size import Size

__all__ = ["coded_size", "coded_without_loss"]

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_MAX_HEADER = 256  # bytes
_MOST_UNITS = 10_000  # a frame has up to 4096 tiles
_KEY_FRAME, _CHOSEN_PER_FRAME = 0, 2
_MOST_TILES, _MOST_TILE_WIDTH, _MOST_TILE_AREA = 64, 4096, 4096 * 2304


def coded_size(units: bytes) -> Size | None:
    """Return the size in the first sequence header of AV1 data; None if there is none.

    Args:
        units: open bitstream units.

    Raises:
        ValueError: the header is cut short.
    """
    header = next((body for kind, body in _units(units) if kind == _SEQUENCE_HEADER), None)
    return _Sequence.parse(_Bits(header)).size if header is not None else None


def coded_without_loss(units: bytes) -> bool:
    """Return whether headers in AV1 data tell that it is one picture, held exactly.

    That is if its values are exact, and are grey or red, green and blue themselves, over their whole range.

    Args:
        units: open bitstream units.
    """
    try:
        found = [(kind, body) for kind, body in _units(units) if kind in (_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME)]
        if [kind == _SEQUENCE_HEADER for kind, _ in found] != [True, False]:
            return False
        (_, header), (_, frame) = found
        sequence = _Sequence.parse(_Bits(header))
        plain = sequence.full_range and (sequence.grey or sequence.identity) and not sequence.beyond
        return plain and _exact(_Bits(frame), sequence)
    except ValueError:
        return False


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kinds of open bitstream units, and how they start.

    Raises:
        ValueError: they are cut short, or more than a picture needs.
    """
    at = 0
    for _ in range(_MOST_UNITS):
        if at >= len(data):
            return
        header = data[at]
        at += 2 if header & 4 else 1
        length = len(data) - at
        if header & 2:
            length, at = _leb128(data, at)
        yield header >> 3 & 15, data[at : at + min(length, _MAX_HEADER)]
        at += length
    raise ValueError("too many units")


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """Return the little-endian base-128 number at an offset, and the offset after it."""
    value = 0
    for i, byte in enumerate(data[at : at + 8]):
        value |= (byte & 127) << 7 * i
        if not byte & 128:
            return value, at + i + 1
    raise ValueError("a number without an end")


class _Bits:
    """Reads bits, the most significant first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def __call__(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("the header is cut short")
        return self._value >> self._left & (1 << count) - 1


@dataclass(frozen=True)
class _Sequence:
    """What a sequence header says, so far as it is needed here.

    Attributes:
        size: the largest size of frames.
        side_bits: bits of a frame's height and width.
        reduced: whether it is the header of a still picture.
        id_bits: bits of a frame's number.
        order_bits: bits of a frame's place in the order.
        large: whether superblocks have 128 pixels a side, not 64.
        screen: whether tools for screen content are used; 2 if frames say so.
        whole_vectors: whether motion vectors are whole; 2 if frames say so.
        scaled: whether frames may be coded narrower than they are.
        grey: whether there is no colour.
        identity: whether values are red, green and blue at full resolution.
        full_range: whether values span their whole range.
        separate: whether red and blue have quantizers of their own.
        beyond: whether there is more than is read here: a decoder model, or film grain.
    """

    size: Size
    side_bits: tuple[int, int]
    reduced: bool
    id_bits: int
    order_bits: int
    large: bool
    screen: int
    whole_vectors: int
    scaled: bool
    grey: bool
    identity: bool
    full_range: bool
    separate: bool
    beyond: bool

    @classmethod
    def parse(cls, bits: _Bits) -> _Sequence:
        """Read a sequence header; raise `ValueError` if it is cut short."""
        profile = bits(3)
        bits(1)  # whether it is a still picture
        reduced, modelled = bool(bits(1)), False
        if reduced:
            bits(5)  # level
        else:
            modelled = _skip_operating_points(bits)
        width_bits, height_bits = bits(4) + 1, bits(4) + 1
        width, height = bits(width_bits) + 1, bits(height_bits) + 1
        id_bits = order_bits = 0
        if not reduced and bits(1):
            difference = bits(4) + 2
            id_bits = difference + bits(3) + 1
        large = bool(bits(1))
        bits(2)  # intra filters
        screen = whole_vectors = _CHOSEN_PER_FRAME
        if not reduced:
            bits(4)  # inter prediction
            ordered = bits(1)
            bits(2 * ordered)
            screen = _CHOSEN_PER_FRAME if bits(1) else bits(1)
            whole_vectors = (_CHOSEN_PER_FRAME if bits(1) else bits(1)) if screen else _CHOSEN_PER_FRAME
            order_bits = bits(3) + 1 if ordered else 0
        scaled = bool(bits(1))
        bits(2)  # further filters
        grey, identity, full_range, separate = _colours(bits, profile)
        return cls(
            *(Size(height, width), (height_bits, width_bits), reduced, id_bits, order_bits, large, screen),
            *(whole_vectors, scaled, grey, identity, full_range, separate, modelled or bool(bits(1))),
        )


def _skip_operating_points(bits: _Bits) -> bool:
    """Skip timing and operating points; return whether there is a decoder model."""
    delay_bits = 0
    if bits(1):  # timing
        bits(64)
        if bits(1):
            zeros = 0
            while not bits(1):
                zeros += 1
            bits(zeros)
        if bits(1):  # decoder model
            delay_bits = bits(5) + 1
            bits(42)
    initial_delay = bits(1)
    for _ in range(bits(5) + 1):
        bits(12)
        if bits(5) > 7:
            bits(1)
        if delay_bits and bits(1):
            bits(2 * delay_bits + 1)
        if initial_delay and bits(1):
            bits(4)
    return delay_bits > 0


def _colours(bits: _Bits, profile: int) -> tuple[bool, bool, bool, bool]:
    """Return whether values are grey, are RGB, have their whole range, and have quantizers of their own."""
    deep = bits(1)
    twelve = profile == 2 and deep and bits(1)
    grey = profile != 1 and bool(bits(1))
    primaries, transfer, matrix = (bits(8), bits(8), bits(8)) if bits(1) else (2, 2, 2)
    if grey:
        return True, False, bool(bits(1)), False
    if (primaries, transfer, matrix) == (1, 13, 0):
        return False, True, True, bool(bits(1))
    full_range = bool(bits(1))
    across = down = profile == 0
    if profile == 2:
        across = bool(bits(1)) if twelve else True
        down = bool(bits(1)) if twelve and across else False
    if across and down:
        bits(2)  # where chroma lies
    return False, matrix == 0 and not across, full_range, bool(bits(1))


def _exact(bits: _Bits, sequence: _Sequence) -> bool:
    """Return whether the header of a key frame says that all its values are exact."""
    if not sequence.reduced:
        shown_again, kind, shown = bits(1), bits(2), bits(1)
        if shown_again or kind != _KEY_FRAME or not shown:
            return False
    still_adapting = not bits(1)
    screen = bits(1) if sequence.screen == _CHOSEN_PER_FRAME else sequence.screen
    if screen and sequence.whole_vectors == _CHOSEN_PER_FRAME:
        bits(1)
    bits(sequence.id_bits)
    size = sequence.size
    other_size = not sequence.reduced and bits(1)
    bits(sequence.order_bits)
    if other_size:
        width, height = (bits(count) + 1 for count in reversed(sequence.side_bits))
        size = Size(height, width)
    if sequence.scaled and bits(1):
        return False
    if bits(1):  # another size to show it in
        bits(32)
    if screen:
        bits(1)  # whether blocks are copied
    if still_adapting and not sequence.reduced:
        bits(1)
    if not _skip_tiles(bits, size, 7 if sequence.large else 6):
        return False
    quantizers = [bits(8), _difference(bits)]
    if not sequence.grey:
        apart = sequence.separate and bits(1)
        quantizers += [_difference(bits) for _ in range(4 if apart else 2)]
    if bits(1):  # quantizer matrices
        bits(12 if sequence.separate else 8)
    segmented = bits(1)
    return not any(quantizers) and not segmented


def _difference(bits: _Bits) -> int:
    """Return the bits of a difference between quantizers."""
    return bits(7) if bits(1) else 0


def _skip_tiles(bits: _Bits, size: Size, shift: int) -> bool:
    """Skip how a frame is divided into tiles of superblocks, ``2**shift`` pixels a side; return whether it is even."""
    if not bits(1):
        return False
    height, width = (-(-side >> shift) for side in size)
    most_wide, most_area = _MOST_TILE_WIDTH >> shift, _MOST_TILE_AREA >> 2 * shift
    across = _doublings(most_wide, width)
    together = max(across, _doublings(most_area, height * width))
    while across < _doublings(1, min(width, _MOST_TILES)) and bits(1):
        across += 1
    down = max(together - across, 0)
    while down < _doublings(1, min(height, _MOST_TILES)) and bits(1):
        down += 1
    if across or down:
        bits(across + down + 2)
    return True


def _doublings(length: int, target: int) -> int:
    """Return how often a length is doubled to reach a target."""
    return next(count for count in range(64) if length << count >= target)
