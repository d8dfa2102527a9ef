"""The CUDA backend on a GPU: compared with float64, reproducible, asynchronous, and composable with torch."""

from __future__ import annotations

import itertools
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from support import fields
from support.drawing import CASES, NAMES, Case, assert_drawn, gradients_of, noise
from support.fields import Pair, assert_gradients_close, random_field

from gsrcli import rasterizer
from gsrcli.gaussians import Gaussians
from gsrcli.rasterizer import EPSILON, cuda, rasterize

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
SANITIZER = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")


@pytest.fixture(autouse=True)
def _compiled() -> None:
    """Check that the compiled backend is tested, not its fallback."""
    if torch.cuda.is_available():
        assert rasterizer.backend("cuda")[0] == "cuda"


def on_gpu(field: Gaussians) -> Gaussians:
    return field.to("cuda")


def everything(field: Gaussians, size: tuple[int, int], scale: float | Pair, **cut: object) -> list[torch.Tensor]:
    """Return a picture and all gradients, on the CPU."""
    image = rasterize(on_gpu(field), size, scale, **cut)
    gradients = gradients_of(on_gpu(field), noise(field.batch, field.channels, *size).cuda(), scale, **cut)
    return [tensor.cpu() for tensor in (image, *gradients)]


def models_field(height: int, width: int, density: int = 4, seed: int = 0) -> Gaussians:
    """Make a field like GSASR's: a grid of slightly shifted coloured Gaussians of about half a pixel."""
    generator = torch.Generator().manual_seed(seed)
    count = height * width * density**2

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(1, count, *shape, generator=generator)

    y, x = torch.meshgrid(torch.arange(density * height), torch.arange(density * width), indexing="ij")
    places = (torch.stack((x, y), -1).reshape(1, count, 2) + 0.5) / density
    return Gaussians(
        centre=places + 0.3 * (uniform(2) - 0.5),
        sigma=0.15 + 0.5 * uniform(2),
        rho=1.8 * uniform() - 0.9,
        value=uniform(3) / density**2 * 2,
    )


# ---- correctness ---------------------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize("epsilon", [0.0, EPSILON], ids=["whole", "cut"])
def test_forward(case: Case, epsilon: float) -> None:
    assert_drawn(rasterize(on_gpu(case.field), *case.view, epsilon=epsilon).cpu(), case, epsilon)


@each_case
@pytest.mark.parametrize("epsilon", [0.0, EPSILON], ids=["whole", "cut"])
def test_backward(case: Case, epsilon: float) -> None:
    image_gradient = noise(case.field.batch, case.field.channels, *case.size)
    view = (case.scale, case.origin)
    actual = gradients_of(on_gpu(case.field), image_gradient.cuda(), *view, epsilon=epsilon)
    expected = fields.differentiate(image_gradient.double().numpy(), case.field, *view, epsilon=epsilon)
    bound = 10 * case.tolerance
    assert_gradients_close(tuple(g.cpu() for g in actual), expected, relative=bound, slack=bound)


@pytest.mark.parametrize("channels", [*range(1, 17), 17, 33])
def test_channels(channels: int) -> None:
    case = Case(random_field(40, channels, 2, sigma=(0.1, 3), seed=channels), (25, 37), (2.0, 2.5))
    assert_drawn(rasterize(on_gpu(case.field), *case.view).cpu(), case, EPSILON)
    image_gradient = noise(2, channels, *case.size)
    actual = gradients_of(on_gpu(case.field), image_gradient.cuda(), case.scale)
    expected = fields.differentiate(image_gradient.double().numpy(), case.field, case.scale, epsilon=EPSILON)
    assert_gradients_close(tuple(g.cpu() for g in actual), expected)


@pytest.mark.parametrize("window", [(3.3, 5.2), (40.3, 0.4)])
def test_window(window: Pair) -> None:
    case = CASES["both"]
    image, *gradients = everything(case.field, case.size, case.scale, window=window)
    np.testing.assert_allclose(image.numpy(), fields.draw(case.field, *case.view, window=window), atol=1e-4)
    image_gradient = noise(*image.shape).double().numpy()
    expected = fields.differentiate(image_gradient, case.field, case.scale, window=window)
    assert_gradients_close(tuple(gradients), expected)


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 20])
@pytest.mark.parametrize("size", [(0, 7), (7, 0), (6, 7)])
def test_any_of_batch_count_and_size_may_be_zero(batch: int, count: int, size: tuple[int, int]) -> None:
    field = random_field(count, 2, batch, extent=(3, 3))
    image, *gradients = everything(field, size, 2.0)
    assert image.shape == (batch, 2, *size)
    assert all(g.isfinite().all() for g in gradients)
    assert count or not image.any()


