from __future__ import annotations

import hashlib

from gsrcli.runtime.seeds import seed_of


def test_seeds_never_change() -> None:
    """A resumed training run and a repeated evaluation draw the same values in every version."""
    assert (seed_of(0, 0), seed_of(0, 1), seed_of("baby", "2x3")) == (2012574599, 923165722, 4235486628)


def test_a_seed_is_the_first_32_bits_of_a_hash_of_the_parts() -> None:
    digest = hashlib.blake2b(b"img 001 3.4", digest_size=4).digest()
    assert seed_of("img 001", 3.4) == sum(byte << 8 * i for i, byte in enumerate(digest))
    assert 0 <= seed_of("x") < 2**32


def test_names_of_files_beyond_any_encoding_have_seeds() -> None:
    assert seed_of("caf\udce9") != seed_of("caf\udce8")


def test_other_parts_give_other_seeds() -> None:
    assert len({seed_of(seed, step) for seed in range(10) for step in range(100)}) == 1000
