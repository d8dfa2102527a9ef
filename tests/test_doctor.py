"""``gsr doctor``: it lists the installation, finds what is broken, and survives it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

import gsrcli
from gsrcli import rasterizer
from gsrcli.doctor import _shareable, diagnose
from gsrcli.gaussians import Gaussians
from gsrcli.models.lite import Lite
from gsrcli.rasterizer import cpu, nvrtc
from gsrcli.weights.catalog import Bundled, model_weights
from gsrcli.weights.load import DEFAULT_MODEL
from gsrcli.weights.store import Store

Gsr = Callable[..., Result]
Process = Callable[..., "subprocess.Popen[str]"]
Facts = dict[str, Any]

SOURCES = Path(gsrcli.__file__).parents[1]
SECTIONS = ("versions", "environment", "processor", "devices", "formats", "weights", "caches", "upscaling")


@pytest.fixture
def doctor(gsr: Gsr) -> Callable[[int], Facts]:
    """Run ``gsr doctor --json`` in this process, check its exit code and silence, and return its findings."""

    def run(exit_code: int) -> Facts:
        result = gsr("doctor", "--json")
        assert (result.exit_code, result.stderr) == (exit_code, ""), result.output
        findings: Facts = json.loads(result.stdout)
        assert findings["works"] == (exit_code == 0)
        return findings

    return run


def problem(findings: Facts, text: str) -> Facts:
    """Return the only problem that contains a text."""
    (found,) = (entry for entry in findings["problems"] if text in entry["what"])
    return found


# A sound installation


def test_help_needs_no_torch() -> None:
    code = "import runpy, sys; sys.argv = ['gsr', 'doctor', '--help']; runpy.run_module('gsrcli', run_name='__main__')"
    script = f"try:\n    {code}\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "exit code is 0" in done.stdout
    assert "gsrcli.cli.doctor" in done.stderr.split()
    assert not set(done.stderr.split()) & {"torch", "numpy", "cv2", "PIL", "psutil"}


def test_one_object_for_programs_and_no_secrets(gsr_process: Process) -> None:
    secrets = {"HF_TOKEN": "hf_abc", "HF_ENDPOINT": "https://ann:pass@mirror.example/", "GSRCLI_SOMETHING": "1"}
    process = gsr_process("doctor", "--json", HOME=str(SOURCES), **secrets)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    findings = json.loads(out)
    assert tuple(findings) == (*SECTIONS, "problems", "works")
    for secret in ("hf_abc", "pass@", str(SOURCES)):
        assert secret not in out
    environment = findings["environment"]
    assert environment.items() >= {"HF_TOKEN": "set", "GSRCLI_SOMETHING": "1", "OMP_NUM_THREADS": "2"}.items()
    assert environment["HF_ENDPOINT"] == "https://mirror.example/"
    assert findings["weights"][DEFAULT_MODEL] == {
        "state": "verified",
        "file": f"~/{Store().entry(DEFAULT_MODEL).path.relative_to(SOURCES)}",
    }
    assert findings["processor"]["torch_threads"] == 2


def test_it_lists_the_installation(doctor: Callable[[int], Facts]) -> None:
    findings = doctor(0)
    versions, processor, device = findings["versions"], findings["processor"], findings["devices"]["cpu"]
    assert versions["gsrcli"] == gsrcli.__version__
    assert versions["python"] == sys.version.split()[0]
    for name in ("torch", "numpy", "pillow", "safetensors"):
        assert versions[name] == metadata.version(name)
    assert versions["torch_build"].split()[0] in ("CPU", "CUDA", "ROCm")
    assert any(name.startswith("opencv") for name, version in versions.items() if version)
    assert processor["name"]
    assert processor["threads"] >= 1
    assert 0 < processor["free_bytes"] < processor["memory_bytes"]
    assert " allows " in processor["free_by"]
    assert (device["rasterizer"], device["rasterizer_note"]) == rasterizer.backend("cpu")
    assert device["precision"] in ("float32", "bfloat16")
    assert 0 < device["largest_error"] < 1e-5
    assert {".png", ".gif"} <= set(findings["formats"]["read"])
    assert ".png" in findings["formats"]["written"]
    enlargement = findings["upscaling"][DEFAULT_MODEL]
    assert enlargement["seconds"] > 0
    assert 0 < enlargement["deviation"] < 1


def test_the_text_can_be_pasted_into_a_bug_report(gsr: Gsr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSRCLI_SOMETHING", "1")
    result = gsr("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.isascii()
    lines = result.stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")][: len(SECTIONS)] == list(SECTIONS)
    assert f"  gsrcli: {gsrcli.__version__}" in lines
    assert "  GSRCLI_SOMETHING: 1" in lines
    assert any(line.startswith(f"  {DEFAULT_MODEL}: state verified, file ") for line in lines)
    assert lines[-1] == "upscaling works"


def test_missing_distributions_are_listed_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without_cuda(name: str) -> str:
        if name.startswith("cuda-"):
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_cuda)
    versions = diagnose()["versions"]
    assert (versions["cuda-core"], versions["cuda-bindings"]) == (None, None)
    assert versions["torch"] == version("torch")


def test_the_size_of_the_kernel_cache(
    doctor: Callable[[int], Facts], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kernels"
    monkeypatch.setattr(nvrtc, "cache_folder", lambda: folder)
    assert doctor(0)["caches"]["kernels"] == {"folder": str(folder), "size_bytes": 0}
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"12345")
    (folder / "deeper" / "b.bin").write_bytes(b"67")
    assert doctor(0)["caches"]["kernels"]["size_bytes"] == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann", "~"),
        ("/home/ann/x: cannot read /home/ann/y.", "~/x: cannot read ~/y."),
        ("/home/anna/x", "/home/anna/x"),
        ("/mnt/home/ann/x", "/mnt/home/ann/x"),
        ("https://ann:secret@host/x", "https://host/x"),
        ("ann@host", "ann@host"),
    ],
)
def test_home_and_passwords_are_left_out(monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert _shareable({"a": [{"b": text}], "c": 1}) == {"a": [{"b": expected}], "c": 1}


# A broken torch


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('libcudart.so.12: cannot open')", "torch: ImportError: libcudart.so.12: cannot open"),
        ("raise OSError('c10.dll or one of its dependencies')", "torch: OSError: c10.dll or one of its dependencies"),
        ("", "torch: AttributeError"),
    ],
    ids=["import error", "library error", "empty"],
)
def test_it_works_without_a_working_torch(gsr_process: Process, tmp_path: Path, code: str, reason: str) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(code)
    path = os.pathsep.join((str(tmp_path), os.environ["PYTHONPATH"]))

    process = gsr_process("doctor", "--json", PYTHONPATH=path)
    out, err = process.communicate()
    assert (process.returncode, err) == (1, "")
    findings = json.loads(out)
    assert not findings["works"]
    assert problem(findings, reason)["fatal"]
    assert "pytorch.org" in problem(findings, reason)["hint"]
    assert len([entry for entry in findings["problems"] if entry["fatal"]]) == 1
    assert findings["versions"]["numpy"] == metadata.version("numpy")
    assert findings["weights"][DEFAULT_MODEL]["state"] == "verified"
    assert findings["formats"]["read"]

    process = gsr_process("doctor", PYTHONPATH=path)
    out, err = process.communicate()
    assert (process.returncode, err) == (1, "")
    assert f"  error: {reason}" in out
    assert out.endswith("upscaling does not work\n")


# The rasterizer


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Simulate an installation without a compiler."""
    cached = (cpu.load, rasterizer._backend)
    with monkeypatch.context() as patch:
        patch.setattr(cpu, "_LIBRARY", tmp_path / "library.so")
        for function in cached:
            function.cache_clear()
        yield
    for function in cached:
        function.cache_clear()


