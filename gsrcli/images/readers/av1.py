"""Read the picture size in AV1 data."""

from __future__ import annotations

from gsrcli.size import Size

__all__ = ["coded_size"]

_SEQUENCE_HEADER = 1
_MAX_HEADER = 256  # bytes


def coded_size(units: bytes) -> Size | None:
    """Return the size in the first sequence header of AV1 data (AV1 specification, 5.5); None if there is none.

    Args:
        units: open bitstream units.

    Raises:
        ValueError: the header is cut short.
    """
    at = 0
    while at < len(units):
        header = units[at]
        at += 2 if header & 4 else 1
        length = len(units) - at
        if header & 2:
            length, at = _leb128(units, at)
        if header >> 3 & 15 == _SEQUENCE_HEADER:
            return _size(_Bits(units[at : at + min(length, _MAX_HEADER)]))
        at += length
    return None


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


def _size(bits: _Bits) -> Size:
    bits(4)  # profile, and whether it is a still picture
    if bits(1):  # a reduced header
        bits(5)  # level
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits(4) + 1, bits(4) + 1
    width, height = bits(width_bits) + 1, bits(height_bits) + 1
    return Size(height, width)


def _skip_operating_points(bits: _Bits) -> None:
    """Skip timing and operating points."""
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
