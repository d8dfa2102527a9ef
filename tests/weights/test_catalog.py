"""weights.toml: it follows its schema, and what it states is true."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import pytest
from pydantic import (
    AfterValidator,
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    UrlConstraints,
    ValidationError,
)
from support.authors import SHAPES

import gsrcli
from gsrcli.download.digest import Digest, sha256_of
from gsrcli.models import MODEL_NAMES
from gsrcli.runtime.files import shipped
from gsrcli.weights.catalog import ModelWeights, is_name, metric_weights, model_weights, published
from gsrcli.weights.convert import _converter
from gsrcli.weights.load import DEFAULT_MODEL, load_model

LARGEST_FILE = 5_000_000
TABLES = ("rope_t_x", "rope_t_y", "attn_mask", "_index", "_index_SA", "_index_OCA")
ENTRIES = [pytest.param(entry, id=name) for name, entry in model_weights().items()]


def test_every_released_model_is_there() -> None:
    enhanced = [f"gsasr-{encoder}{data}" for encoder in ("edsr", "rdn", "swinir") for data in ("", "-div2k")]
    paper = [f"gsasr-{encoder}-paper" for encoder in ("edsr", "rdn", "swinir")]
    assert list(model_weights()) == [DEFAULT_MODEL, *enhanced, "gsasr-hatl", *paper, "gaussiansr-edsr-released"]


@pytest.mark.parametrize("entry", ENTRIES)
def test_its_model_can_be_built(entry: ModelWeights) -> None:
    assert entry.model in MODEL_NAMES


@pytest.mark.parametrize("entry", ENTRIES)
def test_its_files_can_be_converted(entry: ModelWeights) -> None:
    if not entry.bundled:
        _converter(entry.model, entry.released)  # raises if there is no converter


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.id != DEFAULT_MODEL])
def test_its_parameters_are_those_of_the_released_files(entry: ModelWeights) -> None:
    released = SHAPES[entry.model.removesuffix("-released")]
    numbers = [math.prod(s) for file in released.values() for name, s in file.items() if not name.endswith(TABLES)]
    assert entry.parameters == sum(numbers)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.id != DEFAULT_MODEL])
def test_its_files_are_where_its_authors_put_them(entry: ModelWeights) -> None:
    assert not entry.bundled
    for file, released in entry.released.items():
        assert released.name == file
        assert all(url.endswith(f"/{file}") for url in released.urls)
    assert entry.paper is not None
    assert entry.code is not None


def test_each_address_belongs_to_one_entry() -> None:
    urls = [url for entry in model_weights().values() for file in entry.released.values() for url in file.urls]
    assert len(urls) == len(set(urls)) == 2 * (9 + 2) + 1  # HAT-L's folder is spelled in two ways


@pytest.mark.parametrize("name", [DEFAULT_MODEL, "lpips", "dists"])
def test_bundled_weights_match_weights_toml(name: str) -> None:
    bundled = published()[name].bundled
    assert bundled is not None
    assert f"sha256:{sha256_of(bundled.path)}" == str(bundled.digest)
    assert bundled.path.stat().st_size <= LARGEST_FILE
    assert bundled.path.is_relative_to(Path(gsrcli.__file__).parent / "weights")  # which the wheel includes


def test_every_released_file_except_gsasrs_is_pinned() -> None:
    """A digest fixes a file's content, and its address names a commit or the digest: neither can change unnoticed."""
    assert {name for name, entry in published().items() if not entry.pinned} == {
        name for name, entry in model_weights().items() if entry.code == "https://github.com/ChrisDud0257/GSASR"
    }
    for entry in published().values():
        for file in entry.released.values():
            for url in file.urls:
                names_a_version = re.search(r"/[0-9a-f]{40}/|-[0-9a-f]{8}\.pth$", url)
                assert bool(names_a_version) == (file.digest is not None), url


def test_scores_are_as_published() -> None:
    psnr = {name: entry.scores.psnr for name, entry in model_weights().items()}
    assert psnr["gsasr-edsr-paper"]["DIV2K"] == {2: 36.65, 3: 32.89, 4: 30.89, 6: 28.60, 8: 27.22, 12: 25.50}
    assert psnr["gsasr-hatl"]["Urban100"] == {4: 28.44}
    assert psnr["gsasr-edsr"]["DIV2K"][4] > psnr["gsasr-edsr-div2k"]["DIV2K"][4]
    assert all(20 < db < 45 for scores in psnr.values() for by_scale in scores.values() for db in by_scale.values())


def test_the_bundled_weights_have_as_many_parameters_as_listed() -> None:
    assert model_weights()[DEFAULT_MODEL].parameters == sum(p.numel() for p in load_model().parameters())


