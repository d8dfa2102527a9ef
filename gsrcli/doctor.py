"""Examine an installation, for bug reports and repairs.

Probes are independent: a failure or warning in one becomes a problem with a hint, and the next probe still runs.
Therefore whatever may be broken, torch above all, is imported inside the probes.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from gsrcli._version import __version__
from gsrcli.errors import GsrError, ModelError
from gsrcli.runtime.hardware import nvidia_driver, processor_name
from gsrcli.runtime.memory import tightest_limit
from gsrcli.weights.load import DEFAULT_MODEL
from gsrcli.weights.store import Store

if TYPE_CHECKING:
    from gsrcli.gaussians import Gaussians
    from gsrcli.images import Picture

__all__ = ["diagnose"]

Facts = dict[str, Any]

# For each group, the installed members are listed, or else the first as missing.
_DISTRIBUTIONS = (
    ("torch",),
    ("numpy",),
    ("pillow",),
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    ("safetensors",),
    ("cuda-core",),
    ("cuda-bindings",),
    ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"),
)
_VARIABLES = re.compile(r"(GSRCLI|PYTORCH|TORCH|CUDA|HIP|OMP|MKL|HF)_")
_SECRETS = re.compile(r"TOKEN|KEY|SECRET|PASSWORD")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_MAX_MESSAGE = 500  # characters
_MAX_DEVIATION = 8.0  # 8-bit steps; 0.2 is usual
_INSTALL_TORCH = "reinstall torch as described at https://pytorch.org/get-started/locally/"
_PLAIN_TORCH_HINTS = {
    "cpu": "install a C++17 compiler, such as g++, and reinstall gsrcli",
    "cuda": "install what is missing; if nothing is missing, report a bug",
    "mps": "try whether --device cpu is faster",
}


def diagnose(debug: bool = False) -> Facts:
    """Examine the installation: list its parts, test the rasterizers, and upscale a test picture.

    Args:
        debug: whether to let the exception of a failed probe propagate.

    Returns:
        Plain data that may be shown to others: the home folder is ``~``, and secrets are left out.

        - ``versions``: versions of distributions, Python, the platform and the driver; None for a missing one.
        - ``environment``: the environment variables that matter.
        - ``processor``: name, cores, threads, and memory in bytes.
        - ``devices``: the devices that torch can use, by name, with the precision that "auto" means there, the
          rasterizer and a note on it, and the largest error of a test drawing against its float64 reference.
        - ``formats``: file name suffixes that can be read and written.
        - ``weights``: the weights that are on this machine or should be, by name: verified, damaged or missing.
        - ``caches``: folders and their sizes in bytes.
        - ``upscaling``: results of the default model on the default device, by name. ``deviation`` is the mean
          difference, in 8-bit steps, between a smooth picture and its enlargement scaled down again.
        - ``problems``: each with ``what``, ``hint``, and ``fatal``: whether upscaling fails because of it.
        - ``works``: whether no problem is fatal.
    """
    findings = _Findings(debug)
    _find_without_torch(findings)
    with findings.probing("torch", hint=_INSTALL_TORCH, fatal=True):
        import torch

        findings.versions["torch_build"] = _torch_build()
        findings.processor["torch_threads"] = torch.get_num_threads()
        with findings.probing("caches"):
            _find_caches(findings.caches)
        for name in _usable_devices(findings):
            _find_device(findings, name)
        if findings.weights.get(DEFAULT_MODEL, {}).get("state") == "verified":
            hint = (
                "use --device cpu" if "cuda:0" in findings.devices else "run gsr doctor --debug to see where it fails"
            )
            with findings.probing("upscaling", hint=hint, fatal=True):
                _upscale(findings.upscaling.setdefault(DEFAULT_MODEL, {}))
    return findings.report()


@dataclass(frozen=True)
class _Problem:
    what: str
    hint: str | None
    fatal: bool


@dataclass
class _Findings:
    """The sections of the report. Probes fill them step by step, so that results before a failure are kept."""

    debug: bool
    versions: Facts = field(default_factory=dict)
    environment: Facts = field(default_factory=dict)
    processor: Facts = field(default_factory=dict)
    devices: Facts = field(default_factory=dict)
    formats: Facts = field(default_factory=dict)
    weights: Facts = field(default_factory=dict)
    caches: Facts = field(default_factory=dict)
    upscaling: Facts = field(default_factory=dict)
    problems: list[_Problem] = field(default_factory=list)

    @contextmanager
    def probing(self, what: str, *, hint: str | None = None, fatal: bool = False) -> Iterator[None]:
        """Record an exception raised in the context, and each warning of a library, as problems.

        Args:
            what: subject of the probe.
            hint: what to do about an exception without a hint of its own, or about a warning.
            fatal: whether upscaling fails if this probe does.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                yield
            except Exception as error:
                if self.debug:
                    raise
                known = isinstance(error, GsrError)
                reason = str(error) if known else f"{type(error).__name__}: {error}"
                self.add(f"{what}: {reason}", getattr(error, "hint", None) or hint, fatal)
        for warning in caught:
            # The rasterizer's RuntimeWarning is not recorded here: _find_device reports its backend.
            if issubclass(warning.category, UserWarning):
                self.add(f"{what}: {warning.message}", hint)

    def add(self, what: str, hint: str | None, fatal: bool = False) -> None:
        self.problems.append(_Problem(" ".join(what.split())[:_MAX_MESSAGE], hint, fatal))

    def report(self) -> Facts:
        report = dataclasses.asdict(self)
        del report["debug"]
        return _shareable({**report, "works": not any(problem.fatal for problem in self.problems)})


