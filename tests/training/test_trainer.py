"""Training runs: the files they write, that they resume exactly, and that they learn."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.checkpoints import TINY, save_tiny, tiny_model
from torch import Tensor
from typer.testing import Result

from gsrcli.errors import GsrError, ModelError, PictureError, UsageError
from gsrcli.models import Model, build, config_of
from gsrcli.size import Size
from gsrcli.training import state as states
from gsrcli.training.config import TrainConfig
from gsrcli.training.muon import Muon
from gsrcli.training.patches import Pairs, PatchSampler
from gsrcli.training.state import RunState, read_state, write_state
from gsrcli.training.trainer import Progress, Trainer, resumed, start_from, train
from gsrcli.training.validation import mean_psnr_y
from gsrcli.weights.checkpoint import save_model, write_checkpoint
from gsrcli.weights.load import load_model

Gsr = Callable[..., Result]
Optimizer = type[torch.optim.Optimizer]
Process = Callable[..., "subprocess.Popen[str]"]

SHORT = TrainConfig(
    steps=6,
    batch=2,
    patch=16,
    warmup=2,
    decay=0.5,
    ema=0.9,
    scale_high=3.0,
    scale_far=4.0,
    held_out=1,
    validate_every=3,
    save_every=3,
    device="cpu",
    precision="float32",
    threads=1,
)


def tiny_build(name: str, config: dict[str, Any] | None = None) -> Model:
    return build(name, config or (TINY if name == "gsasr-lite" else None))


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make all models tiny."""
    monkeypatch.setattr("gsrcli.training.trainer.build", tiny_build)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of four small pictures of shapes, one of them in a subfolder, and a text file."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deeper").mkdir()
    y, x = np.mgrid[:120, :120, :1][:2]
    for i, name in enumerate(("a.png", "b.png", "c.jpg", "deeper/d.png")):
        random = np.random.default_rng(i)
        waves = np.sin(x / random.uniform(1, 6, 3) + y / random.uniform(1, 6, 3)) > random.uniform(-0.5, 0.5, 3)
        Image.fromarray((waves * 200 + random.integers(0, 50, waves.shape)).astype(np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("about the pictures")
    return folder


def run(folder: Path, pictures: Path, config: TrainConfig = SHORT, resume: bool = False) -> list[Progress]:
    told: list[Progress] = []
    assert train(config, pictures, folder, told.append, resume) == folder / "weights.safetensors"
    return told


def interrupted(
    folder: Path,
    pictures: Path,
    at: int,
    resume: bool = False,
    config: TrainConfig = SHORT,
    validate_on: Path | None = None,
) -> list[Progress]:
    """Train until this step, then stop as if by Ctrl-C."""
    told: list[Progress] = []

    def report(progress: Progress) -> None:
        told.append(progress)
        if progress.step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, pictures, folder, report, resume, validate_on=validate_on)
    return told


def state(folder: Path, name: str = "state") -> RunState:
    return read_state(folder, name)


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Assert that tensors are equal to the last bit."""
    assert set(first) == set(second)
    for key, tensor in first.items():
        assert tensor.dtype == second[key].dtype
        assert torch.equal(tensor, second[key]), key


def assert_same_state(first: Path, second: Path) -> None:
    one, other = state(first), state(second)
    assert_same(one.tensors, other.tensors)
    assert one.facts["step"] == other.facts["step"]
    assert one.facts["schedule"] == other.facts["schedule"]
    assert one.facts["loss"] == other.facts["loss"]
    weights = [load_model(folder / "weights.safetensors").state_dict() for folder in (first, second)]
    assert_same(*weights)


def log(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    measured = ("seconds", "samples_per_second")
    return [{key: value for key, value in json.loads(line).items() if key not in measured} for line in lines]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> tuple[Path, list[Progress]]:
    """Return the folder of an uninterrupted run of six steps, and its reported progress."""
    folder = tmp_path_factory.mktemp("runs") / "new" / "run"
    with pytest.MonkeyPatch.context() as patch:  # the fixture above is for single tests
        patch.setattr("gsrcli.training.trainer.build", tiny_build)
        return folder, run(folder, pictures)


Finished = tuple[Path, list[Progress]]

# ---- what a run leaves behind --------------------------------------------------------------------------


def test_every_step_is_reported(finished: Finished) -> None:
    _, told = finished
    assert [(p.step, p.steps) for p in told] == [(step, 6) for step in range(1, 7)]
    assert all(0 < p.loss < 1 for p in told)
    assert [p.seconds for p in told] == sorted(p.seconds for p in told)
    assert all(p.samples_per_second > 0 for p in told)
    validated = [p.psnr for p in told if p.psnr is not None]
    assert [p.step for p in told if p.psnr] == [3, 6]
    assert all(set(psnr) == {2, 3, 4, 6} and 5 < min(psnr.values()) < 60 for psnr in validated)


def test_the_learning_rate_warms_up_stays_and_falls(finished: Finished) -> None:
    assert [p.learning_rate for p in finished[1]] == pytest.approx([5e-4, 1e-3, 1e-3, 1e-3, 2e-3 / 3, 1e-3 / 3])


def test_a_run_leaves_weights_a_log_and_two_states(finished: Finished) -> None:
    """The second state is from the step at which the rate began to decay."""
    folder, _ = finished
    assert {p.name for p in folder.iterdir()} == {
        *("weights.safetensors", "log.jsonl"),
        *("state.json", "state-6-0.safetensors"),
        *("plateau.json", "plateau-3-0.safetensors"),
    }
    assert state(folder).facts["step"] == 6
    assert state(folder, "plateau").facts["step"] == 3


def test_its_weights_are_averaged_and_record_the_settings(finished: Finished) -> None:
    from safetensors import safe_open

    folder, _ = finished
    model = load_model(folder / "weights.safetensors")
    assert config_of(model).items() >= TINY.items()
    tensors = state(folder).tensors
    averaged = {key.partition(".")[2]: tensor for key, tensor in tensors.items() if key.startswith("averaged.")}
    assert_same(model.state_dict(), averaged)
    assert any(not torch.equal(tensor, tensors[f"model.{key}"]) for key, tensor in averaged.items())
    with safe_open(folder / "weights.safetensors", framework="pt") as file:
        training = json.loads(file.metadata()["training"])
    assert training == {"config": dataclasses.asdict(SHORT), "step": 6}


def test_the_log_can_be_read(finished: Finished) -> None:
    folder, told = finished
    lines = log(folder)
    assert [line["step"] for line in lines] == [3, 6]
    for line, progress in zip(lines, (told[2], told[5]), strict=True):
        assert line["loss"] == progress.loss
        assert line["learning_rate"] == progress.learning_rate
        assert {int(scale): psnr for scale, psnr in line["psnr"].items()} == progress.psnr


def test_runs_repeat(finished: Finished, pictures: Path, tmp_path: Path) -> None:
    told = run(tmp_path / "run", pictures)
    assert [p.loss for p in told] == [p.loss for p in finished[1]]
    assert_same_state(tmp_path / "run", finished[0])


@pytest.mark.parametrize("seed", [1, 20_240_101, 2**31 - 1, 2**63 - 1])
def test_each_seed_draws_different_patches(pictures: Path, tmp_path: Path, finished: Finished, seed: int) -> None:
    """Dates are popular seeds. A network starts as bicubic interpolation, so the first loss depends only on patches."""
    told = run(tmp_path, pictures, dataclasses.replace(SHORT, seed=seed, steps=1))
    assert told[0].loss != finished[1][0].loss


def test_the_reported_loss_is_a_running_mean(pictures: Path, tmp_path: Path) -> None:
    trainer = Trainer(SHORT, pictures, tmp_path, resume=False)
    losses = []
    for _ in range(6):
        trainer.take_step()
        losses.append(trainer.step.read()[0])
    expected = []
    for count in range(1, 7):  # each step weighs 2 % less than the one after it
        weights = [0.98 ** (count - 1 - step) for step in range(count)]
        expected.append(sum(w * loss for w, loss in zip(weights, losses, strict=False)) / sum(weights))
    assert [p.loss for p in run(tmp_path / "run", pictures)] == pytest.approx(expected)


def test_without_pictures_held_out_nothing_is_validated(pictures: Path, tmp_path: Path) -> None:
    told = run(tmp_path, pictures, dataclasses.replace(SHORT, held_out=0))
    assert [p.psnr for p in told] == [None] * 6
    assert [line["step"] for line in log(tmp_path)] == [3, 6]


def test_pictures_of_another_folder_are_validated_on(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    Image.new("RGB", (60, 60), (20, 90, 200)).save(tmp_path / "others" / "plain.png")
    told: list[Progress] = []
    train(SHORT, pictures, tmp_path / "run", told.append, validate_on=tmp_path / "others")
    assert told[2].psnr is not None
    assert min(told[2].psnr.values()) > 40  # one colour


# ---- going on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stops", [(3,), (4,), (1, 2, 5)], ids=str)
def test_a_resumed_run_equals_one_without_a_break(
    finished: Finished, pictures: Path, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    """It may stop at a checkpoint or in between, before or during the decay, once or several times."""
    told = []
    for i, step in enumerate(stops):
        told += interrupted(tmp_path, pictures, step, resume=i > 0)
        assert state(tmp_path).facts["step"] == step
    told += run(tmp_path, pictures, resume=True)
    assert [(p.step, p.loss, p.psnr) for p in told] == [(p.step, p.loss, p.psnr) for p in finished[1]]
    assert_same_state(tmp_path, finished[0])
    assert log(tmp_path) == log(finished[0])


@pytest.mark.parametrize(("name", "value"), [("degradation", "photo"), ("optimizer", "adamw"), ("schedule", "cosine")])
def test_so_does_one_with_other_settings(pictures: Path, tmp_path: Path, name: str, value: Any) -> None:
    config = dataclasses.replace(SHORT, **{name: value})
    run(tmp_path / "unbroken", pictures, config)
    interrupted(tmp_path / "broken", pictures, 4, config=config)
    torch.rand(5)
    run(tmp_path / "broken", pictures, config, resume=True)
    assert_same_state(tmp_path / "broken", tmp_path / "unbroken")


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, Muon])
def test_a_step_is_taken_whole_or_not_at_all(
    finished: Finished,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: Optimizer,
) -> None:
    """Ctrl-C comes while the fourth step has updated only a part of the state."""
    with _signal_after(monkeypatch, optimizer, calls=4), pytest.raises(KeyboardInterrupt):
        train(SHORT, pictures, tmp_path, lambda progress: None)
    assert state(tmp_path).facts["step"] == 4
    run(tmp_path, pictures, resume=True)
    assert_same_state(tmp_path, finished[0])


def test_a_second_ctrl_c_within_the_step_stops_at_once_and_saves_no_half_step(
    finished: Finished, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _signal_after(monkeypatch, torch.optim.AdamW, calls=4, times=2), pytest.raises(KeyboardInterrupt):
        train(SHORT, pictures, tmp_path, lambda progress: None)
    assert state(tmp_path).facts["step"] == 3
    run(tmp_path, pictures, resume=True)
    assert_same_state(tmp_path, finished[0])


@contextmanager
def _signal_after(monkeypatch: pytest.MonkeyPatch, optimizer: Optimizer, calls: int, times: int = 1) -> Iterator[None]:
    """Send SIGINT to this process ``times`` times at the end of one call of an optimizer's step."""
    real = optimizer.step
    count = 0

    def stops_after(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal count
        result = real(self, *arguments, **options)
        count += 1
        if count == calls:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return result

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
    try:
        with monkeypatch.context() as patch:
            patch.setattr(optimizer, "step", stops_after)
            yield
    finally:
        signal.signal(signal.SIGINT, usual)


def test_signals_are_handled_as_before_once_a_run_is_over(pictures: Path, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    interrupted(tmp_path, pictures, 1)
    run(tmp_path, pictures, resume=True)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_finished_run_may_be_resumed_to_no_effect(finished: Finished, pictures: Path) -> None:
    before = {path.name: path.read_bytes() for path in finished[0].iterdir()}
    assert run(finished[0], pictures, resume=True) == []
    assert {path.name: path.read_bytes() for path in finished[0].iterdir()} == before


def test_starting_over_an_existing_run_is_refused(finished: Finished, pictures: Path) -> None:
    before = (finished[0] / "state.json").read_bytes()
    with pytest.raises(UsageError, match="already holds a run") as caught:
        run(finished[0], pictures)
    assert "--resume" in str(caught.value.hint)
    assert (finished[0] / "state.json").read_bytes() == before


def test_a_run_that_another_process_trains_is_refused(finished: Finished, pictures: Path, tmp_path: Path) -> None:
    told: list[UsageError] = []

    def report(progress: Progress) -> None:
        with pytest.raises(UsageError, match="another process is training") as caught:
            train(SHORT, pictures, tmp_path, lambda progress: None, resume=progress.step > 3)
        told.append(caught.value)

    train(SHORT, pictures, tmp_path, report)
    assert len(told) == 6
    assert_same_state(tmp_path, finished[0])


def test_a_run_with_a_time_limit_resumes_for_the_remaining_time(pictures: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    interrupted(tmp_path, pictures, 2, config=dataclasses.replace(SHORT, minutes=60.0))
    first = resumed(tmp_path, {}).minutes
    assert 60 - (time.monotonic() - began) / 60 < first < 60
    interrupted(tmp_path, pictures, 3, resume=True, config=resumed(tmp_path, {}))
    assert 0 < resumed(tmp_path, {}).minutes < first
    assert resumed(tmp_path, {"minutes": 5.0}).minutes == 5
    told = run(tmp_path, pictures, resumed(tmp_path, {"steps": 5}), resume=True)
    assert [(p.step, p.steps) for p in told] == [(4, 5), (5, 5)]


def test_a_run_whose_time_is_up_ends_when_resumed(pictures: Path, tmp_path: Path) -> None:
    interrupted(tmp_path, pictures, 2, config=dataclasses.replace(SHORT, minutes=60.0))
    stored = state(tmp_path)
    stored.facts["seconds"] = 3601.0
    write_state(tmp_path, "state", stored)
    told = run(tmp_path, pictures, resumed(tmp_path, {}), resume=True)
    assert [(p.step, p.steps) for p in told] == [(3, 3)]


def test_a_run_made_longer_keeps_the_weights_it_had(pictures: Path, tmp_path: Path) -> None:
    """It goes back to where its rate began to decay, and a time limit may end it before the step it had reached."""
    run(tmp_path, pictures)
    ended = (tmp_path / "weights.safetensors").read_bytes()
    with pytest.warns(UserWarning, match="to make the run longer"):
        run(tmp_path, pictures, resumed(tmp_path, {"minutes": 0.001}), resume=True)
    assert state(tmp_path).facts["step"] < SHORT.steps
    assert (tmp_path / "weights-6.safetensors").read_bytes() == ended
    assert (tmp_path / "weights.safetensors").read_bytes() != ended


def test_a_run_whose_weights_were_taken_away_can_be_made_longer(pictures: Path, tmp_path: Path) -> None:
    run(tmp_path, pictures)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.warns(UserWarning, match="to make the run longer"):
        run(tmp_path, pictures, resumed(tmp_path, {"steps": 8}), resume=True)
    assert (tmp_path / "weights.safetensors").exists()


def test_pictures_to_validate_on_are_not_trained_on(pictures: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="left out of training because they are for validation: 1"):
        train(SHORT, pictures, tmp_path / "run", lambda progress: None, validate_on=pictures / "deeper")
    facts = state(tmp_path / "run").facts["pictures"]
    assert (facts["trained_on"], facts["validated_on"]) == (3, 1)
    (tmp_path / "linked").symlink_to(pictures)
    with (
        pytest.warns(UserWarning, match="for validation: 4"),
        pytest.raises(PictureError, match="no pictures to train on"),
    ):
        train(SHORT, tmp_path / "linked", tmp_path / "other", lambda progress: None, validate_on=pictures)
    assert not (tmp_path / "other").exists()


def test_flat_pictures_do_not_hide_the_score_of_others(pictures: Path) -> None:
    """A newly initialised model interpolates, which restores flat pictures exactly."""
    with Image.open(pictures / "a.png") as opened:
        waves = torch.from_numpy(np.array(opened)).permute(2, 0, 1)
    flat = torch.full_like(waves, 90)
    model = tiny_build("gsasr-lite").eval()
    assert mean_psnr_y(model, [flat, waves], 2) == mean_psnr_y(model, [waves], 2) < 40
    assert mean_psnr_y(model, [flat], 2) == math.inf


def test_a_resumed_run_keeps_its_validation_set(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "others")
    interrupted(tmp_path / "run", pictures, 4, validate_on=tmp_path / "others")
    told = run(tmp_path / "run", pictures, resume=True)
    assert told[-1].psnr is not None
    assert state(tmp_path / "run").facts["pictures"]["validated_on"] == 4


def test_a_resumed_run_warns_of_other_pictures(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "pictures")
    interrupted(tmp_path / "run", tmp_path / "pictures", 3)
    shutil.copy(tmp_path / "pictures" / "a.png", tmp_path / "pictures" / "z.png")
    with pytest.warns(UserWarning, match="the pictures differ"):
        run(tmp_path / "run", tmp_path / "pictures", resume=True)


def test_a_state_whose_index_is_in_place_survives_what_comes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may come between the rename of the index and the end of writing."""
    facts = {"step": 1, "config": {}, "schedule": {}, "model": {}}
    write_state(tmp_path, "state", RunState(facts, {"a": torch.zeros(3)}))
    real = write_checkpoint

    def interrupted_after(path: Path, content: bytes) -> None:
        real(path, content)
        if path.suffix == ".json":
            raise KeyboardInterrupt

    monkeypatch.setattr("gsrcli.training.state.write_checkpoint", interrupted_after)
    with pytest.raises(KeyboardInterrupt):
        write_state(tmp_path, "state", RunState({**facts, "step": 2}, {"a": torch.ones(3)}))
    assert torch.equal(read_state(tmp_path, "state").tensors["a"], torch.ones(3))


def test_a_run_cannot_start_from_another_kind_of_model(pictures: Path, tmp_path: Path) -> None:
    other = build("gaussiansr-edsr", {"blocks": 1, "width": 16})
    with pytest.raises(ModelError, match="cannot start gsasr-lite from a"):
        train(SHORT, pictures, tmp_path, lambda progress: None, start=other)


def test_the_model_that_training_starts_from_is_not_changed(pictures: Path, tmp_path: Path) -> None:
    start = tiny_model()
    before = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    train(SHORT, pictures, tmp_path, lambda progress: None, start=start)
    assert all(torch.equal(tensor, before[name]) for name, tensor in start.state_dict().items())
    assert not start.training
    assert not next(start.parameters()).requires_grad


def test_a_picture_restored_exactly_does_not_spoil_the_log(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (96, 96), (90, 120, 30)).save(tmp_path / "flat" / "a.png")
    train(SHORT, pictures, tmp_path / "run", lambda progress: None, validate_on=tmp_path / "flat")
    for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_resuming_nothing_is_refused(pictures: Path, tmp_path: Path) -> None:
    for call in (lambda: run(tmp_path / "new", pictures, resume=True), lambda: resumed(tmp_path / "new", {})):
        with pytest.raises(UsageError, match="no run to resume"):
            call()
    assert not (tmp_path / "new").exists()


def test_all_changes_of_fixed_settings_are_refused_together(finished: Finished, pictures: Path) -> None:
    changes = {"batch": 4, "seed": 9, "scale_far": 5.0, "model": "gsasr-edsr", "learning_rate": 0.5, "ema": 0.9}
    for call in (
        lambda: resumed(finished[0], changes),
        lambda: run(finished[0], pictures, dataclasses.replace(SHORT, **changes), resume=True),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        for text in ("--batch 2, not 4", "--seed 0, not 9", "--scale-far 4.0, not 5.0"):
            assert text in str(caught.value)
        assert "--model gsasr-lite, not gsasr-edsr" in str(caught.value)
        assert "--learning-rate" not in str(caught.value)  # which may change
        assert "--ema" not in str(caught.value)  # which does not change
        assert "--from" in str(caught.value.hint)


def test_fixed_settings_cannot_change_and_others_can(finished: Finished) -> None:
    other: dict[str, Any] = {"optimizer": "adamw", "schedule": "cosine", "loss": "l2", "degradation": "photo"}
    other |= {"model": "gsasr-edsr", "device": "cuda", "precision": "bfloat16", "groups": 1}
    allowed = {"steps", "minutes", "learning_rate", "muon_rate", "decay", "validate_every", "save_every"}
    allowed |= {"device", "precision", "threads"}
    for field in dataclasses.fields(TrainConfig):
        value = getattr(SHORT, field.name)
        changed = other.get(field.name, None if isinstance(value, str) else value / 2 if value > 1 else value / 2 + 0.3)
        changed = type(value)(changed) if not isinstance(value, str) else changed
        if field.name in allowed:
            assert getattr(resumed(finished[0], {field.name: changed}), field.name) == changed
        else:
            changed = changed if changed != value else type(value)(value + 1)
            with pytest.raises(UsageError, match=f"--{field.name.replace('_', '-')} "):
                resumed(finished[0], {field.name: changed})


def test_changed_settings_take_effect(pictures: Path, tmp_path: Path) -> None:
    interrupted(tmp_path, pictures, 2)
    changes = {"save_every": 1, "validate_every": 100, "precision": "bfloat16", "learning_rate": 2e-3, "decay": 0.25}
    told = run(tmp_path, pictures, resumed(tmp_path, changes), resume=True)
    assert [p.step for p in told] == [3, 4, 5, 6]
    assert [p.learning_rate for p in told] == pytest.approx([2e-3, 2e-3, 2e-3, 1e-3])
    assert [p.step for p in told if p.psnr] == [6]
    assert [line["step"] for line in log(tmp_path)] == [3, 4, 5, 6]
    assert state(tmp_path).facts["config"]["learning_rate"] == 2e-3


def test_a_finished_run_made_longer_goes_on_from_its_plateau(
    finished: Finished, pictures: Path, tmp_path: Path
) -> None:
    """It equals a run that was as long from the start, and it says where it continues."""
    long = dataclasses.replace(SHORT, steps=10)
    undisturbed = run(tmp_path / "undisturbed", pictures, long)
    run(tmp_path / "longer", pictures)
    with pytest.warns(UserWarning, match="continues from step 3, where its rate began to decay"):
        told = run(tmp_path / "longer", pictures, resumed(tmp_path / "longer", {"steps": 10}), resume=True)
    assert [(p.step, p.loss, p.learning_rate) for p in told] == [
        (p.step, p.loss, p.learning_rate) for p in undisturbed[3:]
    ]
    assert_same_state(tmp_path / "longer", tmp_path / "undisturbed")
    assert state(tmp_path / "longer", "plateau").facts["step"] == 5


def test_a_run_made_longer_before_its_rate_falls_goes_on_where_it_is(pictures: Path, tmp_path: Path) -> None:
    interrupted(tmp_path / "longer", pictures, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = run(tmp_path / "longer", pictures, resumed(tmp_path / "longer", {"steps": 10}), resume=True)
    assert told[0].step == 3
    run(tmp_path / "undisturbed", pictures, dataclasses.replace(SHORT, steps=10))
    assert_same_state(tmp_path / "longer", tmp_path / "undisturbed")


@pytest.mark.parametrize("schedule", ["cosine", "halving"])
def test_a_run_without_a_plateau_made_longer_goes_on_from_its_end(
    pictures: Path, tmp_path: Path, schedule: Any
) -> None:
    run(tmp_path, pictures, dataclasses.replace(SHORT, schedule=schedule))
    assert not (tmp_path / "plateau.json").exists()
    told = run(tmp_path, pictures, resumed(tmp_path, {"steps": 8}), resume=True)
    assert [p.step for p in told] == [7, 8]


def test_a_run_shortened_starts_its_decay_at_once(pictures: Path, tmp_path: Path) -> None:
    interrupted(tmp_path, pictures, 5, config=dataclasses.replace(SHORT, steps=1000))
    told = run(tmp_path, pictures, resumed(tmp_path, {"steps": 9}), resume=True)
    assert [(p.step, p.steps) for p in told] == [(6, 9), (7, 9), (8, 9), (9, 9)]
    assert [p.learning_rate for p in told] == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])
    assert state(tmp_path, "plateau").facts["step"] == 5
    assert run(tmp_path, pictures, resumed(tmp_path, {}), resume=True) == []


def test_a_run_cannot_end_before_the_step_that_it_has_reached(pictures: Path, tmp_path: Path) -> None:
    interrupted(tmp_path, pictures, 5, config=dataclasses.replace(SHORT, steps=1000))
    with pytest.raises(UsageError, match="has already taken 5 steps"):
        run(tmp_path, pictures, resumed(tmp_path, {"steps": 5}), resume=True)


def test_a_run_ended_early_and_interrupted_keeps_to_its_new_end(pictures: Path, tmp_path: Path) -> None:
    interrupted(tmp_path, pictures, 5, config=dataclasses.replace(SHORT, steps=1000))
    interrupted(tmp_path, pictures, 7, resume=True, config=resumed(tmp_path, {"steps": 9}))
    told = run(tmp_path, pictures, resumed(tmp_path, {}), resume=True)
    assert [p.learning_rate for p in told] == pytest.approx([0.5e-3, 0.25e-3])


# ---- ending by time ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_ends_by_time_with_its_rate_fallen(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsrcli.training.trainer._ENDING", 0.5)
    timed = dataclasses.replace(SHORT, minutes=4 / 60, steps=10**6, validate_every=10**6, save_every=10**6)
    began = time.monotonic()
    told = run(tmp_path, pictures, timed)
    assert 3 < time.monotonic() - began < 4
    rates = [p.learning_rate for p in told]
    falls = next(i for i, rate in enumerate(rates[2:], 2) if rate < 1e-3)
    assert 0.3 < told[falls].seconds / 3.5 < 0.7  # decay is 0.5
    assert rates[2:falls] == [1e-3] * (falls - 2)
    assert rates[falls:] == sorted(rates[falls:], reverse=True)
    assert rates[-1] < 0.3e-3  # however the machine's speed varied
    assert told[-1].psnr is not None
    assert state(tmp_path).facts["step"] == told[-1].step == log(tmp_path)[-1]["step"]
    # It is finished, so there is nothing to resume; but more time makes it longer, from its plateau.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(tmp_path, pictures, resumed(tmp_path, {}), resume=True) == []
    plateau = state(tmp_path, "plateau").facts["step"]
    with pytest.warns(UserWarning, match=f"continues from step {plateau}, where its rate began to decay"):
        again = run(tmp_path, pictures, resumed(tmp_path, {"minutes": 1.5 / 60}), resume=True)
    assert again[0].step == plateau + 1


@pytest.mark.parametrize(
    ("before", "after", "pause"),
    [(5.0, 0.5, 0.0), (0.5, 5.0, 0.0), (0.5, 0.5, 25.0)],
    ids=["speeding up", "slowing down", "paused"],
)
def test_a_run_that_ends_by_time_uses_it_whatever_its_pace_was_before(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: float, after: float, pause: float
) -> None:
    """A fake clock that only steps advance gives 57 seconds, with decay in the second half."""
    now = [0.0]
    take_step = Trainer.take_step

    def take_timed(self: Trainer) -> None:
        take_step(self)
        first = now[0] < 25
        now[0] += before if first else after
        if first and now[0] >= 25:  # the last step before the decay
            now[0] += pause

    monkeypatch.setattr("gsrcli.training.trainer.time.monotonic", lambda: now[0])
    monkeypatch.setattr(Trainer, "take_step", take_timed)
    timed = dataclasses.replace(SHORT, minutes=1, steps=10**6, validate_every=10**6, save_every=10**6)
    told = run(tmp_path, pictures, timed)
    assert 57 <= told[-1].seconds < 57 + after
    falling = [(q.learning_rate, p.seconds) for p, q in itertools.pairwise(told) if p.seconds > 28.5]
    assert [rate for rate, _ in falling] == pytest.approx([1e-3 * (57 - seconds) / 28.5 for _, seconds in falling])
    assert told[-1].learning_rate <= 1e-3 * after / 28.5 * 1.01
    assert told[-1].steps == told[-1].step == state(tmp_path).facts["step"]


def test_a_run_that_ends_by_time_may_be_interrupted_while_its_rate_falls(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It continues where it stopped, to the end that it had estimated."""
    seconds = iter(0.1 * step for step in range(10**6))
    monkeypatch.setattr("gsrcli.training.trainer.time.monotonic", lambda: next(seconds))
    timed = dataclasses.replace(SHORT, minutes=0.5, steps=10**6, validate_every=10**6, save_every=10**6)
    told: list[Progress] = []

    def report(progress: Progress) -> None:
        told.append(progress)
        if progress.step > 2 and progress.learning_rate < 0.7e-3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(timed, pictures, tmp_path, report)
    stopped = told[-1]
    assert stopped.step < stopped.steps < 10**6
    more = run(tmp_path, pictures, resumed(tmp_path, {}), resume=True)
    assert more[0].step == stopped.step + 1
    assert more[0].learning_rate < stopped.learning_rate
    assert more[-1].step == stopped.steps
    rates = [p.learning_rate for p in more]
    assert rates == pytest.approx([rates[0] * (1 - step / len(rates)) for step in range(len(rates))])


# ---- real processes ------------------------------------------------------------------------------------


PROCESS = dataclasses.replace(SHORT, steps=1000, warmup=5, save_every=7, validate_every=500)


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def _options(config: TrainConfig) -> list[str]:
    """Return the options for settings that differ from the defaults."""
    usual = TrainConfig()
    names = (field.name for field in dataclasses.fields(config))
    settings = {name: getattr(config, name) for name in names if getattr(config, name) != getattr(usual, name)}
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


def _wait_for_state(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Wait until a run has saved this step or a later one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if (folder / "state.json").exists() and json.loads((folder / "state.json").read_text())["step"] >= step:
            return
        time.sleep(0.01)
    raise AssertionError("nothing was saved")


@pytest.mark.slow
def test_a_run_that_was_killed_continues_as_if_undisturbed(
    gsr_process: Process, pictures: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    """It is killed by SIGKILL twice, at any point, and resumed in a new process with only --resume."""
    command = ("train", pictures, "--run", tmp_path / "killed")
    process = gsr_process(*command, "--from", tiny_weights, *_options(PROCESS))
    _wait_for_state(tmp_path / "killed", 14, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    first = state(tmp_path / "killed").facts["step"]
    process = gsr_process(*command, "--resume")
    _wait_for_state(tmp_path / "killed", first + 14, process)
    process.kill()
    process.communicate()
    second = state(tmp_path / "killed").facts["step"]
    assert first < second < 1000
    end = second + 14
    config = resumed(tmp_path / "killed", {"steps": 2 * end})
    told = interrupted(tmp_path / "killed", pictures, end, resume=True, config=config)
    start = start_from(config, tiny_model(), "gsasr-lite", partial=False)
    undisturbed: list[Progress] = []

    def report(progress: Progress) -> None:
        undisturbed.append(progress)
        if progress.step == end:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, pictures, tmp_path / "undisturbed", report, start=start)
    assert [(p.step, p.loss) for p in told] == [(p.step, p.loss) for p in undisturbed[second:]]
    assert_same_state(tmp_path / "killed", tmp_path / "undisturbed")
    assert len(list((tmp_path / "killed").glob("state*"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_the_run(
    gsr_process: Process, pictures: Path, tmp_path: Path, tiny_weights: Path, number: signal.Signals
) -> None:
    config = dataclasses.replace(PROCESS, steps=10**6, save_every=20)
    process = gsr_process("train", pictures, "--run", tmp_path, "--from", tiny_weights, *_options(config))
    _wait_for_state(tmp_path, 20, process)
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output == ""
    assert f"interrupted; the run is saved in {tmp_path}" in errors
    assert "continue it with --resume" in errors
    assert "Traceback" not in errors
    step = state(tmp_path).facts["step"]
    assert step >= 20
    told = interrupted(tmp_path, pictures, step + 2, resume=True, config=resumed(tmp_path, {}))
    assert [p.step for p in told] == [step + 1, step + 2]


# ---- beginning with weights ----------------------------------------------------------------------------


def saved(path: Path, config: dict[str, Any], name: str = "gsasr-lite", seed: int = 3) -> Path:
    """Save a checkpoint of random weights."""
    torch.manual_seed(seed)
    model = build(name, config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    save_model(model, name, path, {})
    return path


def test_a_run_starts_from_given_weights_and_their_config(gsr: Gsr, pictures: Path, tmp_path: Path) -> None:
    """The network is as large as that of the weights, also when the run is resumed."""
    path = saved(tmp_path / "wider.safetensors", {**TINY, "width": 12})
    config = dataclasses.replace(SHORT, steps=2, learning_rate=1e-12, muon_rate=1e-12, weight_decay=0.0)
    result = gsr("train", pictures, "--run", tmp_path / "run", "--from", path, *_options(config))
    assert result.exit_code == 0, result.output
    assert config_of(load_model(tmp_path / "run" / "weights.safetensors"))["width"] == 12
    for key, tensor in load_model(path).state_dict().items():
        torch.testing.assert_close(state(tmp_path / "run").tensors[f"model.{key}"], tensor, atol=1e-9, rtol=0)
    assert gsr("train", pictures, "--run", tmp_path / "run", "--resume", "--steps", 3).exit_code == 0


def test_weights_may_be_given_by_name(
    gsr: Gsr, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "published.safetensors", {**TINY, "blocks": 2})
    monkeypatch.setattr("gsrcli.weights.store.Entry.locate", lambda entry, report=None: path)
    result = gsr("train", pictures, "--run", tmp_path / "run", "--from", "gsasr-lite", *_options(SHORT))
    assert result.exit_code == 0, result.output
    assert config_of(load_model(tmp_path / "run" / "weights.safetensors"))["blocks"] == 2


def test_the_model_is_that_of_the_weights_unless_another_is_named(gsr: Gsr, pictures: Path, tmp_path: Path) -> None:
    path = saved(tmp_path / "gaussians.safetensors", {"blocks": 1, "width": 16}, "gaussiansr-edsr")
    command = ("train", pictures, "--from", path, *_options(dataclasses.replace(SHORT, steps=1)))
    result = gsr(*command, "--run", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert state(tmp_path / "run").facts["config"]["model"] == "gaussiansr-edsr"
    _fails(
        gsr(*command, "--run", tmp_path / "other", "--model", "gsasr-lite"),
        *(1, "these are weights of gaussiansr-edsr, not of gsasr-lite", "--model gaussiansr-edsr", "--partial"),
    )
    assert not (tmp_path / "other").exists()


def test_partial_loads_what_fits_into_a_larger_network(pictures: Path, tmp_path: Path) -> None:
    small = build("gsasr-lite", {**TINY, "blocks": 1, "head_width": 24})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsrcli.training.trainer.build", lambda name: build(name, {**TINY, "blocks": 3}))
        with pytest.warns(UserWarning, match=r"(\d+) of (\d+) tensors loaded, (\d+) newly initialised") as caught:
            grown = start_from(SHORT, small, "gsasr-lite", partial=True)
        torch.manual_seed(SHORT.seed)
        fresh = build("gsasr-lite", {**TINY, "blocks": 3}).state_dict()
    before, after = small.state_dict(), grown.state_dict()
    taken = {key for key in after if key in before and before[key].shape == after[key].shape}
    assert {"stem.weight", "trunk.0.first.weight", "head.bias"} <= taken
    assert {"trunk.2.first.weight", "head.weight", "expand.weight"}.isdisjoint(taken)
    for key, tensor in after.items():
        assert torch.equal(tensor, (before if key in taken else fresh)[key]), key
    told = f"{len(taken)} of {len(after)} tensors loaded, {len(after) - len(taken)} newly initialised"
    assert str(caught[0].message) == told


def test_partial_loads_an_encoder_from_another_model(gsr: Gsr, pictures: Path, tmp_path: Path) -> None:
    """From the tiny lite nothing fits a gaussiansr, which is an error; from another gaussiansr everything does."""
    path = save_tiny(tmp_path / "tiny.safetensors")
    result = gsr(
        *("train", pictures, "--run", tmp_path / "run", "--from", path, "--partial"),
        *("--model", "gaussiansr-edsr", *_options(SHORT)),
    )
    _fails(result, 1, "none of the weights of gsasr-lite fits gaussiansr-edsr")
    model = build("gaussiansr-edsr-released", {"blocks": 1, "width": 16})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsrcli.training.trainer.build", lambda name: build(name, {"blocks": 1, "width": 16}))
        config = dataclasses.replace(SHORT, model="gaussiansr-edsr")
        with pytest.raises(ModelError, match="not of gaussiansr-edsr"):
            start_from(config, model, "gaussiansr-edsr-released", partial=False)
        with pytest.warns(UserWarning, match="0 newly initialised"):
            taken = start_from(config, model, "gaussiansr-edsr-released", partial=True)
    assert_same(taken.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume", "--from", "gsasr-lite"], "--resume cannot be combined with --from or --profile"),
        (["--resume", "--profile"], "--resume cannot be combined with --from or --profile"),
        (["--partial"], "--partial needs --from"),
        (["--profile", "--from", "gsasr-lite"], "--profile cannot be combined with --from"),
        (["--from", "gone.safetensors"], "no such checkpoint: gone.safetensors"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together(
    gsr: Gsr, pictures: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    result = gsr("train", pictures, "--run", tmp_path / "run", *options)
    _fails(result, 1 if "gone" in message else 2, message)
    assert not (tmp_path / "run").exists()


# ---- pictures ------------------------------------------------------------------------------------------


def test_unusable_pictures_are_named_and_the_rest_trained_on(gsr: Gsr, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in pictures.glob("*.png"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "damaged.png").write_bytes((folder / "a.png").read_bytes()[:3000])
    (folder / "text.jpg").write_text("no picture")
    frames = [Image.new("L", (90, 90), value) for value in (0, 200)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "animated.webp", save_all=True, append_images=frames[1:])
    for i, side in enumerate((1, 3, 63)):
        Image.new("RGB", (side, 200)).save(folder / f"tiny{i}.png")
    result = gsr("train", folder, "--run", tmp_path / "run", *_options(SHORT))
    assert result.exit_code == 0, result.output
    told = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert "warning: pictures left out because a side is shorter than 64 pixels: 3" in told
    for name in ("damaged.png", "text.jpg", "animated.webp"):
        assert sum(f"left out {folder / name}: " in line for line in told) == 1
    assert len(told) == len({*told})
    assert load_model(tmp_path / "run" / "weights.safetensors").device.type == "cpu"


def test_pictures_are_loaded_without_a_warning(pictures: Path, tmp_path: Path) -> None:
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            trainer = Trainer(SHORT, pictures, None, resume=False)
    finally:
        torch.set_warn_always(False)
    assert (len(trainer.sampler.bank), len(trainer.held_out)) == (3, 1)


def test_pictures_held_out_are_spread_over_the_folder_and_not_trained_on(tmp_path: Path) -> None:
    for value in range(10):
        Image.new("RGB", (64, 64), (value, value, value)).save(tmp_path / f"{value}.png")
    trainer = Trainer(dataclasses.replace(SHORT, held_out=3), tmp_path, None, resume=False)
    assert [int(picture[0, 0, 0]) for picture in trainer.held_out] == [0, 3, 6]
    bank = trainer.sampler.bank
    pixels = bank.crop(
        bank.send(bank.starts), *(torch.ones(len(bank), dtype=torch.int64) for _ in range(2)), Size(1, 1)
    )
    assert (255 * pixels[:, 0, 0, 0]).round().int().tolist() == [1, 2, 4, 5, 7, 8, 9]


def test_too_few_pictures(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot hold out 4 of 4 pictures") as caught:
        run(tmp_path / "run", pictures, dataclasses.replace(SHORT, held_out=4))
    assert "--held-out" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()


def test_pictures_that_are_all_too_small(pictures: Path, tmp_path: Path) -> None:
    with (
        pytest.warns(UserWarning, match="shorter than 192 pixels: 4"),
        pytest.raises(PictureError, match="no pictures to train on") as caught,
    ):
        run(tmp_path / "run", pictures, dataclasses.replace(SHORT, patch=48))
    assert "lower --patch or --scale-far" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="no pictures"):
        run(tmp_path / "run", tmp_path)


def test_a_folder_named_like_a_picture_is_ignored(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "set.png").mkdir()
    for path in pictures.glob("*.png"):
        (tmp_path / "set.png" / path.name).write_bytes(path.read_bytes())
    assert len(run(tmp_path / "run", tmp_path, dataclasses.replace(SHORT, steps=1))) == 1


def test_the_patch_must_be_a_multiple_for_the_network(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--patch must be a multiple of 12 for gsasr-edsr"):
        run(tmp_path / "run", pictures, dataclasses.replace(SHORT, model="gsasr-edsr"))


# ---- learning ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_it_learns_a_picture_by_heart(tmp_path: Path, optimizer: Any) -> None:
    """Pictures are as large as the patches, so every step sees the same ones, turned and mirrored."""
    (tmp_path / "pictures").mkdir()
    blocks = np.random.default_rng(0).integers(0, 2, (8, 8, 1)).repeat(3, axis=2).astype(np.uint8)
    picture = Image.fromarray(blocks * 200 + 20).resize((32, 32), Image.Resampling.NEAREST)
    picture.save(tmp_path / "pictures" / "a.png")
    same = {"scale_low": 2.0, "scale_high": 2.0, "scale_far": 2.0, "far_share": 0.0, "unequal_share": 0.0}
    config = dataclasses.replace(
        SHORT, steps=60, batch=4, warmup=10, learning_rate=1e-2, held_out=0, optimizer=optimizer, **same
    )
    trainer = Trainer(config, tmp_path / "pictures", None, resume=False)
    losses = []
    for _ in range(60):
        trainer.take_step()
        losses.append(trainer.step.read()[0])
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:2])


# ---- failing well --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["high", "low"])
def test_a_run_that_diverges_stops_and_its_last_good_state_can_be_resumed(
    finished: Finished, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    batch = PatchSampler.batch

    def spoilt(self: PatchSampler, step: int, size: int) -> list[Pairs]:
        groups = batch(self, step, size)
        if step == 4:
            getattr(groups[1], what)[0, 0, 5, 5] = torch.nan
        return groups

    with monkeypatch.context() as patch:
        patch.setattr(PatchSampler, "batch", spoilt)
        with pytest.raises(GsrError, match="training diverged by step 5") as caught:
            run(tmp_path, pictures, dataclasses.replace(SHORT, save_every=2))
    assert "with --resume, using a lower --learning-rate" in str(caught.value.hint)
    assert state(tmp_path).facts["step"] == 4
    assert all(bool(tensor.isfinite().all()) for tensor in state(tmp_path).tensors.values())
    assert all(bool(t.isfinite().all()) for t in load_model(tmp_path / "weights.safetensors").state_dict().values())
    told = run(tmp_path, pictures, dataclasses.replace(SHORT, save_every=2), resume=True)
    assert [p.loss for p in told] == [p.loss for p in finished[1][4:]]


def test_too_high_a_rate_is_not_reported_as_a_bug(gsr: Gsr, pictures: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(SHORT, warmup=0, steps=30)
    result = gsr("train", pictures, "--run", tmp_path / "run", *_options(config), "--learning-rate", "1e30")
    _fails(result, 1, "training diverged by step ", "start again, using a lower --learning-rate or --muon-rate")


def test_a_full_disk_leaves_the_last_state_and_no_litter(
    pictures: Path, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    interrupted(tmp_path, pictures, 2)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with full_disk(len(before["weights.safetensors"]) // 2), pytest.raises(GsrError, match="cannot write"):
        run(tmp_path, pictures, resume=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert [p.step for p in run(tmp_path, pictures, resume=True)] == [3, 4, 5, 6]


def test_no_state_is_newer_than_the_weights(
    finished: Finished, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose state is final is not resumed, so it must have its final weights."""

    def fails(model: Model, name: str, path: Path, notes: dict[str, Any]) -> None:
        if notes["training"]["step"] == 6:
            raise GsrError("cannot write")
        save_model(model, name, path, notes)

    with monkeypatch.context() as patch:
        patch.setattr("gsrcli.training.trainer.save_model", fails)
        with pytest.raises(GsrError, match="cannot write"):
            run(tmp_path, pictures)
    assert state(tmp_path).facts["step"] == 3
    run(tmp_path, pictures, resume=True)
    assert_same_state(tmp_path, finished[0])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: _cut(folder / "state.json"),
        lambda folder: _cut(folder / "state-1-0.safetensors"),
        lambda folder: (folder / "state-1-0.safetensors").unlink(),
        lambda folder: (folder / "state.json").write_text("[]"),
        lambda folder: (folder / "state.json").write_text("{}"),
        lambda folder: (folder / "state.json").write_text('{"format": "another", "parts": []}'),
        lambda folder: (folder / "state.json").write_text('{"format": "gsrcli-run", "parts": []}'),
        lambda folder: (folder / "state.json").write_bytes(b"\xff\xfe\x00"),
    ],
    ids=["index cut off", "part cut off", "part gone", "list", "empty", "of another kind", "without facts", "bytes"],
)
def test_a_damaged_state_is_not_reported_as_a_bug(
    gsr: Gsr, pictures: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    interrupted(tmp_path, pictures, 1)
    damage(tmp_path)
    _fails(gsr("train", pictures, "--run", tmp_path, "--resume"), 1, "is damaged or missing", "--from")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_a_state_of_another_version_or_network_is_not_reported_as_a_bug(
    gsr: Gsr, pictures: Path, tmp_path: Path
) -> None:
    interrupted(tmp_path, pictures, 1)
    index = json.loads((tmp_path / "state.json").read_text())
    command = ("train", pictures, "--run", tmp_path, "--resume")
    (tmp_path / "state.json").write_text(json.dumps({**index, "config": {**index["config"], "colour": 3}}))
    _fails(gsr(*command), 1, "was made by another version")
    (tmp_path / "state.json").write_text(json.dumps({**index, "model": {**index["model"], "width": 12}}))
    _fails(gsr(*command), 1, "does not fit its run")


def test_a_run_where_a_file_is(gsr: Gsr, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        _fails(gsr("train", pictures, "--run", path, *_options(SHORT)), 1, f"cannot write to the folder {path}")


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"batch": 0},
        {"batch": 3},
        {"groups": 0},
        {"patch": -1},
        {"held_out": -1},
        {"seed": -1},
        {"seed": 2**64},
        {"reduce": 0.5},
        {"ema": 1.0},
        {"scale_low": 0.5},
        {"scale_low": 5.0},
        {"scale_far": 2.0},
        {"scale_far": math.inf},
        {"threads": -1},
        {"minutes": -1.0},
        {"decay": 1.5},
        {"clip": 0.0},
        {"weight_decay": -0.1},
        {"learning_rate": -1.0},
        {"learning_rate": math.nan},
        {"muon_rate": math.inf},
        {"far_share": 1.5},
    ],
    ids=str,
)
def test_invalid_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(SHORT, **change)


# ---- the state on disk ---------------------------------------------------------------------------------


FACTS = {"step": 5, "config": {}, "schedule": {}, "model": {}, "loss": 0.5}


def some_tensors(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {f"t{i}": torch.randn(i + 1, 7, generator=generator) for i in range(9)}
    return {**tensors, "step": torch.tensor(3.0), "count": torch.tensor([7]), "half": torch.ones(3).bfloat16()}


def test_a_state_in_several_parts_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "_PART_BYTES", 400)
    tensors = some_tensors()
    write_state(tmp_path, "state", RunState(FACTS, tensors))
    parts = sorted(tmp_path.glob("state-5-*.safetensors"))
    assert len(parts) > 3
    assert all(path.stat().st_size < 400 + 600 for path in parts)  # and a header
    back = read_state(tmp_path, "state")
    assert back.facts == FACTS
    assert_same(back.tensors, tensors)


def test_a_tensor_larger_than_a_part_has_one_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "_PART_BYTES", 100)
    tensors = {"a": torch.zeros(5), "b": torch.ones(1000), "c": torch.zeros(5)}
    write_state(tmp_path, "state", RunState(FACTS, tensors))
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    assert_same(read_state(tmp_path, "state").tensors, tensors)


def test_parts_are_below_15_megabytes(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.zeros(1_000_000) for i in range(9)}
    write_state(tmp_path, "state", RunState(FACTS, tensors))
    sizes = [path.stat().st_size for path in tmp_path.glob("*.safetensors")]
    assert len(sizes) == 3
    assert max(sizes) < 16_000_000


def test_a_run_in_several_parts_resumes_the_same(
    finished: Finished, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "_PART_BYTES", 5000)
    interrupted(tmp_path, pictures, 4)
    assert len(list(tmp_path.glob("state-4-*.safetensors"))) > 3
    run(tmp_path, pictures, resume=True)
    assert_same_state(tmp_path, finished[0])
    assert {path.name.split("-")[1] for path in tmp_path.glob("state-*")} == {"6"}  # no older ones are left


def test_a_state_written_again_at_the_same_step_replaces_the_old_one(tmp_path: Path) -> None:
    for seed in range(3):
        write_state(tmp_path, "state", RunState(FACTS, some_tensors(seed)))
        assert len(list(tmp_path.iterdir())) == 2
        assert_same(read_state(tmp_path, "state").tensors, some_tensors(seed))


def test_states_of_two_names_and_other_files_live_beside_each_other(tmp_path: Path) -> None:
    (tmp_path / "state-of-the-art.safetensors").write_text("mine")
    write_state(tmp_path, "plateau", RunState(FACTS, some_tensors(1)))
    for step in (5, 6):
        write_state(tmp_path, "state", RunState({**FACTS, "step": step}, some_tensors(step)))
    assert_same(read_state(tmp_path, "plateau").tensors, some_tensors(1))
    assert_same(read_state(tmp_path, "state").tensors, some_tensors(6))
    assert (tmp_path / "state-of-the-art.safetensors").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("step", [5, 6])
def test_a_kill_between_parts_and_index_leaves_the_old_state(tmp_path: Path, step: int) -> None:
    """A process is killed before it writes the index, for a state of another step or of the same."""
    write_state(tmp_path, "state", RunState(FACTS, some_tensors(0)))
    script = (
        "import os, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from gsrcli.training import state\n"
        "state._PART_BYTES = 60\n"
        "write = state.write_checkpoint\n"
        "def write_or_die(path, content):\n"
        "    if path.name == 'state.json':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(path, content)\n"
        "state.write_checkpoint = write_or_die\n"
        f"facts = { ({**FACTS, 'step': step})!r}\n"
        "tensors = {f't{i}': torch.zeros(10) for i in range(4)}\n"
        "state.write_state(Path(sys.argv[1]), 'state', state.RunState(facts, tensors))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("*.safetensors"))) == 5
    back = read_state(tmp_path, "state")
    assert back.facts == FACTS
    assert_same(back.tensors, some_tensors(0))
    write_state(tmp_path, "state", RunState({**FACTS, "step": 9}, some_tensors(9)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-9-0.safetensors", "state.json"]


# ---- profiles ------------------------------------------------------------------------------------------


def test_a_profile_shows_all_stages_and_keeps_nothing(
    gsr: Gsr, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsrcli.training.trainer._PROFILED", 3)
    monkeypatch.chdir(tmp_path)
    command = ("train", pictures, "--run", tmp_path / "run", "--profile", *_options(SHORT))
    result = gsr(*command)
    assert result.exit_code == 0, result.output
    *stages, rates = result.stdout.splitlines()
    assert [line.split()[0] for line in stages] == ["crops", "network", "drawing", "backward", "update"]
    assert sum(int(line.split()[3]) for line in stages) == pytest.approx(100, abs=3)
    assert "steps/s" in rates
    assert "pairs/s on cpu" in rates
    told = json.loads(gsr(*command, "--json").stdout)
    assert list(told["stages"]) == ["crops", "network", "drawing", "backward", "update"]
    assert all(seconds > 0 for seconds in told["stages"].values())
    assert told["samples_per_second"] == pytest.approx(2 * told["steps_per_second"])
    assert 0.1 < sum(told["stages"].values()) * told["steps_per_second"] < 10
    assert told["device"] == "cpu"
    assert list(tmp_path.iterdir()) == []


# ---- the command ---------------------------------------------------------------------------------------


def test_the_command_trains(gsr: Gsr, pictures: Path, tmp_path: Path, finished: Finished) -> None:
    result = gsr("train", pictures, "--run", tmp_path, *_options(SHORT))
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'weights.safetensors'}\n"
    first, *others = result.stderr.splitlines()
    assert first == "training set: 3 pictures (0.0432 MP), validation set: 1"
    assert [line.split(":")[0] for line in others] == ["step 3", "step 6"]
    assert "validation PSNR ×2 " in result.stderr
    assert_same_state(tmp_path, finished[0])


def test_resuming_needs_no_option_repeated(gsr: Gsr, pictures: Path, tmp_path: Path, finished: Finished) -> None:
    interrupted(tmp_path, pictures, 2)
    result = gsr("train", pictures, "--run", tmp_path, "--resume", "--save-every", 1, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"weights": str(tmp_path / "weights.safetensors")}
    assert result.stderr == ""
    assert_same_state(tmp_path, finished[0])
    assert state(tmp_path).facts["config"] == {**dataclasses.asdict(SHORT), "save_every": 1}


def test_the_command_refuses_all_changes_of_fixed_settings_in_one_message(
    gsr: Gsr, pictures: Path, finished: Finished
) -> None:
    changes = ("--batch", 4, "--seed", 1, "--patch", 8, "--steps", 9, "--ema", 0.9)
    result = gsr("train", pictures, "--run", finished[0], "--resume", *changes)
    _fails(result, 2, "--batch 2, not 4", "--patch 16, not 8", "--seed 0, not 1")
    assert "--steps" not in result.stderr
    assert "--ema" not in result.stderr
    assert result.stderr.count("error:") == 1


def test_help_shows_every_setting(gsr: Gsr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 240)
    shown = " ".join(gsr("train", "--help").stdout.partition("Options")[2].split())  # below the examples
    for field in dataclasses.fields(TrainConfig):
        name = field.name.replace("_", "-")
        assert f"--{name} " in shown
        start = shown.index(f"--{name} ")
        assert field.metadata["help"] in shown[start : start + 300]
        assert f"[default: {field.default}]" in shown[start : start + 300]


def _fails(result: Result, exit_code: int, *texts: object) -> None:
    assert result.exit_code == exit_code, result.output
    assert "bug in gsr" not in result.stderr
    assert "Traceback" not in result.output
    for text in texts:
        assert str(text) in result.stderr


def test_an_interrupted_command_says_how_to_continue(
    gsr: Gsr, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = Trainer.take_step

    def step(self: Trainer) -> None:
        if self.done == 2:
            raise KeyboardInterrupt
        take_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "take_step", step)
        _fails(gsr("train", pictures, "--run", tmp_path, *_options(SHORT)), 130, "interrupted", "--resume")
    assert state(tmp_path).facts["step"] == 2
    assert gsr("train", pictures, "--run", tmp_path, "--resume").exit_code == 0


def test_muon_is_refused_for_models_without_weights_for_it() -> None:
    """AdamW does not silently replace it."""
    from gsrcli.training.step import Step

    tiny = build("gaussiansr-edsr", {"blocks": 1, "width": 8})
    with pytest.raises(UsageError, match="muon"):
        Step(tiny, TrainConfig(model="gaussiansr-edsr", optimizer="muon"), torch.float32)


def test_an_unknown_model_is_not_reported_as_a_bug(gsr: Gsr, pictures: Path, tmp_path: Path) -> None:
    result = gsr("train", pictures, "--run", tmp_path / "run", *_options(SHORT), "--model", "gsasr-light")
    _fails(result, 1, "gsasr-light", "gsasr-lite")


def test_a_missing_folder_is_named(gsr: Gsr, tmp_path: Path) -> None:
    _fails(gsr("train", tmp_path / "gone", "--run", tmp_path / "run", *_options(SHORT)), 1, tmp_path / "gone")
