"""This computer's hardware and drivers. Does not import torch at the top, so it works even if torch does not."""

from __future__ import annotations

import datetime
import platform
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsrcli._version import __version__
from gsrcli.errors import GsrError

if TYPE_CHECKING:
    import torch

__all__ = ["PATIENCE", "environment", "nvidia_driver", "processor_name"]

PATIENCE = 30
"""Timeout for other programs, in seconds."""


def processor_name() -> str:
    """Return the processor's product name, or its architecture if the system does not report one."""
    if platform.system() == "Darwin":
        query = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout.strip()
    if platform.system() == "Linux":
        named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        if named:  # absent on Arm
            return named[1]
    return platform.processor() or platform.machine()


def nvidia_driver() -> str | None:
    """Return the version of NVIDIA's driver, even if torch cannot use its GPUs; None without a driver.

    Raises:
        GsrError: the driver does not work.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        raise GsrError(
            f"nvidia-smi failed: {done.stdout.strip() or done.stderr.strip()}",
            hint="restart the machine if the driver was just updated; otherwise reinstall the driver",
        )
    return next(iter(done.stdout.split()), None)


def environment(device: torch.device) -> dict[str, Any]:
    """Return versions, hardware and date as plain data; leave out what is unknown."""
    import torch

    facts: dict[str, Any] = {
        "gsrcli": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": processor_name(),
        "threads": torch.get_num_threads(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if device.type == "cuda":
        facts |= {
            "device": torch.cuda.get_device_name(device),
            "processor": facts["device"],
            "cuda": torch.version.cuda,
            "driver": _driver(),
        }
    elif device.type != "cpu":
        facts["device"] = f"{facts['device']} ({device.type})"
    return {name: fact for name, fact in facts.items() if fact is not None}


def _driver() -> str | None:
    with suppress(GsrError, OSError, subprocess.SubprocessError):  # gsr doctor reports what is wrong
        return nvidia_driver()
    return None
