"""``gsr eval``: its numbers against plain arithmetic, finding and downloading pictures, reports and failures."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from support.checkpoints import save_tiny, tiny_model
from support.pictures import samples
from support.server import Server, serving, whole
from typer.testing import Result as CommandResult

from gsrcli import evaluation as library
from gsrcli.download import http
from gsrcli.download.digest import Digest
from gsrcli.errors import DownloadError, GsrError, ModelError, PictureError, UsageError
from gsrcli.evaluation import EvalConfig, datasets
from gsrcli.evaluation.cases import CaseResults, Result
from gsrcli.evaluation.datasets import Archive, Collection, collect, fetch, find, known_datasets
from gsrcli.evaluation.methods import INTERPOLATIONS, Interpolation, Network
from gsrcli.evaluation.protocols import PROTOCOLS
from gsrcli.evaluation.published import published
from gsrcli.evaluation.report import METRICS, ScoreReport, check_metrics
from gsrcli.evaluation.runner import Evaluation
from gsrcli.evaluation.scales import label, parse_scales
from gsrcli.evaluation.versions import Folder, read_rgb
from gsrcli.images import Picture
from gsrcli.metrics.perceptual import METRICS as PERCEPTUAL
from gsrcli.metrics.perceptual import load_perceptual
from gsrcli.models.feature_extractors import ARCHITECTURES
from gsrcli.size import Size
from gsrcli.upscaling.upscaler import Upscaler
from gsrcli.weights.catalog import metric_weights, model_weights
from gsrcli.weights.store import Store

Gsr = Callable[..., CommandResult]
Photo = Callable[..., Path]

SIZES = {"a": (50, 43), "b": (47, 61), "c": (64, 48)}
"""Sizes of the originals, width first; hardly any is a multiple of a scale."""

BENCHMARK = os.environ.get("GSRCLI_BENCHMARK")

pytestmark = pytest.mark.filterwarnings("ignore:.*trying again")


@pytest.fixture
def originals(photo: Photo) -> Path:
    """Return a folder of three pictures."""
    paths = [photo(f"pictures/{name}.png", size, seed=i) for i, (name, size) in enumerate(SIZES.items())]
    return paths[0].parent


@pytest.fixture
def evaluate(gsr: Gsr, originals: Path) -> Callable[..., dict[str, Any]]:
    """Run ``gsr eval`` on these pictures in float32; return its JSON, which must be strict."""

    def run(*arguments: object, code: int = 0) -> dict[str, Any]:
        command = ("eval", "--dataset", originals, "--device", "cpu", "--precision", "float32", "--json", *arguments)
        result = gsr(*command)
        assert result.exit_code == code, result.stderr
        return strict(result.stdout)

    return run


def strict(text: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    data: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return data


def psnr_by_scale(data: dict[str, Any], model: str) -> dict[str, float]:
    means = [mean for mean in data["means"] if mean["model"] == model]
    return {label(tuple(mean["scale"])): mean["scores"]["psnr"] for mean in means}


# Scores, against independent arithmetic


def plain_psnr(first: np.ndarray, second: np.ndarray, border: tuple[int, int], channels: str) -> float:
    """Return the PSNR of uint8 (H, W, 3), computed in float64, without a border (y, x)."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    if channels == "Y":
        first, second = (16 + picture @ [65.481, 128.553, 24.966] / 255 for picture in (first, second))
    inside = np.s_[border[0] : first.shape[0] - border[0], border[1] : first.shape[1] - border[1]]
    return float(10 * np.log10(255**2 / np.mean((first - second)[inside] ** 2)))


@pytest.mark.parametrize("scale", [(2.0, 2.0), (2.5, 2.5), (2.0, 3.0)], ids=label)
@pytest.mark.parametrize("protocol", ["gsasr", "rgb"])
@pytest.mark.parametrize("model", ["bicubic", "lanczos", "nearest"])
def test_means_are_those_of_plain_arithmetic(
    evaluate: Callable[..., dict[str, Any]], originals: Path, scale: tuple[float, float], protocol: str, model: str
) -> None:
    expected = []
    for path in originals.iterdir():
        image = Image.open(path).convert("RGB")
        low_size = int(image.width / scale[1]), int(image.height / scale[0])
        size = int(low_size[0] * scale[1] + 0.5), int(low_size[1] * scale[0] + 0.5)
        image = image.crop((0, 0, *size))
        restored = image.resize(low_size, Image.Resampling.BICUBIC).resize(size, Image.Resampling[model.upper()])
        border = int(np.ceil(scale[0])), int(np.ceil(scale[1]))
        channels = "RGB" if protocol == "rgb" else "Y"
        expected.append(plain_psnr(np.asarray(restored), np.asarray(image), border, channels))
    data = evaluate("--model", model, "--scales", label(scale), "--degradation", "pillow", "--protocol", protocol)
    assert psnr_by_scale(data, model)[label(scale)] == pytest.approx(np.mean(expected), abs=1e-4)
    assert [mean["pictures"] for mean in data["means"]] == [3]
    assert data["protocol"]["description"] == PROTOCOLS[protocol].description
    assert "Pillow" in data["protocol"]["degradation"]


def test_a_model_is_scored_on_the_bytes_that_upscale_writes(
    evaluate: Callable[..., dict[str, Any]], upscale: Gsr, originals: Path, tiny_path: Path, tmp_path: Path
) -> None:
    """LR pictures made here are upscaled by `gsr upscale` and scored like those of another program."""
    low, high = tmp_path / "low", tmp_path / "high"
    low.mkdir()
    for path in originals.iterdir():
        image = Image.open(path)
        size = image.width // 2, image.height // 2
        image.crop((0, 0, 2 * size[0], 2 * size[1])).resize(size, Image.Resampling.BICUBIC).save(low / path.name)
    upscale(low, "--scale", 2, "-o", high, "--precision", "float32", "--device", "cpu")
    common = ("--scales", 2, "--metrics", "psnr,ssim")
    by_model = evaluate(*common, "--model", tiny_path, "--degradation", "pillow")
    given_low = evaluate(*common, "--model", tiny_path, "--lr-dir", low)
    given_high = evaluate(*common, "--restored", f"theirs={high}")
    scores = [[row["scores"] for row in data["rows"]] for data in (by_model, given_low, given_high)]
    assert scores[0] == scores[1] == scores[2]
    assert [row["model"] for row in given_high["rows"]] == ["theirs"] * 3
    assert "seconds" in by_model["rows"][0]
    assert "seconds" not in given_high["rows"][0]


