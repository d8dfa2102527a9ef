"""GaussianSR: the released program's numbers, the drawing against plain sums, tiles, the authors' file, training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support.authors import PARITY, SHAPES, filled
from support.fields import doubt, draw
from torch import Tensor
from typer.testing import Result

from gsrcli.gaussians import Gaussians
from gsrcli.images import Picture
from gsrcli.models import build, gaussiansr
from gsrcli.models.base import STRIP_PIXELS
from gsrcli.models.gaussiansr import GaussianSR, GaussianSRConfig, LocalFourierDecoder, ReleasedGaussianSR
from gsrcli.models.render import render
from gsrcli.rasterizer import EPSILON
from gsrcli.resize import bicubic
from gsrcli.size import Box, Size
from gsrcli.training.config import TrainConfig
from gsrcli.training.trainer import train
from gsrcli.training.validation import enlarge
from gsrcli.upscaling.upscaler import Upscaler
from gsrcli.weights.checkpoint import save_model
from gsrcli.weights.load import load_model
from gsrcli.weights.released import convert_gaussiansr

NAMES = ("gaussiansr-edsr", "gaussiansr-edsr-released")
TINY = GaussianSRConfig(blocks=1, width=16)
SIGMA = torch.linspace(0.2, 3.0, 10)

State = dict[str, Tensor]


def released_state() -> State:
    """Return what the released file holds under ``model`` and ``sd``, filled by the rule of the parity files."""
    state = {name: filled(f"model.{name}", shape) for name, shape in SHAPES["gaussiansr-edsr"]["model"].items()}
    with np.load(PARITY / "gaussiansr-edsr.npz") as file:
        state |= {name: torch.from_numpy(file[name]) for name in ("opacity", "rho")}
    return state | {"sigma_x": SIGMA.repeat_interleave(10), "sigma_y": SIGMA.repeat(10)}


def checkpoint(state: State) -> dict[str, Any]:
    return {"model": {"name": "gaussian-splatter", "args": {}, "sd": state}, "optimizer": {}}


@pytest.fixture(scope="module")
def released() -> ReleasedGaussianSR:
    model = ReleasedGaussianSR()
    model.load_state_dict(convert_gaussiansr(checkpoint(released_state())))
    return model.eval().requires_grad_(False)


def tiny(name: str = "gaussiansr-edsr", seed: int = 0) -> GaussianSR:
    """Build a small model whose features, and with them the kernels, vary from pixel to pixel."""
    model = build(name, dataclasses.asdict(TINY))
    assert isinstance(model, GaussianSR)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key != "bank":
                parameter.copy_(filled(f"{seed}.{key}", list(parameter.shape)))
        model.get_parameter("decoder.mlp.8.weight").mul_(6)
        noise = torch.rand(2, 100, generator=torch.Generator().manual_seed(seed))
        model.bank[2:] = torch.stack((noise[0] - 0.5, noise[1]))
    return model.eval().requires_grad_(False)


def picture_of(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def field_of(model: GaussianSR, image: Tensor) -> Gaussians:
    return model(image, torch.ones(len(image), 2))


def error(actual: Tensor, expected: Tensor) -> float:
    return ((actual.double() - expected.double()).norm() / expected.double().norm()).item()


# ---- the released program ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["a", "b"])
def test_every_stage_equals_the_released(
    released: ReleasedGaussianSR, case: str, record_property: Callable[[str, object], None]
) -> None:
    with np.load(PARITY / "gaussiansr-edsr.npz") as file:
        theirs = {
            key: torch.from_numpy(file[f"{key}_{case}"]) for key in ("image", "scale", "features", "class", "rgb")
        }
    image = theirs["image"].permute(2, 0, 1)[None].float() / 255
    size = (theirs["rgb"].shape[0], theirs["rgb"].shape[1])
    features = released.features(image)
    # Both round in float32, by kernels that the processor chooses: up to 1.8e-6 without AVX-512's.
    assert error(features[0, :8], theirs["features"]) < 4e-6
    assert torch.equal(released.logits(features).argmax(1)[0], theirs["class"].long())
    drawn = render(released, released(image, theirs["scale"].expand(1, 2).float()), image, Size(*size))
    relative = error(drawn[0].permute(1, 2, 0), theirs["rgb"])
    record_property("told", f"parity, gaussiansr-edsr-released, {case}: rgb {relative:.1e}")
    assert relative < 5e-5


def test_the_released_file_fills_the_model_and_is_as_large_as_published(released: ReleasedGaussianSR) -> None:
    assert 1.8e6 < sum(parameter.numel() for parameter in released.parameters()) < 1.9e6


def test_faults_of_the_released_file_are_named() -> None:
    state = released_state()
    del state["coef.bias"], state["encoder.edsr.sub_mean.bias"]
    state["surprise"] = torch.zeros(1)
    state["rho"] = torch.zeros(100)
    state["freq.weight"] = torch.zeros(256, 64, 1, 1)
    with pytest.raises(ValueError, match="gaussiansr-edsr-released") as caught:
        convert_gaussiansr(checkpoint(state))
    assert set(str(caught.value).splitlines()[1:]) == {
        "missing: coef.bias",
        "missing: encoder.edsr.sub_mean.bias",
        "unexpected: surprise",
        "rho has shape (100,) instead of (100, 1)",
        "freq.weight has shape (256, 64, 1, 1) instead of (256, 64, 3, 3)",
    }


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"params_ema": {"conv_first.weight": torch.zeros(1)}}])
def test_files_of_another_kind_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="missing: sigma_x"):
        convert_gaussiansr(content)


def test_the_kernels_of_released_are_means_over_patches() -> None:
    model, image = tiny("gaussiansr-edsr-released"), picture_of(1, 3, 14, 21)
    assert isinstance(model, ReleasedGaussianSR)
    field = field_of(model, image)
    means = model._mean_kernels(field, Size(14, 21))
    expected = np.zeros((7, 7))
    for y in range(14):
        for x in range(21):
            expected[y % 7, x % 7] += field.sigma[0, 21 * y + x, 0].item() / 6
    np.testing.assert_allclose(means[0, 0].numpy(), expected, rtol=1e-5)


# ---- the kernels ---------------------------------------------------------------------------------------


def test_the_bank_begins_with_all_pairs_of_deviations() -> None:
    bank = GaussianSR(TINY).bank.detach()
    pairs = {(round(x, 4), round(y, 4)) for x, y in bank[:2].T.tolist()}
    assert pairs == {(round(x, 4), round(y, 4)) for x in SIGMA.tolist() for y in SIGMA.tolist()}
    assert not bank[2].any()
    torch.testing.assert_close(bank[3], torch.full((100,), 1 / (1 + math.exp(-1))))


def test_each_pixel_has_a_gaussian_of_its_best_kernel_and_its_features() -> None:
    model, image = tiny(), picture_of(2, 3, 5, 6)
    field = field_of(model, image)
    features = model.features(image)
    choice = F.conv2d(features, model.classifier.weight, model.classifier.bias, padding=1).argmax(1)
    assert len(choice.unique()) > 5
    assert (field.batch, len(field), field.channels) == (2, 30, 65)
    for b, y, x in np.ndindex(2, 5, 6):
        place, kernel = 6 * y + x, model.bank[:, choice[b, y, x]]
        assert field.centre[b, place].tolist() == [x + 0.5, y + 0.5]
        assert torch.equal(torch.cat((field.sigma[b, place], field.rho[b, place, None])), kernel[:3])
        assert torch.equal(field.value[b, place], torch.cat((features[b, :, y, x], kernel[3:])))


def test_a_kernel_in_training_is_a_gumbel_softmax_mean_of_the_bank() -> None:
    model, logits = tiny().train(), torch.randn(2, 100, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(7)
    kernels = model._kernels(logits)
    torch.manual_seed(7)
    gumbel = -torch.empty_like(logits).exponential_().log()
    weights = (logits + gumbel).double().exp()
    weights /= weights.sum(1, keepdim=True)
    expected = sum(weights[:, k, None] * model.bank[:, k, None, None].double() for k in range(100))
    torch.testing.assert_close(kernels.double(), expected, atol=1e-5, rtol=1e-5)
    assert not torch.equal(model._kernels(logits), kernels), "the noise is drawn anew"


def test_noise_favours_no_kernel_and_overrules_no_certainty() -> None:
    model = tiny().train()
    logits = torch.zeros(1, 100, 40, 50)
    even = model._kernels(logits).mean((0, 2, 3))
    torch.testing.assert_close(even, model.bank.mean(1), atol=0.02, rtol=0)
    logits[:, 42] = 100
    torch.testing.assert_close(model._kernels(logits).mean((0, 2, 3)), model.bank[:, 42], atol=1e-5, rtol=0)


# ---- drawing -------------------------------------------------------------------------------------------


def splatted(field: Gaussians) -> Gaussians:
    """Return the Gaussians as the field rendering should draw them: features times opacity."""
    return dataclasses.replace(field, value=field.value[..., :8] * field.value[..., 64:])


@pytest.mark.parametrize("size", [(9, 11), (21, 17), (11, 40)])
def test_features_are_splatted_as_the_formula_says(size: tuple[int, int]) -> None:
    model, picture = tiny(), (6, 7)
    field = field_of(model, picture_of(1, 3, *picture))
    scale = (size[0] / 6, size[1] / 7)
    expected = draw(splatted(field), size, scale, epsilon=EPSILON)
    slack = doubt(splatted(field), size, scale, epsilon=EPSILON) + 1e-5 * abs(expected).max()
    actual = model._splat(field, Size(*picture), Size(*size), Box.whole(Size(*size)))
    assert (abs(actual.double().numpy() - expected) <= slack).all()


def test_kernels_that_cannot_be_drawn_are_bounded_and_may_come_back() -> None:
    value = torch.tensor([-1.0, 0.5, 9.0], requires_grad=True)
    bounded = gaussiansr._bounded(value, 0.1, 4.0)
    torch.testing.assert_close(bounded, torch.tensor([0.1, 0.5, 4.0]))
    bounded.sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [1, 1, 1]
    model = tiny()
    model.bank[0], model.bank[1], model.bank[2] = -2.0, 60.0, 3.0
    image = picture_of(1, 3, 5, 5)
    drawn = render(model, field_of(model, image), image, Size(11, 13))
    model.bank[0], model.bank[1], model.bank[2] = 0.1, 4.0, 0.99
    torch.testing.assert_close(drawn, render(model, field_of(model, image), image, Size(11, 13)))


def fourier(decoder: LocalFourierDecoder, features: np.ndarray, picture: tuple[int, int]) -> np.ndarray:
    """Decode features ``(64, H, W)`` to colours ``(3, H, W)``, pixel by pixel in float64."""
    weights = {name: value.double().numpy() for name, value in decoder.state_dict().items()}
    width, (height, across) = decoder.width, features.shape[1:]
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
    colours = np.zeros((3, height, across))
    for y, x in np.ndindex(height, across):
        near = padded[:, y : y + 3, x : x + 3]
        spectrum = np.tensordot(weights["spectrum.weight"], near, 3) + weights["spectrum.bias"]
        at = [(y + 0.5) * picture[0] / height, (x + 0.5) * picture[1] / across]
        down, right = (2 * (place - math.floor(place) - 0.5) for place in at)
        cell = np.array([2 * picture[0] / height, 2 * picture[1] / across])
        half = width // 2
        turns = (
            spectrum[width : width + half] * down + spectrum[width + half :] * right + weights["phase.weight"] @ cell
        )
        hidden = spectrum[:width] * np.concatenate((np.cos(np.pi * turns), np.sin(np.pi * turns)))
        for layer in range(5):
            hidden = weights[f"mlp.{2 * layer}.weight"] @ hidden + weights[f"mlp.{2 * layer}.bias"]
            if layer < 4:
                hidden = np.array([h * 0.5 * (1 + math.erf(h / math.sqrt(2))) for h in hidden])
        colours[:, y, x] = (hidden + 1) / 2
    return colours


@pytest.mark.parametrize("strip", [1, 40, 1 << 16])
@pytest.mark.parametrize("size", [(11, 17), (5, 16)])
def test_drawing_is_the_two_streams_decoded(size: tuple[int, int], strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRIP_PIXELS, "cpu", strip)
    model, picture = tiny(), (5, 7)  # odd sides: no output pixel is midway between two LR pixels
    image = picture_of(1, 3, *picture)
    field = field_of(model, image)
    splats = draw(splatted(field), size, (size[0] / 5, size[1] / 7), epsilon=EPSILON)[0]
    smooth = bicubic.resize(model.features(image)[:, 8:].double(), Size(*size))[0].numpy()
    expected = fourier(model.decoder, np.concatenate((splats, smooth)), picture)
    drawn = render(model, field, image, Size(*size))[0]
    np.testing.assert_allclose(drawn.numpy(), expected, atol=1e-3 * abs(expected).max())


@pytest.mark.parametrize(("length", "enlarged"), [(1, 1), (1, 9), (20, 40), (20, 67), (4000, 10_000)])
def test_offsets_are_from_the_nearest_centre(length: int, enlarged: int) -> None:
    offsets = gaussiansr._offsets(length, enlarged).double()
    place = (torch.arange(enlarged).double() + 0.5) * length / enlarged
    centre = place - offsets / 2
    torch.testing.assert_close(centre - 0.5, (centre - 0.5).round(), atol=1e-4, rtol=0)
    assert offsets.abs().max() < 1 + 1e-3
    assert centre.min() > 0
    assert centre.max() < length


@pytest.mark.parametrize("name", NAMES)
def test_parts_depend_on_gaussians_within_reach_alone(name: str) -> None:
    model, image, size = tiny(name), picture_of(1, 3, 50, 20), Size(125, 50)
    field = field_of(model, image)
    whole = render(model, field, image, size)
    x, y = field.centre[0].unbind(-1)
    reach = model.traits.reach
    for part in [Box(0, 7, 0, 50), Box(60, 61, 20, 50), Box(60, 64, 0, 3), Box(100, 125, 49, 50)]:
        first_y, last_y = ((row + shift) / 2.5 for row, shift in zip(part.rows, (0.5, -0.5), strict=True))
        first_x, last_x = ((column + shift) / 2.5 for column, shift in zip(part.columns, (0.5, -0.5), strict=True))
        near_rows, near_columns = (
            (y >= first_y - reach) & (y <= last_y + reach),
            (x >= first_x - reach) & (x <= last_x + reach),
        )
        near = field.select(near_rows & near_columns)
        expected = whole[:, :, part.top : part.bottom, part.left : part.right]
        torch.testing.assert_close(model.draw(near, Size(50, 20), size, part), expected)
        assert (len(near) < len(field)) == math.isfinite(reach)


def test_gaussians_may_come_in_any_order_but_must_not_be_missing() -> None:
    model, image = tiny(), picture_of(1, 3, 6, 7)
    field = field_of(model, image)
    shuffled = field.select(torch.randperm(42, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(render(model, shuffled, image, Size(15, 20)), render(model, field, image, Size(15, 20)))
    with pytest.raises(ValueError, match="lacks Gaussians of rows 0 to 6"):
        render(model, field.select(torch.arange(41)), image, Size(15, 20))


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_a_batch_do_not_mix(name: str) -> None:
    model, images = tiny(name), picture_of(2, 3, 9, 15)
    together = enlarge(model, images, Size(20, 40))
    for i in range(2):
        torch.testing.assert_close(
            together[i : i + 1], enlarge(model, images[i : i + 1], Size(20, 40)), atol=1e-5, rtol=0
        )
    assert error(together[0], together[1]) > 0.01


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (8, 13)])
def test_any_size_to_any_size(name: str, shape: tuple[int, int]) -> None:
    model = tiny(name)
    for size in [shape, (shape[0] * 3 + 1, shape[1] * 5), (shape[0], shape[1] + 2)]:
        drawn = enlarge(model, picture_of(1, 3, *shape), Size(*size))
        assert drawn.shape == (1, 3, *size)
        assert drawn.isfinite().all()
        pixels = (picture_of(*shape, 3) * 255).to(torch.uint8).numpy()
        assert Upscaler(model).enlarge(Picture(pixels), Size(*size)).size == Size(*size)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_comes_close(name: str) -> None:
    model, image = tiny(name), picture_of(1, 3, 14, 14)
    # One kernel, as choices near a tie go either way.
    model.bank[:] = model.bank[:, 33:34].clone()
    expected = enlarge(model, image, Size(30, 33))
    drawn = enlarge(model, image, Size(30, 33), torch.bfloat16)
    assert drawn.dtype == torch.float32
    assert not torch.equal(drawn, expected)
    assert error(drawn, expected) < 0.1
    with torch.autocast("cpu", torch.bfloat16):
        field = field_of(model, image)
    assert {getattr(field, entry.name).dtype for entry in dataclasses.fields(Gaussians)} == {torch.float32}


# ---- tiles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(99, 150), (162, 141)])
@pytest.mark.parametrize("tile", [16, 23])
def test_tiled_equals_untiled(name: str, size: tuple[int, int], tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(name)
    pixels = (picture_of(47, 41, 3) * 255).to(torch.uint8).numpy()
    whole = Upscaler(model, tile=1000).enlarge(Picture(pixels), Size(*size)).pixels
    assert whole.std() > 20
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    direct = enlarge(model, image, Size(*size))[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(whole - direct).max() < 0.51
    monkeypatch.setattr("gsrcli.upscaling.budget._PART_PIXELS", size[1] * 13)
    monkeypatch.setattr("gsrcli.upscaling.budget.SMALLEST_PART", 1)
    tiled = Upscaler(model, tile=tile).enlarge(Picture(pixels), Size(*size)).pixels
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert np.mean(tiled != whole) < 1e-3
    model.traits = dataclasses.replace(model.traits, halo=0)
    monkeypatch.setattr("gsrcli.upscaling.upscaler._LEAST_WINDOW", 0)
    cut = Upscaler(model, tile=tile).enlarge(Picture(pixels), Size(*size)).pixels
    assert np.abs(cut.astype(int) - whole).max() > 1, "the test can fail"


def test_the_halo_is_the_receptive_radius() -> None:
    model = tiny().double()
    radius = model.traits.halo
    side = 2 * radius + 7
    image = picture_of(1, 3, side, side).double().requires_grad_()
    logits = model.classifier(model.encoder(image * 2 - 1))
    (gradient,) = torch.autograd.grad(logits[0, :, side // 2, side // 2].sum(), image)
    seen = gradient[0].abs().sum(0).nonzero()
    assert seen.amin(0).tolist() == [side // 2 - radius] * 2
    assert seen.amax(0).tolist() == [side // 2 + radius] * 2


# ---- checkpoints and training --------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_keep_the_rendering(name: str, tmp_path: Path) -> None:
    model, image = tiny(name), picture_of(1, 3, 8, 9)
    save_model(model, name, tmp_path / "model.safetensors", {})
    loaded = load_model(tmp_path / "model.safetensors")
    assert type(loaded) is type(model)
    torch.testing.assert_close(
        enlarge(loaded, image, Size(20, 30)), enlarge(model, image, Size(20, 30)), atol=1e-5, rtol=0
    )


def test_the_renderings_differ() -> None:
    image = picture_of(1, 3, 14, 14)
    field, other = (enlarge(tiny(name), image, Size(30, 30)) for name in NAMES)
    assert error(field, other) > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name: str) -> None:
    model = tiny(name).requires_grad_(True).train()
    image, target = picture_of(2, 3, 8, 8), picture_of(2, 3, 18, 21, seed=2)
    F.l1_loss(render(model, field_of(model, image), image, Size(18, 21)), target).backward()
    idle = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert idle == []
    assert model.bank.grad is not None
    assert model.bank.grad.isfinite().all()
    assert (model.bank.grad != 0).any(1).tolist() == [True] * 4, "of σx, σy, ρ and opacity"


def test_gradients_are_those_of_the_plain_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips are recomputed in the backward pass: they must be the same, and their gradients must add up."""
    model, image = tiny().requires_grad_(True).train(), picture_of(1, 3, 6, 7)
    target = picture_of(1, 3, 16, 18, seed=2)

    def gradients() -> list[Tensor]:
        torch.manual_seed(3)
        loss = F.mse_loss(render(model, field_of(model, image), image, Size(16, 18)), target)
        return list(torch.autograd.grad(loss, list(model.parameters())))

    whole = gradients()
    monkeypatch.setitem(STRIP_PIXELS, "cpu", 18 * 3)
    for actual, expected in zip(gradients(), whole, strict=True):
        assert error(actual, expected) < 1e-4