@pytest.mark.parametrize("scale", [2, 3.3, 4, 12])
@pytest.mark.parametrize("order", ["rows", "shuffled"])
def test_a_models_field_is_drawn_and_differentiated_as_in_float64(scale: float, order: str) -> None:
    """Compare at a size too large for fibers with plain torch in float64 on the same device."""
    field = models_field(48, 60)
    if order == "shuffled":
        field = field.select(torch.randperm(len(field), generator=torch.Generator().manual_seed(0)))
    size = (round(48 * scale), round(60 * scale))
    ratio = (size[0] / 48, size[1] / 60)
    image_gradient = noise(1, 3, *size).cuda()
    exact = on_gpu(field).to(dtype=torch.float64)
    expected = rasterize(exact, size, ratio)
    image = rasterize(on_gpu(field), size, ratio)
    assert (image - expected).abs().max() < 1e-3  # a pair at the cutoff may fall on either side: 1/1024 of a value
    assert (image - expected).norm() < 1e-5 * expected.norm()
    by_hand = gradients_of(exact, image_gradient.double(), ratio)
    actual = gradients_of(on_gpu(field), image_gradient, ratio)
    for name, gradient, reference in zip(NAMES, actual, by_hand, strict=True):
        error = gradient - reference
        assert error.norm() < 1e-3 * reference.norm(), name
        assert error.abs().max() < 1e-2 * reference.abs().max(), name
        assert torch.nn.functional.cosine_similarity(gradient.flatten().double(), reference.flatten(), 0) > 0.999999


def test_it_agrees_with_the_cpu_to_an_8_bit_step() -> None:
    field = models_field(60, 50)
    image = rasterize(on_gpu(field), (250, 220), (250 / 60, 220 / 50)).cpu()
    assert (image - rasterize(field, (250, 220), (250 / 60, 220 / 50))).abs().max() < 1 / 255


def test_more_gaussians_than_31_bits_count_numbers_of() -> None:
    """With eight numbers each, they exceed a signed 32-bit index. Only the last ones are visible."""
    count = 2**31 // 8 + 4096
    if torch.cuda.mem_get_info()[0] < 120 * count:
        pytest.skip("needs 30 GB of free memory on the GPU")
    with torch.device("cuda"):
        field = Gaussians(
            centre=torch.full((1, count, 2), -1e6),
            sigma=torch.ones(1, count, 2),
            rho=torch.zeros(1, count),
            value=torch.ones(1, count, 3),
        )
    field.centre[0, -1] = 20
    leaves = [getattr(field, name).requires_grad_() for name in NAMES]
    image = rasterize(Gaussians(*leaves), (40, 40), 1)
    expected = fields.draw(fields.single((20.0, 20.0), value=(1.0, 1.0, 1.0)), (40, 40), (1, 1), epsilon=EPSILON)
    np.testing.assert_allclose(image.detach().cpu().numpy(), expected, atol=1e-5)
    image.sum().backward()
    by_value = leaves[3].grad
    assert by_value is not None
    torch.testing.assert_close(by_value[0, -1].cpu(), torch.tensor(expected.sum((2, 3))[0]).float())
    assert not by_value[0, :-1].any()


# ---- the same bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(180, 180), (720, 720)])
def test_two_runs_give_the_same_bytes(size: tuple[int, int]) -> None:
    field = models_field(180, 180)
    scale = size[0] / 180
    first, second = everything(field, size, scale), everything(field, size, scale)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ["both", "needles", "outside", "region"])
def test_strips_are_the_whole_bit_for_bit(name: str) -> None:
    case = CASES[name]
    field, (top, left), (height, width) = on_gpu(case.field), case.origin, (3 * case.size[0] + 71, case.size[1])
    whole = rasterize(field, (height, width), case.scale, case.origin)
    for begin, end in itertools.pairwise((0, 1, 8, 15, 16, 33, height)):
        strip = rasterize(field, (end - begin, width), case.scale, (top + begin, left))
        assert torch.equal(strip, whole[:, :, begin:end])


# ---- with torch -----------------------------------------------------------------------------------


@pytest.fixture
def leaves() -> list[torch.Tensor]:
    return [getattr(on_gpu(random_field(200, 3, 2)), name).requires_grad_() for name in NAMES]


def test_nothing_waits_for_the_device(leaves: list[torch.Tensor]) -> None:
    rasterize(Gaussians(*leaves), (24, 28), 2).square().sum().backward()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        rasterize(Gaussians(*leaves), (24, 28), 2).square().sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_it_can_be_captured_as_a_graph() -> None:
    field = on_gpu(random_field(200, 3))
    expected = rasterize(field, (24, 28), 2)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        image = rasterize(field, (24, 28), 2)
    image.zero_()
    graph.replay()
    assert torch.equal(image, expected)


def test_it_runs_on_the_current_stream() -> None:
    """Drawing on another stream waits for earlier work on that stream."""
    field = on_gpu(models_field(60, 60))
    expected = rasterize(field, (240, 240), 4)
    late = field.map(torch.zeros_like)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        for name in NAMES:
            getattr(late, name).copy_(getattr(field, name))
        image = rasterize(late, (240, 240), 4)
    torch.cuda.synchronize()
    assert torch.equal(image, expected)


