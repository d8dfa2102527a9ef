"""LPIPS and DISTS through networks with random weights, and where their weights come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.torch import load_file
from support.server import Server, serving, whole
from typer.testing import Result

from gsrcli.download import http
from gsrcli.download.digest import Digest, sha256_of
from gsrcli.errors import DownloadError, ModelError, PictureError, UsageError
from gsrcli.metrics.perceptual import METRICS, load_perceptual
from gsrcli.models.feature_extractors import ARCHITECTURES
from gsrcli.weights.catalog import metric_weights, model_weights
from gsrcli.weights.load import load_model
from gsrcli.weights.store import Store

Gsr = Callable[..., Result]
State = dict[str, torch.Tensor]

# Index, width and kernel of each convolution in the released files, and where their features are pooled.
CONVOLUTIONS = {
    "alexnet": [(0, 64, 11), (3, 192, 5), (6, 384, 3), (8, 256, 3), (10, 256, 3)],
    "vgg16": [
        *((0, 64, 3), (2, 64, 3), (5, 128, 3), (7, 128, 3), (10, 256, 3), (12, 256, 3), (14, 256, 3)),
        *((17, 512, 3), (19, 512, 3), (21, 512, 3), (24, 512, 3), (26, 512, 3), (28, 512, 3)),
    ],
}
RELEASED = {"alexnet": "alexnet-owt-7be5be79.pth", "vgg16": "vgg16-397923af.pth"}


def random_state(name: str) -> State:
    """Return a state dict like the released one, with random weights that keep signals in range."""
    random = np.random.RandomState(len(name))  # whose numbers no version of numpy changes
    state, before = {}, 3
    for index, width, kernel in CONVOLUTIONS[name]:
        deviation = (2 / (before * kernel * kernel)) ** 0.5
        state[f"features.{index}.weight"] = _noise(random, width, before, kernel, kernel) * deviation
        state[f"features.{index}.bias"] = _noise(random, width) / 20
        before = width
    return {**state, "classifier.6.weight": _noise(random, 10, 7), "classifier.6.bias": torch.zeros(10)}


def _noise(random: np.random.RandomState, *shape: int) -> torch.Tensor:
    return torch.from_numpy(random.standard_normal(shape)).float()


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    return {name: random_state(name) for name in CONVOLUTIONS}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, states: dict[str, State]) -> dict[str, Path]:
    """Write the files, some in the older of torch's two formats like the real ones."""
    folder = tmp_path_factory.mktemp("backbones")
    for name, state in states.items():
        torch.save(state, folder / RELEASED[name], _use_new_zipfile_serialization=name == "alexnet")
    return {name: folder / file for name, file in RELEASED.items()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GSRCLI_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


def publish(monkeypatch: pytest.MonkeyPatch, name: str, path: Path, url: str | None = None) -> None:
    """Make weights.toml list this file's digest and URL."""
    weights = metric_weights()[name]
    file = weights.released[RELEASED[name]]
    file = replace(file, digest=Digest.of(path), urls=(url,) if url else file.urls)
    monkeypatch.setitem(metric_weights(), name, replace(weights, released={RELEASED[name]: file}))


@pytest.fixture(scope="module")
def filled_home(tmp_path_factory: pytest.TempPathFactory, release: dict[str, Path]) -> Path:
    """Return a store into which both networks were imported."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GSRCLI_HOME", str(folder))
        for name, path in release.items():
            publish(patch, name, path)
            Store().entry(name).import_released([path])
    return folder


@pytest.fixture
def here(filled_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put both networks on this machine."""
    monkeypatch.setenv("GSRCLI_HOME", str(filled_home))


def pictures(height: int = 37, width: int = 45) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.RandomState(height + width)
    original = torch.from_numpy(random.random_sample((3, height, width))).float()
    return (original + 0.1 * _noise(random, 3, height, width)).clamp(0, 1), original


# In numpy, from the papers

Planes = np.ndarray


def convolved(planes: Planes, weight: torch.Tensor, bias: torch.Tensor, stride: int, padding: int) -> Planes:
    padded = np.pad(planes, ((0, 0), (padding, padding), (padding, padding)))
    kernel = weight.shape[-1]
    windows = sliding_window_view(padded, (kernel, kernel), (1, 2))[:, ::stride, ::stride]
    return np.einsum("cyxij,ocij->oyx", windows, weight.double().numpy(), optimize=True) + bias.numpy()[:, None, None]


def largest(planes: Planes, side: int) -> Planes:
    return sliding_window_view(planes, (side, side), (1, 2))[:, ::2, ::2].max((3, 4))


def root_mean_square(planes: Planes) -> Planes:
    hanning = np.hanning(5)[1:-1]
    window = np.outer(hanning, hanning) / hanning.sum() ** 2
    windows = sliding_window_view(np.pad(planes**2, ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2))[:, ::2, ::2]
    return np.sqrt((windows * window).sum((3, 4)) + 1e-12)


def stages(name: str, state: State, picture: torch.Tensor, pool: Callable[[Planes], Planes]) -> list[Planes]:
    """Return the features that are compared: AlexNet's five layers, or the last of each of VGG-16's five blocks."""
    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    planes = (picture.double().numpy() - mean) / deviation
    found = []
    convolutions = CONVOLUTIONS[name]
    for (index, _, kernel), following in zip(convolutions, [*convolutions[1:], None], strict=True):
        weight, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
        first_of_alexnet = kernel == 11
        stride, padding = (4, 2) if first_of_alexnet else (1, kernel // 2)
        planes = np.maximum(convolved(planes, weight, bias, stride, padding), 0)
        pooled = following is not None and following[0] - index == 3  # a layer between them
        if pooled or following is None or name == "alexnet":
            found.append(planes)
        if pooled:
            planes = pool(planes)
    return found


def lpips_in_numpy(name: str, state: State, first: torch.Tensor, second: torch.Tensor, heads: list[Planes]) -> float:
    found = [stages(name, state, p, lambda f: largest(f, 3 if name == "alexnet" else 2)) for p in (first, second)]
    total = 0.0
    for head, one, other in zip(heads, *found, strict=True):
        one, other = (f / np.sqrt((f**2).sum(0)) for f in (one, other))
        total += (head[:, None, None] * (one - other) ** 2).sum(0).mean()
    return total


def dists_in_numpy(state: State, first: torch.Tensor, second: torch.Tensor, alpha: Planes, beta: Planes) -> float:
    found = [[p.double().numpy(), *stages("vgg16", state, p, root_mean_square)] for p in (first, second)]
    similarity, channel = 0.0, 0
    for one, other in zip(*found, strict=True):
        for x, y in zip(one, other, strict=True):
            texture = (2 * x.mean() * y.mean() + 1e-6) / (x.mean() ** 2 + y.mean() ** 2 + 1e-6)
            structure = (2 * np.cov(x.flat, y.flat, bias=True)[0, 1] + 1e-6) / (x.var() + y.var() + 1e-6)
            similarity += alpha[channel] * texture + beta[channel] * structure
            channel += 1
    assert channel == len(alpha) == len(beta)
    return 1 - similarity / (alpha.sum() + beta.sum())


def learned(metric: str) -> dict[str, Planes]:
    """Return a metric's own weights from the file in the package."""
    return {name: tensor.double().numpy() for name, tensor in load_file(Store().entry(metric).path).items()}


def assert_scored(metric: str, expected: float) -> None:
    """Compare to the last digits in float64, and nearly so in float32."""
    assert expected > 0.001
    first, second = pictures()
    exact = METRICS[metric](None).double()(first.double(), second.double())
    assert exact.item() == pytest.approx(expected, rel=1e-11)
    assert load_perceptual([metric])(first, second)[metric] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("metric", "name"), [("lpips", "alexnet"), ("lpips-vgg", "vgg16")])
def test_lpips_is_as_its_paper_says(here: None, states: dict[str, State], metric: str, name: str) -> None:
    heads = [learned("lpips")[f"{name}.{stage}"] for stage in range(5)]
    assert_scored(metric, lpips_in_numpy(name, states[name], *pictures(), heads))


def test_dists_is_as_its_paper_says(here: None, states: dict[str, State]) -> None:
    weights = learned("dists")
    assert_scored("dists", dists_in_numpy(states["vgg16"], *pictures(), weights["alpha"], weights["beta"]))


# By another program


@pytest.mark.parametrize(
    ("metric", "size", "expected"),
    [
        ("lpips", (31, 31), 0.009396451),
        ("lpips", (64, 83), 0.01187964),
        ("lpips-vgg", (31, 31), 0.0170035),
        ("lpips-vgg", (64, 83), 0.016222),
        ("dists", (16, 16), 0.01024544),
        ("dists", (64, 83), 0.004921913),
    ],
)
def test_scores_are_those_of_torchmetrics(here: None, metric: str, size: tuple[int, int], expected: float) -> None:
    """The expected values are from torchmetrics 1.9.0 with these networks in place of its trained ones."""
    first, second = pictures(*size)
    assert load_perceptual([metric])(first, second)[metric] == pytest.approx(expected, rel=1e-4)


# What they are like


def test_the_same_picture_is_at_no_distance_and_order_does_not_matter(here: None) -> None:
    compare = load_perceptual(list(METRICS))
    restored, original = pictures()
    assert compare(original, original.clone()) == dict.fromkeys(METRICS, 0)
    there, back = compare(restored, original), compare(original, restored)
    assert list(there) == list(METRICS)
    assert there == {name: pytest.approx(value, rel=1e-5) for name, value in back.items()}
    worse = (original + 3 * (restored - original)).clamp(0, 1)
    assert all(compare(worse, original)[name] > there[name] for name in METRICS)


def test_a_black_picture_has_a_distance(here: None) -> None:
    black, original = torch.zeros(3, 40, 40), pictures(40, 40)[1]
    assert all(0 < value < 2 for value in load_perceptual(list(METRICS))(black, original).values())


def test_pictures_of_float64_are_taken_too(here: None) -> None:
    compare = load_perceptual(["lpips", "dists"])
    assert compare(*(picture.double() for picture in pictures())) == compare(*pictures())


@pytest.mark.parametrize(("metric", "smallest"), [("lpips", 31), ("lpips-vgg", 16)])
def test_a_picture_that_is_too_small_is_refused(here: None, metric: str, smallest: int) -> None:
    compare = load_perceptual([metric])
    assert compare(*pictures(smallest, smallest))[metric] > 0
    with pytest.raises(
        PictureError, match=rf"{smallest - 1}x40 pixels is too small for {metric}, which needs {smallest}x"
    ):
        compare(*pictures(40, smallest - 1))


def test_dists_takes_any_picture(here: None) -> None:
    assert load_perceptual(["dists"])(*pictures(1, 2))["dists"] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_computes_the_same(here: None) -> None:
    on_gpu = load_perceptual(list(METRICS), "cuda")(*pictures(100, 120))
    assert on_gpu == {
        name: pytest.approx(value, rel=1e-4)
        for name, value in load_perceptual(list(METRICS))(*pictures(100, 120)).items()
    }


# Where the weights come from


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("GSRCLI_OFFLINE")
    monkeypatch.setattr(http, "PAUSES", (0.01,))
    with serving() as server:
        yield server


def test_a_network_is_fetched_once(
    server: Server, home: Path, release: dict[str, Path], states: dict[str, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.give("/alexnet", whole(release["alexnet"].read_bytes()))
    publish(monkeypatch, "alexnet", release["alexnet"], url)
    reported: list[str] = []
    for _ in range(2):
        assert load_perceptual(["lpips"], report=lambda name, *_: reported.append(name))(*pictures())["lpips"] > 0
    assert len(server.asked("/alexnet")) == 1
    assert set(reported) == {f"alexnet/{RELEASED['alexnet']}"}
    kept = load_file(home / "alexnet.safetensors")
    assert kept.keys() == {f"{i}.{part}" for i, _, _ in CONVOLUTIONS["alexnet"] for part in ("weight", "bias")}
    assert all(torch.equal(tensor, states["alexnet"][f"features.{name}"]) for name, tensor in kept.items())
    record = json.loads((home / "alexnet.json").read_text())
    assert record["sources"] == {RELEASED["alexnet"]: {"sha256": sha256_of(release["alexnet"]), "origin": url}}


def test_another_file_is_refused(
    server: Server, home: Path, release: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, "alexnet", release["alexnet"], server.give("/alexnet", whole(b"something else")))
    with pytest.raises(DownloadError, match=r"alexnet-owt-7be5be79.pth is not the published file: .* sha256:"):
        load_perceptual(["lpips"])
    assert not (home / "alexnet.safetensors").exists()


def test_offline_the_message_says_how_to_import_the_network(home: Path) -> None:
    with pytest.raises(DownloadError) as raised:
        load_perceptual(["dists"])
    assert "gsr weights" in (raised.value.hint or "")


def test_a_file_brought_by_hand(
    gsr: Gsr, home: Path, release: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = gsr("weights", "import", release["alexnet"], "--name", "vgg16")
    assert result.exit_code == 1
    assert "vgg16-397923af.pth is not the published file" in result.stderr
    publish(monkeypatch, "alexnet", release["alexnet"])
    result = gsr("weights", "import", release["alexnet"], "--name", "alexnet")
    assert (result.exit_code, result.stdout) == (0, f"{home / 'alexnet.safetensors'}\n")
    assert f"{home / 'alexnet.safetensors'}: intact" in gsr("weights", "verify").stdout
    facts = {fact["name"]: fact for fact in json.loads(gsr("weights", "list", "--json").stdout)["weights"]}
    assert (facts["alexnet"]["where"], facts["vgg16"]["where"]) == ("cached", None)
    (home / "alexnet.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="the weights of alexnet are damaged"):
        load_perceptual(["lpips"])
    assert gsr("weights", "remove", "alexnet").exit_code == 0
    assert not list(home.glob("alexnet*"))


def test_a_network_of_another_shape_is_refused(
    home: Path, release: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, "alexnet", release["vgg16"])
    with pytest.raises(ModelError, match=r"alexnet-owt-7be5be79\.pth do not fit alexnet"):
        Store().entry("alexnet").import_released([release["vgg16"]])
    assert not (home / "alexnet.safetensors").exists()


def test_networks_of_metrics_are_no_models(here: None) -> None:
    assert not metric_weights().keys() & model_weights().keys()
    assert metric_weights().keys() == {*ARCHITECTURES, "lpips", "dists"}
    assert Store().imported() == []
    for name in ("vgg16", "lpips"):
        with pytest.raises(ModelError, match=f"there is no model called '{name}'"):
            load_model(name)
        with pytest.raises(ModelError, match="is not a checkpoint of gsrcli"):
            load_model(Store().entry(name).path)


@pytest.mark.parametrize("name", RELEASED)
def test_the_digest_begins_as_the_name_says(name: str) -> None:
    ((file, released),) = metric_weights()[name].released.items()
    assert file == RELEASED[name]
    assert str(released.digest).startswith(f"sha256:{file[-12:-4]}")
    assert released.urls == (f"https://download.pytorch.org/models/{file}",)


@pytest.mark.parametrize(
    ("metric", "sums"),
    [
        ("lpips", {"alexnet": (1152, 105.2753546), "vgg16": (1472, 131.8555085)}),
        ("dists", {"alpha": (1475, 0.8760496236), "beta": (1475, 0.1239502105)}),
    ],
)
def test_weights_of_metrics_are_those_of_their_authors(metric: str, sums: dict[str, tuple[int, float]]) -> None:
    """The number of weights and their sums are those of the authors' files."""
    vectors = learned(metric)
    for prefix, (count, total) in sums.items():
        found = np.concatenate([vector for name, vector in vectors.items() if name.startswith(prefix)])
        assert (len(found), found.sum()) == (count, pytest.approx(total, rel=1e-6))
        assert found.min() >= 0
    assert sum(map(len, vectors.values())) == metric_weights()[metric].parameters
    note = Store().entry(metric).path.with_suffix(".md").read_text()  # with the licence, which asks to be kept
    assert f"**Licence**: {metric_weights()[metric].license}" in note
    assert "Copyright (c)" in note


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(UsageError, match="no perceptual metric called 'lpisp'") as raised:
        load_perceptual(["dists", "lpisp"])
    assert raised.value.hint == "try lpips or lpips-vgg"
