"""The CUDA backend without a GPU: its kernels run in fibers, compiled for every architecture, and their cache."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import io
import itertools
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from support import emulation, fields
from support.drawing import CASES, Case, assert_drawn, gradients_of, noise
from support.fields import assert_gradients_close, random_field

from gsrcli import rasterizer
from gsrcli.errors import UnavailableError
from gsrcli.gaussians import Gaussians
from gsrcli.rasterizer import EPSILON, View, cuda, nvrtc, q_at, rasterize

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
HOT = ("gsr_project", "gsr_bound", "gsr_draw", "gsr_gather")
"""The kernels that models use; gsr_draw_windowed follows the papers' rule, and may spill a few bytes."""

emulated = pytest.mark.skipif(emulation.COMPILER is None, reason="needs g++")
each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
NVCC = shutil.which("nvcc")


def nvrtc_is_here() -> bool:
    try:
        nvrtc.version()
    except UnavailableError:
        return False
    return True


needs_nvrtc = pytest.mark.skipif(not nvrtc_is_here(), reason="needs NVRTC: pip install 'cuda-core[cu13]'")


# ---- drawing, by fibers --------------------------------------------------------------------------------


@emulated
@pytest.mark.parametrize("cut", [{}, {"epsilon": 0.0}, {"window": (4.4, 6.7)}], ids=["cut", "whole", "window"])
@pytest.mark.parametrize("name", ["both", "needles", "outside", "region"])
def test_strips_and_columns_are_the_whole_bit_for_bit(name: str, cut: dict[str, float]) -> None:
    case = CASES[name]
    (top, left), (height, width) = case.origin, (3 * case.size[0] + 7, case.size[1])
    with emulation.emulated_cuda():
        whole = rasterize(case.field, (height, width), case.scale, case.origin, **cut)
        for begin, end in itertools.pairwise((0, 1, 8, 15, 16, 17, height)):
            strip = rasterize(case.field, (end - begin, width), case.scale, (top + begin, left), **cut)
            assert torch.equal(strip, whole[:, :, begin:end])
        column = rasterize(case.field, (height, 5), case.scale, (top, left + 3), **cut)
    assert torch.equal(column, whole[..., 3:8])


@emulated
@pytest.mark.parametrize("seed", [1, 2])
def test_no_lane_depends_on_the_order_of_others(seed: int) -> None:
    """Between two collectives a warp's lanes may run in any order, so none may read what another writes."""
    field = random_field(700, 3, 2, extent=(20, 20), sigma=(0.1, 2))
    image_gradient = noise(2, 3, 41, 38)

    def everything() -> list[torch.Tensor]:
        return [
            rasterize(field, (41, 38), 2),
            rasterize(field, (41, 38), 2, window=(5, 3)),
            *gradients_of(field, image_gradient, 2),
        ]

    with emulation.emulated_cuda():
        expected = everything()
    with emulation.emulated_cuda(seed):
        assert all(torch.equal(a, b) for a, b in zip(everything(), expected, strict=True))


@emulated
@pytest.mark.parametrize("channels", [17, 20, 33])
def test_more_channels_than_are_drawn_at_a_time(channels: int) -> None:
    case = Case(random_field(30, channels, 2, sigma=(0.1, 3), seed=channels), (25, 37), (2.0, 2.5))
    image_gradient = noise(2, channels, *case.size)
    with emulation.emulated_cuda():
        assert_drawn(rasterize(case.field, *case.view), case, EPSILON)
        actual = gradients_of(case.field, image_gradient, case.scale)
    expected = fields.differentiate(image_gradient.double().numpy(), case.field, case.scale, epsilon=EPSILON)
    assert_gradients_close(actual, expected)


