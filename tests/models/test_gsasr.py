"""GSASR: the numbers of the released programs, the shortcuts against the plain network, a model's contract."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.authors import PARITY, SHAPES, filled
from support.released_files import SMALL
from torch import Tensor, nn

from gsrcli.gaussians import Gaussians
from gsrcli.models import gsasr
from gsrcli.models.attention import relative_position_index, shift_mask, to_picture, to_windows
from gsrcli.models.gsasr import GSASR, GSASR_CONFIGS
from gsrcli.rasterizer import View, reference
from gsrcli.weights.released import convert

TINY = dataclasses.replace(SMALL, cross_blocks=2, cross_layers=2, self_blocks=2, self_layers=2)
VERSIONS = {"enhanced": TINY, "paper": dataclasses.replace(TINY, enhanced=False)}

Tell = Callable[[str, object], None]

State = dict[str, Tensor]


def released_state(name: str, *, meta: bool = False) -> dict[str, State]:
    """Return the released state dicts of encoder and decoder, filled by the rule of the parity files."""
    fill = functools.partial(torch.empty, device="meta") if meta else None
    return {
        f"{part}_state": {
            key: _table(key, shape) if _is_table(key) else (fill(shape) if fill else filled(f"{part}.{key}", shape))
            for key, shape in shapes.items()
        }
        for part, shapes in SHAPES[name].items()
    }


def _is_table(key: str) -> bool:
    return "relative_position_index" in key or key.endswith(("rope_t_x", "rope_t_y", "attn_mask"))


@functools.cache
def _tables(tokens: int) -> State:
    side = math.isqrt(tokens)
    places = [(y, x) for y in range(side) for x in range(side)]
    swin = [[(qy - ky + side - 1) * (2 * side - 1) + qx - kx + side - 1 for ky, kx in places] for qy, qx in places]
    cross = [[22 * _cross_row(qy - ky) + _cross_row(qx - kx) for ky, kx in places] for qy, qx in places]
    x, y = torch.tensor([p[1] for p in places]).float(), torch.tensor([p[0] for p in places]).float()
    index = torch.tensor(swin)
    return {
        "rope_t_x": x,
        "rope_t_y": y,
        "gs_self_attn": index,
        "attn": index,
        "window_cross_attn": torch.tensor(cross),
    }


def _cross_row(offset: int) -> int:
    """Return where the released cross attention keeps each offset in its table, recovered from the program's output."""
    special = {0: 0, 11: 1, -11: 22}
    return special.get(offset, 2 * offset + 1 if offset > 0 else 2 * offset + 22)


def _table(key: str, shape: list[int]) -> Tensor:
    if key.startswith("relative_position_index_"):
        return torch.zeros(shape, dtype=torch.long)  # HAT's, which is unused
    *_, module, leaf = key.split(".")
    if leaf == "attn_mask":
        return torch.where(windows_apart(48, 48, 8, 4), -100.0, 0.0)
    return _tables(shape[0])[module if leaf == "relative_position_index" else leaf]