@pytest.mark.usefixtures("no_library")
def test_a_missing_native_library_is_reported_once(doctor: Callable[[int], Facts]) -> None:
    for findings in (doctor(0), doctor(0)):  # the rasterizer warns the first time only
        device = findings["devices"]["cpu"]
        assert device["rasterizer"] == "torch"
        assert "not compiled" in device["rasterizer_note"]
        assert device["largest_error"] < 1e-5
        slow = problem(findings, "not compiled")
        assert (slow["fatal"], "C++17" in slow["hint"]) == (False, True)


@pytest.mark.parametrize(("spoil", "reason"), [(0.01, "wrong by up to 0.01"), (float("nan"), "not finite")])
def test_a_rasterizer_that_draws_wrongly_is_found(
    doctor: Callable[[int], Facts], monkeypatch: pytest.MonkeyPatch, spoil: float, reason: str
) -> None:
    draw = rasterizer.rasterize

    def spoiled(gaussians: Gaussians, *arguments: Any, **options: Any) -> torch.Tensor:
        image = draw(gaussians, *arguments, **options)
        if gaussians.dtype == torch.float32:
            image[0, 1, -1, -1] += spoil  # one value of one pixel
        return image

    monkeypatch.setattr(rasterizer, "rasterize", spoiled)
    found = problem(doctor(1), "drawing on cpu")
    assert found == {"what": f"drawing on cpu: the test drawing is {reason}", "hint": "reinstall gsrcli", "fatal": True}


# Weights and network


def _register(monkeypatch: pytest.MonkeyPatch, name: str, path: Path) -> None:
    ours = model_weights()[DEFAULT_MODEL]
    assert ours.bundled
    entry = dataclasses.replace(ours, name=name, bundled=Bundled(path, ours.bundled.digest))
    monkeypatch.setitem(model_weights(), name, entry)


