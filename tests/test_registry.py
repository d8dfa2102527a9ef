"""weights.toml: what it says is so, and what it may not say is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from released_files import SHAPES

import gsrcli
from gsrcli.digests import Digest, sha256_of
from gsrcli.errors import ModelError
from gsrcli.models import MODEL_NAMES
from gsrcli.registry import Bundled, Weights, is_name, parse, registry
from gsrcli.weights import DEFAULT_MODEL

LARGEST_FILE = 5_000_000
TABLES = ("rope_t_x", "rope_t_y", "attn_mask", "_index", "_index_SA", "_index_OCA")
ENTRIES = [pytest.param(entry, id=name) for name, entry in registry().items()]


def test_every_released_model_is_there() -> None:
    enhanced = [f"gsasr-{encoder}{data}" for encoder in ("edsr", "rdn", "swinir") for data in ("", "-div2k")]
    paper = [f"gsasr-{encoder}-paper" for encoder in ("edsr", "rdn", "swinir")]
    assert list(registry()) == [DEFAULT_MODEL, *enhanced, "gsasr-hatl", *paper, "gaussiansr-edsr-released"]


@pytest.mark.parametrize("entry", ENTRIES)
def test_its_model_can_be_built(entry: Weights) -> None:
    assert entry.model in MODEL_NAMES


@pytest.mark.parametrize("entry", ENTRIES)
def test_its_files_can_be_converted(entry: Weights) -> None:
    from gsrcli.conversion import require_convertible

    if not isinstance(entry.source, Bundled):
        require_convertible(entry.model, entry.source)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.id != DEFAULT_MODEL])
def test_its_parameters_are_those_of_the_released_files(entry: Weights) -> None:
    released = SHAPES[entry.model.removesuffix("-released")]
    numbers = [math.prod(s) for file in released.values() for name, s in file.items() if not name.endswith(TABLES)]
    assert entry.parameters == sum(numbers)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.id != DEFAULT_MODEL])
def test_its_files_are_where_its_authors_put_them(entry: Weights) -> None:
    assert not isinstance(entry.source, Bundled)
    for file, released in entry.source.items():
        assert released.name == file
        assert all(url.endswith(f"/{file}") for url in released.urls)
    assert entry.paper is not None
    assert entry.code is not None


def test_each_address_belongs_to_one_entry() -> None:
    sources = [entry.source for entry in registry().values() if not isinstance(entry.source, Bundled)]
    urls = [url for source in sources for released in source.values() for url in released.urls]
    assert len(urls) == len(set(urls)) == 2 * (9 + 2) + 1  # HAT-L's folder is spelled two ways


def test_the_bundled_weights_are_what_the_registry_says() -> None:
    source = registry()[DEFAULT_MODEL].source
    assert isinstance(source, Bundled)
    assert sha256_of(source.path) == source.digest.value
    assert source.path.stat().st_size <= LARGEST_FILE
    assert source.path.is_relative_to(Path(gsrcli.__file__).parent / "weights")  # what the wheel takes in


def test_scores_are_as_published() -> None:
    psnr = {name: entry.scores.psnr for name, entry in registry().items()}
    assert psnr["gsasr-edsr-paper"]["DIV2K"] == {2: 36.65, 3: 32.89, 4: 30.89, 6: 28.60, 8: 27.22, 12: 25.50}
    assert psnr["gsasr-hatl"]["Urban100"] == {4: 28.44}
    assert psnr["gsasr-edsr"]["DIV2K"][4] > psnr["gsasr-edsr-div2k"]["DIV2K"][4]
    assert all(20 < db < 45 for scores in psnr.values() for by_scale in scores.values() for db in by_scale.values())


# What is refused

GOOD = """
[mine]
model = "gsasr-edsr"
description = "For a test."
license = "Apache-2.0"
parameters = 7
training = "noise"
released."a.pth".urls = ["https://a.example/a.pth", "https://b.example/a.pth"]
released."a.pth".digest = "sha256:%s"
scores.protocol = "on Y"
scores.psnr.Set5 = { 2 = 37.5, 3.5 = 33 }
""".replace("%s", "0" * 64).replace("3.5 =", '"3.5" =')


def test_a_good_entry_is_read() -> None:
    (entry,) = parse(GOOD).values()
    assert isinstance(entry.source, dict)
    assert entry.source["a.pth"].urls == ("https://a.example/a.pth", "https://b.example/a.pth")
    assert entry.source["a.pth"].digest == Digest("sha256", "0" * 64)
    assert entry.scores.psnr == {"Set5": {2: 37.5, 3.5: 33}}
    assert (entry.rendering, entry.paper) == ("field", None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[mine]", "[mine", "no TOML"),
        ("[mine]", '["../mine"]', "'../mine' is no name"),
        ("[mine]", "mine = 1\n[other]", "mine is no table"),
        ('model = "gsasr-edsr"', "", "mine lacks model"),
        ('license = "Apache-2.0"', 'licence = "Apache-2.0"', "mine lacks license"),
        ('training = "noise"', 'training = "noise"\ntested = true', "mine has unknown keys: tested"),
        ("parameters = 7", 'parameters = "7"', "mine.parameters should be a number from 1, not '7'"),
        ("parameters = 7", "parameters = true", "mine.parameters should be"),
        ("parameters = 7", "parameters = 0", "mine.parameters should be"),
        ('"For a test."', '"Two\\nlines"', "mine.description should be a line of text"),
        ("https://b.example", "http://b.example", "mine.released.a.pth.urls should be an https URL, not 'http://b"),
        ("https://b.example/a.pth", "https:///a.pth", "should be an https URL"),
        ("https://b.example/a.pth", "file:///a.pth", "should be an https URL"),
        ('["https://a.example/a.pth", "https://b.example/a.pth"]', "[]", "should be a list of URLs"),
        ('["https://a.example/a.pth", "https://b.example/a.pth"]', '"https://a.example"', "should be a list of URLs"),
        ("sha256:", "sha512:", "mine.released.a.pth.digest 'sha512:0.* is no digest: it should begin with sha256:"),
        ("sha256:0", "sha256:", "is no sha256: that is 64 lower-case hexadecimal digits"),
        ("sha256:0", "sha256:F", "is no sha256"),
        ("sha256:", "git-blob-sha1:", "is no git-blob-sha1: that is 40"),
        ("sha256:", "", "is no digest"),
        ('"a.pth".urls', '"../a.pth".urls', "is no file name"),
        ("[mine]", '[mine]\nbundled = "a"', "must have one of bundled and released"),
        ("[mine]", '[mine]\nrendering = "splat"', "mine.rendering should be field or released, not 'splat'"),
        ("37.5", '"37.5"', "mine.scores.psnr.Set5 should be dB by scale"),
        ("2 = 37.5", "two = 37.5", "mine.scores.psnr.Set5"),
        ('scores.protocol = "on Y"', "", "mine.scores lacks protocol"),
    ],
)
def test_a_mistake_is_named(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ModelError, match=rf"^weights\.toml: .*{message}"):
        parse(GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "good"),
    [("gsasr-edsr", True), ("my_2nd", True), ("a.b", False), ("../a", False), ("-a", False), ("", False)],
)
def test_names(name: str, good: bool) -> None:
    assert is_name(name) == good


# Digests


def test_digests_are_those_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    assert str(Digest.of(path)) == "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert str(Digest.of(path, "git-blob-sha1")) == "git-blob-sha1:ce013625030ba8dba906f756967f9e9ca394464a"
    assert Digest.parse(str(Digest.of(path))) == Digest.of(path)
