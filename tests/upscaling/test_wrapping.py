"""Tiles of networks that wrap around the picture's edges: GSASR's shifted windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.authors import filled
from torch import Tensor, nn

from gsrcli.errors import LimitError
from gsrcli.gaussians import Gaussians
from gsrcli.images import Picture
from gsrcli.images.strips import Strip, in_strips
from gsrcli.models.base import Model, Traits
from gsrcli.models.encoders.edsr import EDSR
from gsrcli.models.encoders.hat import HAT
from gsrcli.models.encoders.rdn import RDN
from gsrcli.models.encoders.swinir import SwinIR
from gsrcli.models.gsasr import GSASR, GSASR_CONFIGS, HEADS
from gsrcli.size import Size
from gsrcli.upscaling.tiling import surroundings
from gsrcli.upscaling.upscaler import Upscaler

SMALL_ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "edsr": lambda: EDSR(blocks=1, long_skip=False),
    "rdn": lambda: RDN(blocks=2, convs=2),
    "swinir": lambda: SwinIR(width=24, heads=2, groups=1, layers=2),
    "hatl": lambda: HAT(width=48, heads=2, groups=1, layers=2),
}
"""Encoders with few layers, but windows, masks and edges like the released ones'."""


def small_gsasr(name: str, **config: int) -> GSASR:
    """Build a GSASR with two layers of each kind, and weights of unit gain."""
    shape = {"width": 24, "heads": 2, "cross_blocks": 1, "cross_layers": 2, "self_blocks": 1, "self_layers": 2}
    with torch.random.fork_rng(devices=[]):
        model = GSASR(dataclasses.replace(GSASR_CONFIGS[name], **(shape | config)))
        model.encoder = SMALL_ENCODERS[model.config.encoder]()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(filled(key, list(parameter.shape)))
        head = dict(zip(HEADS, model.head.third, strict=True))
        head["alpha"].bias.sub_(4.5)  # lower the opacity, so that sums are colours, and let those differ
        head["rgb"].weight.mul_(4)
    return model.eval().requires_grad_(False)


def noise(height: int, width: int) -> np.ndarray:
    """Return float32 from 0 to 1."""
    pixels = np.random.default_rng(0).random((height, width, 3), np.float32)
    pixels[0, 0], pixels[-1, -1] = 0, 1
    return pixels


def errors(model: GSASR, pixels: np.ndarray, tile: int, *, wraps: bool = True) -> np.ndarray:
    """Return how far from the whole picture's enlargement that in tiles is."""
    size = Size(*(round(1.5 * side) for side in pixels.shape[:2]))
    whole = Upscaler(model, tile=1000).enlarge(Picture(pixels), size).pixels
    assert whole.std() > 0.1
    assert ((whole > 0) & (whole < 1)).mean() > 0.9
    traits, model.traits = model.traits, dataclasses.replace(model.traits, wraps=wraps)
    tiled = Upscaler(model, tile=tile).enlarge(Picture(pixels), size).pixels
    model.traits = traits
    return np.abs(tiled - whole)


@pytest.mark.parametrize("name", ["gsasr-edsr", "gsasr-rdn", "gsasr-swinir", "gsasr-hatl", "gsasr-swinir-paper"])
def test_tiles_equal_the_whole_up_to_the_edges(name: str) -> None:
    model = small_gsasr(name)
    side = model.traits.multiple
    # Padded, as the network sees it, to one tile's height.
    pixels = noise(side - 5, 2 * model.traits.halo + 4 * side - 3)
    tiled, alone = (errors(model, pixels, side, wraps=wraps) for wraps in (True, False))
    middle = slice(model.traits.halo, -model.traits.halo)
    close = 3e-4  # Gaussians end where they are faint, and HAT takes means over all that it sees
    assert tiled.max() < close
    assert alone.max() > 1e-3
    assert alone[:, middle].max() < close


def test_tiles_equal_the_whole_up_to_the_corners() -> None:
    model = small_gsasr("gsasr-edsr", window=2, multiple=2)
    model.traits = dataclasses.replace(model.traits, halo=14)
    pixels = noise(39, 37)
    assert errors(model, pixels, 8).max() < 1e-4
    assert errors(model, pixels, 8, wraps=False)[:8, :8].max() > 1e-3


@pytest.mark.parametrize("halo", [0, 1, 3, 5, 20])
def test_a_window_is_a_ring_without_what_is_far_from_the_core(halo: int) -> None:
    length = 12
    for core in [(0, 4), (4, 8), (8, 12), (0, 12)]:
        ring = surroundings(core, halo, length, wraps=True)
        far = [min(abs(i - j + turn) for j in range(*core) for turn in (-length, 0, length)) for i in range(length)]
        assert ring.tolist() == [i for i in range(length) if far[i] <= halo]
        cut = surroundings(core, halo, length, wraps=False)
        assert cut.tolist() == [i for i in range(length) if core[0] - halo <= i < core[1] + halo]


class Recorder(Model):
    """Draws nothing, and records the windows that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.traits = Traits(
            density=1, base="none", multiple=4, halo=8, wraps=True, tile=16, reach=1.0, bytes_per_pixel=2**30
        )
        self.nothing = nn.Parameter(torch.zeros(()))
        self.windows: list[Tensor] = []

    def forward(self, image: Tensor, scale: Tensor) -> Gaussians:
        self.windows.append(image[0, 0].clone())
        count = image[0, 0].numel()
        return Gaussians(
            torch.zeros(1, count, 2), torch.ones(1, count, 2), torch.zeros(1, count), torch.ones(1, count, 3)
        )


def test_rows_that_have_slid_by_are_still_there_for_the_last_tiles() -> None:
    pixels = np.arange(48 * 46 * 3, dtype=np.uint16).reshape(48, 46, 3)
    picture = in_strips(Picture(pixels))
    slices = [Strip(pixels[top : top + 5], None) for top in range(0, 48, 5)]
    model = Recorder()
    for low in (picture, dataclasses.replace(picture, source=lambda: iter(slices))):
        model.windows.clear()
        Upscaler(model).stream(low, Size(48, 46)).picture()
        seen = [np.rint(window.numpy() * 65535) for window in model.windows]
        assert [window.shape for window in seen] == [(32, 32)] * 9
        padded = np.pad(pixels[..., 0], ((0, 0), (0, 2)), mode="reflect")
        ring = np.r_[0:8, 24:48]
        assert np.array_equal(seen[-1], padded[np.ix_(ring, ring)])


def test_tiles_that_show_do_not_depend_on_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, model = Picture(np.zeros((48, 36, 3), np.uint8)), Recorder()
    shapes = []
    for free in (2.0**60, 1.0):
        monkeypatch.setattr("gsrcli.upscaling.upscaler.free_memory", lambda *_, free=free: free)
        Upscaler(model).enlarge(picture, Size(48, 36))
        shapes.append([window.shape for window in model.windows])
        model.windows.clear()
    assert shapes[0] == shapes[1]

    def out_of_memory(image: Tensor, scale: Tensor) -> Gaussians:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(model, "forward", out_of_memory)
    with pytest.raises(LimitError, match="a tile of 12x16 pixels") as caught:
        Upscaler(model).enlarge(picture, Size(48, 36))
    assert "smaller --tile" in str(caught.value.hint)


def test_a_side_that_a_tile_would_see_whole_is_not_cut() -> None:
    model = Recorder()
    Upscaler(model).enlarge(Picture(np.zeros((32, 36, 3), np.uint8)), Size(32, 36))
    assert [window.shape for window in model.windows] == [(32, 28)] * 3
