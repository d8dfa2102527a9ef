"""The training step, which runs entirely on the device.

Its stages follow each other without the host waiting: the network predicts a field; rasterizing it and comparing the
result gives the loss and the field's gradient; this is propagated back through the network; the weights and their
average are updated. On CUDA the network, its backward pass and the update are captured once and replayed as graphs;
cropping and drawing are not, because sizes change from step to step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from gsrcli.errors import UsageError
from gsrcli.gaussians import Gaussians
from gsrcli.models import Model
from gsrcli.models.render import with_base
from gsrcli.rasterizer import rasterize
from gsrcli.runtime.devices import autocast, send
from gsrcli.runtime.timing import StageTimer
from gsrcli.size import Size
from gsrcli.training.config import TrainConfig
from gsrcli.training.muon import Muon
from gsrcli.training.patches import Pairs

__all__ = ["STAGES", "Step"]

Stage = Literal["crops", "network", "drawing", "backward", "update"]
STAGES: tuple[Stage, ...] = ("crops", "network", "drawing", "backward", "update")
"""The stages of a step, in order; the first, making the batch, comes before :meth:`Step.take`."""

_EAGER_STEPS = 3  # before graphs are captured, so that everything initialised on first use is ready
_BETAS = (0.9, 0.99)


class Step:
    """A model, its average and its optimizers, and the training step.

    Attributes:
        model: the model, trained in place.
        averaged: a copy of the model with the running mean of its weights.
        optimizers: optimizers by name; each parameter belongs to one of them.
        seconds: time spent in each stage, or None to skip timing.
    """

    def __init__(self, model: Model, config: TrainConfig, dtype: torch.dtype) -> None:
        self.model = model
        self.averaged = copy.deepcopy(model).eval().requires_grad_(False)
        self.device = model.device
        self.seconds: StageTimer | None = None
        self._dtype = dtype
        self._clip = config.clip
        self._average = get_ema_multi_avg_fn(config.ema)
        self._difference = {"l1": F.l1_loss, "l2": F.mse_loss}[config.loss]
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizers, self._rates = _optimizers(model, config)
        self._sums = torch.zeros(3, device=self.device)  # losses, non-finite gradients, steps since the last reading
        # A model that draws with weights of its own needs gradients through its drawing, whose sizes vary.
        self._only_rasterizes = type(model).draw is Model.draw
        self._graphs: _Graphs | None = None
        self._taken = 0

    def take(self, groups: Sequence[Pairs], rate: float) -> None:
        """Take a step.

        Args:
            groups: the batch; the pairs of a group have the same size.
            rate: learning rate, as a share of its peak.
        """
        for tensor, highest in self._rates:
            tensor.fill_(rate * highest)
        low = torch.cat([pairs.low for pairs in groups]).contiguous(memory_format=torch.channels_last)
        scale = _scales_of(groups, self.device)
        with _tuned(self.device):
            if self._is_to_capture():
                self._graphs = _Graphs(self, low, scale)
            if self._graphs is None:
                self._take_eagerly(low, scale, groups)
            else:
                self._replay(self._graphs, low, scale, groups)
        self._taken += 1

    def read(self) -> tuple[float, bool]:
        """Return the mean loss since the last call and whether all gradients were finite; wait for the device."""
        losses, broken, steps = self._sums.tolist()
        self._sums.zero_()
        return losses / max(steps, 1), not broken

    def named_states(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the optimizers' state tensors, named ``optimizer.parameter.entry``."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        for kind, optimizer in self.optimizers.items():
            for parameter, state in optimizer.state.items():
                for entry, tensor in state.items():
                    yield f"{kind}.{names[parameter]}.{entry}", tensor

    def load_states(self, states: dict[str, Tensor]) -> None:
        """Load the optimizers' states from :meth:`named_states`.

        Raises:
            KeyError: the optimizer or parameter does not exist.
        """
        parameters = dict(self.model.named_parameters())
        for name, tensor in states.items():
            kind, _, rest = name.partition(".")
            parameter, _, entry = rest.rpartition(".")
            owner = parameters[parameter]
            tensor = tensor.to(owner.device)
            if tensor.shape == owner.shape:  # in the parameter's memory layout, which fused optimizers rely on
                tensor = torch.empty_like(owner).copy_(tensor)
            self.optimizers[kind].state[owner][entry] = tensor

    def _is_to_capture(self) -> bool:
        capturable = self.device.type == "cuda" and self._only_rasterizes
        return capturable and self._graphs is None and self._taken >= _EAGER_STEPS

    # ---- the stages

    def _take_eagerly(self, low: Tensor, scale: Tensor, groups: Sequence[Pairs]) -> None:
        for parameter in self._parameters:
            parameter.grad = None
        with self.timed("network"):
            field = self._predict(low, scale)
        with self.timed("drawing"):
            gradient = self._compare(field, groups)
        with self.timed("backward"):
            self._learn(field, gradient)
        with self.timed("update"):
            self._update()

    def _replay(self, graphs: _Graphs, low: Tensor, scale: Tensor, groups: Sequence[Pairs]) -> None:
        with self.timed("network"):
            field = graphs.predict(low, scale)
        with self.timed("drawing"):
            gradient = self._compare(field, groups)
        with self.timed("backward"):
            graphs.learn(gradient)
        with self.timed("update"):
            graphs.update()

    def _predict(self, low: Tensor, scale: Tensor) -> Gaussians:
        """Predict the field, with the model's footprint already applied if it only has to be rasterized."""
        with autocast(self.device, self._dtype):
            field = self.model(low, scale)
        return self.model.seen(field, (scale[:, :1], scale[:, 1:])) if self._only_rasterizes else field

    def _compare(self, field: Gaussians, groups: Sequence[Pairs]) -> list[Tensor]:
        """Draw the field, add the loss to the sums, and return its gradients for the field's four tensors."""
        gradients = []
        begin = 0
        for pairs in groups:
            count = pairs.low.shape[0]
            part = field[begin : begin + count].detach().map(Tensor.requires_grad_)
            begin += count
            with autocast(self.device, self._dtype):
                drawn = self._draw(part, pairs)
                loss = self._difference(with_base(self.model, drawn, pairs.low), pairs.high) / len(groups)
            loss.backward()
            self._sums[0] += loss.detach()
            gradients.append([tensor.grad for tensor in part.tensors])
        return [torch.cat(parts) for parts in zip(*gradients, strict=True)]

    def _draw(self, field: Gaussians, pairs: Pairs) -> Tensor:
        size = Size.of_tensor(pairs.high)
        if self._only_rasterizes:
            return rasterize(field, size, pairs.scale)
        return self.model.draw(field, Size.of_tensor(pairs.low), size)

    def _learn(self, field: Gaussians, gradient: Sequence[Tensor]) -> None:
        """Propagate the field's gradient to the weights, adding to gradients that come from drawing."""
        learned = [pair for pair in zip(field.tensors, gradient, strict=True) if pair[0].requires_grad]
        outputs, gradients = zip(*learned, strict=True)
        found = torch.autograd.grad(outputs, self._parameters, gradients, allow_unused=True)
        for parameter, one in zip(self._parameters, found, strict=True):
            if one is not None:
                parameter.grad = one if parameter.grad is None else parameter.grad + one

    def _update(self) -> None:
        norm = nn.utils.clip_grad_norm_(self._parameters, self._clip)
        self._sums[1] += ~norm.isfinite()
        self._sums[2] += 1
        for optimizer in self.optimizers.values():
            optimizer.step()
        with torch.no_grad():
            averaged, current = list(self.averaged.parameters()), list(self.model.parameters())
            self._average(averaged, current, torch.empty(0))  # an EMA does not depend on the number of steps
            for one, other in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
                one.copy_(other)

    def timed(self, name: Stage) -> AbstractContextManager[None]:
        """Add the time of a block of code to a stage, if steps are timed."""
        return self.seconds.of(name, self.device) if self.seconds else nullcontext()


