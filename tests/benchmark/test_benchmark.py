"""``gsr bench``: its counts and times are correct, and its reports complete."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from support import emulation
from support.fields import assert_gradients_close, differentiate, draw, paper_weights, random_field
from torch import nn
from typer.testing import Result

from gsrcli import benchmark
from gsrcli.benchmark import drawing, paper_kernel, pipeline, work
from gsrcli.benchmark.ceilings import Ceilings, measure_ceilings
from gsrcli.benchmark.plan import PAPER_A100, Case, Setting, Subject, parse_scales
from gsrcli.benchmark.report import TimingReport
from gsrcli.errors import GsrError, ModelError, UnavailableError, UsageError
from gsrcli.gaussians import Gaussians
from gsrcli.models import build
from gsrcli.rasterizer import EPSILON, nvrtc
from gsrcli.runtime import memory
from gsrcli.runtime.hardware import environment
from gsrcli.runtime.memory import peak_memory
from gsrcli.runtime.timing import Clock, Timing
from gsrcli.size import Size
from gsrcli.upscaling.upscaler import Upscaler
from gsrcli.weights.load import load_model
from gsrcli.weights.store import Store

Bench = Callable[..., Result]
Photo = Callable[..., Path]
Process = Callable[..., "subprocess.Popen[str]"]

SETTING = Setting("pipeline", torch.device("cpu"), "float32", 2, 48, None, Ceilings("float32", 1e11, 1e10, None))
SMALL_GSASR = {"width": 12, "heads": 2, "self_blocks": 1, "self_layers": 1}
TINY_FLOP = 2 * (2 * 3 * 9 * 8 + 2 * 8 * 9 * 8 + 8 * 16 + 16 * 32)  # per pixel: TINY's layers, the first twice


@pytest.fixture
def bench(gsr: Callable[..., Result], tiny_path: Path) -> Iterator[Bench]:
    """Run ``gsr bench`` on the CPU with the tiny model, to 48x48 pixels, in this process."""
    threads = torch.get_num_threads()

    def run(*arguments: object) -> Result:
        options = ("--device", "cpu", "--repeats", 2, "--side", 48, "--models", tiny_path)
        return gsr("bench", *options, *arguments)

    yield run
    torch.set_num_threads(threads)


def small_gsasr() -> Subject:
    model = build("gsasr-edsr", SMALL_GSASR).eval().requires_grad_(False)
    return Subject("gsasr-edsr", Upscaler(model), "random")


# Counts


@pytest.mark.parametrize(
    ("scale", "size", "sigma"),
    [((4.0, 4.0), (48, 56), (0.1, 1.0)), ((2.7, 3.3), (31, 40), (0.02, 3.0)), ((1.0, 1.0), (5, 3), (0.5, 8.0))],
)
def test_pairs_are_counted_exactly(
    scale: tuple[float, float], size: tuple[int, int], sigma: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    field = random_field(60, sigma=sigma, rho=0.99, seed=3)
    expected = sum(int((weight >= EPSILON).sum()) for _, _, weight, _ in paper_weights(field, size, scale))
    assert expected > 100
    assert work.count_pairs(field, scale, Size(*size)) == expected
    monkeypatch.setattr(work, "_GAUSSIANS_AT_ONCE", 7)
    assert work.count_pairs(field, scale, Size(*size)) == expected


def test_an_empty_field_has_no_pairs() -> None:
    assert work.count_pairs(random_field(0), (2.0, 2.0), Size(8, 8)) == 0


def test_floors_follow_from_the_ceilings() -> None:
    field = random_field(100)
    known = work.Floors.of(field, 5000, Size(10, 20), Ceilings("float32", 1.0, 1e6, 3e6))
    assert known.traffic == pytest.approx(4 * (100 * 8 + 3 * 200) / 1e6 * 1e3)
    assert known.arithmetic == pytest.approx(5000 * 12 / 3e6 * 1e3)
    assert work.Floors.of(field, 5000, Size(10, 20), Ceilings("float32", 1.0, 1e6, None)).arithmetic is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_flop_are_those_of_convolutions_products_and_attention(dtype: torch.dtype) -> None:
    convolution, linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
    image, tokens = torch.rand(2, 3, 10, 12), torch.rand(2, 4, 16, 8)
    field = random_field(1)

    def network() -> Gaussians:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            linear(convolution(image).permute(0, 2, 3, 1))
            nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return field

    with torch.inference_mode():
        returned, flop = pipeline.count_flop(network)
    pixels = 2 * 10 * 12
    assert flop == 2 * pixels * (3 * 9 * 8 + 8 * 5) + 2 * (2 * 2 * 4 * 16 * 16 * 8)
    assert returned is field


# Measurements


def test_median_and_spread() -> None:
    assert Timing.of([0.004, 0.001, 0.1, 0.002, 0.003]) == Timing(pytest.approx(3), pytest.approx(2))
    assert Timing.of([0.5]) == Timing(500, 0)


def test_the_clock_tells_wall_time_and_processor_time_apart() -> None:
    cpu = torch.device("cpu")
    wall, processor = (Clock(cpu, processor=p).samples(lambda: time.sleep(0.05), 2) for p in (False, True))
    assert len(wall) == len(processor) == 2
    assert min(wall) >= 0.05
    assert max(processor) < 0.04


@pytest.mark.skipif(sys.platform != "linux", reason="is known on Linux alone")
def test_peak_memory_is_that_of_the_work() -> None:
    size = 1 << 28
    little = peak_memory(lambda: None, SETTING.device)
    much = peak_memory(lambda: np.ones(size, np.uint8).sum(), SETTING.device)
    after = peak_memory(lambda: None, SETTING.device)
    assert little is not None
    assert much is not None
    assert after is not None
    assert 0.9 * size < much - little < 1.2 * size
    assert after < much - 0.9 * size


def test_work_is_done_even_if_its_memory_cannot_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(memory, "_FORGET_PEAK", (tmp_path / "nowhere/clear_refs", "5"))
    assert peak_memory(lambda: done.append(True), SETTING.device) is None
    assert done == [True]


def test_failures_of_the_work_are_not_mistaken_for_failures_to_measure() -> None:
    def fail() -> None:
        raise OSError("the work's own")

    with pytest.raises(OSError, match="the work's own"):
        peak_memory(fail, SETTING.device)


def test_ceilings_are_plausible() -> None:
    ceilings = measure_ceilings(torch.device("cpu"), torch.float32)
    assert 1e8 < ceilings.matmul_flop_per_s < 1e14
    assert 1e8 < ceilings.copy_bytes_per_s < 1e13
    assert ceilings.fp32_instructions_per_s is None


@pytest.mark.parametrize(
    ("side", "scale", "low", "padded"), [(720, 8, 90, 96), (720, 2, 360, 360), (720, 7, 103, 108), (48, 48, 1, 12)]
)
def test_pictures_are_padded_to_the_models_multiple(side: int, scale: float, low: int, padded: int) -> None:
    case = Case.of(scale, dataclasses.replace(SETTING, side=side), 12)
    assert case.image.shape == (1, 3, low, low)
    assert case.padded.shape == (1, 3, padded, padded)
    assert torch.equal(case.padded[:, :, :low, :low], case.image)
    assert case.size == (side, side)
    assert case.ratio == (side / low, side / low)
    assert 0 <= case.padded.min() <= case.padded.max() <= 1


def test_a_picture_is_cropped_square_and_downscaled(tmp_path: Path) -> None:
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[:, 20:80] = (10, 100, 200)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    case = Case.of(4, dataclasses.replace(SETTING, picture=tmp_path / "wide.png"), 1)
    assert case.image.shape == (1, 3, 12, 12)
    expected = torch.tensor([10, 100, 200]) / 255
    assert torch.allclose(case.image, expected[None, :, None, None].expand_as(case.image), atol=1e-5)


def test_encoder_and_decoder_are_timed_separately() -> None:
    subject = small_gsasr()
    row = pipeline.measure(subject, Case.of(2, SETTING, subject.model.traits.multiple), SETTING)
    assert row.encoder_ms is not None
    assert row.decoder_ms is not None
    assert 0 < row.encoder_ms.median < row.network_ms.median  # from the same runs, whatever else the machine does
    assert 0 < row.decoder_ms.median < row.network_ms.median
    assert row.graph_ms is None
    assert row.graph_failure is None
    assert (row.input, row.output, row.gaussians) == (24, 48, 16 * 24 * 24)
    # Nothing is left in the model.
    assert not subject.model.encoder._forward_hooks
    assert not subject.model.encoder._forward_pre_hooks


def test_the_papers_times_are_shown_for_its_model_and_size_only() -> None:
    subject = small_gsasr()
    case = Case.of(12, dataclasses.replace(SETTING, side=720), 12)
    assert pipeline._is_published(subject, case)
    assert not pipeline._is_published(subject, dataclasses.replace(case, size=(360, 360)))
    assert not pipeline._is_published(dataclasses.replace(subject, name="gsasr-rdn"), case)
    assert PAPER_A100[12] == (91, 472)


def test_rasterizers_draw_the_same_field(tiny_path: Path) -> None:
    setting = dataclasses.replace(SETTING, workload="rasterizer")
    subject = Subject.load(str(tiny_path), setting.device)
    case = Case.of(3, setting, 1)
    rows = {(row.backend, row.order): row for row in drawing.measure(subject, case, setting)}
    assert rows.keys() == {("cpu", "picture"), ("cpu", "shuffled"), ("torch", "picture")}
    for row in rows.values():
        assert row.error < 0.02  # of EPSILON times the overlap
        assert (row.width, row.height, row.gaussians) == (48, 48, 4 * 16 * 16)
        assert row.forward_pairs_per_s == pytest.approx(row.pairs / row.forward_ms.median * 1e3)
        assert row.forward_over_published is None
    plain, compiled = rows["torch", "picture"], rows["cpu", "picture"]
    assert (plain.forward_over_torch, plain.backward_over_torch) == (1, 1)
    assert compiled.backward_over_torch == compiled.backward_pairs_per_s / plain.backward_pairs_per_s


def test_pairs_are_those_of_the_field_as_pixels_see_it(tiny_path: Path) -> None:
    """A pixel's footprint widens Gaussians, and so adds pairs to draw."""
    subject, case = Subject.load(str(tiny_path), SETTING.device, "float32"), Case.of(2, SETTING, 1)
    assert case.ratio == (2, 2)
    field = subject.model(case.padded, torch.tensor([[2.0, 2.0]]))
    points, pairs = (
        sum(int((weight >= EPSILON).sum()) for _, _, weight, _ in paper_weights(one, (48, 48), (2.0, 2.0)))
        for one in (field, field.seen_through((0.15, 0.15)))
    )
    assert pairs > 1.05 * points
    assert abs(pipeline.measure(subject, case, SETTING).pairs - pairs) <= 2  # rounding
    assert all(abs(row.pairs - pairs) <= 2 for row in drawing.measure(subject, case, SETTING))


