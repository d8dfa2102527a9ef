"""A run on disk: what it takes to go on exactly where it stopped.

An index, ``state.json``, names the files that hold the tensors, each small enough to be sent anywhere. They are written
first, and the index then in one rename: whatever happens, it names files that are whole and belong together.
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
    """Where a run is.

    Attributes:
        facts: plain data: the step reached, the run's config, its schedule, the model's config and the loss.
        tensors: by name, on the CPU.
    """

    facts: dict[str, Any]
    tensors: dict[str, Tensor]


def write_state(folder: Path, name: str, state: RunState) -> None:
    """Write ``name.json`` and its parts, and delete older parts.

    Raises:
        GsrError: they cannot be written. The state before stays.
    """
    index = folder / f"{name}.json"
    before = _parts_named_in(index)
    parts = []
    written: list[Path] = []
    try:
        for number, tensors in enumerate(_in_parts(state.tensors)):
            path = folder / f"{name}-{state.facts['step']}-{number}.safetensors"
            if path.name in before:  # of the same step: it may differ, as after a change of settings
                path = path.with_stem(f"{path.stem}-again")
            written.append(path)
            write_checkpoint(path, save_tensors(tensors))
            parts.append(path.name)
        content = json.dumps({"format": _FORMAT, **state.facts, "parts": parts}, indent=1)
        write_checkpoint(index, content.encode())
    except BaseException:
        named = _parts_named_in(index)  # all of them, if only what follows the index's rename was cut off
        for path in written:
            if path.name not in named:
                path.unlink(missing_ok=True)
        raise
    for path in folder.glob(f"{name}-[0-9]*.safetensors"):  # the state's before, and of one whose writing was cut off
        if path.name not in parts:
            with suppress(OSError):
                path.unlink()


def read_state(folder: Path, name: str) -> RunState:
    """Read what :func:`write_state` wrote.

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
    """The facts of a state, without reading its tensors. For what is raised see :func:`read_state`."""
    return _read_index(folder, name)[0]


def _read_index(folder: Path, name: str) -> tuple[dict[str, Any], list[Path]]:
    """The facts, and the files that hold the tensors."""
    index = folder / f"{name}.json"
    with _whole(index):
        facts = json.loads(index.read_text(encoding="utf-8"))
        if facts.pop("format") != _FORMAT or not facts.keys() >= {*_FACTS}:
            raise ValueError("it is of another kind")
        return facts, [folder / part for part in facts.pop("parts")]


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Tell of a file of a state that cannot be read."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        hint = "train anew, in another folder; --from takes the weights that are there"
        raise GsrError(f"{path} is damaged or missing", hint=hint) from error


def _parts_named_in(index: Path) -> list[str]:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return [str(part) for part in json.loads(index.read_text(encoding="utf-8"))["parts"]]
    return []


def _in_parts(tensors: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors in turn, as many at a time as fit into a part."""
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
    """Each with memory of its own, as safetensors asks for."""
    for name, tensor in tensors:
        yield name, tensor.detach().cpu().contiguous().clone()