class _Graphs:
    """Forward pass, backward pass and update as CUDA graphs, for LR batches of one shape."""

    def __init__(self, step: Step, low: Tensor, scale: Tensor) -> None:
        self._low, self._scale = low.clone(), scale.clone()
        for parameter in step._parameters:
            parameter.grad = None  # so that gradients are allocated in the graphs' own memory
        pool = torch.cuda.graph_pool_handle()
        torch.cuda.synchronize(step.device)
        fields: list[Gaussians] = []
        self._predicting = _captured(lambda: fields.append(step._predict(self._low, self._scale)), pool)
        self._field = fields[0]
        self._gradient = [torch.zeros_like(tensor) for tensor in self._field.tensors]
        self._learning = _captured(lambda: step._learn(self._field, self._gradient), pool)
        self._updating = _captured(step._update, pool)

    def predict(self, low: Tensor, scale: Tensor) -> Gaussians:
        """Return the field, which the next call overwrites.

        Raises:
            ValueError: the shape of the batch differs from the captured one.
        """
        if low.shape != self._low.shape:
            raise ValueError(f"captured for batches of {tuple(self._low.shape)}, not {tuple(low.shape)}")
        self._low.copy_(low)
        self._scale.copy_(scale)
        self._predicting.replay()
        return self._field

    def learn(self, gradient: Sequence[Tensor]) -> None:
        for mine, given in zip(self._gradient, gradient, strict=True):
            mine.copy_(given)
        self._learning.replay()

    def update(self) -> None:
        self._updating.replay()


def _captured(work: Callable[[], object], pool: Any) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        work()
    return graph


def _optimizers(
    model: Model, config: TrainConfig
) -> tuple[dict[str, torch.optim.Optimizer], list[tuple[Tensor, float]]]:
    """Return the optimizers by name, and the tensors of their learning rates with the peak of each."""
    trunk = model.trunk_weights() if config.optimizer != "adamw" else []
    if config.optimizer == "muon" and not trunk:
        raise UsageError(f"{config.model} does not support --optimizer muon", hint="use --optimizer adamw")
    chosen = set(trunk)
    rest = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter not in chosen]
    rate = torch.tensor(config.learning_rate, device=model.device)
    optimizers: dict[str, torch.optim.Optimizer] = {
        "adamw": torch.optim.AdamW(
            rest,
            lr=rate,
            betas=_BETAS,
            weight_decay=config.weight_decay,
            fused=True,
            capturable=model.device.type == "cuda",
        )
    }
    rates = [(rate, config.learning_rate)]
    if trunk:
        rate = torch.tensor(config.muon_rate, device=model.device)
        optimizers["muon"] = Muon(trunk, rate, weight_decay=config.weight_decay)
        rates.append((rate, config.muon_rate))
    return optimizers, rates


def _scales_of(groups: Sequence[Pairs], device: torch.device) -> Tensor:
    """Return the scales of all pairs, ``(B, 2)``, sent to the device without waiting."""
    scale = torch.cat([torch.tensor([pairs.scale]).expand(pairs.low.shape[0], 2) for pairs in groups])
    return send(scale, device)


@contextmanager
def _tuned(device: torch.device) -> Iterator[None]:
    """Let cuDNN choose its algorithms by timing, since the shapes of a step stay the same for hours."""
    usual = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = usual