def test_saved_pictures_score_as_they_did(
    evaluate: Callable[..., dict[str, Any]], tiny_path: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    scales = ("--scales", "2,2.5,2x3")
    first = evaluate(*scales, "--model", tiny_path, "--model", "bicubic", "--save-images", saved)
    assert len(list(saved.rglob("*.png"))) == 2 * 3 * 3
    again = evaluate(
        *scales, "--restored", saved / "pictures" / "tiny", "--restored", f"b={saved / 'pictures/bicubic'}"
    )
    assert psnr_by_scale(again, "tiny") == psnr_by_scale(first, "tiny")
    assert psnr_by_scale(again, "b") == psnr_by_scale(first, "bicubic")


def test_saved_pictures_keep_suffixes_that_distinguish_them(gsr: Gsr, photo: Photo, tmp_path: Path) -> None:
    folder = photo("same/a.png", (50, 43)).parent
    photo("same/a.webp", (50, 43), seed=1)
    command = ("eval", "--dataset", folder, "--scales", 2, "--json")
    saved = tmp_path / "saved"
    first = strict(gsr(*command, "--model", "bicubic", "--save-images", saved).stdout)
    again = strict(gsr(*command, "--restored", saved / "same/bicubic").stdout)
    assert [row["scores"] for row in again["rows"]] == [row["scores"] for row in first["rows"]]


@pytest.mark.parametrize("size", [Size(26, 34), Size(39, 51)])
def test_the_self_ensemble_is_the_mean_over_the_symmetries(size: Size) -> None:
    low = samples((17, 13), "RGB", 0)
    upscaler = Upscaler(tiny_model())
    total = np.zeros((*size, 3))
    for transposed in (False, True):
        for rows in (1, -1):
            for columns in (1, -1):
                turned = low[::rows, ::columns]
                turned = turned.transpose(1, 0, 2) if transposed else turned
                deep = Picture(np.ascontiguousarray(turned).astype(np.uint16) * 257)
                large = upscaler.enlarge(deep, size.transposed if transposed else size).pixels
                large = large.transpose(1, 0, 2) if transposed else large
                total += large[::rows, ::columns]
    ensemble = Network("tiny+", upscaler, rounded=True, ensemble=True).restore(low, size)
    np.testing.assert_allclose(ensemble, total / 8, atol=0.5)
    plain = Network("tiny", upscaler, rounded=False).restore(low, size)
    assert np.abs(plain.astype(float) - ensemble).mean() > 50  # of 65535: the symmetries do differ


def test_a_network_gives_what_upscale_gives_or_finer() -> None:
    low, upscaler = samples((17, 13), "RGB", 0), Upscaler(tiny_model())
    rounded, finer = (Network("tiny", upscaler, rounded).restore(low, Size(26, 34)) for rounded in (True, False))
    np.testing.assert_array_equal(rounded, upscaler.enlarge(Picture(low), Size(26, 34)).pixels)
    assert (rounded.dtype, finer.dtype) == (np.uint8, np.uint16)
    np.testing.assert_allclose(finer / 257, rounded, atol=0.51)
    assert (finer % 257).any()


def test_checkpoints_of_one_file_name(
    evaluate: Callable[..., dict[str, Any]], gsr: Gsr, originals: Path, tmp_path: Path
) -> None:
    for seed, run in enumerate(("one", "two")):
        (tmp_path / run).mkdir()
        save_tiny(tmp_path / run / "weights.safetensors", seed)
    paths = [tmp_path / run / "weights.safetensors" for run in ("one", "two")]
    models = [argument for path in paths for argument in ("--model", f"{path.parent.name}={path}")]
    data = evaluate("--scales", 2, *models)
    assert [mean["model"] for mean in data["means"]] == ["one", "two"]
    assert psnr_by_scale(data, "one") != psnr_by_scale(data, "two")
    odd = (tmp_path / "run=1.safetensors").resolve()
    odd.write_bytes(paths[0].read_bytes())
    data = evaluate("--scales", 2, "--model", f"one={odd}", "--model", odd)
    assert [mean["model"] for mean in data["means"]] == ["one", "run=1"]
    clash = gsr("eval", "--dataset", originals, "--model", paths[0], "--model", paths[1])
    assert clash.exit_code == 2
    assert "called 'weights'" in clash.stderr


def test_an_ensemble_is_marked(evaluate: Callable[..., dict[str, Any]], tiny_path: Path) -> None:
    data = evaluate("--scales", 2, "--model", tiny_path, "--model", "bicubic", "--self-ensemble")
    assert data["protocol"]["models"] == ["tiny+", "bicubic"]
    assert data["protocol"]["self_ensemble"] is True


def test_liif_does_not_round(evaluate: Callable[..., dict[str, Any]], tiny_path: Path) -> None:
    data = evaluate("--scales", 2, "--model", tiny_path, "--protocol", "liif")
    rounded = evaluate("--scales", 2, "--model", tiny_path)
    assert data["protocol"]["rounded"] is False
    assert 0 < abs(psnr_by_scale(data, "tiny")["2"] - psnr_by_scale(rounded, "tiny")["2"]) < 0.1


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_interpolation_gives_what_pillow_gives_or_finer(name: str) -> None:
    low = samples((17, 13), "RGB", 0)
    low[2:6, 2:6] = [0, 255, 0]  # where it overshoots
    rounded, finer = (Interpolation(name, rounded).restore(low, Size(26, 51)) for rounded in (True, False))
    np.testing.assert_array_equal(rounded, Image.fromarray(low).resize((51, 26), INTERPOLATIONS[name]))
    assert (rounded.dtype, finer.dtype) == (np.uint8, np.uint16)
    # In 8 bits Pillow also rounds and clips between the pass over rows and the one over columns.
    assert np.median(np.abs(finer / 257 - rounded)) < 0.5
    assert (finer % 257).any() == (name != "nearest")
    if name == "bicubic":
        planes = torch.from_numpy(low).permute(2, 0, 1)[None].double()
        exact = torch.nn.functional.interpolate(planes, (26, 51), mode="bicubic", antialias=True)[0].clamp(0, 255)
        np.testing.assert_allclose(finer / 257, exact.permute(1, 2, 0), atol=0.004)


def test_given_pictures_are_reported_as_8_bit(evaluate: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    rows, saved = tmp_path / "rows.csv", tmp_path / "saved"
    common = ("--model", "bicubic", "--scales", 2, "--limit", 1)
    evaluate(*common, "--save-images", saved)
    options = (*common, "--restored", f"theirs={saved / 'pictures/bicubic'}", "--csv", rows)
    for protocol, rounded in (("liif", ["False", "True"]), ("gsasr", ["True", "True"])):
        data = evaluate(*options, "--protocol", protocol)
        assert [row["rounded"] for row in csv.DictReader(io.StringIO(rows.read_text()))] == rounded
        assert ("scored as given, in 8 bits: theirs." in data["notes"]) == (protocol == "liif")


def test_channels_and_border_are_reported_for_each_dataset(gsr: Gsr, photo: Photo, tmp_path: Path) -> None:
    """DIV2K has its own measure, and is recognised by the folder's name alone."""
    folders = [photo(f"{name}/a.png", (60, 50)).parent for name in ("other", "DIV2K_x")]
    expected = {"other": "×2 Y, border 2; ×3.4 Y, border 4", "DIV2K_x": "×2 RGB, border 8; ×3.4 RGB, border 10"}
    options = [argument for folder in folders for argument in ("--dataset", folder)]
    options += ["--markdown", tmp_path / "table.md", "--csv", tmp_path / "rows.csv", "--model", "bicubic"]
    command = ("eval", *options, "--protocol", "liif", "--scales", "2,3.4")
    data, printed = strict(gsr(*command, "--json").stdout), gsr(*command).stdout
    for name, words in expected.items():
        for text in (printed, (tmp_path / "table.md").read_text()):
            assert f"{name}: {words}." in text
    measured = {name: about["measured"] for name, about in data["protocol"]["datasets"].items()}
    assert measured["DIV2K_x"] == {"2": "RGB, border 8", "3.4": "RGB, border 10"}
    rows = csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text()))
    for row in rows:
        assert row["measured"] == measured[row["dataset"]][f"{float(row['scale_y']):g}"]


