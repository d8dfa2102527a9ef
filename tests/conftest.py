"""Fixtures that tests share: a tiny model, synthetic pictures, and ways to run ``gsr``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from PIL import Image
from support.checkpoints import save_tiny
from support.pictures import samples
from typer.testing import CliRunner, Result

import gsrcli
from gsrcli.cli.app import app


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured and recorded as "told"."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "told":
                terminalreporter.write_line(str(text))


@pytest.fixture(scope="session", autouse=True)
def _one_gsrcli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let processes that tests start import the same gsrcli as the tests, whatever the current folder is.

    None of them reaches the network, or the weights of the user who runs the tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GSRCLI_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("GSRCLI_OFFLINE", "1")
        for name in ("HF_TOKEN", "http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        patch.setenv("PYTHONPATH", str(Path(gsrcli.__file__).parents[1]), prepend=os.pathsep)
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        yield


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a model that loads and runs in no time."""
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def gsr() -> Callable[..., Result]:
    """Run ``gsr`` with these arguments in this process; standard output and error are captured separately."""

    def run(*arguments: object) -> Result:
        return CliRunner(env={"TERM": "dumb", "FORCE_COLOR": None}).invoke(app, [str(a) for a in arguments])

    return run


@pytest.fixture
def upscale(gsr: Callable[..., Result], tiny_path: Path) -> Callable[..., Result]:
    """Run ``gsr upscale`` with the tiny model in this process."""

    def run(*arguments: object) -> Result:
        return gsr("upscale", "--model", tiny_path, *arguments)

    return run


@pytest.fixture
def gsr_process() -> Callable[..., subprocess.Popen[str]]:
    """Start ``gsr`` with these arguments in its own process, as a shell would."""

    def start(*arguments: object, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "gsrcli", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "2", **env},
            # A test run in the background ignores SIGINT, and so would the processes that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # type: ignore[arg-type, return-value]
        )

    return start


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """Return a context that limits files to a number of bytes; writing more fails, as on a full disk."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def ending_at(limit: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return ending_at


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """Write a picture of smooth waves, an edge and some noise into the test's folder."""

    def write(
        name: str = "photo.png", size: tuple[int, int] = (24, 18), mode: str = "RGB", seed: int = 0, **options: object
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(samples(size, mode, seed), mode).save(path, **options)
        return path

    return write
