"""The step: its gradients against plain autograd of the whole loss, its average, and its optimizers' updates."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.checkpoints import TINY
from support.released_files import SMALL
from torch import Tensor

from gsrcli.models import Model, build
from gsrcli.models.gaussiansr import GaussianSRConfig
from gsrcli.models.gsasr import GSASR
from gsrcli.models.render import render
from gsrcli.rasterizer import View, reference
from gsrcli.resize import bicubic
from gsrcli.runtime.devices import channels_last
from gsrcli.size import Size
from gsrcli.training.config import TrainConfig
from gsrcli.training.dataset import PictureBank
from gsrcli.training.patches import Pairs, PatchSampler, Scales
from gsrcli.training.step import STAGES, Step

CONFIG = TrainConfig(batch=4, groups=2, patch=8, warmup=0, ema=0.75, clip=1e6, device="cpu", precision="float32")
PATCH = 8
SIZES = ((12, 15), (23, 20))  # of two groups, in HR pixels


def lite() -> Model:
    """Return a model with a random head, since a newly initialised one draws nothing."""
    model = build("gsasr-lite", TINY)
    torch.nn.init.normal_(model.get_parameter("head.weight"), std=0.1)
    return model


def gsasr() -> Model:
    return GSASR(dataclasses.replace(SMALL, cross_layers=1, self_layers=2))


def gaussiansr() -> Model:
    """Return a model that draws with weights of its own: its decoder works on upsampled features."""
    return build("gaussiansr-edsr", dataclasses.asdict(GaussianSRConfig(blocks=1, width=16)))


MODELS: dict[str, Callable[[], Model]] = {"gsasr-lite": lite, "gsasr": gsasr, "gaussiansr": gaussiansr}
each_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread, because such small operations take longer on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def model_of(name: str) -> Model:
    torch.manual_seed(0)
    return channels_last(MODELS[name]().train())


def batch(seed: int = 0, sizes: Sequence[tuple[int, int]] = SIZES, counts: Sequence[int] = (2, 2)) -> list[Pairs]:
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for count, size in zip(counts, sizes, strict=True):
        high = F.interpolate(torch.rand(count, 3, 5, 5, generator=generator), size, mode="bicubic").clamp(0, 1)
        groups.append(Pairs(bicubic.downscale_rounded(high, Size(PATCH, PATCH)), high))
    return groups


def take(step: Step, groups: Sequence[Pairs], rate: float = 1.0, seed: int = 5) -> None:
    torch.manual_seed(seed)  # for the noise that a model draws
    step.take(groups, rate)


def plain_loss(model: Model, groups: Sequence[Pairs], loss: str = "l1", seed: int = 5) -> Tensor:
    """Compute the loss of a whole batch in one expression (network, drawing and base), not in stages."""
    low = torch.cat([pairs.low for pairs in groups])
    scale = torch.cat([low.new_tensor([pairs.scale]).expand(len(pairs.low), 2) for pairs in groups])
    torch.manual_seed(seed)
    field = model(low, scale)
    total = low.new_zeros(())
    begin = 0
    for pairs in groups:
        end = begin + len(pairs.low)
        drawn = render(model, field[begin:end], pairs.low, Size(pairs.high.shape[2], pairs.high.shape[3]))
        difference = drawn - pairs.high
        total = total + (difference.abs() if loss == "l1" else difference.square()).mean() / len(groups)
        begin = end
    return total


def plain_gradients(model: Model, groups: Sequence[Pairs], loss: str = "l1") -> dict[str, Tensor]:
    model = copy.deepcopy(model)
    plain_loss(model, groups, loss).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Return each tensor's error relative to the expected norm, or to a thousandth of the norm of all tensors."""
    assert set(found) == set(expected)
    whole = torch.cat([tensor.flatten() for tensor in expected.values()]).norm()
    assert whole > 0
    for name, tensor in expected.items():
        apart = (found[name].to(tensor.dtype) - tensor).norm()
        assert apart <= tolerance * max(tensor.norm(), whole * 1e-3), (name, apart / tensor.norm())


# ---- the gradient --------------------------------------------------------------------------------------