@emulated
@pytest.mark.parametrize("count", [31, 32, 33, 1023, 1025, 32767, 33793])
@pytest.mark.parametrize("order", ["rows", "shuffled"])
def test_trees_of_any_depth(count: int, order: str) -> None:
    """A field whose Gaussians all differ is drawn as on the CPU, including the last Gaussian."""
    field = random_field(count, 1, 2, extent=(24, 30), sigma=(0.05, 0.3), seed=count)
    if order == "rows":
        field = field.select(field.centre[0, :, 1].argsort())
    with emulation.emulated_cuda():
        image = rasterize(field, (24, 30), 1)
    torch.testing.assert_close(image, rasterize(field, (24, 30), 1), atol=2e-3, rtol=0)


_SANITIZED = """
import dataclasses, sys
import torch
from support import emulation
from support.fields import random_field
from gsrcli.gaussians import Gaussians
from gsrcli.rasterizer import cuda, rasterize

with emulation.emulated_cuda(sanitized=True):
    for channels, window in ((3, None), (3, (9.0, 7.0)), (20, None)):
        field = random_field(1100, channels, 2, extent=(30, 33), sigma=(0.05, 2))
        leaves = [t.requires_grad_() for t in (field.centre, field.sigma, field.rho, field.value)]
        rasterize(Gaussians(*leaves), (67, 61), 2, window=window).square().sum().backward()
    if sys.argv[1] == "beyond":
        box = torch.zeros(1, 1, 4, dtype=torch.int32)
        cuda._kernels(3, None).launch("gsr_bound", 1, 32, box, 1, 2, torch.empty_like(box))
print("drawn")
"""


@emulated
@pytest.mark.slow
@pytest.mark.parametrize("reads", ["within", "beyond"])
def test_no_kernel_reads_or_writes_beyond_its_arrays(reads: str) -> None:
    """AddressSanitizer checks it; a launch with too large a count shows that it would report errors."""
    library = subprocess.run([str(emulation.COMPILER), "-print-file-name=libasan.so"], capture_output=True, text=True)
    if not Path(library.stdout.strip()).is_absolute():
        pytest.skip("needs AddressSanitizer's library")
    environment = {
        **os.environ,
        "LD_PRELOAD": library.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "PYTHONPATH": os.pathsep.join((str(Path(__file__).parents[1]), os.environ["PYTHONPATH"])),
    }
    command = [sys.executable, "-c", _SANITIZED, reads]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.stdout.strip() == "drawn") == (reads == "within"), done.stderr
    assert ("heap-buffer-overflow" in done.stderr) == (reads == "beyond"), done.stderr


# ---- the tree, in plain torch --------------------------------------------------------------------------


def boxes_of(field: Gaussians, scale: float, q_max: float) -> torch.Tensor:
    """Return what gsr_project does: the bounds x0, y0, x1, y1 of each Gaussian's pixels, (B, N, 4), inclusive."""
    centre = field.centre.double() * scale - 0.5
    whole = centre.floor()
    fraction = (centre - whole).float()
    reach = torch.tensor(q_max).sqrt() * (field.sigma.double() * scale).float()
    first, last = (fraction - reach).ceil() + whole, (fraction + reach).floor() + whole
    boxes = torch.cat((first, last), -1)
    empty = (first > last).any(-1, keepdim=True)
    return torch.where(empty, torch.tensor([2**31 - 1] * 2 + [1 - 2**31] * 2, dtype=torch.float64), boxes).int()


def hulls_of(boxes: torch.Tensor) -> torch.Tensor:
    """Return what gsr_bound does: the boxes around every 32 consecutive ones."""
    groups = boxes.split(cuda._WARP, dim=1)
    return torch.stack([torch.cat((g[..., :2].amin(1), g[..., 2:].amax(1)), -1) for g in groups], 1)


def walk(levels: list[torch.Tensor], tile: tuple[int, int]) -> list[int]:
    """Return what Walk does: the Gaussians of the first batch entry that a tile reaches, in order."""
    x, y = tile
    last_x, last_y = x + cuda._TILE - 1, y + cuda._TILE - 1

    def meets(box: torch.Tensor) -> bool:
        return bool(box[0] <= last_x and x <= box[2] and box[1] <= last_y and y <= box[3])

    found = range(len(levels[-1][0]))
    for level in reversed(range(len(levels))):
        boxes = levels[level][0]
        found = [node for node in found if node < len(boxes) and meets(boxes[node])]
        if level:
            found = [child for node in found for child in range(cuda._WARP * node, cuda._WARP * (node + 1))]
    return found


