"""A training run on disk: all that is needed to resume it exactly.

An index, ``state.json``, names the files that hold the tensors, each below 15 MB. These are written first, then the
index is replaced in one rename, so that it always names complete files that belong together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from gsrcli.errors import GsrError
from gsrcli.weights.checkpoint import write_checkpoint

__all__ = ["RunState", "read_facts", "read_state", "write_state"]

_FORMAT = "gsrcli-run"
_PART_BYTES = 15_000_000
_FACTS = ("step", "config", "schedule", "model")


@dataclass(frozen=True)
class RunState:
    """The state of a run.

    Attributes:
        facts: JSON data: the step reached, the run's config, its schedule, the model's config and the loss.
        tensors: tensors by name, on the CPU.
    """

    facts: dict[str, Any]
    tensors: dict[str, Tensor]


def write_state(folder: Path, name: str, state: RunState) -> None:
    """Write ``name.json`` and its parts, and delete older parts.

    Raises:
        GsrError: the files cannot be written. The previous state is kept.
    """
    index = folder / f"{name}.json"
    before = _parts_named_in(index)
    parts = []
    written: list[Path] = []
    try:
        for number, tensors in enumerate(_in_parts(state.tensors)):
            path = folder / f"{name}-{state.facts['step']}-{number}.safetensors"
            if path.name in before:  # written at the same step, perhaps with other settings
                path = path.with_stem(f"{path.stem}-again")
            written.append(path)
            write_checkpoint(path, save_tensors(tensors))
            parts.append(path.name)
        content = json.dumps({"format": _FORMAT, **state.facts, "parts": parts}, indent=1)
        write_checkpoint(index, content.encode())
    except BaseException:
        named = _parts_named_in(index)  # all of them, if the index was already renamed
        for path in written:
            if path.name not in named:
                path.unlink(missing_ok=True)
        raise
    for path in folder.glob(f"{name}-[0-9]*.safetensors"):  # of the previous state and of interrupted writes
        if path.name not in parts:
            with suppress(OSError):
                path.unlink()


def read_state(folder: Path, name: str) -> RunState:
    """Read a state that :func:`write_state` wrote.

    Raises:
        GsrError: a file is missing or damaged.
    """
    facts, parts = _read_index(folder, name)
    tensors: dict[str, Tensor] = {}
    for part in parts:
        with _whole(part):
            tensors |= load_tensors(part.read_bytes())
    return RunState(facts, tensors)


def read_facts(folder: Path, name: str) -> dict[str, Any]:
    """Return the facts of a state without reading its tensors. Raises what :func:`read_state` raises."""
    return _read_index(folder, name)[0]


def _read_index(folder: Path, name: str) -> tuple[dict[str, Any], list[Path]]:
    """Return the facts, and the paths of the files that hold the tensors."""
    index = folder / f"{name}.json"
    with _whole(index):
        facts = json.loads(index.read_text(encoding="utf-8"))
        if facts.pop("format") != _FORMAT or not facts.keys() >= {*_FACTS}:
            raise ValueError("not the state of a run")
        return facts, [folder / part for part in facts.pop("parts")]


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Translate errors on reading a file of a state into GsrError."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        hint = "start a new run in another folder; --from can load this run's weights"
        raise GsrError(f"{path} is damaged or missing", hint=hint) from error


def _parts_named_in(index: Path) -> list[str]:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return [str(part) for part in json.loads(index.read_text(encoding="utf-8"))["parts"]]
    return []


def _in_parts(tensors: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Split the tensors into parts of at most ``_PART_BYTES``, or of one tensor."""
    part: dict[str, Tensor] = {}
    size = 0
    for name, tensor in _plain(tensors.items()):
        if part and size + tensor.nbytes > _PART_BYTES:
            yield part
            part, size = {}, 0
        part[name] = tensor
        size += tensor.nbytes
    yield part


def _plain(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Copy each tensor to memory of its own on the CPU, as safetensors requires."""
    for name, tensor in tensors:
        yield name, tensor.detach().cpu().contiguous().clone()