@each_model
@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_the_gradient_is_that_of_the_whole_loss(name: str, loss: Any) -> None:
    model, groups = model_of(name), batch()
    expected = plain_gradients(model, groups, loss)
    expected_loss = plain_loss(copy.deepcopy(model), groups, loss).item()
    step = Step(model, dataclasses.replace(CONFIG, loss=loss), torch.float32)
    take(step, groups)
    found = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    assert_close(found, expected, 1e-3)
    assert step.read() == (pytest.approx(expected_loss, rel=1e-5), True)


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_the_gradient_is_that_of_float64(loss: Any) -> None:
    """Compare with the network and its drawing in float64, in plain torch."""
    model, groups = model_of("gsasr-lite"), batch()
    exact = copy.deepcopy(model).double()
    rounded = [Pairs(pairs.low.double(), pairs.high.double()) for pairs in groups]
    expected = _gradients_in_float64(exact, rounded, loss)
    take(Step(model, dataclasses.replace(CONFIG, loss=loss), torch.float32), groups)
    found = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    assert_close(found, expected, 5e-3)


def _gradients_in_float64(model: Model, groups: Sequence[Pairs], loss: str) -> dict[str, Tensor]:
    low = torch.cat([pairs.low for pairs in groups])
    features = model.stem((low - 0.5) * 2)  # type: ignore[operator]
    features = features + model.trunk(features)  # type: ignore[operator]
    hidden = F.silu(model.expand(features))  # type: ignore[operator]
    field = model._gaussians(model.head(hidden))  # type: ignore[operator]
    begin = 0
    for pairs in groups:
        end = begin + len(pairs.low)
        seen = model.seen(field[begin:end], pairs.scale)
        size = Size.of_tensor(pairs.high)
        drawn = reference.rasterize(seen, View(size, pairs.scale))
        difference = drawn + bicubic.resize(pairs.low, size) - pairs.high
        total = (difference.abs() if loss == "l1" else difference.square()).mean() / len(groups)
        total.backward(retain_graph=end < len(low))
        begin = end
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@each_model
def test_every_weight_that_matters_learns(name: str) -> None:
    model = model_of(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    step = Step(model, dataclasses.replace(CONFIG, weight_decay=0.0), torch.float32)
    for seed in range(2):
        take(step, batch(seed))
    assert [key for key, tensor in model.named_parameters() if torch.equal(tensor, before[key])] == []


@each_model
def test_groups_of_several_sizes_weigh_the_same(name: str) -> None:
    """The loss is the mean over three groups, however large their images are."""
    model, groups = model_of(name), batch(1, ((9, 9), (16, 12), (40, 44)), (1, 1, 1))
    losses = [plain_loss(copy.deepcopy(model), [pairs]).item() for pairs in groups]
    step = Step(model, CONFIG, torch.float32)
    expected = plain_gradients(model, groups)
    take(step, groups)
    found = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    assert_close(found, expected, 1e-3)
    if name != "gaussiansr":  # which draws noise for each picture
        assert step.read()[0] == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_in_bfloat16_the_gradient_points_the_same_way() -> None:
    model, groups = model_of("gsasr-lite"), batch()
    expected = plain_gradients(model, groups)
    take(Step(model, CONFIG, torch.bfloat16), groups)
    one = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    other = torch.cat([tensor.flatten() for tensor in expected.values()])
    assert F.cosine_similarity(one, other, dim=0) > 0.98
    assert all(p.dtype == torch.float32 for p in model.parameters())


# ---- the update ----------------------------------------------------------------------------------------


@each_model
def test_weights_move_as_adamw_moves_them(name: str) -> None:
    """Compare with torch's plain implementation, one weight at a time, from plain gradients."""
    config = dataclasses.replace(CONFIG, optimizer="adamw", learning_rate=2e-3, weight_decay=0.1)
    model, groups = model_of(name), batch()
    step = Step(model, config, torch.float32)
    assert set(step.optimizers) == {"adamw"}
    for rate in (1.0, 0.5, 0.25):
        before = copy.deepcopy(model)
        moments = {key: tensor.clone() for key, tensor in step.named_states()}
        take(step, groups, rate)
        gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        assert_close(gradients, plain_gradients(before, groups), 1e-3)
        for key, parameter in before.named_parameters():
            plain = torch.optim.AdamW(
                [parameter], lr=rate * 2e-3, betas=(0.9, 0.99), weight_decay=0.1, foreach=False, fused=False
            )
            for entry in ("step", "exp_avg", "exp_avg_sq"):
                if f"adamw.{key}.{entry}" in moments:
                    plain.state[parameter][entry] = moments[f"adamw.{key}.{entry}"]
            parameter.grad = gradients[key].clone()
            plain.step()
            torch.testing.assert_close(model.get_parameter(key), parameter, atol=1e-6, rtol=1e-5)


def test_muon_takes_the_trunk_and_adamw_the_rest() -> None:
    model = model_of("gsasr-lite")
    step = Step(model, CONFIG, torch.float32)
    take(step, batch())
    owners = {key.rpartition(".")[0].partition(".") for key, _ in step.named_states()}
    assert {name for kind, _, name in owners if kind == "muon"} == {
        name for name, _ in model.named_parameters() if name.startswith("trunk")
    }
    assert sorted(name for _, _, name in owners) == sorted(name for name, _ in model.named_parameters())


def test_a_gradient_longer_than_clip_is_shortened() -> None:
    model, groups = model_of("gsasr-lite"), batch()
    expected = plain_gradients(model, groups)
    norm = torch.cat([tensor.flatten() for tensor in expected.values()]).norm().item()
    take(Step(model, dataclasses.replace(CONFIG, clip=norm / 4), torch.float32), groups)
    found = {key: 4 * p.grad for key, p in model.named_parameters() if p.grad is not None}
    assert_close(found, expected, 1e-3)


@each_model
def test_the_average_is_the_running_mean_of_the_weights(name: str) -> None:
    model = model_of(name)
    step = Step(model, CONFIG, torch.float32)
    mean = {key: p.detach().double() for key, p in model.named_parameters()}
    for seed in range(4):
        take(step, batch(seed))
        mean = {key: 0.75 * mean[key] + 0.25 * p.detach().double() for key, p in model.named_parameters()}
    assert not step.averaged.training
    for key, parameter in step.averaged.named_parameters():
        torch.testing.assert_close(parameter.double(), mean[key], atol=1e-6, rtol=1e-6)
        assert not parameter.requires_grad
    assert any(not torch.equal(p, model.get_parameter(key)) for key, p in step.averaged.named_parameters())


@each_model
def test_a_gradient_that_is_not_finite_is_reported(name: str) -> None:
    """Nothing is drawn where a field is not finite, so the loss may be finite nevertheless."""
    model = model_of(name)
    step = Step(model, CONFIG, torch.float32)
    take(step, batch())
    assert step.read()[1]
    with torch.no_grad():
        next(iter(_kernels(model))).fill_(torch.nan)
    for seed in (1, 2):
        take(step, batch(seed))
    assert not step.read()[1]


def _kernels(model: Model) -> Iterator[Tensor]:
    return (parameter for parameter in model.parameters() if parameter.dim() == 4)


@each_model
@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_a_loss_that_is_not_finite_is_reported(name: str, loss: Any) -> None:
    step = Step(model_of(name), dataclasses.replace(CONFIG, loss=loss), torch.float32)
    take(step, batch())
    groups = batch(1)
    groups[1].high[0, 0, 3, 3] = torch.nan
    take(step, groups)
    take(step, batch(2))
    told, finite = step.read()
    assert not (finite and math.isfinite(told))


def test_a_reading_is_the_mean_of_the_steps_since_the_last() -> None:
    config = dataclasses.replace(CONFIG, learning_rate=1e-9, muon_rate=1e-9)  # so that losses stay
    model = model_of("gsasr-lite")
    step = Step(model, config, torch.float32)
    losses = [plain_loss(model, batch(seed)).item() for seed in range(3)]
    take(step, batch(0))
    take(step, batch(1))
    assert step.read()[0] == pytest.approx((losses[0] + losses[1]) / 2, rel=1e-4)
    take(step, batch(2))
    assert step.read()[0] == pytest.approx(losses[2], rel=1e-4)
    assert step.read() == (0.0, True)


# ---- going on ------------------------------------------------------------------------------------------


@each_model
def test_a_restored_step_continues_identically(name: str) -> None:
    """Tensors are in the memory layout of files, not in the network's."""
    model = model_of(name)
    step = Step(model, CONFIG, torch.float32)
    for seed in range(2):
        take(step, batch(seed))
    states = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in step.named_states()}
    other = Step(copy.deepcopy(model), CONFIG, torch.float32)
    other.averaged.load_state_dict(step.averaged.state_dict())
    other.load_states(states)
    for seed in range(2, 4):
        take(step, batch(seed))
        take(other, batch(seed))
    for one, two in ((model, other.model), (step.averaged, other.averaged)):
        for key, tensor in one.state_dict().items():
            assert torch.equal(tensor, two.state_dict()[key]), key


