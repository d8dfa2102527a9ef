"""Derive random seeds from what identifies a draw."""

from __future__ import annotations

import hashlib

__all__ = ["seed_of"]


def seed_of(*parts: object) -> int:
    """Return a seed that depends on the text of the parts alone, joined by spaces.

    It has 32 bits: torch's CPU generator takes no more from a seed.
    """
    text = " ".join(map(str, parts))  # file names may contain surrogates
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=4).digest(), "little")