@functools.cache
def windows_apart(height: int, width: int, side: int, distance: int) -> Tensor:
    """Return which tokens of a window do not see each other in a shifted picture, by Swin's numbering of regions."""
    region = torch.zeros(height, width, dtype=torch.long)
    bounds = (slice(0, -side), slice(-side, -distance), slice(-distance, None))
    for number, (rows, columns) in enumerate(itertools.product(bounds, bounds)):
        region[rows, columns] = number
    windows = [
        region[top : top + side, left : left + side].reshape(-1)
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
    return torch.stack([window[:, None] != window[None, :] for window in windows])


@functools.lru_cache(maxsize=1)
def released_model(name: str) -> GSASR:
    model = GSASR(GSASR_CONFIGS[name])
    model.load_state_dict(convert(name, **released_state(name)))
    return model.eval().requires_grad_(False)


def tiny_model(version: str = "enhanced") -> GSASR:
    torch.manual_seed(0)
    return GSASR(VERSIONS[version]).eval()


def random_image(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def scales(*pairs: tuple[float, float]) -> Tensor:
    return torch.tensor(pairs)


def error(actual: Tensor, expected: Tensor) -> float:
    return ((actual.double() - expected.double()).norm() / expected.double().norm()).item()


class Parity:
    """The released program's output for a picture, and ours."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.model = released_model(name)
        with np.load(PARITY / f"{name}.npz") as file:
            self.theirs = {key: torch.from_numpy(file[key]) for key in file}
        self.image = self.theirs["image"].permute(2, 0, 1)[None].float() / 255
        self.scale = self.theirs["scale"].expand(1, 2).float()

    @functools.cached_property
    def field(self) -> Gaussians:
        return self.model(self.image, self.scale).to(dtype=torch.float64)

    def render(self, ratio: float = math.inf) -> Tensor:
        """Draw our field as they do: positions by H/h, deviations by the scale, boxes by the picture's size."""
        scale = self.theirs["scale"].item()
        height, width = (math.floor(scale * side) for side in self.image.shape[2:])
        zoom = torch.tensor([width / self.image.shape[3], height / self.image.shape[2]], dtype=torch.float64)
        field = dataclasses.replace(self.field, sigma=self.field.sigma * scale / zoom)
        x, y = zoom.tolist()
        window = (ratio * (height - 1) / 2, ratio * (width - 1) / 2)
        # Beyond q = 60 the weight is below 1e-13.
        return reference.rasterize(field, View((height, width), (y, x), window=window, q_max=60))[0].permute(1, 2, 0)


@pytest.fixture(
    scope="module",
    params=[
        "gsasr-edsr",
        "gsasr-rdn",
        "gsasr-swinir",
        pytest.param("gsasr-hatl", marks=pytest.mark.slow),
        "gsasr-edsr-paper",
    ],
)
def parity(request: pytest.FixtureRequest) -> Parity:
    return Parity(request.param)


def test_features_equal_the_released(parity: Parity, record_property: Tell) -> None:
    features = parity.model.encoder(parity.image)
    assert features.shape[1] == 64
    relative = error(features[0, :4], parity.theirs["features"])
    record_property("told", f"parity, {parity.name}: features {relative:.1e}")
    assert relative < 1e-5


def test_fields_equal_the_released(parity: Parity, record_property: Tell) -> None:
    fields = parity.model.fields(parity.image, parity.scale)[0, parity.theirs["gaussian_index"]]
    relative = error(fields, parity.theirs["gaussians"])
    record_property("told", f"parity, {parity.name}: Gaussians {relative:.1e}")
    assert relative < 1e-4
    torch.testing.assert_close(fields, parity.theirs["gaussians"], rtol=0, atol=1e-3)


@pytest.mark.parametrize(("entry", "ratio"), [("render", math.inf), ("render_window_0_1", 0.1)])
def test_rendering_equals_the_released(parity: Parity, entry: str, ratio: float, record_property: Tell) -> None:
    ours, theirs = parity.render(ratio), parity.theirs[entry].double()
    ours = ours[:: math.ceil(len(ours) / len(theirs))]  # the large picture of gsasr-hatl.npz keeps every other row
    relative = error(ours, theirs)
    record_property("told", f"parity, {parity.name}: {entry} {relative:.1e}")
    assert relative < 1e-3
    # Rounding matters most in the few Gaussians that are far narrower than a pixel, or end at one.
    strays = (ours - theirs).abs() > 2e-3 * theirs.max()
    assert strays.double().mean() < 1e-3
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-2 * theirs.max().item())


@pytest.mark.parametrize("name", GSASR_CONFIGS)
def test_released_names_fill_the_model(name: str) -> None:
    with torch.device("meta"):
        expected = {key: tensor.shape for key, tensor in GSASR(GSASR_CONFIGS[name]).state_dict().items()}
    state = convert(name, **released_state(name, meta=True))
    assert {key: tensor.shape for key, tensor in state.items()} == expected


@pytest.mark.parametrize("name", ["gsasr-edsr", "gsasr-swinir", "gsasr-rdn-paper"])
def test_released_files_may_wrap_the_state_and_lack_tables(name: str) -> None:
    state = released_state(name, meta=True)
    bare = {
        part: {
            "params_ema": {key: tensor for key, tensor in entries.items() if not key.endswith(("_x", "_y", "_mask"))}
        }
        for part, entries in state.items()
    }
    assert convert(name, **bare).keys() == convert(name, **state).keys()


def test_faults_of_released_files_are_named() -> None:
    state = released_state("gsasr-edsr", meta=True)
    decoder = state["decoder_state"]
    layer = "gs_selfattn_blocks.3.blocks.2"
    del state["encoder_state"]["body.7.conv2.bias"]
    del decoder[f"{layer}.norm3.weight"]
    decoder["surprise.weight"] = torch.zeros(1)
    decoder[f"{layer}.gs_cross_attn_scale.in_proj_weight"] = torch.zeros(192, 192)
    decoder[f"{layer}.gs_self_attn.rope_t_x"] = torch.zeros(144)
    with pytest.raises(ValueError, match="gsasr-edsr") as caught:
        convert("gsasr-edsr", **state)
    assert set(str(caught.value).splitlines()[1:]) == {
        "missing: encoder.body.7.conv2.bias",
        f"missing: decoder.{layer}.norm3.weight",
        "unexpected: decoder.surprise.weight",
        f"decoder.{layer}.gs_cross_attn_scale.in_proj_weight has shape (192, 192) instead of (576, 192)",
        f"decoder.{layer}.gs_self_attn.rope_t_x has unexpected content",
    }


def test_faults_of_a_released_swinir_are_named() -> None:
    state = released_state("gsasr-swinir", meta=True)
    encoder, layer = state["encoder_state"], "layers.0.residual_group.blocks"
    encoder[f"{layer}.0.attn_mask"] = encoder[f"{layer}.1.attn_mask"]
    encoder[f"{layer}.3.attn_mask"] = torch.zeros(36, 64, 64)
    encoder["relative_position_index_SA"] = torch.zeros(256, 256)
    del encoder[f"{layer}.2.attn.relative_position_index"]
    with pytest.raises(ValueError, match="gsasr-swinir") as caught:
        convert("gsasr-swinir", **state)
    assert set(str(caught.value).splitlines()[1:]) == {
        f"unexpected: encoder.{layer}.0.attn_mask",
        f"encoder.{layer}.3.attn_mask has unexpected content",
        "unexpected: encoder.relative_position_index_SA",
        f"missing: encoder.{layer}.2.attn.relative_position_index",
    }


def test_faults_of_a_released_hat_are_named() -> None:
    state = released_state("gsasr-hatl", meta=True)
    encoder, group = state["encoder_state"], "layers.11.residual_group"
    encoder[f"{group}.blocks.1.attn_mask"] = torch.zeros(9, 256, 256)
    encoder[f"{group}.blocks.6.norm1.weight"] = torch.zeros(192)
    encoder[f"{group}.overlap_attn.rope_t_y"] = torch.zeros(576)
    encoder["relative_position_index_OCA"] = torch.zeros(256, 256)
    del encoder[f"{group}.overlap_attn.qkv.bias"], encoder["relative_position_index_SA"]
    with pytest.raises(ValueError, match="gsasr-hatl") as caught:
        convert("gsasr-hatl", **state)
    assert set(str(caught.value).splitlines()[1:]) == {
        f"unexpected: encoder.{group}.blocks.1.attn_mask",
        f"unexpected: encoder.{group}.blocks.6.norm1.weight",
        f"encoder.{group}.overlap_attn.rope_t_y has unexpected content",
        "encoder.relative_position_index_OCA has shape (256, 256) instead of (256, 576)",
        f"missing: encoder.{group}.overlap_attn.qkv.bias",
        "missing: encoder.relative_position_index_SA",
    }


def test_an_index_that_is_no_function_of_offsets_is_refused() -> None:
    state = released_state("gsasr-edsr-paper", meta=True)
    index = next(key for key in state["decoder_state"] if key.endswith("relative_position_index"))
    state["decoder_state"][index] = torch.arange(144 * 144).view(144, 144) % 529
    with pytest.raises(ValueError, match="does not depend on offsets alone"):
        convert("gsasr-edsr-paper", **state)


def test_a_released_model_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown model 'gsasr-vgg'"):
        convert("gsasr-vgg", {}, {})
    with pytest.raises(ValueError, match=r"missing: encoder\.SFENet1\.weight"):
        convert("gsasr-rdn", **released_state("gsasr-edsr", meta=True))


def test_relative_position_index_is_that_of_swin() -> None:
    assert torch.equal(relative_position_index(12), _tables(144)["gs_self_attn"])


@pytest.mark.parametrize("size", [(48, 48, 8, 4), (8, 8, 8, 4), (24, 8, 8, 4), (12, 20, 4, 1)])
def test_shift_mask_is_that_of_swin(size: tuple[int, int, int, int]) -> None:
    assert torch.equal(shift_mask(*size, torch.device("cpu")), ~windows_apart(*size))


@pytest.mark.parametrize("name", ["gsasr-rdn-paper", "gsasr-swinir-paper"])
def test_released_models_without_numbers_to_match_give_a_field(name: str) -> None:
    field = released_model(name)(random_image(1, 3, 24, 48), scales((3.0, 3.0)))
    assert len(field) == 16 * 24 * 48
    assert field.is_finite()
    assert field.value.std() > 0.01


def test_traits_of_the_released_models() -> None:
    with torch.device("meta"):
        traits = {name: GSASR(config).traits for name, config in GSASR_CONFIGS.items()}
    assert {name: entry.multiple for name, entry in traits.items()} == {
        "gsasr-edsr": 12,
        "gsasr-rdn": 12,
        "gsasr-swinir": 16,
        "gsasr-hatl": 16,
        "gsasr-edsr-paper": 12,
        "gsasr-rdn-paper": 12,
        "gsasr-swinir-paper": 24,  # SwinIR's windows have a side of 8, the decoder's of 12
    }
    assert all(entry.halo % entry.multiple == 0 for entry in traits.values())


def test_windows_are_row_major_and_invertible() -> None:
    picture = torch.arange(2 * 4 * 6).view(1, 8, 6, 1)
    windows = to_windows(picture, 2)
    assert windows.shape == (1, 12, 4, 1)
    assert windows[0, 0, :, 0].tolist() == [0, 1, 6, 7]
    assert windows[0, 1, :, 0].tolist() == [2, 3, 8, 9]
    assert windows[0, 3, :, 0].tolist() == [12, 13, 18, 19]
    assert torch.equal(to_picture(windows, 8, 6), picture)


def test_attention_to_copies_of_the_scale_adds_one_vector() -> None:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(24, 2, batch_first=True)
    nn.init.normal_(plain.in_proj_bias)
    nn.init.normal_(plain.out_proj.bias)
    folded = gsasr.ScaleInjection(24)
    folded.value.load_state_dict({"weight": plain.in_proj_weight[-24:], "bias": plain.in_proj_bias[-24:]})
    folded.output.load_state_dict(plain.out_proj.state_dict())
    tokens, scale = torch.randn(3, 16, 24), torch.randn(3, 1, 24)
    copies = scale.expand(-1, 16, -1)
    expected = plain(tokens, copies, copies)[0]
    torch.testing.assert_close(folded.output(folded.value(scale)).expand_as(expected), expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_one_window_of_embeddings_stands_for_all(version: str) -> None:
    model = tiny_model(version)
    block = model.condition_injection[0]
    tokens, features, scale = torch.randn(2, 1, 16, 24), torch.randn(2, 8, 12, 24), torch.randn(2, 1, 1, 24)
    expected = block(tokens.repeat(1, 6, 1, 1), model.position, features, scale)
    torch.testing.assert_close(block(tokens, model.position, features, scale), expected)


def test_head_in_strips_equals_the_plain_head(monkeypatch: pytest.MonkeyPatch) -> None:
    head = tiny_model().head
    tokens = torch.randn(2, 8, 12, 24, requires_grad=True)
    weight = torch.randn(2, 32, 48, 9)

    def gradient(fields: Tensor) -> Tensor:
        return torch.autograd.grad((fields * weight).sum(), tokens)[0]

    grid = F.pixel_shuffle(head.upsample1(tokens).permute(0, 3, 1, 2), 2)
    upsample2 = head.upsample2
    grid = F.pixel_shuffle(F.conv2d(grid, upsample2.weight, upsample2.bias, padding=1), 2).permute(0, 2, 3, 1)
    firsts = zip(head.first.weight.chunk(5), head.first.bias.chunk(5), strict=True)
    expected = torch.cat(
        [
            third(F.relu(second(F.relu(F.linear(grid, *first)))))
            for first, second, third in zip(firsts, head.second, head.third, strict=True)
        ],
        dim=-1,
    )
    expected_gradient = gradient(expected)
    for places in (1, 4 * 2 * 24 * 3, 10**6):
        monkeypatch.setitem(gsasr.STRIP_PLACES, "cpu", places)
        torch.testing.assert_close(head(tokens), expected)
        torch.testing.assert_close(gradient(head(tokens)), expected_gradient, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(head(tokens), expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_parameter_learns(version: str) -> None:
    # The released models' parameters without effect are dropped; see gsrcli.weights.released.
    model = tiny_model(version).train()
    field = model(random_image(1, 3, 8, 8), scales((2.0, 3.0)))
    parts = (getattr(field, entry.name) for entry in dataclasses.fields(Gaussians))
    sum((part * torch.randn_like(part)).sum() for part in parts).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_gaussians_stand_in_row_major_order() -> None:
    model = tiny_model()
    nn.init.zeros_(model.head.third[-1].weight)
    nn.init.zeros_(model.head.third[-1].bias)
    field = model(random_image(1, 3, 4, 8), scales((2.0, 2.0)))
    assert (model.traits.density, field.batch, len(field), field.channels) == (4, 1, 16 * 4 * 8, 3)
    expected = [((j + 0.5) / 4, (i + 0.5) / 4) for i in range(16) for j in range(32)]
    torch.testing.assert_close(field.centre[0], torch.tensor(expected))


def test_gaussians_are_the_fields_in_lr_pixels() -> None:
    model, image, scale = tiny_model(), random_image(1, 3, 4, 8), scales((2.0, 2.0))
    raw = model.fields(image, scale)
    field = model(image, scale)
    vertical, horizontal, rho, alpha, red, _, _, x, y = raw.double().unbind(-1)
    torch.testing.assert_close(field.sigma[..., 0].double(), (0.99999 * horizontal.sigmoid() + 1e-6) / 1.2)
    torch.testing.assert_close(field.sigma[..., 1].double(), (0.99999 * vertical.sigmoid() + 1e-6) / 1.2)
    torch.testing.assert_close(field.rho.double(), 0.999999 * rho.tanh())
    torch.testing.assert_close(field.value[..., 0].double(), alpha.sigmoid() * red.sigmoid())
    torch.testing.assert_close(field.centre.double(), torch.stack((8 * x, 4 * y), dim=-1))


def test_unequal_scales_count_by_their_geometric_mean() -> None:
    model, image = tiny_model(), random_image(1, 3, 8, 8)
    expected = model.fields(image, scales((4.0, 4.0)))
    torch.testing.assert_close(model.fields(image, scales((2.0, 8.0))), expected)
    assert error(model.fields(image, scales((2.0, 2.0))), expected) > 1e-4


def test_pictures_of_a_batch_do_not_mix() -> None:
    model, image, scale = tiny_model(), random_image(2, 3, 8, 12), scales((2.0, 2.0), (5.0, 4.0))
    both = model.fields(image, scale)
    for i in range(2):
        torch.testing.assert_close(both[i : i + 1], model.fields(image[i : i + 1], scale[i : i + 1]))


@pytest.mark.parametrize("shape", [(1, 3, 8, 10), (1, 3, 6, 8), (1, 3, 0, 8), (3, 8, 8)])
def test_other_sizes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        tiny_model()(torch.zeros(shape), scales((2.0, 2.0)))


@pytest.mark.parametrize("name", ["gsasr-edsr", "gsasr-edsr-paper"])
def test_bfloat16_comes_close(name: str) -> None:
    model, image, scale = released_model(name), random_image(1, 3, 12, 12), scales((3.0, 3.0))
    expected = model(image, scale)
    with torch.autocast("cpu", torch.bfloat16):
        field = model(image, scale)
    for entry in dataclasses.fields(Gaussians):
        actual = getattr(field, entry.name)
        assert actual.dtype == torch.float32
        assert actual.isfinite().all()
        # Weights of unit gain pass every rounding on through forty layers: a mistake gives errors of order one.
        assert error(actual, getattr(expected, entry.name)) < 0.15