def _shareable(value: Any) -> Any:
    """Return nested data without the home folder and without passwords in URLs."""
    if isinstance(value, dict):
        return {key: _shareable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_shareable(entry) for entry in value]
    if not isinstance(value, str):
        return value
    home = os.path.expanduser("~")  # noqa: PTH111 (Path.home raises where there is none)
    if len(home) > 1:
        value = re.sub(rf"(?<![\w.-]){re.escape(home)}(?![\w-])", "~", value)
    return _CREDENTIALS.sub("", value)


# Probes that need no torch


def _find_without_torch(findings: _Findings) -> None:
    with findings.probing("versions"):
        _find_versions(findings.versions)
    with findings.probing("the NVIDIA driver"):
        findings.versions["nvidia_driver"] = nvidia_driver()
    with findings.probing("environment"):
        _find_variables(findings.environment)
    with findings.probing("processor"):
        _find_processor(findings.processor)
    with findings.probing("picture formats", hint="reinstall gsrcli"):
        _find_formats(findings.formats)
    with findings.probing("weights", hint="reinstall gsrcli", fatal=True):
        _find_weights(findings)


def _find_versions(facts: Facts) -> None:
    facts["gsrcli"] = __version__
    facts["python"] = platform.python_version()
    facts["platform"] = platform.platform()
    for names in _DISTRIBUTIONS:
        facts.update((name, version) for name in names if (version := _version(name)))
        if facts.keys().isdisjoint(names):
            facts[names[0]] = None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _find_variables(facts: Facts) -> None:
    for name, value in sorted(os.environ.items()):
        if _VARIABLES.match(name):
            facts[name] = "set" if _SECRETS.search(name) else value