def test_every_entry_describes_itself() -> None:
    for entry in published().values():
        assert entry.license in ("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT")
        assert entry.training
        assert entry.parameters > 1_000
        assert bool(entry.bundled) != bool(entry.released)


# The schema

Line = Annotated[str, StringConstraints(pattern=r"^[^\n]+$")]
Name = Annotated[str, AfterValidator(lambda name: name if is_name(name) else _wrong(f"{name!r} is no name"))]
FileName = Annotated[str, AfterValidator(lambda name: name if Path(name).name == name else _wrong("is no file name"))]
Https = Annotated[AnyUrl, UrlConstraints(allowed_schemes=["https"], host_required=True)]
Hash = Annotated[str, AfterValidator(lambda text: str(Digest.parse(text)))]
Scale = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?$")]
Decibels = Annotated[float, Field(gt=10, lt=60)]


def _wrong(message: str) -> NoReturn:
    raise ValueError(message)


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class FileTable(Table):
    urls: list[Https] = Field(min_length=1)
    digest: Hash | None = None


class ScoresTable(Table):
    protocol: Line
    psnr: dict[Line, dict[Scale, Decibels]]


class WeightsTable(Table):
    description: Line
    license: Line
    parameters: int = Field(ge=1)
    training: Line
    paper: Https
    code: Https


class ReleasedTable(WeightsTable):
    released: dict[FileName, FileTable] = Field(min_length=1)


class BundledTable(WeightsTable):
    bundled: Line
    digest: Hash


class ReleasedModelTable(ReleasedTable):
    model: Line
    rendering: Literal["field", "released"] = "field"
    scores: ScoresTable


class BundledModelTable(BundledTable):
    model: Line
    paper: Https | None = None
    code: Https | None = None
    scores: ScoresTable


SCHEMA = TypeAdapter(dict[Name, ReleasedModelTable | BundledModelTable])
METRICS = TypeAdapter(dict[Name, ReleasedTable | BundledTable])


def test_weights_toml_follows_its_schema() -> None:
    content = tomllib.loads(shipped("weights.toml").read_text(encoding="utf-8"))
    assert METRICS.validate_python(content.pop("metric")).keys() == metric_weights().keys()
    assert SCHEMA.validate_python(content).keys() == model_weights().keys()


GOOD = """
[mine]
model = "gsasr-edsr"
description = "For a test."
license = "Apache-2.0"
parameters = 7
training = "noise"
paper = "https://a.example/paper"
code = "https://a.example/code"
released."a.pth".urls = ["https://a.example/a.pth", "https://b.example/a.pth"]
released."a.pth".digest = "sha256:%s"
scores.protocol = "on Y"
scores.psnr.Set5 = { 2 = 37.5, "3.5" = 33 }
""".replace("%s", "0" * 64)


def test_the_schema_accepts_valid_entries() -> None:
    SCHEMA.validate_python(tomllib.loads(GOOD))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[mine]", '["../mine"]'),
        ("[mine]", "mine = 1\n[other]"),
        ('model = "gsasr-edsr"', ""),
        ('license = "Apache-2.0"', 'licence = "Apache-2.0"'),
        ('training = "noise"', 'training = "noise"\ntested = true'),
        ("parameters = 7", 'parameters = "7"'),
        ("parameters = 7", "parameters = true"),
        ("parameters = 7", "parameters = 0"),
        ('"For a test."', '"Two\\nlines"'),
        ('"For a test."', '""'),
        ("https://b.example", "http://b.example"),
        ("https://b.example/a.pth", "file:///a.pth"),
        ('["https://a.example/a.pth", "https://b.example/a.pth"]', "[]"),
        ('["https://a.example/a.pth", "https://b.example/a.pth"]', '"https://a.example"'),
        ("sha256:", "sha512:"),
        ("sha256:0", "sha256:"),
        ("sha256:0", "sha256:F"),
        ("sha256:", "git-blob-sha1:"),
        ("sha256:", ""),
        ('"a.pth".', '"../a.pth".'),
        ("[mine]", '[mine]\nbundled = "a"'),
        ("[mine]", '[mine]\nrendering = "splat"'),
        ("37.5", '"37.5"'),
        ("2 = 37.5", "two = 37.5"),
        ('scores.protocol = "on Y"', ""),
    ],
)
def test_the_schema_refuses_invalid_entries(old: str, new: str) -> None:
    assert old in GOOD
    with pytest.raises(ValidationError):
        SCHEMA.validate_python(tomllib.loads(GOOD.replace(old, new)))


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