@pytest.mark.skipif(sys.platform != "linux", reason="only measured on Linux")
def test_each_picture_has_its_memory(gsr: Gsr, photo: Photo) -> None:
    """The memory of a small picture is not that of the large one before it."""
    folder = photo("sizes/a-large.png", (3000, 3000)).parent
    photo("sizes/b-small.png", (60, 60))
    command = ("eval", "--dataset", folder, "--model", "bicubic", "--restored", f"given={folder}", "--device", "cpu")
    data = strict(gsr(*command, "--scales", 2, "--json").stdout)
    large, small = (row["memory_bytes"] for row in data["rows"] if row["model"] == "bicubic")
    assert large > small + 3000 * 3000 * 3
    assert all("memory_bytes" not in row for row in data["rows"] if row["model"] == "given")
    assert data["means"][0]["memory_bytes"] == large
    assert any(note.startswith("MB: peak memory of the process") for note in data["notes"])


def test_the_first_pictures_alone(evaluate: Callable[..., dict[str, Any]]) -> None:
    data = evaluate("--scales", 2, "--model", "bicubic", "--limit", 2)
    assert [row["picture"] for row in data["rows"]] == ["a", "b"]


@pytest.mark.parametrize(("name", "network"), [("lpips", "alexnet"), ("lpips-vgg", "vgg16")])
def test_perceptual_metrics_see_what_the_protocol_compares(
    evaluate: Callable[..., dict[str, Any]],
    originals: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    network: str,
) -> None:
    """The network has random weights, and sees bicubic results of even size within a border of 2."""
    monkeypatch.setenv("GSRCLI_HOME", str(tmp_path / "home"))
    weights = metric_weights()[network]
    ((file, released),) = weights.released.items()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = ARCHITECTURES[network].build().state_dict()
    torch.save({f"features.{key}": tensor for key, tensor in state.items()}, tmp_path / file)
    files = {file: replace(released, digest=Digest.of(tmp_path / file))}
    monkeypatch.setitem(metric_weights(), network, replace(weights, released=files))
    Store().entry(network).import_released([tmp_path / file])
    options = ("--model", "bicubic", "--scales", 2, "--degradation", "pillow", "--metrics", f"{name},psnr")
    data = evaluate(*options)
    assert data["failures"] == []
    compare = load_perceptual([name])
    for row in data["rows"]:
        image = Image.open(originals / f"{row['picture']}.png")
        image = image.crop((0, 0, image.width // 2 * 2, image.height // 2 * 2))
        small = image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)
        pair = (small.resize(image.size, Image.Resampling.BICUBIC), image)
        tensors = [torch.from_numpy(np.array(one)[2:-2, 2:-2]).permute(2, 0, 1) / 255 for one in pair]
        assert row["scores"][name] == pytest.approx(compare(*tensors)[name], abs=1e-6)
        assert list(row["scores"]) == [name, "psnr"]


def test_every_perceptual_metric_can_be_asked_for() -> None:
    assert check_metrics(("psnr", "ssim", *PERCEPTUAL)) == tuple(METRICS)


# From Python


def test_the_library_gives_what_the_command_prints(
    evaluate: Callable[..., dict[str, Any]], originals: Path, tiny_path: Path
) -> None:
    config = EvalConfig(
        datasets=[originals],
        scales=[2, (2, 3)],
        models=[tiny_path, "bicubic"],
        protocol="liif",
        limit=2,
        device="cpu",
        precision="float32",
    )
    options = ("--protocol", "liif", "--limit", 2, "--model", tiny_path, "--model", "bicubic")
    printed = evaluate("--scales", "2,2x3", *options)
    report = library.evaluate(config)
    assert report.failures == []
    keys = ("dataset", "picture", "model", "scale", "scores")
    expected = [tuple(row[key] for key in keys) for row in printed["rows"]]
    assert [(r.dataset, r.picture, r.model, list(r.scale), r.scores) for r in report.results] == expected
    assert report.protocol["datasets"]["pictures"]["pictures"] == 2


def test_a_prepared_report_yields_the_pictures_as_it_grows(originals: Path, tmp_path: Path) -> None:
    (originals / "cut.png").write_bytes((originals / "a.png").read_bytes()[:300])
    report = library.prepare(EvalConfig([originals], [2, 3], ["nearest"], device="cpu"))
    assert (report.cases, report.done, report.results) == (8, 0, [])
    seen = []
    for results in report.run():
        seen.append((report.done, len(report.results), len(report.failures)))
        if case := results.case:
            (result,) = results.results
            assert (case.picture, case.scale) == (result.picture, result.scale)
            large = Image.fromarray(case.low).resize(case.original.shape[1::-1], Image.Resampling.NEAREST)
            np.testing.assert_array_equal(case.restored["nearest"], np.asarray(large))
            case.save(tmp_path / "saved")
    assert seen == [(1, 1, 0), (2, 2, 0), (3, 3, 0), (4, 4, 0), (5, 5, 0), (6, 6, 0), (8, 6, 1)]
    assert str(report.failures[0]).startswith("pictures/cut: ")
    assert len(list((tmp_path / "saved").rglob("*.png"))) == 6


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"scales": [0.5]}, "invalid scale ×0.5"),
        ({"scales": [(1, 1)]}, "invalid scale ×1"),
        ({"metrics": ["simm"]}, "no metric called 'simm'"),
        ({"protocol": "psnr"}, "unknown protocol 'psnr'"),
        ({"restored": ["nowhere"]}, "no folder nowhere"),
        ({"data_root": "nowhere"}, "no folder nowhere"),
        ({"limit": 0}, "limit"),
    ],
)
def test_settings_that_make_no_sense_are_refused(originals: Path, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        library.evaluate(EvalConfig([originals], **{"models": ["bicubic"], **settings}))


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, gsrcli.evaluation; gsrcli.evaluation.EvalConfig([]); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


# Scales


def test_scales() -> None:
    assert parse_scales("2, 3.4,2x3,x4,2") == ((2, 2), (3.4, 3.4), (2, 3), (4, 4))
    assert [label(scale) for scale in parse_scales("2,3.4,2x3,30")] == ["2", "3.4", "2x3", "30"]


@pytest.mark.parametrize("text", ["", "two", "0.5", "1", "-2", "65", "2x0.5", "2x3x4", "2;3", "inf"])
def test_invalid_scales_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_scales(text)


# Finding versions of a picture by name


@pytest.mark.parametrize(
    ("original", "version"),
    [
        ("baby.png", "baby.png"),
        ("baby.png", "baby.webp"),
        ("baby.png", "Babyx2.png"),
        ("baby.png", "baby_x2.png"),
        ("baby.png", "baby_LRBI_x2.png"),
        ("baby.png", "baby_x2_SR.png"),
        ("baby.png", "X2/baby.png"),
        ("baby.png", "set5/x2/baby_x2.png"),
        ("baby.png", "SET5/2/baby.png"),
        ("img_001_SRF_2_HR.png", "img_001_SRF_2_LR.png"),
        ("0801.png", "0801x2.png"),
    ],
)
def test_versions_are_found_by_name(photo: Photo, original: str, version: str) -> None:
    path = photo(f"there/{version}")
    for other in ("baby_x3.png", "baby2.png", "img_0012_SRF_2_LR.png", "08012.png"):
        photo(f"there/{other}", seed=1)
    folder = Folder("there", path.parents[len(Path(version).parts) - 1])
    found = folder.read(Path(original), ("set5",), (2, 2))
    np.testing.assert_array_equal(found, read_rgb(path))


@pytest.mark.parametrize(
    ("original", "others", "version"),
    [
        ("baby.png", ["baby.png"], "baby_x2.png"),  # the first may be the original
        ("baby.png", ["baby.png", "baby_x3.png"], "baby_x2_SR.png"),
        ("baby.png", ["baby_SR.png"], "baby_x2.png"),
        ("baby.png", ["x2/baby_x2.png"], "x2/baby.png"),  # the scale is in the name of the folder
        ("img_001_SRF_2_HR.png", ["img_001_SRF_2_HR.png"], "img_001_SRF_2_LR.png"),
        ("photo.png", ["photo-x2_x4.png"], "photo-x4_x2.png"),  # the last factor counts
        ("photo_x3.png", ["photo_x2.png"], "photo_x3.png"),  # two originals
        ("photo_x3.png", ["photo_x2.png", "photo_x3.png"], "photo_x3_x2.png"),
        ("photo.webp", ["photo.png.png"], "photo.webp.png"),
    ],
)
def test_the_likeliest_version(photo: Photo, original: str, others: list[str], version: str) -> None:
    for i, other in enumerate(others):
        photo(f"there/{other}", seed=1 + i)
    path = photo(f"there/{version}")
    folder = Folder("there", path.parents[len(Path(version).parts) - 1])
    np.testing.assert_array_equal(folder.read(Path(original), ("set5",), (2, 2)), read_rgb(path))


@pytest.mark.parametrize(
    "versions",
    [["baby_x3.png"], ["baby_x2_x3.png"], ["babys.png"], ["baby_1.png"], [], ["baby_x2.png", "baby_x2_SR.png"]],
)
def test_versions_are_not_guessed(photo: Photo, tmp_path: Path, versions: list[str]) -> None:
    (tmp_path / "there").mkdir()
    for version in versions:
        photo(f"there/{version}")
    with pytest.raises(
        PictureError, match=r"several versions" if len(versions) > 1 else r"no version of baby\.png for ×2"
    ):
        Folder("there", tmp_path / "there").read(Path("baby.png"), ("set5",), (2, 2))


# Pictures that cannot be scored


def test_a_bad_picture_does_not_stop_the_others(gsr: Gsr, originals: Path, photo: Photo) -> None:
    (originals / "cut.png").write_bytes((originals / "a.png").read_bytes()[:300])
    photo("pictures/ghost.png", (50, 40), "RGBA")
    photo("pictures/tiny.png", (12, 12))
    result = gsr("eval", "--dataset", originals, "--model", "bicubic", "--scales", "2,3", "--json")
    assert result.exit_code == 1
    data = strict(result.stdout)
    assert [(mean["pictures"], label(tuple(mean["scale"]))) for mean in data["means"]] == [(3, "2"), (3, "3")]
    assert {row["picture"] for row in data["rows"]} == set(SIZES)
    failures = [(failure["picture"], "scale" in failure, failure["message"]) for failure in data["failures"]]
    assert [failure[:2] for failure in failures] == [("cut", False), ("ghost", False), ("tiny", True), ("tiny", True)]
    for (picture, _, message), reason in zip(
        failures, ("damaged", "transparent", "too small", "too small"), strict=True
    ):
        assert reason in message
        assert f"pictures/{picture}" in result.stderr
    assert "pictures, means of 3 of 6 pictures: bicubic ×2, bicubic ×3." in data["notes"]


def test_grey_and_deep_pictures_are_scored(gsr: Gsr, photo: Photo) -> None:
    folder = photo("more/grey.png", (40, 30), "L").parent
    deep = samples((40, 30), "L", 1).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    result = gsr("eval", "--dataset", folder, "--model", "bicubic", "--scales", "2", "--json")
    assert result.exit_code == 0
    assert len(strict(result.stdout)["rows"]) == 2


def test_given_pictures_must_fit(evaluate: Callable[..., dict[str, Any]], originals: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    with Image.open(originals / "a.png") as image:
        image.resize((25, 21)).save(given / "a_x2.png")
    with Image.open(originals / "b.png") as image:
        image.resize((24, 30)).save(given / "b_x2.png")
    lows = evaluate("--model", "bicubic", "--scales", 2, "--lr-dir", given, code=1)
    assert [row["picture"] for row in lows["rows"]] == ["a"]
    wrong, missing = (failure["message"] for failure in lows["failures"])
    assert wrong.endswith("the LR picture of b.png is 24x30, but should be 23x30")
    assert missing.endswith("no version of c.png for ×2")
    restored = evaluate("--restored", given, "--scales", 2, code=1)
    assert restored["failures"][0]["message"].endswith("the restored picture of a.png is 25x21, but should be 50x42")
    assert [failure["model"] for failure in restored["failures"]] == ["given"] * 3
    assert restored["means"] == []


@pytest.mark.parametrize(
    ("arguments", "reason", "hint"),
    [
        (("--dataset", "empty"), "there are no pictures in empty", None),
        (("--dataset", "urban10"), "no dataset and no folder called 'urban10'", "urban100"),
        (("--dataset", "full", "--scales", "x"), "invalid scale 'x'", "--scales"),
        (("--dataset", "full", "--metrics", "psnr,simm"), "no metric called 'simm'", "ssim"),
        (("--dataset", "full", "--restored", "nowhere"), "no folder nowhere", None),
        (("--dataset", "full", "--lr-dir", "nowhere"), "no folder nowhere", None),
        (("--dataset", "full", "--data-root", "nowhere"), "no folder nowhere", "--data-root"),
        (("--dataset", "full", "--restored", "full", "--restored", "./full"), "called 'full'", "NAME=PATH"),
        (("--dataset", "full", "--restored", "../../up=full"), "invalid name '../../up'", "NAME=PATH"),
        (("--dataset", "full", "--restored", "..=full"), "invalid name '..'", "NAME=PATH"),
        (("--dataset", "full", "--restored", "=full"), "invalid name ''", "NAME=PATH"),
        (("--dataset", "full", "--csv", "nowhere/x.csv"), "cannot write", None),
        (("--dataset", "full", "--plot", "x.jpg"), "unsupported plot format: x.jpg", ".svg"),
        (("--dataset", "full", "--plot", "x.png", "--metrics", "ssim"), "shows PSNR", "--metrics psnr,ssim"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    gsr: Gsr,
    photo: Photo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    reason: str,
    hint: str,
) -> None:
    photo("full/a.png", (40, 30))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    result = gsr("eval", "--model", "bicubic", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert reason in result.stderr
    assert not hint or hint in result.stderr


def test_an_unknown_model_is_reported_before_anything_is_scored(gsr: Gsr, originals: Path) -> None:
    result = gsr("eval", "--dataset", originals, "--model", "bicubi")
    assert result.exit_code == 1
    assert "no model called 'bicubi'" in result.stderr


def test_datasets_with_equal_names_are_refused(gsr: Gsr, tmp_path: Path) -> None:
    lay_out(tmp_path, "one/same/a.png", "other/same/HR/a.png")
    result = gsr("eval", "--dataset", tmp_path / "one/same", "--dataset", tmp_path / "other/same", "--model", "bicubic")
    assert result.exit_code == 2
    assert "2 datasets are called 'same'" in result.stderr


# Reports


class Tags(HTMLParser):
    """Count elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1


def test_all_reports_agree(gsr: Gsr, originals: Path, tiny_path: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"report.{name}" for name in ("csv", "markdown", "html")}
    options = [argument for name, path in files.items() for argument in (f"--{name}", path)]
    command = (
        "eval",
        "--dataset",
        originals,
        "--model",
        tiny_path,
        "--model",
        "bicubic",
        "--scales",
        "2,3.4",
        *options,
    )
    result = gsr(*command, "--plot", tmp_path / "report.png", "--json")
    assert result.exit_code == 0, result.stderr
    data = strict(result.stdout)
    means = {(mean["model"], label(tuple(mean["scale"]))): mean["scores"]["psnr"] for mean in data["means"]}

    rows = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    assert len(rows) == len(data["rows"]) == 3 * 2 * 2
    for (model, scale), mean in means.items():
        psnr = [float(row["psnr"]) for row in rows if row["model"] == model and row["scale_y"] == str(float(scale))]
        assert np.mean(psnr) == pytest.approx(mean)
    assert {row["protocol"] for row in rows} == {"gsasr"}

    table = [line.split("|")[1:-1] for line in files["markdown"].read_text().splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in table[0]] == ["dataset", "model", "×2", "×3.4"]
    for cells in table[2:]:
        _, model, *scores = (cell.strip() for cell in cells)
        for scale, score in zip(("2", "3.4"), scores, strict=True):
            assert score.replace("*", "").startswith(f"{means[model, scale]:.2f} / ")
    assert sum("**" in cell for cell in table[2] + table[3]) >= 2

    page = Tags(files["html"].read_text())
    assert page.counts["html"] == 1
    assert page.counts["article"] == 6
    with Image.open(tmp_path / "report.png") as plot:
        plot.load()
        assert plot.size[0] > 500

    printed = gsr(*command).stdout
    for (model, scale), mean in means.items():
        (line,) = (line for line in printed.splitlines() if line.split()[1:3] == [f"×{scale}", model])
        assert f"{mean:.2f}" in line
    for text in (printed, files["markdown"].read_text(), files["html"].read_text()):
        assert PROTOCOLS["gsasr"].description in text.replace("&#x27;", "'")
        assert "MATLAB" in text


def report_of(
    models: Sequence[str], scales: Sequence[float], metrics: Sequence[str] = ("psnr",), psnr: float = 36.5
) -> ScoreReport:
    """Return a report of interpolations, under other names, on all of DIV2K."""
    steps = tuple((scale, scale) for scale in scales)
    restorers = [Interpolation(name, rounded=True) for name in models]
    evaluation = Evaluation(PROTOCOLS["gsasr"], "matlab", steps, restorers, metrics=metrics)
    paths = tuple(Path(f"{number:04}.png") for number in range(801, 901))
    collection = Collection("div2k", paths, known_datasets()["div2k"])
    report = ScoreReport(evaluation, [collection], {"device": "abacus", "torch": "2.0"}, others=True)
    for path, scale in itertools.product(paths, steps):
        scores = {"psnr": psnr - scale[0], "ssim": 0.9, "lpips": 0.5}
        wanted = {name: scores[name] for name in metrics}
        rows = [Result("div2k", path.stem, model, scale, (9, 9), (18, 18), wanted, 0.5, 10**6) for model in models]
        report.add(CaseResults(rows))
    return report


def test_markdown_describes_itself(evaluate: Callable[..., dict[str, Any]], tiny_path: Path, tmp_path: Path) -> None:
    text = report_of(["gsasr-edsr-paper", "mine"], [4], ["psnr", "lpips"]).markdown().decode()
    assert "| div2k | gsasr-edsr-paper | **32.50** (published 30.89) / 0.5000 (published 0.2518) |" in text
    assert "| div2k | mine | **32.50** / 0.5000 |" in text
    assert "| div2k | LIIF, EDSR (published) | 30.43 / 0.2662 |" in text
    same_name = report_of(["LIIF, EDSR"], [4]).markdown().decode()
    assert "| div2k | LIIF, EDSR | **32.50** |" in same_name
    assert "| div2k | LIIF, EDSR (published) | 30.43 |" in same_name
    assert "\nabacus, torch 2.0.\n" in text
    assert "published: GSASR" in text
    assert not re.search(r"^- (s|MB):", text, re.MULTILINE)

    table, rows = tmp_path / "table.md", tmp_path / "rows.csv"
    evaluate("--model", tiny_path, "--model", "nearest", "--scales", 2, "--markdown", table, "--self-ensemble")
    line = next(line for line in table.read_text().splitlines() if "torch" in line)
    assert "float32, +: self-ensemble, the mean over eight flips and turns." in line
    data = evaluate("--model", tiny_path, "--model", "nearest", "--scales", 2, "--csv", rows)
    listed = list(csv.DictReader(io.StringIO(rows.read_text())))
    assert {(row["model"], row["precision"]) for row in listed} == {("tiny", "float32"), ("nearest", "")}
    assert {row["device"] for row in listed} == {data["environment"]["device"]}


def test_a_plot_of_many_methods_can_be_read() -> None:
    report = report_of(["gsasr-edsr-paper", "$x_1$"], [2, 3, 4])
    at_several = {
        mean.model for mean in report.quoted() if sum(other.model == mean.model for other in report.quoted()) > 1
    }
    assert len({mean.model for mean in report.quoted()}) > len(at_several) > 15
    figure = report.figure()
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    assert legend.get_window_extent().y0 >= 0
    assert legend.get_window_extent().x1 <= figure.bbox.x1
    assert axes.get_window_extent().height > 0.6 * figure.bbox.height
    names = [text.get_text() for text in legend.get_texts()]
    assert names[:2] == ["gsasr-edsr-paper", r"\$x_1\$"]
    assert set(names[2:]) == {f"{model} (published)" for model in at_several}
    (heading,) = figure.texts
    assert heading.get_text().startswith("protocol gsasr")
    assert not legend.get_window_extent().overlaps(heading.get_window_extent())
    styles = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.lines}
    assert len(styles) == len(axes.lines) == len(names)
    one = report_of(["gsasr-edsr-paper"], [4]).figure()
    assert [text.get_text() for text in one.legends[0].get_texts()] == ["gsasr-edsr-paper"]
    assert not report_of(["perfect"], [5], psnr=math.inf).figure().legends


def test_a_vector_plot(evaluate: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    evaluate("--model", "bicubic", "--scales", "2,3", "--plot", tmp_path / "plot.svg")
    assert ElementTree.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_equal_pictures(gsr: Gsr, photo: Photo, protocol: str) -> None:
    """Their PSNR is infinite, which JSON cannot express."""
    folder = photo("even/a.png", (48, 40)).parent
    command = ("eval", "--dataset", folder, "--restored", folder, "--scales", "2", "--protocol", protocol)
    assert strict(gsr(*command, "--json").stdout)["rows"][0]["scores"] == {"psnr": None, "ssim": 1.0}
    assert "∞" in gsr(*command).stdout


def test_on_a_terminal_the_means_grow_and_failures_stay(originals: Path) -> None:
    pty = pytest.importorskip("pty")
    (originals / "cut.png").write_bytes((originals / "a.png").read_bytes()[:300])
    command = [sys.executable, "-m", "gsrcli", "eval", "--dataset", originals, "--model", "bicubic", "--scales", "2,3"]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment)
    os.close(theirs)
    drawn = b""
    with suppress(OSError):  # Linux raises at the end
        while block := os.read(ours, 4096):
            drawn += block
    os.close(ours)
    printed, _ = process.communicate()
    assert process.returncode == 1
    assert b"scoring" in drawn
    assert b"8/8" in drawn
    assert b"bicubic" in drawn
    assert drawn.count(b"the file is damaged or cut short") == 1
    assert "scoring" not in printed
    assert "bicubic" in printed


def test_a_file_that_cannot_be_written_costs_nothing_else(gsr: Gsr, originals: Path, tmp_path: Path) -> None:
    dangling = tmp_path / "page.html"
    dangling.symlink_to(tmp_path / "gone" / "page.html")
    files = ("--csv", dangling, "--html", tmp_path / "good.html", "--markdown", tmp_path / "good.md")
    result = gsr("eval", "--dataset", originals, "--model", "bicubic", "--scales", "2", *files)
    assert result.exit_code == 1
    assert "bicubic" in result.stdout
    assert f"cannot write {dangling}: No such file or directory" in result.stderr
    assert "bug" not in result.stderr
    assert (tmp_path / "good.html").exists()
    assert (tmp_path / "good.md").exists()


def test_output_that_nobody_reads_costs_no_file(originals: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gsrcli", "eval", "--dataset", originals, "--model", "bicubic", "--scales", "2"]
    process = subprocess.Popen([*command, "--csv", tmp_path / "rows.csv"], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.close()
    assert process.wait() == 141
    assert (tmp_path / "rows.csv").read_text().count("bicubic,") == 3


def test_every_file_says_that_nothing_was_scored(gsr: Gsr, originals: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    files = [tmp_path / f"report.{suffix}" for suffix in ("html", "csv", "md", "png")]
    options = zip(("--html", "--csv", "--markdown", "--plot"), files, strict=True)
    result = gsr("eval", "--dataset", originals, "--restored", tmp_path / "empty", *itertools.chain(*options))
    assert result.exit_code == 1
    assert "nothing could be scored." in result.stdout
    assert "cannot write" not in result.stderr
    assert all(path.stat().st_size for path in files)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text elsewhere")
def test_names_beyond_any_encoding(gsr: Gsr, photo: Photo, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9s"))
    folder.mkdir()
    photo("a.png", (40, 30)).rename(folder / os.fsdecode(b"caf\xe9.png"))
    files = [tmp_path / f"report.{suffix}" for suffix in ("html", "csv", "md", "png")]
    options = itertools.chain(*zip(("--html", "--csv", "--markdown", "--plot"), files, strict=True))
    result = gsr("eval", "--dataset", folder, "--model", "bicubic", "--scales", "2", *options)
    assert result.exit_code == 0, result.stderr
    assert r"caf\udce9s" in result.stdout
    assert all(r"caf\udce9s" in path.read_text(encoding="utf-8") for path in files[:3])
    assert files[3].exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_leaves_the_means_so_far(photo: Photo, tmp_path: Path, as_json: bool) -> None:
    folder = photo("many/0.png", (50, 43)).parent
    for number in range(1, 2000):
        os.link(folder / "0.png", folder / f"{number}.png")
    command = ["eval", "--dataset", folder, "--model", "bicubic", "--scales", "2", "--save-images", tmp_path / "saved"]
    command += ["--csv", tmp_path / "rows.csv", *(["--json"] if as_json else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "gsrcli", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.glob("saved/*/*/*/*.png")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    scored = (tmp_path / "rows.csv").read_text().count("bicubic,")
    assert 0 < scored < 2000
    note = f"stopped after {scored} of 2000 pictures (one picture at two scales counts twice)."
    if as_json:
        data = strict(printed)
        assert note in data["notes"]
        assert data["means"][0]["pictures"] == scored
    else:
        assert note in printed


def test_failures_to_save_are_reported(evaluate: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data = evaluate("--model", "bicubic", "--scales", 2, "--save-images", tmp_path / "file", code=1)
    assert len(data["rows"]) == 3
    assert all("cannot create the folder" in failure["message"] for failure in data["failures"])


# Datasets


def lay_out(root: Path, *names: str) -> None:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(samples((30, 26), "RGB", i)).save(root / name)


@pytest.mark.parametrize(
    ("name", "layout", "place"),
    [
        ("set5", "Set5/a.png", "Set5"),
        ("set5", "set5/HR/a.png", "set5/HR"),
        ("set5", "benchmark/Set5/HR/a.png", "benchmark/Set5/HR"),
        ("b100", "BSD100/a.jpg", "BSD100"),
        ("b100", "benchmark/B100/HR/a.png", "benchmark/B100/HR"),
        ("bsd100", "bsds100/a.png", "bsds100"),
        ("div2k", "DIV2K_valid_HR/0801.png", "DIV2K_valid_HR"),
        ("div2k", "DIV2K/DIV2K_valid_HR/0801.png", "DIV2K/DIV2K_valid_HR"),
        ("lsdir", "LSDIR/val1/HR/val/1.png", "LSDIR/val1/HR/val"),
        ("general100", "General-100/im_1.bmp", "General-100"),
    ],
)
def test_datasets_are_found_in_the_usual_layouts(tmp_path: Path, name: str, layout: str, place: str) -> None:
    lay_out(tmp_path, layout, "Set14/image_SRF_2/b_HR.png", "Set5/LR_bicubic/X2/ax2.png", "Set5/.hidden.png")
    collection = collect(name, tmp_path)
    assert [path.parent for path in collection.paths] == [tmp_path / place]
    assert len(collection.paths) == 1
    assert collection.dataset is not None
    assert find(known_datasets()["set14"], tmp_path) is None
    if not layout.startswith("benchmark"):
        assert collect(name, tmp_path / Path(layout).parts[0]).paths == collection.paths


def test_missing_pictures_of_a_dataset_are_reported(gsr: Gsr, tmp_path: Path) -> None:
    lay_out(tmp_path, "Set5/a.png")
    result = gsr(
        "eval", "--dataset", "set5", "--data-root", tmp_path, "--model", "bicubic", "--scales", 2, "--published"
    )
    assert result.exit_code == 0
    assert "set5: 1 pictures here, 5 in papers; published means are not shown." in result.stdout
    assert "FSRCNN" not in result.stdout


def test_published_means_stand_beside_those_of_the_whole_set(gsr: Gsr, tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"Set5/{name}.png" for name in "abcde"))
    command = (
        "eval",
        "--dataset",
        "set5",
        "--data-root",
        tmp_path,
        "--model",
        "bicubic",
        "--scales",
        "2,2.5",
        "--json",
    )
    data = strict(gsr(*command, "--published").stdout)
    at_2, at_2_5 = data["means"]
    assert at_2["published"] == {"psnr": 33.66}
    assert "published" not in at_2_5
    assert {mean["model"]: mean["scores"]["psnr"] for mean in data["published"]} == {
        "FSRCNN": 37.00,
        "EDSR-baseline": 37.99,
    }
    liif = strict(gsr(*command, "--published", "--protocol", "liif").stdout)
    assert "published" not in liif["means"][0]
    sources = {mean["source"] for mean in liif["published"]}
    assert sources == {"LIIF, arXiv:2012.09161, table 2 (beyond ×4 shrunk by Pillow)"}
    assert strict(gsr(*command).stdout)["published"] == []
    assert "published" not in strict(gsr(*command, "--limit", 4).stdout)["means"][0]


def test_photographs_faults_repeat_and_cost_quality(
    evaluate: Callable[..., dict[str, Any]], originals: Path, tmp_path: Path
) -> None:
    """They depend on the picture's name and the scale, not on what else is scored."""
    command = ("--model", "bicubic", "--scales", "2,3")
    data = evaluate(*command, "--degradation", "photo", "--save-images", tmp_path / "saved")
    assert data["protocol"]["degradation"].startswith("as in photographs, with blur, noise, sharpening and JPEG")
    scores = [row["scores"] for row in data["rows"]]
    assert [row["scores"] for row in evaluate(*command, "--degradation", "photo")["rows"]] == scores
    fewer = evaluate("--model", "bicubic", "--scales", 3, "--degradation", "photo", "--limit", 1)
    assert fewer["rows"][0]["scores"] == next(row["scores"] for row in data["rows"] if row["scale"] == [3, 3])
    matlab = evaluate(*command)
    assert matlab["protocol"]["degradation"].startswith("bicubic as MATLAB")
    better = [psnr_by_scale(matlab, "bicubic")[x] > psnr_by_scale(data, "bicubic")[x] for x in ("2", "3")]
    assert all(better)
    for path in originals.iterdir():  # of another name, the same picture meets something else
        path.rename(path.with_name(f"other-{path.name}"))
    assert [row["scores"] for row in evaluate(*command, "--degradation", "photo")["rows"]] != scores


def test_published_means_of_other_pictures_are_not_shown(gsr: Gsr, tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"Set5/{name}.png" for name in "abcde"), *(f"LSDIR/{name}.png" for name in "abc"))
    for name in "abcde":
        with Image.open(tmp_path / f"Set5/{name}.png") as image:
            (tmp_path / "low").mkdir(exist_ok=True)
            image.resize((15, 13)).save(tmp_path / f"low/{name}.png")
    on_set5 = ("eval", "--dataset", "set5", "--data-root", tmp_path, "--scales", 2, "--published", "--json")
    scored = (*on_set5, "--model", "bicubic")
    for other in (("--degradation", "pillow"), ("--degradation", "photo"), ("--lr-dir", tmp_path / "low")):
        data = strict(gsr(*scored, *other).stdout)
        assert "published" not in data["means"][0]
        assert data["published"] == []
        assert (
            "published means are shown only where LR is made as by MATLAB’s imresize, as in most papers."
            in (data["notes"])
        )
    assert strict(gsr(*scored, "--metrics", "ssim").stdout)["published"] == []  # papers report PSNR alone

    elsewhere = strict(gsr(*on_set5, "--restored", f"bicubic={tmp_path / 'Set5'}").stdout)
    assert "published" not in elsewhere["means"][0]
    assert {"bicubic", "FSRCNN"} < {mean["model"] for mean in elsewhere["published"]}
    assert "published: bicubic may have started from another LR than the papers." in elsewhere["notes"]

    lsdir = gsr("eval", "--dataset", "lsdir", "--data-root", tmp_path, "--model", "bicubic", "--published")
    assert "lsdir: 3 pictures here, 250 in papers" in lsdir.stdout
    assert "LIIF" not in lsdir.stdout


def test_published_scores_are_those_of_the_weights() -> None:
    """Two files list the authors' scores of released weights."""
    compared = 0
    for name, weights in model_weights().items():
        for dataset, by_scale in weights.scores.psnr.items():
            for scale, psnr in by_scale.items():
                wanted = (name, dataset.lower(), (scale, scale))
                listed = {e.scores["psnr"] for e in published() if (e.model, e.dataset, e.scale) == wanted}
                assert listed == ({psnr} if "authors" in weights.scores.protocol else set()), wanted
                compared += len(listed)
    assert compared > 30
    assert {entry.dataset for entry in published()} <= set(known_datasets())
    assert {entry.protocol for entry in published()} <= set(PROTOCOLS)
    known = {*model_weights(), "bicubic", None}
    assert {entry.model for entry in published()} <= known


class Release:
    """An archive of Set5 and Set14 on a server, to which a test may add files."""

    def __init__(self, server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.home, self.monkeypatch = server, home / "datasets", monkeypatch
        self.files: dict[str, bytes] = {}
        for title, count in (("Set5", 5), ("Set14", 14)):
            for i in range(count):
                self.files[f"benchmark/{title}/HR/{i}.png"] = png(i)
                self.files[f"benchmark/{title}/LR_bicubic/X2/{i}x2.png"] = png(i)
        self.publish(self.tar())

    def tar(self, mode: str = "w") -> bytes:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
            for name, data in self.files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return content.getvalue()

    def zip(self) -> bytes:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name, data in self.files.items():
                archive.writestr(name, data)
        return content.getvalue()

    def publish(self, content: bytes, digest: Digest | None = None) -> None:
        archive = Archive("release", (self.server.give("/release", whole(content)),), "some kB", digest)
        for name in ("set5", "set14"):
            self.monkeypatch.setitem(known_datasets(), name, replace(known_datasets()[name], archive=archive))

    def fetch(self, name: str = "set5") -> Path:
        return fetch(known_datasets()[name])

    def kept(self) -> set[str]:
        return {path.name for path in self.home.iterdir() if path.suffix != ".lock"}


def png(seed: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(samples((30, 26), "RGB", seed)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Release]:
    monkeypatch.setenv("GSRCLI_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GSRCLI_OFFLINE")
    monkeypatch.setattr(http, "PAUSES", (0.01,))
    with serving() as server:
        yield Release(server, tmp_path / "home", monkeypatch)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_dataset_is_downloaded_once_with_the_others_in_its_archive(release: Release, kind: str) -> None:
    release.publish({"tar": release.tar, "tar.gz": lambda: release.tar("w:gz"), "zip": release.zip}[kind]())
    assert release.fetch() == release.home / "Set5"
    assert release.kept() == {"Set5", "Set14", "release.json"}
    assert sorted(path.name for path in (release.home / "Set14").iterdir()) == sorted(f"{i}.png" for i in range(14))
    assert (release.home / "Set5" / "3.png").read_bytes() == release.files["benchmark/Set5/HR/3.png"]
    assert len(collect("set14", None).paths) == 14
    assert len(release.server.requests) == 1


def test_eval_downloads_a_dataset_and_shows_its_licence(gsr: Gsr, release: Release) -> None:
    result = gsr("eval", "--dataset", "set5", "--model", "bicubic", "--scales", 2)
    assert result.exit_code == 0, result.stderr
    assert (
        "downloading Set5 from 127.0.0.1, about some kB; licence: none stated; by custom, for research" in result.stderr
    )
    assert "downloading" not in gsr("eval", "--dataset", "set5", "--model", "bicubic", "--scales", 2).stderr


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "benchmark/Set5/HR/../../../../evil.png", "C:evil.png"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_that_leads_elsewhere_is_refused(release: Release, tmp_path: Path, kind: str, name: str) -> None:
    release.files = {name: png(0), **release.files}
    release.publish(release.tar() if kind == "tar" else release.zip())
    with pytest.raises(DownloadError, match="not safe"):
        release.fetch()
    assert release.kept() == set()
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


def test_links_in_an_archive_are_not_followed(release: Release, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(99))
    content = io.BytesIO(release.tar())
    with tarfile.open(fileobj=content, mode="a") as archive:
        link = tarfile.TarInfo("benchmark/Set5/HR/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
    release.publish(content.getvalue())
    assert sorted(path.name for path in release.fetch().iterdir()) == [f"{i}.png" for i in range(5)]


def test_an_archive_without_the_pictures_is_refused(release: Release) -> None:
    del release.files["benchmark/Set5/HR/4.png"]
    release.publish(release.tar())
    with pytest.raises(DownloadError, match="holds 4 pictures in benchmark/Set5/HR, not 5"):
        release.fetch()
    assert release.kept() == set()


def test_a_damaged_archive_is_refused(release: Release) -> None:
    for content in (b"no archive at all" * 100, release.tar("w:gz")[:2000], release.zip()[:-100]):
        release.publish(content)
        with pytest.raises(DownloadError, match="damaged"):
            release.fetch()
        assert release.kept() == set()


def test_an_archive_that_changed_is_refused(release: Release) -> None:
    release.fetch()
    for title in ("Set5", "Set14"):
        for path in (release.home / title).iterdir():
            path.unlink()
        (release.home / title).rmdir()
    release.files["benchmark/Set5/HR/0.png"] = png(100)
    release.publish(release.tar())
    with pytest.raises(DownloadError, match=r"release has changed since http.*/release first served it") as caught:
        release.fetch()
    record = release.home / "release.json"
    assert caught.value.hint == f"if the change is expected: delete {record}, then fetch again"
    record.write_text("{}")
    with pytest.raises(ModelError, match=r"the record .*release\.json is damaged"):
        release.fetch()
    record.unlink()
    release.fetch()


def test_an_archive_other_than_published_is_refused(release: Release, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(release.tar())
    release.publish(release.tar(), Digest.of(tmp_path / "archive"))
    release.fetch()
    release.publish(release.tar(), Digest("sha256", "0" * 64))
    for title in ("Set5", "Set14"):
        (release.home / title).rename(tmp_path / title)
    with pytest.raises(DownloadError, match="release is not the published file"):
        release.fetch()


def test_offline(release: Release, gsr: Gsr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSRCLI_OFFLINE", "1")
    result = gsr("eval", "--dataset", "set5")
    assert result.exit_code == 1
    assert "Set5: GSRCLI_OFFLINE is set" in result.stderr
    assert f"put its pictures into {release.home / 'Set5'}" in " ".join(result.stderr.split())
    assert release.server.requests == []


def test_datasets_that_must_be_requested(release: Release) -> None:
    for dataset in known_datasets().values():
        if dataset.archive is None:
            with pytest.raises(GsrError, match=f"{dataset.title} is not on this machine and must be .*{dataset.page}"):
                collect(dataset.name, None)


def test_the_known_datasets() -> None:
    assert set(known_datasets()) == {"set5", "set14", "b100", "urban100", "manga109", "general100", "div2k", "lsdir"}
    names = [name for dataset in known_datasets().values() for name in dataset.names]
    assert len(names) == len(set(names))
    assert names == [name.lower() for name in names]
    with pytest.raises(ValueError, match="https"):
        datasets._archive("plain", urls=["http://example.org/a.tar"], size="")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_scores_as_the_cpu_does(gsr: Gsr, originals: Path, tiny_path: Path) -> None:
    command = ("eval", "--dataset", originals, "--model", tiny_path, "--model", "bicubic", "--precision", "float32")
    here, there = (strict(gsr(*command, "--json", "--device", name).stdout) for name in ("cpu", "cuda"))
    for mean, other in zip(here["means"], there["means"], strict=True):
        assert mean["scores"]["psnr"] == pytest.approx(other["scores"]["psnr"], abs=0.01)
    assert all(("memory_bytes" in row) == (row["model"] == "tiny") for row in there["rows"])


# The real datasets, if they are here


@pytest.mark.skipif(BENCHMARK is None, reason="GSRCLI_BENCHMARK is not a folder of Set5, Set14 and B100")
@pytest.mark.parametrize(
    ("name", "floor"),
    [("set5", (33.673, 30.403, 28.429)), ("set14", (30.325, 27.631, 26.091)), ("b100", (29.560, 27.209, 25.961))],
)
@pytest.mark.parametrize("degradation", ["matlab", "pillow"])
def test_bicubic_is_what_it_always_was(gsr: Gsr, name: str, floor: tuple[float, ...], degradation: str) -> None:
    command = ("eval", "--dataset", name, "--data-root", BENCHMARK, "--model", "bicubic", "--degradation", degradation)
    data = strict(gsr(*command, "--json").stdout)
    assert list(psnr_by_scale(data, "bicubic").values()) == pytest.approx(floor, abs=0.01)
