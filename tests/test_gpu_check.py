"""scripts/gpu_check.py: what it writes of what it measured, and what it says where it cannot measure."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_check.py"


@pytest.fixture(scope="module")
def gpu_check() -> ModuleType:
    specification = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["gpu_check"] = module  # dataclasses look there
    specification.loader.exec_module(module)
    return module


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


def drawing(**entries: Any) -> dict[str, Any]:
    row = {"model": "gsasr-edsr", "backend": "cuda", "order": "picture", "scale": 4.0, "height": 720}
    return {**row, "forward_ms": 0.1, "backward_ms": 0.4, **entries}


def test_goals_stand_beside_what_was_measured(gpu_check: ModuleType) -> None:
    rows = [
        drawing(forward_over_published=250.0, backward_over_published=40.0, arithmetic_floor_ms=0.025),
        drawing(order="shuffled", forward_over_published=1.0, arithmetic_floor_ms=0.001),
        drawing(backend="published", forward_over_published=1.0),
        drawing(scale=2.0, forward_over_published=1.0),
    ]
    shares = [
        {"model": "gsasr-edsr", "scale": scale, "rasterizer_ms": 0.2, "total_ms": ms} for scale, ms in ((2, 9), (12, 2))
    ]
    found = gpu_check.goals({"rasterizer": {"rows": rows}, "bench": {"rows": shares}})
    assert [(measured, verdict) for _, _, measured, verdict in found] == [
        ("gsasr-edsr: 250", "reached"),
        ("gsasr-edsr: 40", "not reached"),
        ("gsasr-edsr: 4", "reached"),
        ("×2: 2.22, ×12: 10", "not reached"),
    ]


def test_what_is_not_known_is_not_reached(gpu_check: ModuleType) -> None:
    found = gpu_check.goals({"rasterizer": {"rows": [drawing()]}})
    assert [(measured, verdict) for _, _, measured, verdict in found] == [("gsasr-edsr: unknown", "not reached")] * 3
    assert gpu_check.goals({"rasterizer": {"error": "no GPU"}}) == []


def test_without_a_gpu_it_measures_nothing(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = run("--output", tmp_path / "record", "--commit", "abc")
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "no CUDA device" in done.stderr


def test_a_rehearsal_on_the_cpu_leaves_a_record(tmp_path: Path) -> None:
    done = run("--device", "cpu", "--output", tmp_path, "--commit", "abc", "doctor", "upscale")
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert record["machine"]["commit"] == "abc"
    assert record["stages"]["doctor"]["works"] is True
    assert record["stages"]["upscale"]["done"] == 1
    page = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "a rehearsal on the CPU" in page
    assert f"network {record['stages']['upscale']['seconds']['network']:.2f} s" in page


def test_what_a_failing_command_says_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """doctor tells problems on its standard output, and it is for problems that it is run."""
    broken = tmp_path / "site" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("__version__ = '0'\nraise OSError('libcudart.so.99 is missing')\n")
    script = tmp_path / "stage.py"
    script.write_text(
        f"import importlib.util, os, sys\n"
        f"specification = importlib.util.spec_from_file_location('gpu_check', {str(SCRIPT)!r})\n"
        "module = importlib.util.module_from_spec(specification)\n"
        "sys.modules['gpu_check'] = module\n"
        "specification.loader.exec_module(module)\n"
        f"os.environ['PYTHONPATH'] = {str(broken.parent)!r} + os.pathsep + {str(SCRIPT.parents[1])!r}\n"
        "facts = dict.fromkeys(('device', 'commit', 'date', 'driver', 'torch', 'python'), 'any')\n"
        "module.machine = lambda *_: facts\n"
        f"sys.argv = ['gpu_check.py', '--output', {str(tmp_path)!r}, '--commit', 'abc', 'doctor']\n"
        "sys.exit(module.main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1, done.stderr
    assert "libcudart.so.99 is missing" in json.loads((tmp_path / "gpu.json").read_text())["stages"]["doctor"]["error"]