def _find_processor(facts: Facts) -> None:
    import psutil

    facts["name"] = processor_name()
    facts["cores"] = psutil.cpu_count(logical=False)
    facts["threads"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts["memory_bytes"] = psutil.virtual_memory().total
    tightest = tightest_limit()
    facts["free_bytes"], facts["free_by"] = max(0, int(tightest.free)), str(tightest)


def _find_formats(facts: Facts) -> None:
    from gsrcli.images import INPUT_SUFFIXES, OUTPUT_SUFFIXES
    from gsrcli.images.opencv import load_cv2

    facts["read"], facts["written"] = list(INPUT_SUFFIXES), list(OUTPUT_SUFFIXES)
    missing = [suffix for suffix in (".webp", ".avif") if suffix not in OUTPUT_SUFFIXES]
    if missing:
        raise GsrError(
            f"this Pillow does not support {' or '.join(missing)}", hint="pip install --force-reinstall pillow"
        )
    load_cv2()


def _find_weights(findings: _Findings) -> None:
    for entry in Store().entries():
        if not entry.is_present and not entry.bundled:
            continue  # downloaded at first use
        facts = findings.weights[entry.name] = {"state": "verified", "file": str(entry.path)}
        try:
            entry.verify()
        except ModelError as error:
            facts["state"] = "damaged" if entry.is_present else "missing"
            findings.add(str(error), error.hint, fatal=entry.name == DEFAULT_MODEL)


# Probes that need torch


def _torch_build() -> str:
    import torch

    if torch.version.hip:
        return f"ROCm {torch.version.hip}"
    return f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"


def _find_caches(facts: Facts) -> None:
    from gsrcli.rasterizer.nvrtc import cache_folder

    files = [path for path in cache_folder().rglob("*") if path.is_file()]
    facts["kernels"] = {"folder": str(cache_folder()), "size_bytes": sum(path.stat().st_size for path in files)}


def _usable_devices(findings: _Findings) -> list[str]:
    """Return the devices that torch can use; record a GPU that it cannot use as a problem."""
    import torch

    names = ["cpu"]
    with findings.probing("CUDA", hint="update the NVIDIA driver, or use --device cpu"):
        if torch.cuda.is_available():
            names += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        else:
            _explain_missing_cuda(findings)
    with findings.probing("MPS", hint="use --device cpu"):
        if torch.backends.mps.is_available():
            names.append("mps")
    return names


def _explain_missing_cuda(findings: _Findings) -> None:
    import torch

    driver = findings.versions.get("nvidia_driver")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if driver is None or hidden:
        return
    if torch.version.cuda is None:
        findings.add("there is an NVIDIA GPU, but torch is built without CUDA", _INSTALL_TORCH)
    else:
        findings.add(
            f"torch, built for CUDA {torch.version.cuda}, cannot use the NVIDIA GPU through driver {driver}",
            f"update the driver; or, for an older CUDA, {_INSTALL_TORCH}",
        )


def _find_device(findings: _Findings, name: str) -> None:
    facts: Facts = {}
    findings.devices[name] = facts
    hint = "reinstall gsrcli" if name == "cpu" else "use --device cpu"
    with findings.probing(name, hint=hint):
        _describe(name, facts)
    needed = name in ("cpu", "cuda:0")  # upscaling uses one of them by default
    with findings.probing(f"drawing on {name}", hint=hint, fatal=needed):
        from gsrcli.rasterizer import backend

        facts["rasterizer"], facts["rasterizer_note"] = backend(name)
        if facts["rasterizer"] == "torch":
            slow = f"drawing on {name} is slow, because it runs in plain torch: {facts['rasterizer_note']}"
            findings.add(slow, _PLAIN_TORCH_HINTS[name.partition(":")[0]])
        _draw(name, facts)


def _describe(name: str, facts: Facts) -> None:
    import torch

    from gsrcli.runtime.devices import pick_precision, precision_name

    device = torch.device(name)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["name"] = properties.name
        facts["compute_capability"] = f"{properties.major}.{properties.minor}"
        facts["free_bytes"], facts["memory_bytes"] = torch.cuda.mem_get_info(device)
    facts["precision"] = precision_name(pick_precision(device))


def _draw(name: str, facts: Facts) -> None:
    """Draw a test field as upscaling does, and compare it with a drawing on the CPU in float64.

    Raises:
        GsrError: they differ by more than the largest contribution that rasterize may omit.
    """
    import torch

    from gsrcli.rasterizer import EPSILON, rasterize

    field, size, scale = _field(), (19, 27), (19 / 6, 27 / 8)
    exact = rasterize(field.to(dtype=torch.float64), size, scale)
    drawn = rasterize(field.to(name), size, scale).cpu()
    if not drawn.isfinite().all():
        raise GsrError("the test drawing is not finite")
    facts["largest_error"] = float((drawn - exact).abs().max())
    if facts["largest_error"] > EPSILON:
        raise GsrError(f"the test drawing is wrong by up to {facts['largest_error']:.2g}")


def _field() -> Gaussians:
    """Return Gaussians of many shapes, with values in [-1, 1), on 6 x 8 LR pixels; the same on every machine."""
    import torch

    from gsrcli.gaussians import Gaussians

    index = torch.arange(24.0)

    def spread(*steps: float) -> torch.Tensor:
        """Return numbers spread over [0, 1): the fractional parts of the multiples of each step."""
        return torch.stack([(index * step).frac() for step in steps], -1)[None]

    return Gaussians(
        centre=spread(0.618, 0.755) * torch.tensor([8.0, 6.0]),
        sigma=0.2 * 10 ** spread(0.570, 0.325),
        rho=1.8 * spread(0.414)[..., 0] - 0.9,
        value=2 * spread(0.732, 0.236, 0.646) - 1,
    )


def _upscale(facts: Facts) -> None:
    """Upscale a smooth picture with the default model, device and precision.

    Raises:
        GsrError: the enlargement does not look like the picture.
    """
    from gsrcli.size import Size
    from gsrcli.upscaling.upscaler import Upscaler

    picture = _smooth_picture()
    began = time.perf_counter()
    upscaler = Upscaler.load()
    facts |= {"device": str(upscaler.device), "precision": upscaler.precision}
    enlarged = upscaler.enlarge(picture, Size(32, 32))
    facts["seconds"] = round(time.perf_counter() - began, 3)
    downscaled = enlarged.pixels.reshape(16, 2, 16, 2, 3).mean((1, 3))
    facts["deviation"] = round(float(abs(downscaled - picture.pixels).mean()), 3)
    if facts["deviation"] > _MAX_DEVIATION:
        raise GsrError(f"the enlarged test picture is wrong by {facts['deviation']:.0f} of 255 steps on average")


def _smooth_picture() -> Picture:
    import numpy as np

    from gsrcli.images import Picture

    y, x = np.mgrid[:16, :16].astype(np.uint8)
    return Picture(np.stack([16 * y, 16 * x, 8 * (x + y)], -1))
