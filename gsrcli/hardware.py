"""What this computer is made of. Needs no torch, and so works where torch does not."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

from gsrcli.errors import GsrError

__all__ = ["PATIENCE", "nvidia_driver", "processor_name"]

PATIENCE = 30
"""Seconds that another program may take to answer."""


def processor_name() -> str:
    """The processor's name, as people know it where the system tells."""
    if platform.system() == "Darwin":
        query = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout.strip()
    if platform.system() == "Linux":
        named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        if named:  # on Arm there is none
            return named[1]
    return platform.processor() or platform.machine()


def nvidia_driver() -> str | None:
    """The driver's version, whatever torch and the environment make of its GPUs; None where there is none.

    Raises:
        GsrError: there is one that does not work.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        raise GsrError(
            f"nvidia-smi fails: {done.stdout.strip() or done.stderr.strip()}",
            hint="restart the machine if the driver was updated just now; else reinstall the driver",
        )
    return next(iter(done.stdout.split()), None)