@pytest.mark.parametrize("state", ["damaged", "missing"])
@pytest.mark.parametrize(("name", "exit_code"), [(DEFAULT_MODEL, 1), ("another", 0)])
def test_damaged_and_missing_weights(
    doctor: Callable[[int], Facts],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    state: str,
    name: str,
    exit_code: int,
) -> None:
    path = tmp_path / "weights.safetensors"
    if state == "damaged":
        content = bytearray(Store().entry(DEFAULT_MODEL).path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    _register(monkeypatch, name, path)
    findings = doctor(exit_code)
    assert findings["weights"][name]["state"] == state
    found = problem(findings, f"the weights of {name} are {state}")
    assert (found["hint"], found["fatal"]) == ("reinstall gsrcli", exit_code == 1)
    assert (DEFAULT_MODEL in findings["upscaling"]) == (exit_code == 0)
    assert findings["devices"]["cpu"]["largest_error"] < 1e-5  # the other probes still run


def test_a_network_that_gives_another_picture_is_found(
    doctor: Callable[[int], Facts], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Lite.forward

    def dark(self: Lite, image: torch.Tensor, scale: torch.Tensor) -> Gaussians:
        field = forward(self, image, scale)
        return dataclasses.replace(field, value=field.value - 1)

    monkeypatch.setattr(Lite, "forward", dark)
    findings = doctor(1)
    assert problem(findings, "enlarged test picture is wrong")["fatal"]
    assert findings["upscaling"][DEFAULT_MODEL]["deviation"] > 8


def test_a_network_that_fails_is_reported_and_debug_shows_where(
    doctor: Callable[[int], Facts], gsr: Gsr, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*_: object) -> None:
        raise RuntimeError("shapes\ndo not match")

    monkeypatch.setattr(Lite, "forward", forward)
    found = problem(doctor(1), "upscaling: RuntimeError: shapes do not match")
    assert "--debug" in found["hint"]
    result = gsr("doctor", "--debug")
    assert isinstance(result.exception, RuntimeError)


# Graphics processors


@pytest.fixture
def nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Put a program called nvidia-smi, made of the given shell commands, first in PATH."""

    def install(commands: str) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{commands}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


@pytest.mark.skipif(os.name == "nt", reason="needs sh")
@pytest.mark.parametrize(
    ("cuda", "reason"),
    [(None, "torch is built without CUDA"), ("13.0", "built for CUDA 13.0, cannot use the NVIDIA GPU through")],
)
def test_a_gpu_that_torch_cannot_use(
    doctor: Callable[[int], Facts],
    nvidia_smi: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    cuda: str | None,
    reason: str,
) -> None:
    nvidia_smi("echo 535.104.05; echo 535.104.05")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    findings = doctor(0)
    assert findings["versions"]["nvidia_driver"] == "535.104.05"
    found = problem(findings, reason)
    assert (found["fatal"], "pytorch.org" in found["hint"]) == (False, True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not [entry for entry in doctor(0)["problems"] if "GPU" in entry["what"]]


@pytest.mark.skipif(os.name == "nt", reason="needs sh")
def test_a_driver_that_fails(doctor: Callable[[int], Facts], nvidia_smi: Callable[[str], None]) -> None:
    nvidia_smi("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    found = problem(doctor(0), "version mismatch")
    assert "restart" in found["hint"]


def test_a_warning_of_torch_is_a_problem(doctor: Callable[[int], Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    def is_available() -> bool:
        warnings.warn("CUDA initialization: the driver on your system is too old", UserWarning, stacklevel=2)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    found = problem(doctor(0), "CUDA: CUDA initialization: the driver on your system is too old")
    assert "driver" in found["hint"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA works here")
def test_a_gpu_that_fails_is_reported_and_the_rest_examined(
    doctor: Callable[[int], Facts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch reports a GPU but cannot use it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    findings = doctor(1)
    assert problem(findings, "drawing on cuda:0: ")["fatal"]
    assert problem(findings, "upscaling: ")["fatal"]
    assert {entry["hint"] for entry in findings["problems"] if ": Assertion" in entry["what"]} == {"use --device cpu"}
    assert findings["devices"]["cpu"]["largest_error"] < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_that_works(doctor: Callable[[int], Facts]) -> None:
    findings = doctor(0)
    device = findings["devices"]["cuda:0"]
    assert device["name"] == torch.cuda.get_device_name(0)
    assert tuple(map(int, device["compute_capability"].split("."))) == torch.cuda.get_device_capability(0)
    assert 0 < device["free_bytes"] <= device["memory_bytes"]
    assert device["largest_error"] < 1e-4
    assert findings["upscaling"][DEFAULT_MODEL]["device"] == "cuda"


# Pictures


def test_opencv_that_does_not_load(doctor: Callable[[int], Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    found = problem(doctor(0), "picture formats: OpenCV")
    assert (found["hint"], found["fatal"]) == ("pip install opencv-python-headless", False)


def test_pillow_without_avif(doctor: Callable[[int], Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsrcli.images.OUTPUT_SUFFIXES", (".png", ".webp"))
    findings = doctor(0)
    assert findings["formats"]["written"] == [".png", ".webp"]
    assert "does not support .avif" in problem(findings, "Pillow")["what"]