def test_plain_torch_draws_a_strip_of_a_large_picture(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject.load(str(tiny_path), SETTING.device, "float32")
    rows = drawing.measure(subject, Case.of(3, SETTING, 1), SETTING)
    whole = rows[-1]
    monkeypatch.setattr(drawing, "_PLAIN_PAIRS", whole.pairs / 3)
    *compiled, plain = drawing.measure(subject, Case.of(3, SETTING, 1), SETTING)
    assert plain.backend == "torch"
    assert plain.height == 16
    assert 0 < plain.pairs < whole.pairs / 2
    assert {row.height for row in compiled} == {48}


# The published algorithm


PUBLISHED_KERNELS = ("published_draw", "published_gather")


@pytest.mark.skipif(emulation.COMPILER is None, reason="needs g++")
@pytest.mark.parametrize(
    ("count", "scale", "size"), [(40, (3.1, 2.7), (100, 90)), (300, (4.0, 4.0), (52, 60)), (1, (1.5, 9.0), (21, 130))]
)
def test_the_published_algorithm_is_the_papers(
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    scale: tuple[float, float],
    size: tuple[int, int],
) -> None:
    on_cpu = emulation.EmulatedModule(paper_kernel.SOURCE.read_text("utf-8"), PUBLISHED_KERNELS)
    monkeypatch.setattr(paper_kernel, "kernels", lambda device: on_cpu)
    field = random_field(count, sigma=(0.3, 2.0), rho=0.9, seed=count)
    leaves = field.map(lambda tensor: tensor.clone().requires_grad_())
    drawn = paper_kernel.rasterize(leaves, Size(*size), scale)
    window = (0.1 * (size[0] - 1) / 2, 0.1 * (size[1] - 1) / 2)
    expected = draw(field, size, scale, window=window)
    assert drawn.shape == (1, 3, *size)
    assert abs(expected).max() > 0.1
    assert np.allclose(drawn.detach().numpy(), expected, atol=2e-5)

    noise = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(drawn, (leaves.centre, leaves.sigma, leaves.rho, leaves.value), noise)
    assert_gradients_close(gradients, differentiate(noise.double().numpy(), field, scale, window=window))


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_the_published_algorithm_compiles_for_gpus(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvrtc, "cache_folder", lambda: tmp_path)
    try:
        nvrtc.version()
    except UnavailableError as error:
        pytest.skip(str(error))
    code = nvrtc.compiled(paper_kernel.SOURCE.read_text("utf-8"), ("cubin", architecture))
    assert all(name.encode() in code for name in PUBLISHED_KERNELS)


# Reports


def rows_of(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    rows: list[dict[str, object]] = json.loads(result.stdout)["rows"]
    return rows


def test_json_csv_and_plot_agree(bench: Bench, tmp_path: Path, tiny_path: Path) -> None:
    table, plot = tmp_path / "t.csv", tmp_path / "t.png"
    result = bench("--scales", "2,3.5", "--json", "--csv", table, "--plot", plot, "--threads", 1)
    rows = rows_of(result)
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    data = json.loads(result.stdout)
    assert data["environment"]["threads"] == 1
    assert data["environment"]["torch"] == torch.__version__
    assert data["protocol"]["scales"] == [2, 3.5]
    assert data["protocol"]["clock"] == "wall clock"
    assert data["protocol"]["pair"].endswith(">= 1/1024")
    assert [(row["model"], row["scale"], row["input"]) for row in rows] == [
        (tiny_path.name, 2, 24),
        (tiny_path.name, 3.5, 14),
    ]
    for row in rows:
        assert row["flop"] == TINY_FLOP * row["input"] ** 2
        assert row["gaussians"] == 4 * row["input"] ** 2
        assert row["weights"] == "trained"
        assert min(row["network_ms"], row["rasterizer_ms"], row["total_ms"]) > 0
        assert row["pairs_per_s"] == pytest.approx(row["pairs"] / row["rasterizer_ms"] * 1e3)
        efficiency = row["flop"] / row["network_ms"] * 1e3 / data["ceilings"]["matmul_flop_per_s"]
        assert row["network_efficiency"] == pytest.approx(efficiency)
        assert not row.keys() & {"encoder_ms", "graph_ms", "paper_a100_ms"}

    with table.open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert read == [{key: str(value) for key, value in row.items()} for row in rows]
    with Image.open(plot) as image:
        image.load()
        assert min(image.size) > 500
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10


def test_tables_for_people(bench: Bench, tiny_path: Path, tmp_path: Path) -> None:
    result = bench("--scales", "2", "--plot", tmp_path / "times.svg")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith(f"{tiny_path.name} ×2: ")  # printed as soon as it was measured
    lines = result.stdout.splitlines()
    assert "medians of 2 by wall clock" in lines[0]
    row = next(line for line in lines if line.startswith(tiny_path.name))
    assert "×2" in row
    assert "encoder" not in result.stdout
    assert "A100" not in result.stdout
    assert "TFLOP/s" in result.stdout
    assert ElementTree.parse(tmp_path / "times.svg").getroot().tag.endswith("svg")


def test_rasterizers_for_people_and_programs(bench: Bench, tmp_path: Path) -> None:
    table, plot = tmp_path / "t.csv", tmp_path / "t.PNG"
    result = bench("--scales", "2", "--rasterizer", "--csv", table, "--plot", plot)
    assert result.exit_code == 0, result.output
    assert "processor time" in result.stdout
    assert "published" not in result.stdout
    for name in ("picture", "shuffled", "torch"):
        assert name in result.stdout
    with table.open(newline="", encoding="utf-8") as file:
        assert [row["backend"] for row in csv.DictReader(file)] == ["cpu", "cpu", "torch"]
    with Image.open(plot) as image:
        image.load()
    rows = rows_of(bench("--scales", "2", "--rasterizer", "--json"))
    assert [row["order"] for row in rows] == ["picture", "shuffled", "picture"]


def test_a_picture_of_the_users(bench: Bench, photo: Photo) -> None:
    own = photo("own.png", size=(90, 70))
    result = bench("--scales", "2", "--image", own, "--json")
    assert json.loads(result.stdout)["protocol"]["picture"] == "own.png"
    other = rows_of(bench("--scales", "2", "--json"))
    assert rows_of(result)[0]["pairs"] != other[0]["pairs"]


def test_random_weights_are_not_passed_off_as_trained() -> None:
    subject = small_gsasr()
    row = pipeline.measure(subject, Case.of(2, SETTING, 12), SETTING)
    row = dataclasses.replace(row, paper_a100_ms=1573, paper_a100_mb=13367, graph_failure="no such luck")
    report = TimingReport.of(["gsasr-edsr"], [2], SETTING, [row])
    text = report.text()
    assert "gsasr-edsr *" in text
    assert "random weights" in text
    assert all(entry in text for entry in ("paper, A100", "1573", "13367", "no such luck"))
    assert report.data()["rows"][0]["weights"] == "random"
    assert any("random weights" in note for note in report.data()["notes"])


def test_imported_weights_are_trained_ones(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSRCLI_HOME", str(tmp_path / "home"))
    Store().import_checkpoint(tiny_path, "mine")
    assert (subject := Subject.load("mine", SETTING.device)).weights == "trained"
    assert len(subject.model.state_dict()) == len(load_model(tiny_path).state_dict())
    with pytest.raises(ModelError, match="'mein'") as raised:
        Subject.check("mein")
    assert "mine" in str(raised.value.hint)


def test_each_model_is_timed_in_the_precision_of_gsr_upscale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsrcli.runtime.devices._has_bfloat16", lambda device: True)
    config = {"blocks": 1, "width": 8}
    monkeypatch.setattr("gsrcli.benchmark.plan.build", lambda name: build(name, config))
    subject = Subject.load("gaussiansr-edsr", SETTING.device)
    assert subject.dtype == Upscaler.load(subject.model).dtype == torch.float32
    assert Subject.load("gsasr-lite", SETTING.device).dtype == torch.bfloat16


def test_the_same_random_weights_every_time() -> None:
    first, second = (Subject.load("gsasr-edsr-paper", SETTING.device) for _ in range(2))
    assert first.weights == "random"
    state = second.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in first.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in first.model.parameters())


def test_trained_weights_are_used_if_there_are_any() -> None:
    assert Subject.load("gsasr-lite", SETTING.device).weights == "trained"


def test_large_networks_are_not_timed_on_a_cpu_by_default() -> None:
    gpu = torch.device("cuda")
    assert benchmark.default_models("pipeline", SETTING.device) == ("gsasr-lite",)
    assert benchmark.default_models("pipeline", gpu) == ("gsasr-edsr", "gsasr-rdn", "gsasr-lite")
    assert benchmark.default_models("rasterizer", gpu) == ("gsasr-edsr", "gsasr-lite")


# Failures


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (("--models", "gsasr-lit"), 1, "no model called 'gsasr-lit'", "gsasr-lite"),
        (("--models", "gsasr-lite,gsasr-esdr"), 1, "no model called 'gsasr-esdr'", "gsasr-edsr"),
        (("--scales", "2,fourfold"), 2, "invalid scale 'fourfold'", "--scales 2,3,4.5"),
        (("--scales", "0.5"), 2, "from 1 up", ""),
        (("--scales", "nan"), 2, "from 1 up", ""),
        (("--scales", "100"), 2, "is too large for a side", "--side"),
        (("--plot", "times.gif"), 2, "times.gif", ".png or .svg"),
        (("--csv", "nowhere/to/be/found.csv"), 2, "found.csv", "nowhere"),
        (("--image", "nowhere.png", "--scales", "2"), 1, "nowhere.png", ""),
        (("--device", "abacus"), 2, "abacus", "--device cpu"),
    ],
)
def test_invalid_arguments_are_refused(
    bench: Bench, arguments: tuple[str, ...], code: int, message: str, hint: str
) -> None:
    result = bench(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert hint in result.stderr
    assert "unexpected" not in result.stderr
    assert " ms" not in result.stderr  # nothing was timed first
    assert result.stdout == ""


def test_a_plot_without_matplotlib_is_refused_before_anything_is_timed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = bench("--plot", tmp_path / "times.png", "--scales", "2")
    assert result.exit_code == 2
    assert "pip install 'gsrcli[plot]'" in result.stderr
    assert "×2" not in result.stderr


def test_scales() -> None:
    assert parse_scales("2, 3,4.5", 720) == (2, 3, 4.5)
    with pytest.raises(UsageError):
        parse_scales("", 720)
    with pytest.raises(UsageError):
        parse_scales(f"2,{math.inf}", 720)


@pytest.mark.parametrize(
    "shortage",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory: you tried"), MemoryError()],
)
def test_cases_that_exhaust_memory_are_left_out(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, shortage: Exception
) -> None:
    measure = benchmark.measure

    def short_of_memory(subject: Subject, case: Case, setting: Setting) -> list[object]:
        if case.scale == 2:
            raise shortage
        return [*measure(subject, case, setting)]

    monkeypatch.setattr(benchmark, "measure", short_of_memory)
    with pytest.warns(RuntimeWarning, match="×2 is left out: memory ran out"):
        found = dict(benchmark.run([str(tiny_path)], [2, 3], SETTING))
    assert [len(rows) for rows in found.values()] == [0, 1]
    with pytest.raises(GsrError, match="nothing could be measured"):
        TimingReport.of([str(tiny_path)], [2], SETTING, [])


@pytest.mark.skipif(sys.platform == "win32", reason="needs sh")
def test_a_driver_that_does_not_answer_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "nvidia-smi"
    broken.write_text("#!/bin/sh\necho no devices were found\nexit 9\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    facts = environment(torch.device("cuda"))
    assert facts["device"] == "a GPU"
    assert "driver" not in facts


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT to send")
def test_ctrl_c_leaves_at_once_and_nothing_behind(gsr_process: Process, tiny_path: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    scales = ",".join(["2"] * 2000)
    options = ("--models", tiny_path, "--scales", scales, "--side", 48, "--repeats", 1, "--device", "cpu")
    process = gsr_process("bench", *options, "--threads", 1, "--csv", table)
    assert process.stderr is not None
    assert "×2" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.endswith("error: interrupted\n")
    assert "Traceback" not in err
    assert not table.exists()


def test_help_needs_no_torch() -> None:
    code = (
        "import runpy, sys\nsys.argv = ['gsr', 'bench', '--help']\n"
        "try:\n    runpy.run_module('gsrcli', run_name='__main__')\nexcept SystemExit as e:\n    assert not e.code\n"
        "assert 'gsrcli.cli.bench' in sys.modules\n"
        "assert not sys.modules.keys() & {'torch', 'numpy', 'PIL', 'matplotlib'}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--rasterizer" in done.stdout


# On a GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_everything_on_a_gpu(gsr: Callable[..., Result]) -> None:
    options = ("bench", "--device", "cuda", "--repeats", 2, "--side", 192, "--scales", "4", "--json")
    models = ("--models", "gsasr-lite,gsasr-edsr")
    for row in rows_of(gsr(*options, *models)):
        assert "graph_failure" not in row
        assert row["graph_ms"] > 0
        assert row["memory_bytes"] > 0
        assert 0 < row["network_efficiency"] < 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        rows = rows_of(gsr(*options, *models, "--rasterizer"))
    assert [row["backend"] for row in rows] == 2 * ["cuda", "cuda", "published", "torch"]
    for row in rows:
        assert row["error"] < 0.02
        assert row["forward_over_published"] > 0
