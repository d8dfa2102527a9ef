"""Training: what a run leaves behind, that it goes on exactly where it stopped, and that it learns."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import TINY
from PIL import Image
from typer.testing import Result

from gsrcli.data import find_pictures, load_pictures
from gsrcli.errors import GsrError, PictureError, UsageError
from gsrcli.models import build, config_of
from gsrcli.train_config import TrainConfig
from gsrcli.training import Progress, Trainer, train
from gsrcli.weights import load_model

SHORT = TrainConfig(
    steps=6,
    batch=2,
    patch=16,
    warmup=2,
    ema=0.9,
    scale_high=3.0,
    scale_far=4.0,
    held_out=1,
    validate_every=3,
    save_every=3,
    device="cpu",
    precision="float32",
)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is trained here is tiny, but otherwise what its name says."""
    monkeypatch.setattr("gsrcli.training.build", lambda name: build(name, TINY if name == "gsasr-lite" else None))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four small pictures of shapes, one of them deeper down, and something that is no picture."""
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


def interrupted(folder: Path, pictures: Path, at: int, resume: bool = False) -> None:
    """Train until this step, then as if Ctrl-C was pressed."""

    def report(progress: Progress) -> None:
        if progress.step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SHORT, pictures, folder, report, resume)


def state(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "state.pt", weights_only=True)  # type: ignore[no-any-return]


def assert_same(first: Any, second: Any) -> None:
    """Equal to the last bit, tensors and all that holds them."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            assert_same(a, b)
    else:
        assert first == second


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> tuple[Path, list[Progress]]:
    """A run of six steps without a break, and what it told."""
    folder = tmp_path_factory.mktemp("runs") / "new" / "run"
    with pytest.MonkeyPatch.context() as patch:  # the fixture above is for single tests
        patch.setattr("gsrcli.training.build", lambda name: build(name, TINY))
        return folder, run(folder, pictures)


Finished = tuple[Path, list[Progress]]

# What a run leaves behind


def test_every_step_is_told(finished: Finished) -> None:
    _, told = finished
    assert [p.step for p in told] == [1, 2, 3, 4, 5, 6]
    assert all(0 < p.loss < 1 for p in told)
    assert all(math.isfinite(p.learning_rate) and p.learning_rate > 0 for p in told)
    assert [p.seconds for p in told] == sorted(p.seconds for p in told)
    validated = [p.psnr for p in told if p.psnr is not None]
    assert [p.step for p in told if p.psnr] == [3, 6]
    assert all(set(psnr) == {2, 3, 4} and 5 < min(psnr.values()) < 60 for psnr in validated)


def test_the_learning_rate_warms_up_and_falls(finished: Finished) -> None:
    rates = [p.learning_rate for p in finished[1]]
    assert rates[:3] == pytest.approx([0.5e-3, 1e-3, 1e-3])
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_a_run_leaves_three_files(finished: Finished) -> None:
    folder, _ = finished
    assert {p.name for p in folder.iterdir()} == {"weights.safetensors", "state.pt", "log.jsonl"}


def test_its_weights_load_and_tell_where_they_come_from(finished: Finished) -> None:
    from safetensors import safe_open

    folder, _ = finished
    model = load_model(folder / "weights.safetensors")
    assert config_of(model).items() >= TINY.items()
    averaged = {k.removeprefix("module."): v for k, v in state(folder)["averaged"].items() if k != "n_averaged"}
    assert_same(dict(sorted(model.state_dict().items())), dict(sorted(averaged.items())))
    with safe_open(folder / "weights.safetensors", framework="pt") as file:
        training = json.loads(file.metadata()["training"])
    assert training == {"config": dataclasses.asdict(SHORT), "step": 6}


def test_the_log_can_be_read(finished: Finished) -> None:
    folder, told = finished
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [3, 6]
    for line, progress in zip(lines, (told[2], told[5]), strict=True):
        assert line["loss"] == progress.loss
        assert line["learning_rate"] == progress.learning_rate
        assert {int(scale): psnr for scale, psnr in line["psnr"].items()} == progress.psnr


def test_runs_repeat(finished: Finished, pictures: Path, tmp_path: Path) -> None:
    told = run(tmp_path / "run", pictures)
    assert [p.loss for p in told] == [p.loss for p in finished[1]]
    assert_same(state(tmp_path / "run"), state(finished[0]))


@pytest.mark.slow
def test_workers_change_nothing(finished: Finished, pictures: Path, tmp_path: Path) -> None:
    told = run(tmp_path, pictures, dataclasses.replace(SHORT, workers=2))
    assert [p.loss for p in told] == [p.loss for p in finished[1]]


@pytest.mark.parametrize("seed", [1, 7, 20_240_101, 2**31 - 1])
def test_each_seed_draws_crops_of_its_own(pictures: Path, tmp_path: Path, finished: Finished, seed: int) -> None:
    """People like dates. A network begins as bicubic interpolation, so the first loss depends on the crops alone."""
    told = run(tmp_path, pictures, dataclasses.replace(SHORT, seed=seed, steps=1))
    assert told[0].loss != finished[1][0].loss