def test_the_bank_follows_its_gradient() -> None:
    """Compare with finite differences of a kernel that all pixels share, in evaluation mode, which draws no noise."""
    model, image = tiny(), picture_of(1, 3, 6, 7)
    target = picture_of(1, 3, 16, 18, seed=2)
    kernel = torch.tensor([0.8, 1.1, 0.3, 0.6])
    model.bank[:] = kernel[:, None]
    model.bank.requires_grad_(True)

    def loss() -> Tensor:
        return F.mse_loss(render(model, field_of(model, image), image, Size(16, 18)), target)

    (gradient,) = torch.autograd.grad(loss(), model.bank)
    with torch.no_grad():
        for row in range(4):
            step = 1e-2
            sides = []
            for shift in (step, -step):
                model.bank[row] = kernel[row] + shift
                sides.append(loss().item())
            model.bank[row] = kernel[row]
            expected = (sides[0] - sides[1]) / (2 * step)
            assert gradient[row].sum().item() == pytest.approx(expected, rel=0.05, abs=1e-6)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder of pictures, and make trained models tiny."""
    config = dataclasses.asdict(TINY)
    monkeypatch.setattr("gsrcli.training.trainer.build", lambda name, stored=None: build(name, stored or config))
    folder = tmp_path / "pictures"
    folder.mkdir()
    y, x = np.mgrid[:80, :80, :1][:2]
    for i in range(3):
        random = np.random.default_rng(i)
        waves = np.sin(x / random.uniform(1, 6, 3) + y / random.uniform(1, 6, 3)) > 0
        Image.fromarray((waves * 200 + random.integers(0, 50, waves.shape)).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def test_the_command_trains_it(gsr: Callable[..., Result], pictures: Path, tmp_path: Path) -> None:
    options = ["--steps=3", "--batch=2", "--patch=12", "--scale-far=5", "--held-out=1", "--warmup=0", "--device=cpu"]
    result = gsr("train", pictures, "--run", tmp_path / "run", "--model=gaussiansr-edsr", *options)
    assert result.exit_code == 0, result.output
    trained = load_model(tmp_path / "run" / "weights.safetensors")
    assert isinstance(trained, GaussianSR)
    torch.manual_seed(0)
    fresh = build("gaussiansr-edsr", dataclasses.asdict(TINY)).state_dict()
    assert all(not torch.equal(tensor, fresh[key]) for key, tensor in trained.state_dict().items())


def test_a_resumed_run_draws_the_same_noise(pictures: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        model="gaussiansr-edsr",
        steps=4,
        batch=1,
        groups=1,
        patch=12,
        scale_far=5.0,
        held_out=1,
        device="cpu",
        precision="float32",
        ema=0.5,
        warmup=0,
    )
    train(config, pictures, tmp_path / "unbroken", lambda progress: None)

    def stop(progress: Any) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, pictures, tmp_path / "broken", stop)
    torch.rand(5)
    train(config, pictures, tmp_path / "broken", lambda progress: None, resume=True)
    first, second = (load_model(tmp_path / run / "weights.safetensors") for run in ("unbroken", "broken"))
    for key, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[key]), key