def test_states_of_another_network_are_refused() -> None:
    step = Step(model_of("gsasr-lite"), CONFIG, torch.float32)
    for name in ("adamw.nothing.exp_avg", "sgd.stem.weight.exp_avg"):
        with pytest.raises(KeyError):
            step.load_states({name: torch.zeros(1)})


def test_stages_are_timed_only_on_request() -> None:
    from gsrcli.runtime.timing import StageTimer

    step = Step(model_of("gsasr-lite"), CONFIG, torch.float32)
    step.seconds = StageTimer(STAGES)
    take(step, batch())
    spent = step.seconds.read()
    assert tuple(spent) == STAGES
    assert all(seconds > 0 for stage, seconds in spent.items() if stage != "crops")


# ---- on a GPU ------------------------------------------------------------------------------------------


def on_gpu(test: Any) -> Any:
    test = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")(test)
    return pytest.mark.gpu(test)


def stream(degradation: Any = "bicubic") -> PatchSampler:
    """Return a sampler on the GPU, whose batches have ever new scales."""
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.randint(256, (3, 90, 70), dtype=torch.uint8, generator=generator) for _ in range(2)]
    bank = PictureBank(pictures, torch.device("cuda"))
    return PatchSampler(bank, PATCH, Scales(1.1, 4.0, 8.0, 0.2, 0.2), 2, degradation, seed=1)


