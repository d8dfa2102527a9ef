"""Times models from LR picture to enlargement, untiled and in memory: encoder, decoder, rasterizer, and the total."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from gsrcli.benchmark.plan import PAPER_A100, SIDE, Case, Setting, Subject
from gsrcli.benchmark.work import Floors, count_pairs
from gsrcli.gaussians import Gaussians
from gsrcli.models.render import render
from gsrcli.runtime.devices import autocast
from gsrcli.runtime.memory import peak_memory
from gsrcli.runtime.timing import Clock, Interval, Mark, Timing, seconds_between

__all__ = ["PipelineMeasurement", "count_flop", "measure"]

_WARM_UP = 2


@dataclass(frozen=True)
class PipelineMeasurement:
    """The times of one model at one scale. Unknown and absent values are None.

    Attributes:
        model: name of the model.
        weights: trained or random.
        precision: precision of the network.
        scale: requested scale.
        input: side of the LR picture in pixels, padded to the model's multiple.
        output: side of the enlargement in pixels.
        encoder_ms: time of the network's encoder, if the model has one.
        decoder_ms: time from the encoder's output to the Gaussians.
        network_ms: time from picture to Gaussians.
        rasterizer_ms: time from Gaussians to the enlargement, including the bicubic base.
        total_ms: time from picture to enlargement, measured separately.
        graph_ms: time of the network replayed as a CUDA graph.
        graph_failure: why the network could not be captured as a CUDA graph.
        memory_bytes: peak memory; see :func:`gsrcli.runtime.memory.peak_memory`.
        gaussians: number of Gaussians drawn.
        pairs: (Gaussian, pixel) pairs that must be drawn; see :func:`gsrcli.benchmark.work.count_pairs`.
        pairs_per_s: pairs drawn per second of rasterizer_ms.
        flop: FLOP of the network; a multiply-add counts as two.
        network_efficiency: the network's FLOP/s as a fraction of a large matrix product's in the same precision.
        traffic_floor_ms: least time of drawing by memory traffic; see :class:`gsrcli.benchmark.work.Floors`.
        arithmetic_floor_ms: least time of drawing by arithmetic.
        paper_a100_ms: the paper's time for this model on an A100.
        paper_a100_mb: the paper's memory for this model on an A100.
    """

    model: str
    weights: str
    precision: str
    scale: float
    input: int
    output: int
    encoder_ms: Timing | None
    decoder_ms: Timing | None
    network_ms: Timing
    rasterizer_ms: Timing
    total_ms: Timing
    graph_ms: Timing | None
    graph_failure: str | None
    memory_bytes: int | None
    gaussians: int
    pairs: int
    pairs_per_s: float
    flop: int
    network_efficiency: float | None
    traffic_floor_ms: float
    arithmetic_floor_ms: float | None
    paper_a100_ms: int | None
    paper_a100_mb: int | None

    @property
    def summary(self) -> str:
        return f"{self.total_ms.median:.4g} ms"


@torch.inference_mode()
def measure(subject: Subject, case: Case, setting: Setting) -> PipelineMeasurement:
    """Time one model on one picture."""
    model, clock = subject.model, Clock(setting.device)
    scale = torch.tensor([case.ratio], device=setting.device)

    def network() -> Gaussians:
        with autocast(setting.device, subject.dtype):
            return model(case.padded, scale)

    def draw(field: Gaussians) -> Tensor:
        with autocast(setting.device, subject.dtype):
            return render(model, field, case.image, case.size)

    field, flop = count_flop(network)
    count, pairs = len(field), count_pairs(model.seen(field, case.ratio), case.ratio, case.size)
    floors = Floors.of(field, pairs, case.size, setting.ceilings)
    del field
    memory = peak_memory(lambda: draw(network()), setting.device)
    stages, total = _take_turns(model, network, draw, clock, setting.repeats)
    graph, failure = _replayed(network, clock, setting.repeats) if setting.device.type == "cuda" else (None, None)
    network_s, rasterizer_s = (stages[name].median / 1e3 for name in ("network", "rasterizer"))
    comparable = subject.upscaler.precision == setting.ceilings.precision
    paper = PAPER_A100.get(case.scale) if _is_published(subject, case) else None
    return PipelineMeasurement(
        model=subject.name,
        weights=subject.weights,
        precision=subject.upscaler.precision,
        scale=case.scale,
        input=case.padded.shape[-1],
        output=case.size.height,
        encoder_ms=stages.get("encoder"),
        decoder_ms=stages.get("decoder"),
        network_ms=stages["network"],
        rasterizer_ms=stages["rasterizer"],
        total_ms=total,
        graph_ms=graph,
        graph_failure=failure,
        memory_bytes=memory,
        gaussians=count,
        pairs=pairs,
        pairs_per_s=pairs / rasterizer_s,
        flop=flop,
        network_efficiency=flop / network_s / setting.ceilings.matmul_flop_per_s if comparable else None,
        traffic_floor_ms=floors.traffic,
        arithmetic_floor_ms=floors.arithmetic,
        paper_a100_ms=paper[0] if paper else None,
        paper_a100_mb=paper[1] if paper else None,
    )


def _is_published(subject: Subject, case: Case) -> bool:
    """Return whether the paper timed this case."""
    return subject.name.startswith("gsasr-edsr") and case.size == (SIDE, SIDE)


def count_flop(network: Callable[[], Gaussians]) -> tuple[Gaussians, int]:
    """Run a network, and return its field and the FLOP of its matrix products and convolutions."""
    # Attention on the CPU uses a separate operator, which torch does not count.
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop}
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        field = network()
    return field, counter.get_total_flops()


def _attention_flop(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _take_turns(
    model: nn.Module,
    network: Callable[[], Gaussians],
    draw: Callable[[Gaussians], Tensor],
    clock: Clock,
    repeats: int,
) -> tuple[dict[str, Timing], Timing]:
    """Return the times of the stages and of whole runs, which take turns, each starting from an idle device."""
    runs: list[dict[str, Interval]] = []
    for _ in range(repeats + _WARM_UP):
        clock.wait()
        before = clock.mark()
        draw(network())
        after = clock.mark()
        clock.wait()
        with _watched(model, clock) as encoder:
            begin = clock.mark()
            field = network()
            between = clock.mark()
        draw(field)
        stages = {"total": (before, after), "network": (begin, between), "rasterizer": (between, clock.mark())}
        if encoder:
            stages |= {"encoder": (encoder[0], encoder[1]), "decoder": (encoder[1], between)}
        runs.append(stages)
    timings = {stage: Timing.of([seconds_between(*stages[stage]) for stages in runs[_WARM_UP:]]) for stage in runs[0]}
    return timings, timings.pop("total")


@contextmanager
def _watched(model: nn.Module, clock: Clock) -> Iterator[list[Mark]]:
    """Collect marks before and after the submodule called encoder, if the model has one."""
    marks: list[Mark] = []
    hooks = []
    for name, module in model.named_children():
        if name == "encoder":
            hooks.append(module.register_forward_pre_hook(lambda *_: marks.append(clock.mark())))
            hooks.append(module.register_forward_hook(lambda *_: marks.append(clock.mark())))
    try:
        yield marks
    finally:
        for hook in hooks:
            hook.remove()


def _replayed(network: Callable[[], Gaussians], clock: Clock, repeats: int) -> tuple[Timing | None, str | None]:
    """Return the time of the network as a CUDA graph, or the reason why it cannot be captured."""
    try:
        with torch.cuda.device(clock.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # the libraries' set-up cannot be captured
                for _ in range(_WARM_UP):
                    network()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                field = network()
            timing = Timing.of(clock.samples(graph.replay, repeats))
            del field  # it lies in the graph's memory
            return timing, None
    except RuntimeError as error:
        cause: BaseException = error
        while cause.__context__ is not None:  # the cause of the failure, not its consequences
            cause = cause.__context__
        return None, str(cause).strip().partition("\n")[0]
