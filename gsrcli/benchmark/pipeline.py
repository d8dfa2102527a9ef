"""From LR picture to enlargement, in memory and whole: encoder, decoder, rasterizer, and all of it."""

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
    """What one model did at one scale. Where something is not known or not there it is None.

    Attributes:
        model: its name.
        weights: trained or random.
        precision: of the network's arithmetic.
        scale: as asked for.
        input: side of the LR picture in pixels, padded to the model's multiple.
        output: side of the enlargement.
        encoder_ms: of the network's encoder, where the model has one.
        decoder_ms: from there to the Gaussians.
        network_ms: from picture to Gaussians.
        rasterizer_ms: from Gaussians to the enlargement, the bicubic base included.
        total_ms: from picture to enlargement, measured by itself.
        graph_ms: the network's, replayed as a CUDA graph.
        graph_failure: why there is no such graph, where there should be one.
        memory_bytes: the peak; see :func:`gsrcli.runtime.memory.peak_memory`.
        gaussians: how many are drawn.
        pairs: (Gaussian, pixel) pairs that must be drawn; see :func:`gsrcli.benchmark.work.count_pairs`.
        pairs_per_s: drawn, by rasterizer_ms.
        flop: of the network, multiplications and additions counted apart.
        network_efficiency: FLOP a second of the network over those of a large matrix product, in the same arithmetic.
        traffic_floor_ms: the least that drawing can take; see :class:`gsrcli.benchmark.work.Floors`.
        arithmetic_floor_ms: likewise.
        paper_a100_ms: the paper's own time for this model, on an A100.
        paper_a100_mb: and its memory.
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
    """Whether the paper timed this."""
    return subject.name.startswith("gsasr-edsr") and case.size == (SIDE, SIDE)


def count_flop(network: Callable[[], Gaussians]) -> tuple[Gaussians, int]:
    """What a network returns, and the FLOP of its products and convolutions on the way."""
    # Attention on the CPU has an operator of its own, which torch does not count.
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
    """The times of the stages, and of whole runs, each from an idle device. They take turns."""
    spans: list[dict[str, Interval]] = []
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
        spans.append(stages)
    timings = {stage: Timing.of([seconds_between(*stages[stage]) for stages in spans[_WARM_UP:]]) for stage in spans[0]}
    return timings, timings.pop("total")


@contextmanager
def _watched(model: nn.Module, clock: Clock) -> Iterator[list[Mark]]:
    """Marks before and after the submodule called encoder, for the models that have one."""
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
    """The time of the network as a CUDA graph, or why it cannot be captured."""
    try:
        with torch.cuda.device(clock.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # the libraries' own preparations cannot be captured
                for _ in range(_WARM_UP):
                    network()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                field = network()
            timing = Timing.of(clock.samples(graph.replay, repeats))
            del field  # lies in the graph's memory until here
            return timing, None
    except RuntimeError as error:
        cause: BaseException = error
        while cause.__context__ is not None:  # what ended the capture, not what came of ending it
            cause = cause.__context__
        return None, str(cause).strip().partition("\n")[0]
