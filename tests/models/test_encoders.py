"""SwinIR's and HAT's windows against attention written out pixel by pixel, and the contract of an encoder."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from gsrcli.models.attention import (
    OverlappingWindowAttention,
    RelativePositionBias,
    RotaryPosition,
    ShiftedWindowAttention,
    shift_mask,
)
from gsrcli.models.encoders import CHANNELS, ENCODERS, build_encoder
from gsrcli.models.encoders.hat import HAT
from gsrcli.models.encoders.swinir import SwinIR
from gsrcli.models.encoders.transformer import TransformerTrunk

WIDTH, HEADS, SIDE = 16, 2, 4

TRUNKS: dict[str, Callable[[], TransformerTrunk]] = {
    "swinir": lambda: SwinIR(channels=8, width=16, heads=2, window=4, groups=2, layers=2),
    "hat": lambda: HAT(channels=8, width=32, heads=2, window=4, groups=2, layers=2),
}

Pixel = tuple[int, int]
Key = tuple[Tensor, Tensor, Tensor]
"""A key, its value, and the logits that its position adds, one per head."""


@pytest.fixture(params=TRUNKS)
def trunk(request: pytest.FixtureRequest) -> TransformerTrunk:
    torch.manual_seed(0)
    trunk = TRUNKS[request.param]().eval()
    for name, parameter in trunk.named_parameters():
        if name.endswith("squeeze.bias"):
            nn.init.ones_(parameter)  # the one remaining channel passes its ReLU
    return trunk


def randomized(module: nn.Module) -> nn.Module:
    """Return the module in float64, with parameters large enough that each one matters."""
    module.double().requires_grad_(False)
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, std=1 if "position" in name else 0.4)
    for name, places in module.named_buffers():
        if name.endswith("places"):
            module.get_submodule(name.rpartition(".")[0]).places = places.double()
    return module


def pixels(height: int, width: int) -> Iterator[Pixel]:
    return itertools.product(range(height), range(width))


def written_out(attention: nn.Module, query: Tensor, keys: Iterator[Key]) -> Tensor:
    """Compute softmax attention of one projected query to some keys, and the output projection."""
    key, value, added = map(torch.stack, zip(*keys, strict=True))
    logits = (query * key).unflatten(-1, (HEADS, -1)).sum(-1) / math.sqrt(WIDTH / HEADS) + added
    return attention.output((logits.softmax(0).unsqueeze(-1) * value.unflatten(-1, (HEADS, -1))).sum(0).flatten())


def turned(tokens: Tensor, frequencies: Tensor, x: int, y: int) -> Tensor:
    """Rotate the channel pairs of a query or key, one at a time."""
    heads = tokens.clone().view(HEADS, -1)
    for head, pair in itertools.product(range(HEADS), range(WIDTH // HEADS // 2)):
        angle = (x * frequencies[0, head, pair] + y * frequencies[1, head, pair]).item()
        matrix = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
        heads[head, 2 * pair : 2 * pair + 2] = matrix @ heads[head, 2 * pair : 2 * pair + 2]
    return heads.flatten()


@pytest.mark.parametrize("distance", [0, 2, 1])
def test_masked_windows_do_not_wrap_round(distance: int) -> None:
    torch.manual_seed(0)
    position = RelativePositionBias(SIDE, HEADS)
    attention = randomized(ShiftedWindowAttention(WIDTH, HEADS, position, SIDE, distance))
    picture = torch.randn(2, 8, 12, WIDTH, dtype=torch.float64)
    mask = shift_mask(8, 12, SIDE, distance, picture.device)
    query, key, value = attention.qkv(picture[1]).chunk(3, dim=-1)

    def window(pixel: Pixel) -> Pixel:
        return tuple((i - distance) // SIDE for i in pixel)

    def keys(place: Pixel) -> Iterator[Key]:
        for other in pixels(8, 12):
            if window(other) == window(place):
                down, across = (i - j + SIDE - 1 for i, j in zip(place, other, strict=True))
                yield key[other], value[other], position.table[down * (2 * SIDE - 1) + across]

    actual = attention(picture, mask)[1]
    for place in pixels(8, 12):
        torch.testing.assert_close(actual[place], written_out(attention, query[place], keys(place)))


@pytest.mark.parametrize("distance", [0, 2])
def test_windows_without_a_mask_wrap_round(distance: int) -> None:
    torch.manual_seed(0)
    position = RotaryPosition(SIDE, HEADS, WIDTH // HEADS)
    attention = randomized(ShiftedWindowAttention(WIDTH, HEADS, position, SIDE, distance))
    picture = torch.randn(2, 8, 12, WIDTH, dtype=torch.float64)
    query, key, value = attention.qkv(picture[1]).chunk(3, dim=-1)

    def rolled(pixel: Pixel) -> Pixel:
        return (pixel[0] - distance) % 8, (pixel[1] - distance) % 12

    def place_in_window(pixel: Pixel) -> dict[str, int]:
        y, x = rolled(pixel)
        return {"x": x % SIDE, "y": y % SIDE}

    def keys(place: Pixel) -> Iterator[Key]:
        for other in pixels(8, 12):
            if all(i // SIDE == j // SIDE for i, j in zip(rolled(other), rolled(place), strict=True)):
                turned_key = turned(key[other], position.frequencies, **place_in_window(other))
                yield turned_key, value[other], torch.zeros(HEADS)

    actual = attention(picture)[1]
    for place in pixels(8, 12):
        q = turned(query[place], position.frequencies, **place_in_window(place))
        torch.testing.assert_close(actual[place], written_out(attention, q, keys(place)), rtol=1e-5, atol=1e-5)


def test_overlapping_windows_look_beyond_their_own() -> None:
    torch.manual_seed(0)
    margin, large = 1, SIDE + 2
    position = RotaryPosition(large, HEADS, WIDTH // HEADS)
    attention = randomized(OverlappingWindowAttention(WIDTH, HEADS, position, SIDE, margin))
    picture = torch.randn(2, 8, 12, WIDTH, dtype=torch.float64)
    query, key, value = attention.qkv(picture[1]).chunk(3, dim=-1)
    outside = torch.zeros(WIDTH, dtype=torch.float64)

    def keys(place: Pixel) -> Iterator[Key]:
        top, left = (i // SIDE * SIDE - margin for i in place)
        for y, x in pixels(large, large):
            row, column = top + y, left + x
            inside = 0 <= row < 8 and 0 <= column < 12
            k, v = (key[row, column], value[row, column]) if inside else (outside, outside)
            yield turned(k, position.frequencies, x=x, y=y), v, torch.zeros(HEADS)

    actual = attention(picture)[1]
    for y, x in pixels(8, 12):
        # The released network numbers the queries of a window as if they were the first keys of the larger one.
        token = y % SIDE * SIDE + x % SIDE
        q = turned(query[y, x], position.frequencies, x=token % large, y=token // large)
        torch.testing.assert_close(actual[y, x], written_out(attention, q, keys((y, x))), rtol=1e-5, atol=1e-5)


def test_swinir_masks_its_shifted_windows_and_hat_does_not() -> None:
    # One window in height and one in width: the only windows that shifting changes wrap around.
    image = torch.rand(1, 3, 4, 4)
    for name, masked in (("swinir", True), ("hat", False)):
        torch.manual_seed(0)
        trunk = TRUNKS[name]().eval()
        mask = trunk.mask(4, 4, image.device)
        assert (mask is not None) is masked
        expected = trunk(image)
        trunk.mask = lambda *_: None
        assert torch.equal(trunk(image), expected) is not masked


def test_an_encoder_gives_features_of_any_size(trunk: TransformerTrunk) -> None:
    for height, width in ((4, 4), (4, 12), (16, 8)):
        features = trunk(torch.rand(2, 3, height, width).contiguous(memory_format=torch.channels_last))
        assert features.shape == (2, 8, height, width)
        assert features.is_contiguous(memory_format=torch.channels_last)


def test_an_encoder_does_not_mix_pictures_of_a_batch(trunk: TransformerTrunk) -> None:
    images = torch.rand(3, 3, 8, 12)
    together = trunk(images)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], trunk(images[i : i + 1]))


def test_an_encoder_does_not_mind_how_memory_is_laid_out(trunk: TransformerTrunk) -> None:
    image = torch.rand(1, 3, 8, 12)
    expected = trunk(image)
    laid_out = copy.deepcopy(trunk).to(memory_format=torch.channels_last)
    torch.testing.assert_close(laid_out(image.contiguous(memory_format=torch.channels_last)), expected)


def test_an_encoder_comes_close_in_bfloat16(trunk: TransformerTrunk) -> None:
    image = torch.rand(1, 3, 8, 12)
    expected = trunk(image)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        features = trunk(image).float()
    assert (features - expected).norm() < 0.02 * expected.norm()


def test_an_encoder_learns_after_inference_of_the_same_size(trunk: TransformerTrunk) -> None:
    image = torch.rand(1, 3, 8, 12)
    with torch.inference_mode():
        expected = trunk(image)
    features = trunk.train()(image)
    torch.testing.assert_close(features, expected.clone())
    (features * torch.randn_like(features)).sum().backward()
    assert [name for name, p in trunk.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_has_the_channels_of_the_decoder(name: str) -> None:
    with torch.device("meta"):
        features = build_encoder(name)(torch.empty(1, 3, 16, 32))
    assert features.shape == (1, CHANNELS, 16, 32)


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown encoder 'vgg'; known: edsr, rdn, swinir, hatl"):
        build_encoder("vgg")
