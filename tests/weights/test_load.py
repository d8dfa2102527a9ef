"""Checkpoints: the bundled ones, and round trips through files."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from support.checkpoints import TINY, save_tiny, tiny_model

from gsrcli.errors import GsrError, ModelError
from gsrcli.models import build, config_of
from gsrcli.size import Size
from gsrcli.upscaling.upscaler import Upscaler
from gsrcli.weights.checkpoint import read_model, read_named_model, save_model
from gsrcli.weights.load import DEFAULT_MODEL, load_model, load_named_model

# Bundled weights

MOST_PARAMETERS = 1_200_000


def test_the_default_model_stays_within_its_budget() -> None:
    model = load_model()
    assert sum(p.numel() for p in model.parameters()) <= MOST_PARAMETERS
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model.device.type == "cpu"


@pytest.mark.slow
def test_the_default_model_beats_bicubic_on_sharp_edges() -> None:
    """This is not a benchmark: it only shows that the weights are trained and belong to this network."""
    import numpy as np
    from PIL import Image

    from gsrcli.images import Picture

    y, x = np.mgrid[:192, :192]
    shapes = ((x - 96) ** 2 + (y - 96) ** 2 < 70**2) ^ (x + 2 * y > 310) ^ ((x // 24 + y // 40) % 2 == 0)
    sharp = Image.fromarray((shapes * 180 + 40).astype(np.uint8)).convert("RGB").resize((96, 96), Image.Resampling.BOX)
    low = sharp.resize((48, 48), Image.Resampling.BICUBIC)
    bicubic = np.asarray(low.resize((96, 96), Image.Resampling.BICUBIC), float)
    enlarged = Upscaler(load_model()).enlarge(Picture(np.asarray(low)), Size(96, 96)).pixels
    truth = np.asarray(sharp, float)
    assert np.mean((enlarged - truth) ** 2) < 0.8 * np.mean((bicubic - truth) ** 2)


# Names and paths


def test_a_name_takes_precedence_over_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT_MODEL).write_bytes(b"a file that happens to be called so")
    assert sum(p.numel() for p in load_model(DEFAULT_MODEL).parameters()) > 0


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gsasr-light", "try gsasr-lite"),
        ("gsasr_lite", "try gsasr-lite"),
        ("zzz", "gsasr-lite"),
        ("zzz", ", or the path of a checkpoint"),
    ],
)
def test_unknown_names_are_answered_with_known_ones(name: str, hint: str) -> None:
    with pytest.raises(ModelError, match=f"there is no model called '{name}'") as caught:
        load_model(name)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_architectures_without_weights_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsrcli.models.MODEL_NAMES", ("gsasr-new",))
    with pytest.raises(ModelError, match="no weights for gsasr-new") as caught:
        load_model("gsasr-new")
    assert caught.value.hint == "give the path of a checkpoint: --model PATH.safetensors"


def test_a_folder_is_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_model(tmp_path)


# Round trips


@pytest.mark.parametrize("give", [str, Path])
def test_a_saved_model_loads_as_it_was(tmp_path: Path, give: type) -> None:
    model = tiny_model(seed=3)
    path = tmp_path / "größe 1.safetensors"
    save_model(model, "gsasr-lite", path, {})
    loaded = load_model(give(path))
    assert config_of(loaded) == config_of(model)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)
    assert not loaded.training
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_checkpoint_names_its_architecture_under_any_file_name(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "gsasr-edsr.safetensors", seed=3)
    expected = tiny_model(seed=3).state_dict()
    (name, read), (loaded_name, loaded) = read_named_model(path), load_named_model(path)
    assert name == loaded_name == "gsasr-lite"
    for model in (read, loaded, read_model(path)):
        assert model.state_dict().keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in model.state_dict().items())
    assert load_named_model()[0] == DEFAULT_MODEL


def test_metadata_describe_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_model(tiny_model(), "gsasr-lite", path, {"training": {"steps": 7, "loss": "L1"}})
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["model"]) == ("gsrcli", "gsasr-lite")
    assert json.loads(metadata["config"]).items() >= TINY.items()
    assert json.loads(metadata["training"]) == {"steps": 7, "loss": "L1"}


def test_an_older_file_is_replaced_completely_or_not_at_all(
    tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = save_tiny(tmp_path / "weights.safetensors", seed=1)
    before = path.read_bytes()
    with full_disk(len(before) // 2), pytest.raises((OSError, GsrError)):
        save_tiny(path, seed=2)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    save_tiny(path, seed=2)
    assert path.read_bytes() != before


def test_a_model_in_training_with_other_strides_can_be_saved(tmp_path: Path) -> None:
    model = build("gsasr-lite", TINY).to(memory_format=torch.channels_last)
    save_model(model.train(), "gsasr-lite", tmp_path / "a.safetensors", {})
    assert load_model(tmp_path / "a.safetensors").device.type == "cpu"