def test_pictures_are_loaded_without_a_warning(pictures: Path) -> None:
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(load_pictures(find_pictures(pictures), 1)) == 4
    finally:
        torch.set_warn_always(False)


# Going on


@pytest.mark.parametrize("stops", [(3,), (4,), (1, 2, 5)], ids=str)
def test_a_resumed_run_equals_one_without_a_break(
    finished: Finished, pictures: Path, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    """Whether it stopped where it saves anyway or in between, once or often."""
    for i, step in enumerate(stops):
        interrupted(tmp_path, pictures, step, resume=i > 0)
        assert state(tmp_path)["step"] == step
    told = run(tmp_path, pictures, resume=True)
    assert [p.step for p in told] == list(range(stops[-1] + 1, 7))
    assert_same(state(tmp_path), state(finished[0]))
    assert_same(
        load_model(tmp_path / "weights.safetensors").state_dict(),
        load_model(finished[0] / "weights.safetensors").state_dict(),
    )


@pytest.mark.parametrize("where", ["torch.optim.AdamW.step", "torch.optim.swa_utils.AveragedModel.update_parameters"])
def test_a_step_is_taken_whole_or_not_at_all(
    finished: Finished, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Ctrl-C comes when it likes: here as the fourth step has changed some of what is saved, and not the rest."""
    from gsrcli import training

    owner = {"AdamW": torch.optim.AdamW, "AveragedModel": training.AveragedModel}[where.split(".")[-2]]
    name = where.split(".")[-1]
    real = getattr(owner, name)
    calls = 0

    def stops_after(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        result = real(self, *arguments, **options)
        calls += 1
        if calls == 4:
            signal.raise_signal(signal.SIGINT)
        return result

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in the background
    try:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stops_after)
            with pytest.raises(KeyboardInterrupt):
                train(SHORT, pictures, tmp_path, lambda progress: None)
    finally:
        signal.signal(signal.SIGINT, usual)
    run(tmp_path, pictures, resume=True)
    assert_same(state(tmp_path), state(finished[0]))


def test_a_finished_run_may_be_resumed_to_no_effect(finished: Finished, pictures: Path) -> None:
    before = (finished[0] / "weights.safetensors").read_bytes()
    assert run(finished[0], pictures, resume=True) == []
    assert (finished[0] / "weights.safetensors").read_bytes() == before


def test_starting_over_an_existing_run_is_refused(finished: Finished, pictures: Path) -> None:
    before = (finished[0] / "state.pt").read_bytes()
    with pytest.raises(UsageError, match="holds a run already") as caught:
        run(finished[0], pictures)
    assert "--resume" in str(caught.value.hint)
    assert (finished[0] / "state.pt").read_bytes() == before


def test_resuming_nothing_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run to resume"):
        run(tmp_path / "new", pictures, resume=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"batch": 4}, "--batch 2, not 4"),
        ({"learning_rate": 0.01}, "--learning-rate 0.001, not 0.01"),
        ({"steps": 9}, "--steps 6, not 9"),
        ({"model": "gsasr-edsr"}, "--model gsasr-lite, not gsasr-edsr"),
    ],
)
def test_resuming_with_other_settings_is_refused(
    finished: Finished, pictures: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], option: str
) -> None:
    monkeypatch.setattr("gsrcli.training.build", lambda name: build("gsasr-lite", TINY))
    with pytest.raises(UsageError, match=option):
        run(finished[0], pictures, dataclasses.replace(SHORT, **change), resume=True)


def test_where_and_how_often_may_change(pictures: Path, tmp_path: Path) -> None:
    interrupted(tmp_path, pictures, 3)
    changed = dataclasses.replace(SHORT, save_every=1, validate_every=100, precision="bfloat16")
    assert [p.step for p in run(tmp_path, pictures, changed, resume=True)] == [4, 5, 6]


def test_a_damaged_state_is_no_bug(pictures: Path, tmp_path: Path) -> None:
    interrupted(tmp_path, pictures, 1)
    path = tmp_path / "state.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(GsrError, match=r"state\.pt"):
        run(tmp_path, pictures, resume=True)


def test_a_full_disk_leaves_the_last_state_and_no_litter(
    pictures: Path, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    interrupted(tmp_path, pictures, 2)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with full_disk(len(before["weights.safetensors"]) // 2), pytest.raises((OSError, GsrError)):
        run(tmp_path, pictures, resume=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert [p.step for p in run(tmp_path, pictures, resume=True)] == [3, 4, 5, 6]


# Learning


@pytest.mark.slow
def test_it_learns_a_picture_by_heart(tmp_path: Path) -> None:
    """Pictures as large as the crops, so that every step sees the same ones, up to a mirror."""
    (tmp_path / "pictures").mkdir()
    blocks = np.random.default_rng(0).integers(0, 2, (8, 8, 1)).repeat(3, axis=2).astype(np.uint8)
    picture = Image.fromarray(blocks * 200 + 20).resize((32, 32), Image.Resampling.NEAREST)
    picture.save(tmp_path / "pictures" / "a.png")
    picture.save(tmp_path / "pictures" / "b.png")
    same = {"scale_low": 2.0, "scale_high": 2.0, "scale_far": 2.0, "far_share": 0.0, "unequal_share": 0.0}
    config = dataclasses.replace(SHORT, steps=60, batch=4, warmup=10, learning_rate=1e-2, validate_every=60, **same)
    trainer = Trainer(config, tmp_path / "pictures", tmp_path / "run", resume=False)
    losses = [trainer._take_step(batch) for batch in trainer._batches()]
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:2])


# What cannot be trained


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"batch": 0},
        {"patch": -1},
        {"held_out": 0},
        {"ema": 1.0},
        {"scale_low": 0.5},
        {"scale_low": 5.0},
        {"scale_far": 2.0},
        {"workers": -1},
        {"learning_rate": -1.0},
        {"learning_rate": math.nan},
        {"far_share": 1.5},
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(SHORT, **change)


def test_too_few_pictures(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="4 pictures are too few to hold out 4") as caught:
        run(tmp_path, pictures, dataclasses.replace(SHORT, held_out=4))
    assert "--held-out" in str(caught.value.hint)


def test_pictures_that_are_too_small(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="192 pixels on its short side"):
        run(tmp_path, pictures, dataclasses.replace(SHORT, patch=48))


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="no pictures"):
        run(tmp_path / "run", tmp_path)


def test_a_folder_named_like_a_picture_is_passed_by(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "set.png").mkdir()
    for path in pictures.glob("*.png"):
        (tmp_path / "set.png" / path.name).write_bytes(path.read_bytes())
    assert len(run(tmp_path / "run", tmp_path, dataclasses.replace(SHORT, steps=1))) == 1


@pytest.mark.parametrize("side", [1, 3, 6])
def test_an_icon_among_the_pictures_does_no_harm(pictures: Path, tmp_path: Path, side: int) -> None:
    """It is left out of training, and must not spoil the validation either."""
    for path in pictures.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    Image.new("RGB", (side, side)).save(tmp_path / "0.png")  # the first is held out
    told = run(tmp_path / "run", tmp_path, dataclasses.replace(SHORT, steps=1))
    assert told[0].psnr is not None
    assert all(math.isfinite(psnr) for psnr in told[0].psnr.values())


# The command


Gsr = Callable[..., Result]


def _options(config: TrainConfig) -> list[str]:
    return [f"--{field.name.replace('_', '-')}={getattr(config, field.name)}" for field in dataclasses.fields(config)]


def test_the_command_trains(gsr: Gsr, pictures: Path, tmp_path: Path, finished: Finished) -> None:
    result = gsr("train", pictures, "--run", tmp_path, *_options(SHORT))
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'weights.safetensors'}\n"
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["step 3", "step 6"]
    assert "held-out PSNR ×2 " in result.stderr
    assert_same(state(tmp_path), state(finished[0]))


def test_help_shows_every_setting(gsr: Gsr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 240)
    shown = " ".join(gsr("train", "--help").stdout.split())
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


def test_an_interrupted_command_says_how_to_go_on(
    gsr: Gsr, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command again would be refused: the run exists."""
    take_step = Trainer._take_step

    def step(self: Trainer, batch: Any) -> float:
        if self.step == 2:
            raise KeyboardInterrupt
        return take_step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_take_step", step)
        _fails(gsr("train", pictures, "--run", tmp_path, *_options(SHORT)), 130, "interrupted", "--resume")
    assert state(tmp_path)["step"] == 2
    assert gsr("train", pictures, "--run", tmp_path, "--resume", *_options(SHORT)).exit_code == 0


def test_an_unknown_model_is_no_bug(gsr: Gsr, pictures: Path, tmp_path: Path) -> None:
    result = gsr("train", pictures, "--run", tmp_path / "run", *_options(SHORT), "--model", "gsasr-light")
    _fails(result, result.exit_code, "gsasr-light", "gsasr-lite")
    assert result.exit_code in (1, 2)


@pytest.mark.parametrize("value", ["1e6", "inf"])
def test_a_run_that_diverges_is_no_bug(gsr: Gsr, pictures: Path, tmp_path: Path, value: str) -> None:
    """Too high a rate is for the user to lower."""
    config = dataclasses.replace(SHORT, warmup=0, steps=30, validate_every=100, save_every=100)
    result = gsr("train", pictures, "--run", tmp_path / "run", *_options(config), "--learning-rate", value)
    _fails(result, result.exit_code)
    if result.exit_code:
        assert "learning" in result.stderr
    else:
        assert load_model(tmp_path / "run" / "weights.safetensors").device.type == "cpu"


def test_a_bad_picture_is_named(gsr: Gsr, pictures: Path, tmp_path: Path) -> None:
    for path in pictures.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "bad.png").write_bytes(b"no picture")
    _fails(gsr("train", tmp_path, "--run", tmp_path / "run", *_options(SHORT)), 1, tmp_path / "bad.png")


def test_a_missing_folder_is_named(gsr: Gsr, tmp_path: Path) -> None:
    _fails(gsr("train", tmp_path / "gone", "--run", tmp_path / "run", *_options(SHORT)), 1, tmp_path / "gone")