@on_gpu
@pytest.mark.parametrize("name", ["gsasr-lite", "gsasr"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_steps_replayed_from_graphs_equal_those_taken_one_operation_at_a_time(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(CONFIG, clip=1.0, learning_rate=1e-4, muon_rate=1e-3)
    start, crops = model_of(name).cuda(), stream()
    eager, graphed = (Step(copy.deepcopy(start), config, dtype) for _ in range(2))
    monkeypatch.setattr(eager, "_is_to_capture", lambda: False)
    for number in range(10):
        for step in (eager, graphed):
            take(step, crops.batch(number, 4), 1 - number / 20)
        one, other = eager.read(), graphed.read()
        assert one[1]
        assert other == (pytest.approx(one[0], rel=1e-3 if dtype == torch.float32 else 1e-2), True)
    assert eager._graphs is None
    assert graphed._graphs is not None
    before = dict(start.named_parameters())
    for what in ("model", "averaged"):
        first, second = (dict(getattr(step, what).named_parameters()) for step in (eager, graphed))
        moved = torch.cat([(first[key] - before[key]).flatten() for key in before])
        apart = torch.cat([(first[key] - second[key]).flatten() for key in before])
        assert moved.norm() > 0
        assert apart.norm() < (0.02 if dtype == torch.float32 else 0.2) * moved.norm()
    states = dict(graphed.named_states())
    assert set(states) == {key for key, _ in eager.named_states()}
    assert all(tensor.device.type == "cuda" for tensor in states.values())


@on_gpu
@pytest.mark.parametrize("degradation", ["bicubic", "photo"])
@pytest.mark.parametrize("name", ["gsasr-lite", "gsasr"])
def test_the_host_waits_for_nothing_once_a_step_is_warm(name: str, degradation: Any) -> None:
    """Covers everything from the crops to the average, at new sizes; only reading the loss waits."""
    step, crops = Step(model_of(name).cuda(), CONFIG, torch.bfloat16), stream(degradation)
    for number in range(6):
        take(step, crops.batch(number, 4))
    assert step._graphs is not None
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(6, 16):
            take(step, crops.batch(number, 4))
        with pytest.raises(RuntimeError, match="synchroniz"):
            step.read()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert step.read()[1]


@on_gpu
@each_model
def test_the_gradient_on_a_gpu_is_that_on_the_cpu(name: str) -> None:
    model, groups = model_of(name).eval(), batch()  # which draws no noise
    expected = plain_gradients(model, groups)
    step = Step(model.cuda(), CONFIG, torch.float32)
    take(step, [Pairs(pairs.low.cuda(), pairs.high.cuda()) for pairs in groups])
    found = {key: p.grad.cpu() for key, p in model.named_parameters() if p.grad is not None}
    assert_close(found, expected, 1e-2)


@on_gpu
def test_a_step_restored_on_a_gpu_continues_as_graphs() -> None:
    config = dataclasses.replace(CONFIG, learning_rate=1e-4, muon_rate=1e-3)
    step, crops = Step(model_of("gsasr-lite").cuda(), config, torch.float32), stream()
    for number in range(6):
        take(step, crops.batch(number, 4))
    step.read()
    states = {key: tensor.cpu().contiguous() for key, tensor in step.named_states()}
    other = Step(copy.deepcopy(step.model), config, torch.float32)
    other.load_states(states)
    for number in range(6, 12):
        for one in (step, other):
            take(one, crops.batch(number, 4))
        losses = step.read()[0], other.read()[0]
        assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert other._graphs is not None