def test_it_draws_in_a_thread_that_has_done_nothing_before() -> None:
    """Autograd's thread is like that if its first kernel is ours: torch gives it no context by itself."""
    field = on_gpu(random_field())
    expected = rasterize(field, (24, 28), 2)
    torch.cuda.synchronize()
    with ThreadPoolExecutor(1) as another:
        assert torch.equal(another.submit(rasterize, field, (24, 28), 2).result(), expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_each_device_draws_its_own() -> None:
    field = random_field(200, 3)
    first, second = (rasterize(field.to(f"cuda:{i}"), (24, 28), 2) for i in range(2))
    assert second.device.index == 1
    torch.testing.assert_close(first.cpu(), second.cpu())


def test_the_operators_keep_torchs_contract(leaves: list[torch.Tensor]) -> None:
    view = ([12, 17], [2.0, 1.5], [3, 4], 13.86, [math.inf, math.inf])
    torch.library.opcheck(torch.ops.gsrcli.rasterize.default, (*leaves, *view))
    detached = [leaf.detach() for leaf in leaves]
    image_gradient = noise(2, 3, 12, 17).cuda()
    torch.library.opcheck(torch.ops.gsrcli.rasterize_backward.default, (image_gradient, *detached, *view))


def test_it_compiles_whole(leaves: list[torch.Tensor]) -> None:
    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        return rasterize(Gaussians(*tensors), (24, 28), (2.0, 2.0)).square().mean()

    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(*leaves)
    torch.testing.assert_close(compiled, loss(*leaves), atol=0, rtol=0)


def test_autocast_does_not_lower_the_precision() -> None:
    field = on_gpu(random_field())
    with torch.autocast("cuda", torch.bfloat16):
        assert torch.equal(rasterize(field, (24, 28), 2), rasterize(field, (24, 28), 2))
        assert rasterize(field.to(dtype=torch.bfloat16), (24, 28), 2).dtype == torch.float32


# ---- the whole program ---------------------------------------------------------------------------------


@pytest.fixture
def picture(photo: Callable[..., Path]) -> Path:
    return photo(size=(150, 120))


def _upscaled(gsr_process: Callable[..., subprocess.Popen[str]], picture: Path, *options: str) -> np.ndarray:
    from PIL import Image

    output = picture.with_name("large.png")
    process = gsr_process("upscale", picture, "--scale", "3.3", "-o", output, "--overwrite", *options)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "warning" not in errors
    return np.asarray(Image.open(output)).astype(int)


def test_pictures_are_those_of_the_cpu(gsr_process: Callable[..., subprocess.Popen[str]], picture: Path) -> None:
    on_cpu = _upscaled(gsr_process, picture, "--device", "cpu", "--precision", "float32")
    for options in (("--precision", "float32"), ("--precision", "float32", "--tile", "48"), ()):
        on_device = _upscaled(gsr_process, picture, "--device", "cuda", *options)
        difference = abs(on_device - on_cpu)
        assert difference.max() <= (2 if options else 8), options
        assert difference.mean() < (0.05 if options else 0.5), options


def test_two_commands_write_the_same_bytes(gsr_process: Callable[..., subprocess.Popen[str]], picture: Path) -> None:
    first, second = (_upscaled(gsr_process, picture, "--device", "cuda") for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.skipif(SANITIZER is None, reason="needs compute-sanitizer")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_the_sanitizer_finds_nothing(tool: str, tmp_path: Path) -> None:
    script = tmp_path / "draw.py"
    script.write_text(_SANITIZED)
    # Uninitialised memory is found only if all writes are watched, torch's kernels included.
    ours = [] if tool == "initcheck" else ["--kernel-regex", "kns=gsr_"]
    command = [str(SANITIZER), "--tool", tool, "--error-exitcode", "9", *ours]
    done = subprocess.run([*command, sys.executable, str(script)], capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "drawn" in done.stdout


_SANITIZED = """
import os
os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"  # each tensor has its own allocation, with its own bounds
import torch
from gsrcli.gaussians import Gaussians
from gsrcli.rasterizer import backend, rasterize

assert backend("cuda")[0] == "cuda"
torch.manual_seed(0)
for channels, window in ((3, None), (3, (9.0, 7.0)), (20, None)):
    leaves = [torch.rand(2, 1100, n, device="cuda") for n in (2, 2, 1, channels)]
    leaves = [(30 * leaves[0]), (leaves[1] + 0.05), leaves[2].squeeze(-1) - 0.5, leaves[3]]
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    rasterize(Gaussians(*leaves), (67, 61), 2, window=window).square().sum().backward()
torch.cuda.synchronize()
print("drawn")
"""


def test_the_kernels_named_are_those_there() -> None:
    module = cuda._kernels(3, torch.device("cuda"))
    assert all(module.kernel(name) for name in cuda._KERNELS)