def levels_of(field: Gaussians, scale: float) -> list[torch.Tensor]:
    levels = [boxes_of(field, scale, q_at(EPSILON))]
    while len(levels) < cuda._LEVELS:
        levels.append(hulls_of(levels[-1]))
    return levels


@emulated
def test_the_kernels_build_the_trees_that_plain_torch_does() -> None:
    field = random_field(2500, 2, 2, extent=(40, 50), sigma=(1e-3, 4))
    view = View((80, 100), (2.0, 2.0))
    with emulation.emulated_cuda():
        _, boxes = cuda._tree(field.tensors, view)
    for level, expected in zip(boxes, levels_of(field, 2.0), strict=True):
        assert torch.equal(level, expected)


@pytest.mark.parametrize("sigma", [(0.05, 0.5), (0.2, 9)], ids=["small", "large"])
def test_a_tile_reaches_every_gaussian_that_it_shows(sigma: tuple[float, float]) -> None:
    """Compare with brute force: every pair with exp(-q/2) >= epsilon is found, in the field's order."""
    size, scale = (40, 48), 2.0
    field = random_field(1500, 1, extent=(20, 24), sigma=sigma)
    levels = levels_of(field, scale)
    side = cuda._TILE
    shown: dict[tuple[int, int], set[int]] = {}
    for _, n, weight, _ in fields.paper_weights(field, size, (scale, scale)):
        for y, x in {(y // side * side, x // side * side) for y, x in np.argwhere(weight >= 1.001 * EPSILON)}:
            shown.setdefault((x, y), set()).add(n)
    for tile, wanted in shown.items():
        found = walk(levels, tile)
        assert found == sorted(found)
        assert wanted <= set(found)
    assert len(set.union(*shown.values())) > 1000


# ---- compiling -----------------------------------------------------------------------------------------


def resources(log: str) -> dict[str, tuple[int, int]]:
    """Return the registers and spilled bytes of each kernel from the output of ptxas -v."""
    found = {}
    for name, properties in re.findall(r"Compiling entry function '(\w+)'(.*?Used \d+ registers)", log, re.DOTALL):
        spilled = sum(map(int, re.findall(r"(\d+) bytes spill", properties)))
        found[name] = (int(properties.split()[-2]), spilled)
    return found


def assert_nothing_spills(log: str) -> str:
    """Describe the registers used."""
    used = resources(log)
    assert set(HOT) <= set(used), log
    assert not any(used[name][1] for name in HOT), log
    return "registers: " + ", ".join(f"{name} {count}" for name, (count, _) in sorted(used.items()))


@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
@each_architecture
@pytest.mark.parametrize("channels", [3, 16])
def test_nvcc_compiles_without_spilling(
    architecture: int, channels: int, tmp_path: Path, record_property: Callable[[str, str], None]
) -> None:
    source = tmp_path / "kernels.cu"
    source.write_text(cuda.source(channels))
    options = ["-cubin", "-Xptxas", "-v", "-Werror", "all-warnings"]
    command = [str(NVCC), f"-arch=sm_{architecture}", f"-std={nvrtc.OPTIONS['std']}", *options]
    done = subprocess.run(
        [*command, str(source), "-o", str(tmp_path / "kernels.cubin")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    used = assert_nothing_spills(done.stdout + done.stderr)
    record_property("told", f"nvcc, sm_{architecture}, {channels} channels, {used}")


@needs_nvrtc
@each_architecture
@pytest.mark.parametrize("channels", [3, 8])
def test_nvrtc_compiles_without_spilling(
    architecture: int, channels: int, record_property: Callable[[str, str], None]
) -> None:
    from cuda.core import Program, ProgramOptions

    log = io.StringIO()
    options = ProgramOptions(arch=f"sm_{architecture}", **nvrtc.OPTIONS, ptxas_options=["-v"])
    Program(cuda.source(channels), "c++", options).compile("cubin", logs=log)
    used = assert_nothing_spills(log.getvalue())
    record_property("told", f"NVRTC, sm_{architecture}, {channels} channels, {used}")
    assert "warning" not in log.getvalue()


@needs_nvrtc
def test_the_compiled_code_contains_every_kernel() -> None:
    cubin = nvrtc.compiled(cuda.source(3), ("cubin", "sm_90"))
    assert cubin.startswith(b"\x7fELF")
    assert all(f".text.{name}".encode() in cubin for name in cuda._KERNELS)


@needs_nvrtc
def test_a_source_that_does_not_compile_is_reported_with_the_compilers_log() -> None:
    with pytest.raises(UnavailableError, match=r"(?s)do not compile for sm_90.*nonsense"):
        nvrtc.compiled("nonsense;", ("cubin", "sm_90"))


@needs_nvrtc
def test_cuda_core_passes_ints_and_floats_on_in_eight_bytes() -> None:
    """Launches rely on it: kernels take only pointers, long long and double."""
    from cuda.core._kernel_arg_handler import ParamHolder

    arguments = (-(2**40) - 3, 0.1, 2**62 + 1)
    holder = ParamHolder(arguments)
    pointers = (ctypes.c_void_p * 3).from_address(holder.ptr)
    types = (ctypes.c_longlong, ctypes.c_double, ctypes.c_longlong)
    assert tuple(t.from_address(p).value for t, p in zip(types, pointers, strict=True)) == arguments


# ---- the cache -----------------------------------------------------------------------------------------


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Replace the compiler by an instant one that lists its sources, and the cache by an empty folder."""
    sources: list[str] = []

    def compile_(source: str, target: nvrtc.CompileTarget) -> bytes:
        sources.append(source)
        return f"{source} for {target[1]}".encode()

    monkeypatch.setattr(nvrtc, "_compile", compile_)
    monkeypatch.setattr(nvrtc, "cache_folder", lambda: tmp_path / "kernels")
    monkeypatch.setattr(nvrtc, "version", lambda: "13.0")
    return sources


def test_a_source_is_compiled_once_for_each_target_and_compiler(
    compilations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert nvrtc.compiled("a", ("cubin", "sm_90")) == b"a for sm_90"
        assert nvrtc.compiled("a", ("cubin", "sm_80")) == b"a for sm_80"
        assert nvrtc.compiled("b", ("cubin", "sm_90")) == b"b for sm_90"
    assert compilations == ["a", "a", "b"]
    monkeypatch.setattr(nvrtc, "version", lambda: "13.1")
    nvrtc.compiled("a", ("cubin", "sm_90"))
    assert len(compilations) == 4


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:-1] + b"?", lambda c: b"", lambda c: b"?" + c])
def test_a_damaged_entry_is_compiled_again(compilations: list[str], damage: object, tmp_path: Path) -> None:
    nvrtc.compiled("a", ("cubin", "sm_90"))
    (entry,) = (tmp_path / "kernels").iterdir()
    entry.write_bytes(damage(entry.read_bytes()))  # type: ignore[operator]
    assert nvrtc.compiled("a", ("cubin", "sm_90")) == b"a for sm_90"
    assert nvrtc.compiled("a", ("cubin", "sm_90")) == b"a for sm_90"
    assert compilations == ["a", "a"]


def test_a_cache_that_cannot_be_written_only_costs_time(compilations: list[str], tmp_path: Path) -> None:
    (tmp_path / "kernels").write_text("a file where the folder would be")
    assert nvrtc.compiled("a", ("cubin", "sm_90")) == b"a for sm_90"


# ---- which device, and what is missing -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "target"),
    [
        ((7, 5), ("cubin", "sm_75")),
        ((9, 0), ("cubin", "sm_90")),
        ((9, 1), ("ptx", "compute_90")),
        ((13, 0), ("ptx", "compute_120")),
    ],
)
def test_the_target_by_device(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], target: nvrtc.CompileTarget
) -> None:
    """A device newer than NVRTC gets code that its driver compiles."""
    monkeypatch.setattr(nvrtc, "_architectures", lambda: list(ARCHITECTURES))
    assert nvrtc.target_of(capability) == target


def test_a_device_too_old_for_nvrtc_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "_architectures", lambda: list(ARCHITECTURES))
    monkeypatch.setattr(nvrtc, "version", lambda: "13.0")
    with pytest.raises(UnavailableError, match=r"NVRTC 13\.0 .* as old as compute capability 6\.1"):
        nvrtc.target_of((6, 1))


@pytest.fixture
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for cached in (nvrtc.version, rasterizer._backend):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in (nvrtc.version, rasterizer._backend):
        cached.cache_clear()


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("module", ["cuda.core", "cuda.bindings"])
def test_without_cuda_core_or_its_bindings_plain_torch_draws_and_says_why(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    for name in ("cuda", "cuda.bindings", "cuda.core"):  # the others exist, whatever is installed
        monkeypatch.setitem(sys.modules, name, None if name == module else mock.MagicMock())
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.warns(RuntimeWarning, match=rf"{module}.*pip install 'cuda-core\[cu12\]'"):
        assert rasterizer.backend("cuda")[0] == "torch"


def test_every_thread_launches_in_the_devices_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch does not ensure it if it believes the device to be current: autograd's threads may have no context."""
    here = threading.local()
    launched: list[int] = []

    class Device:
        def __init__(self, index: int) -> None:
            self.index = index

        def set_current(self) -> None:
            here.context = self.index

    def launch(*_: object) -> None:
        launched.append(here.context)

    core = types.SimpleNamespace(Device=Device, LaunchConfig=lambda **_: None, launch=launch)
    monkeypatch.setitem(sys.modules, "cuda.core", core)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: types.SimpleNamespace(cuda_stream=0))
    module = nvrtc.Module(mock.MagicMock(), torch.device("cuda", 3))
    module.launch("gsr_draw", 1, 32)
    with ThreadPoolExecutor(1) as another:
        another.submit(module.launch, "gsr_draw", 1, 32).result()
    assert launched == [3, 3]


@pytest.mark.usefixtures("_fresh")
@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built for CUDA")
def test_a_torch_built_for_other_gpus_draws_in_plain_torch() -> None:
    with pytest.warns(RuntimeWarning, match="not built for CUDA"):
        assert rasterizer.backend("cuda")[0] == "torch"


def test_the_op_asks_the_device_of_the_field_which_backend_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields on the meta device are not drawn, but give the shapes that torch.compile uses."""
    field = random_field(5, 3, 2).map(lambda tensor: tensor.to("meta"))
    arguments = (field.centre, field.sigma, field.rho, field.value, [4, 5], [1.0, 1.0], [0, 0], 13.8, [math.inf] * 2)
    assert torch.ops.gsrcli.rasterize(*arguments).shape == (2, 3, 4, 5)


def test_fields_of_a_batch_stay_apart() -> None:
    """Each batch entry has its own tree."""
    if emulation.COMPILER is None:
        pytest.skip("needs g++")
    field = random_field(70, 2, 3, sigma=(0.1, 2))
    with emulation.emulated_cuda():
        together = rasterize(field, (24, 28), 2)
        apart = torch.cat([rasterize(field[i : i + 1], (24, 28), 2) for i in range(3)])
        changed = rasterize(
            dataclasses.replace(field, value=field.value * torch.tensor([[[1]], [[0]], [[1]]])), (24, 28), 2
        )
    assert torch.equal(together, apart)
    assert torch.equal(changed[0::2], together[0::2])
