"""Weights on this machine: downloaded once from a real server or imported, verified, and never incomplete."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.checkpoints import save_tiny, tiny_model
from support.released_files import SMALL, released_states, write_released
from support.server import Answer, Server, serving, status, whole
from typer.testing import Result

from gsrcli.cli.console import Console
from gsrcli.download import http
from gsrcli.download.digest import Digest, sha256_of
from gsrcli.errors import DownloadError, GsrError, ModelError, UsageError
from gsrcli.models.feature_extractors import ARCHITECTURES
from gsrcli.models.gsasr import GSASR_CONFIGS
from gsrcli.weights.catalog import Bundled, ModelWeights, Released, model_weights, published
from gsrcli.weights.checkpoint import backbone_bytes, save_model
from gsrcli.weights.convert import model_of_released
from gsrcli.weights.load import load_model
from gsrcli.weights.store import Entry, Store

Gsr = Callable[..., Result]

NAME = "gsasr-small"

pytestmark = pytest.mark.filterwarnings("ignore:.*trying again")


def listed(files: dict[str, Released]) -> ModelWeights:
    """Return the release's entry as in weights.toml."""
    about = {"description": "For a test.", "license": "Apache-2.0", "parameters": 7, "training": "noise"}
    return ModelWeights(name=NAME, model="gsasr-edsr", released=files, **about)


def entry(name: str = NAME) -> Entry:
    return Store().entry(name)


class Fixture:
    """A release of small weights on a server, listed in weights.toml under the name NAME."""

    def __init__(self, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = server
        self.files = write_released(folder)
        self.monkeypatch = monkeypatch
        self.contents = {name: path.read_bytes() for name, path in self.files.items()}
        self.urls = {name: server.give(f"/{name}", whole(content)) for name, content in self.contents.items()}
        self.publish()

    def publish(self, **digests: Digest) -> None:
        """List the release, with the known digests of its encoder and decoder."""
        files = {file: Released(file, (url,), digests.get(file.partition(".")[0])) for file, url in self.urls.items()}
        self.monkeypatch.setitem(model_weights(), NAME, listed(files))

    def answer(self, file: str, *answers: Answer) -> None:
        self.server.give(f"/{file}", *answers)

    def process(self, code: str) -> subprocess.Popen[str]:
        """Run code in a process that knows the release."""
        script = f"""
import sys, warnings
from gsrcli.weights.store import Store
from gsrcli.download import http
from gsrcli.models.gsasr import GSASR_CONFIGS, GSASRConfig
from gsrcli.weights.catalog import ModelWeights, Released, Scores, model_weights
GSASR_CONFIGS["gsasr-edsr"] = {SMALL!r}
files = {{file: Released(file, (url,)) for file, url in {self.urls!r}.items()}}
model_weights()[{NAME!r}] = {listed({})!r}
model_weights()[{NAME!r}].released.update(files)
entry = Store().entry({NAME!r})
{code}
"""
        command = [sys.executable, "-c", script]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of weights."""
    monkeypatch.setenv("GSRCLI_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


@pytest.fixture
def release(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fixture]:
    monkeypatch.setitem(GSASR_CONFIGS, "gsasr-edsr", SMALL)
    monkeypatch.setattr(http, "PAUSES", (0.01,))
    monkeypatch.delenv("GSRCLI_OFFLINE")
    with serving() as server:
        yield Fixture(server, tmp_path / "release", monkeypatch)


def names(folder: Path) -> set[str]:
    """Return the names of the kept files, without locks."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix != ".lock"}


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


BUNDLED = ("gsasr-lite", "lpips", "dists")
READY = {f"{NAME}.safetensors", f"{NAME}.json"}


# Where


def test_the_cache_is_where_the_user_wants_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Store().folder == home
    monkeypatch.setenv("GSRCLI_HOME", "~/mine")
    assert Store().folder == Path.home() / "mine" / "weights"
    monkeypatch.setenv("GSRCLI_HOME", "")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    if sys.platform == "linux":
        assert Store().folder == Path("/data/gsrcli/weights")


# Fetching


def test_weights_are_fetched_once_and_are_the_released_ones(release: Fixture, home: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    model = load_model(NAME, report=lambda *args: told.append(args))
    expected = model_of_released("gsasr-edsr", release.files).state_dict()
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in model.state_dict().items())
    assert {file for file, *_ in told} == {f"{NAME}/encoder.pth", f"{NAME}/decoder.pth"}
    assert names(home) == READY
    load_model(NAME)
    assert [path for path, _ in release.server.requests] == ["/encoder.pth", "/decoder.pth"]


def test_the_record_says_where_they_come_from(release: Fixture, home: Path) -> None:
    path = entry().fetch()
    record = json.loads((home / f"{NAME}.json").read_text())
    assert record["sha256"] == sha256_of(path)
    for file, source in record["sources"].items():
        assert source == {"sha256": sha256_of(release.files[file]), "origin": release.urls[file]}


@pytest.mark.parametrize("kind", ["sha256", "git-blob-sha1"])
def test_published_digests_are_required(release: Fixture, home: Path, kind: str) -> None:
    digest = Digest.of(release.files["encoder.pth"], kind)
    wrong = Digest(kind, "0" * len(digest.value))
    release.publish(encoder=digest, decoder=wrong)
    with pytest.raises(DownloadError, match=r"decoder\.pth is not the published file: its digest is") as caught:
        entry().fetch()
    assert str(wrong) in str(caught.value)
    assert not READY & names(home)
    release.publish(encoder=digest)
    assert entry().fetch().exists()
    assert len(release.server.asked("/encoder.pth")) == 1  # it was valid, and kept


def test_the_first_download_is_trusted_and_changes_are_refused(release: Fixture, home: Path, tmp_path: Path) -> None:
    path = entry().fetch()
    path.write_bytes(path.read_bytes()[:-1])
    release.answer("decoder.pth", whole(write_released(tmp_path / "changed", seed=1)["decoder.pth"].read_bytes()))
    with pytest.raises(DownloadError, match=r"decoder\.pth has changed since .* first served it: SHA") as caught:
        entry().fetch()
    assert caught.value.hint == f"if the change is expected: gsr weights remove {NAME}, then fetch again"
    entry().remove()
    assert load_model(NAME)


def test_files_that_do_not_fit_are_not_recorded(release: Fixture, home: Path) -> None:
    """A wrong file at first use does not make the right one refused later."""
    release.answer("decoder.pth", whole(release.contents["encoder.pth"]))
    with pytest.raises(ModelError, match="do not fit gsasr-edsr"):
        entry().fetch()
    assert names(home) == set()
    release.answer("decoder.pth", whole(release.contents["decoder.pth"]))
    assert load_model(NAME)


class Evil:
    """An example of what a pickle can do when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def _pickled(content: object, tmp_path: Path) -> bytes:
    torch.save(content, tmp_path / "file.pth")
    return (tmp_path / "file.pth").read_bytes()


def _bad_file(kind: str, good: bytes, tmp_path: Path) -> bytes:
    state = released_states()["encoder.pth"]
    first = next(iter(state))
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    return {
        "code": lambda: _pickled({"params_ema": Evil(tmp_path / "pwned")}, tmp_path),
        "a bare pickle": lambda: pickle.dumps(Evil(tmp_path / "pwned"), protocol=2),
        "truncated": lambda: good[: len(good) // 2],
        "a flipped bit": lambda: bytes(flipped),
        "noise": lambda: b"\x80\x02" + os.urandom(5000),
        "a list": lambda: _pickled([1, 2], tmp_path),
        "no tensors": lambda: _pickled({"params_ema": {"conv_first.weight": 3}}, tmp_path),
        "a missing name": lambda: _pickled({k: v for k, v in state.items() if k != first}, tmp_path),
        "an unknown name": lambda: _pickled({**state, "more": torch.ones(1)}, tmp_path),
        "another shape": lambda: _pickled({**state, first: state[first][:1]}, tmp_path),
        "not finite": lambda: _pickled({**state, first: state[first] * torch.nan}, tmp_path),
    }[kind]()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("by_hand", [False, True], ids=["fetched", "imported"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("code", "encoder.pth contains more than tensors, which could run arbitrary code; it was not loaded"),
        ("a bare pickle", "encoder.pth (contains more than tensors|is damaged)"),
        ("truncated", "encoder.pth is damaged"),
        ("a flipped bit", "encoder.pth is damaged.* does not match its checksum"),
        ("noise", "encoder.pth is damaged"),
        ("a list", "encoder.pth contains no state dict"),
        ("no tensors", "do not fit gsasr-edsr"),
        ("a missing name", "missing: encoder.conv_first.weight"),
        ("an unknown name", "unexpected: encoder.more"),
        ("another shape", "encoder.conv_first.weight has shape"),
        ("not finite", "contains infinite or NaN weights"),
    ],
)
def test_bad_files_are_refused(
    release: Fixture, home: Path, tmp_path: Path, kind: str, message: str, by_hand: bool
) -> None:
    bad = _bad_file(kind, release.contents["encoder.pth"], tmp_path)
    release.answer("encoder.pth", whole(bad))
    release.files["encoder.pth"].write_bytes(bad)
    with pytest.raises(ModelError, match=message):
        entry().import_released(list(release.files.values())) if by_hand else entry().fetch()
    assert names(home) == set()
    assert not (tmp_path / "pwned").exists()


def test_a_wrong_model_s_tensors_are_not_all_listed(release: Fixture) -> None:
    release.answer("decoder.pth", whole(release.contents["encoder.pth"]))
    with pytest.raises(ModelError, match=r"and \d+ more$") as caught:
        entry().fetch()
    assert len(str(caught.value).splitlines()) < 12


# Interruptions


def test_a_killed_download_resumes(release: Fixture, home: Path) -> None:
    content = release.contents["encoder.pth"]
    release.answer("encoder.pth", whole(content, pace=0.2), whole(content))
    process = release.process("entry.fetch()")
    part = home / f"{NAME}.parts" / "encoder.pth.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 0, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    size = part.stat().st_size
    assert not READY & names(home)
    assert load_model(NAME)
    assert release.server.asked("/encoder.pth")[-1]["Range"] == f"bytes={size}-"
    assert names(home) == READY


def test_two_processes_download_once(release: Fixture, home: Path) -> None:
    gate = threading.Event()
    encoder = whole(release.contents["encoder.pth"])
    release.answer("encoder.pth", lambda handler: (gate.wait(60), encoder(handler))[1])
    first = release.process("http.TIMEOUT = 60; print(entry.fetch())")
    wait_until(lambda: bool(release.server.requests), first)
    second = release.process("print(entry.fetch())")
    assert second.stderr is not None
    assert "another process is using the weights of gsasr-small; waiting for it to finish" in second.stderr.readline()
    gate.set()
    for process in (first, second):
        output, error = process.communicate(timeout=60)
        assert output.strip() == str(home / f"{NAME}.safetensors"), error
    assert [path for path, _ in release.server.requests] == ["/encoder.pth", "/decoder.pth"]
    assert names(home) == READY


def test_a_full_disk(release: Fixture, home: Path, full_disk: Callable[[int], AbstractContextManager[None]]) -> None:
    with full_disk(1_000_000), pytest.raises(ModelError, match=r"cannot write to .*: File too large") as caught:
        entry().fetch()
    assert caught.value.hint is not None
    assert "GSRCLI_HOME" in caught.value.hint
    assert names(home) == set()


def test_a_disk_that_fills_up_after_the_download(
    release: Fixture, home: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with full_disk(5_000_000), pytest.raises(GsrError, match="cannot write"):
        entry().fetch()
    assert f"{NAME}.safetensors" not in names(home)
    assert load_model(NAME)
    assert len(release.server.requests) == 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(release: Fixture, home: Path) -> None:
    home.mkdir(parents=True)
    home.chmod(0o555)
    try:
        with pytest.raises(ModelError, match="Permission denied"):
            entry().fetch()
    finally:
        home.chmod(0o755)


def test_a_file_where_the_folder_should_be(release: Fixture, home: Path) -> None:
    home.parent.mkdir()
    home.write_text("mine")
    with pytest.raises(ModelError, match="cannot write to"):
        entry().fetch()
    assert home.read_text() == "mine"


def test_the_record_is_damaged(release: Fixture, home: Path) -> None:
    entry().fetch()
    (home / f"{NAME}.json").write_text("{}")
    release.server.requests.clear()
    for action in (Entry.locate, Entry.fetch):
        with pytest.raises(ModelError, match=r"the record .*gsasr-small\.json is damaged") as caught:
            action(entry())
        assert caught.value.hint == f"to delete it: gsr weights remove {NAME}"
    assert release.server.requests == []
    entry().remove()
    assert load_model(NAME)


def test_a_record_that_cannot_be_read_is_not_called_damaged(release: Fixture, home: Path) -> None:
    entry().fetch()
    record = home / f"{NAME}.json"
    record.unlink()
    record.mkdir()
    release.server.requests.clear()
    for action in (Entry.locate, Entry.fetch):
        with pytest.raises(ModelError, match=r"cannot read the record .*gsasr-small\.json: Is a directory"):
            action(entry())
    assert release.server.requests == []


# Between the record and the checkpoint

PAUSED = """
import gsrcli.weights.store, pathlib, time
write = gsrcli.weights.store.write_checkpoint
def paused(path, content):
    pathlib.Path(REACHED).touch()
    while not pathlib.Path(GO).exists():
        time.sleep(0.01)
    write(path, content)
gsrcli.weights.store.write_checkpoint = paused
"""


@pytest.fixture
def paused(release: Fixture, tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Run code in a process that stops just before it moves a checkpoint into place."""

    def run(code: str) -> subprocess.Popen[str]:
        reached = tmp_path / "reached"
        names = f"REACHED, GO = {str(reached)!r}, {str(tmp_path / 'go')!r}"
        process = release.process(f"{names}\n{PAUSED}\n{code}")
        wait_until(reached.exists, process)
        return process

    return run


def test_a_download_killed_before_its_checkpoint_is_in_place(
    release: Fixture, home: Path, paused: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = paused("entry.fetch()")
    process.kill()
    process.communicate()
    assert READY & names(home) == {f"{NAME}.json"}
    assert load_model(NAME)
    assert names(home) == READY
    assert len(release.server.requests) == 2  # the part was resumed


def test_a_process_that_comes_before_the_checkpoint_waits_for_it(
    release: Fixture, home: Path, tmp_path: Path, paused: Callable[[str], subprocess.Popen[str]]
) -> None:
    first = paused("entry.fetch()")
    second = release.process("print(entry.locate())")
    assert second.stderr is not None
    assert "waiting for it" in second.stderr.readline()
    (tmp_path / "go").touch()
    for process in (first, second):
        _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
    assert len(release.server.requests) == 2


def test_an_import_killed_before_its_checkpoint_is_in_place(
    home: Path, tmp_path: Path, gsr: Gsr, paused: Callable[[str], subprocess.Popen[str]]
) -> None:
    path = save_tiny(tmp_path / "mine.safetensors", seed=1)
    process = paused(f"import pathlib; Store().import_checkpoint(pathlib.Path({str(path)!r}))")
    process.kill()
    process.communicate()
    assert names(home) == {"mine.json"}
    assert Store().imported() == []
    assert gsr("weights", "verify").exit_code == 0
    Store().import_checkpoint(save_tiny(path, seed=2))  # it may have been trained further
    assert load_model("mine")


# A folder that cannot be read


@pytest.fixture(params=["too long", "forbidden"])
def unreadable(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / ("x" * 300 if request.param == "too long" else "forbidden")
    if request.param == "forbidden":
        if not hasattr(os, "geteuid") or os.geteuid() == 0:
            pytest.skip("root may look anywhere")
        folder.mkdir(mode=0o000)
    monkeypatch.setenv("GSRCLI_HOME", str(folder / "home"))
    yield
    if request.param == "forbidden":
        folder.chmod(0o755)


@pytest.mark.usefixtures("unreadable")
def test_bundled_weights_need_no_folder(gsr: Gsr, photo: Callable[..., Path], tmp_path: Path) -> None:
    assert gsr("upscale", photo(), "--scale", 2).exit_code == 0
    assert (tmp_path / "photo_x2.png").exists()
    assert "bundled" in gsr("weights", "list").stdout
    assert gsr("weights", "verify").stdout.splitlines() == [f"{entry(name).path}: intact" for name in BUNDLED]
    for arguments in (["weights", "verify", "mine"], ["upscale", photo(), "--scale", 3, "--model", "mine"]):
        result = gsr(*arguments)
        assert result.exit_code == 1
        assert "called 'mine'" in result.stderr
    result = gsr("weights", "fetch", "gsasr-edsr")
    assert result.exit_code == 1
    assert "error: cannot write to" in result.stderr
    assert "GSRCLI_HOME" in result.stderr


# Verification


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:-9] + b"\0" + c[-8:], lambda c: b""])
def test_damage_is_noticed_on_every_load(release: Fixture, damage: Callable[[bytes], bytes]) -> None:
    path = entry().fetch()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=f"the weights of {NAME} are damaged: {path}") as caught:
        load_model(NAME)
    assert caught.value.hint == f"gsr weights fetch {NAME}"
    entry().fetch()
    assert load_model(NAME)


def test_a_checkpoint_without_a_record_is_not_trusted(release: Fixture, home: Path) -> None:
    path = entry().fetch()
    (home / f"{NAME}.json").unlink()
    with pytest.raises(ModelError, match="are damaged"):
        load_model(NAME)
    assert path.exists()


def test_the_bundled_weights_are_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "tiny.safetensors")
    weights = replace(model_weights()["gsasr-lite"], bundled=Bundled(path, Digest("sha256", "0" * 64)))
    monkeypatch.setitem(model_weights(), "gsasr-lite", weights)
    with pytest.raises(ModelError, match="the weights of gsasr-lite are damaged") as caught:
        load_model("gsasr-lite")
    assert str(path) in str(caught.value)
    assert caught.value.hint == "reinstall gsrcli"
    path.unlink()
    with pytest.raises(ModelError, match="the weights of gsasr-lite are missing"):
        load_model("gsasr-lite")


# Without a network


def test_offline_nothing_is_requested(release: Fixture, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSRCLI_OFFLINE", "1")
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(DownloadError, match="GSRCLI_OFFLINE is set") as caught:
        load_model(NAME)
    assert caught.value.hint == f"to import the files by hand: gsr weights import encoder.pth decoder.pth --name {NAME}"
    assert release.server.requests == []
    assert names(home) == set()
    entry().import_released(list(release.files.values()))
    assert load_model(NAME)


def test_imported_files_are_the_fetched_ones(release: Fixture, home: Path) -> None:
    entry().import_released(list(release.files.values()))
    imported = load_file(entry().path)
    entry().remove()
    fetched = load_file(entry().fetch())
    assert fetched.keys() == imported.keys()
    assert all(torch.equal(tensor, imported[key]) for key, tensor in fetched.items())


def test_imported_files_are_checked_like_downloads(release: Fixture, home: Path, tmp_path: Path) -> None:
    entry().fetch()
    others = list(write_released(tmp_path / "changed", seed=1).values())
    with pytest.raises(DownloadError, match=r"encoder\.pth has changed since"):
        entry().import_released(others)
    entry().remove()
    release.publish(decoder=Digest.of(release.files["decoder.pth"]))
    with pytest.raises(DownloadError, match=r"decoder\.pth is not the published file"):
        entry().import_released(others)
    assert names(home) == set()


@pytest.mark.parametrize("given", [["encoder.pth"], ["encoder.pth", "encoder.pth"], ["encoder.pth", "other.pth"]])
def test_exactly_the_released_files_are_imported(release: Fixture, given: list[str]) -> None:
    files = [release.files["encoder.pth"].with_name(name) for name in given]
    with pytest.raises(UsageError, match=f"{NAME} is made from encoder.pth and decoder.pth"):
        entry().import_released(files)


def test_an_intact_checkpoint_is_not_converted_again(release: Fixture, home: Path) -> None:
    entry().import_released(list(release.files.values()))
    before = [(home / name).stat().st_ino for name in sorted(READY)]
    entry().import_released(list(release.files.values()))
    assert [(home / name).stat().st_ino for name in sorted(READY)] == before
    entry().path.write_bytes(b"")
    entry().import_released(list(release.files.values()))
    assert load_model(NAME)


def test_own_weights_get_a_name(home: Path, tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "mine.safetensors", seed=1)
    assert Store().import_checkpoint(path).name == "mine"
    assert Store().import_checkpoint(path, "other").name == "other"
    assert Store().imported() == ["mine", "other"]
    assert Store().import_checkpoint(path).name == "mine"  # importing again is harmless
    path.unlink()
    assert load_model("mine")
    (home / "mine.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="the weights of mine are damaged") as caught:
        load_model("mine")
    assert caught.value.hint == "gsr weights remove mine, then import them again"


def test_names_are_not_taken_twice(release: Fixture, home: Path, tmp_path: Path) -> None:
    mine, other = save_tiny(tmp_path / "mine.safetensors", seed=1), save_tiny(tmp_path / "other.safetensors", seed=2)
    Store().import_checkpoint(mine)
    with pytest.raises(ModelError, match="the name mine is taken by other weights"):
        Store().import_checkpoint(other, "mine")
    for name in ("../mine", "a b", "x.safetensors"):
        with pytest.raises(UsageError, match=r"invalid name .*: use letters, digits, '-' and '_'"):
            Store().import_checkpoint(other, name)
    assert names(home) == {"mine.safetensors", "mine.json"}


def test_a_file_without_a_record_is_not_replaced(home: Path, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    path = save_tiny(home / "mine.safetensors", seed=1)
    with pytest.raises(ModelError, match="the weights of mine are damaged"):
        load_model("mine")  # it has no record
    with pytest.raises(ModelError, match="the name mine is taken by other weights"):
        Store().import_checkpoint(save_tiny(tmp_path / "other.safetensors", seed=2), "mine")
    assert Store().import_checkpoint(path).name == "mine"
    assert load_model("mine")


@pytest.mark.parametrize("name", [NAME, "gsasr-lite", "gsasr-edsr", "alexnet"])
@pytest.mark.parametrize("by", ["--name", "file", "note"])
def test_names_of_released_weights_are_reserved(
    release: Fixture, home: Path, tmp_path: Path, gsr: Gsr, name: str, by: str
) -> None:
    """Only the released files become released weights, whatever a checkpoint's metadata say."""
    bundled = entry("gsasr-lite").path.read_bytes()
    path = tmp_path / f"{name if by == 'file' else 'mine'}.safetensors"
    save_model(tiny_model(), "gsasr-lite", path, {"released": {"name": name, "files": {}}})
    result = gsr("weights", "import", path, *(["--name", name] if by == "--name" else []))
    if by == "note":
        assert names(home) == {"mine.safetensors", "mine.json"}
    else:
        assert result.exit_code == 1
        assert f"the name {name} is reserved for released weights" in result.stderr
        assert "choose another --name" in result.stderr
        assert not home.exists()
    assert entry("gsasr-lite").path.read_bytes() == bundled


def test_a_backbone_is_not_a_model(home: Path, tmp_path: Path, gsr: Gsr) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(backbone_bytes(ARCHITECTURES["alexnet"].build(), "alexnet"))
    result = gsr("weights", "import", path)
    assert result.exit_code == 1
    assert "is not a checkpoint of gsrcli" in result.stderr
    assert "it is the backbone of a metric; gsr weights fetch" in result.stderr
    assert not home.exists()


def test_removed_weights_leave_nothing(release: Fixture, home: Path) -> None:
    entry().fetch()
    entry().remove()
    assert names(home) == set()
    with pytest.raises(ModelError, match=f"the weights of {NAME} are not on this machine"):
        entry().remove()
    with pytest.raises(ModelError, match="gsasr-lite is part of gsrcli"):
        entry("gsasr-lite").remove()


@pytest.mark.parametrize("command", ["remove", "verify", "fetch", "path"])
def test_names_are_not_paths(gsr: Gsr, home: Path, command: str) -> None:
    home.mkdir(parents=True)
    for path in (home.parent / "x.safetensors", home.parent / "x.json"):
        path.write_text("mine")
    with pytest.raises(ModelError, match=r"there are no weights called '\.\./x'"):
        entry("../x")
    result = gsr("weights", command, "../x")
    assert (result.exit_code, "there are no weights called '../x'" in result.stderr) == (1, True)
    assert (home.parent / "x.safetensors").read_text() == "mine"


def test_imported_weights_cannot_be_downloaded(home: Path, tmp_path: Path) -> None:
    mine = Store().import_checkpoint(save_tiny(tmp_path / "mine.safetensors"))
    assert mine.fetch() == mine.path  # they are on this machine
    mine.path.write_bytes(b"")
    for action in (mine.fetch, lambda: mine.import_released([tmp_path / "mine.pth"])):
        with pytest.raises(ModelError, match="the weights of mine were imported, not released") as caught:
            action()
        assert caught.value.hint == "gsr weights remove mine, then import them again"


def test_a_store_can_be_any_folder(home: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "elsewhere")
    path = store.import_checkpoint(save_tiny(tmp_path / "mine.safetensors")).locate()
    assert path == tmp_path / "elsewhere" / "mine.safetensors"
    assert [entry.name for entry in store.entries()] == [*published(), "mine"]
    assert Store().imported() == []


# The command


def test_weights_are_listed(gsr: Gsr, release: Fixture, home: Path, tmp_path: Path) -> None:
    Store().import_checkpoint(save_tiny(tmp_path / "mine.safetensors"))
    table, _, notes = gsr("weights", "list").stdout.partition("\n\n")
    lines = {line.split()[0]: line for line in table.splitlines()}
    assert lines.keys() == {"name", "mine", *published()}
    assert lines["gsasr-lite"].split()[1:6] == ["bundled", "4", "MB", "Apache-2.0", "known"]
    assert "recorded at first fetch" in lines["gsasr-edsr"]
    assert "DIV2K 31.04, LSDIR 26.82, Urban100 27.45 (2)" in lines["gsasr-edsr"]
    assert "(1) on Y, border = scale, Pillow's bicubic downscaling\n" in notes
    assert "(2) on Y, border = min(scale, 8), bicubic downscaling; by its authors\n" in notes
    assert lines["gsasr-edsr"].split()[1:5] == ["—", "≈", "102", "MB"]
    assert lines["vgg16"].split()[1:] == ["—", "≈", "553", "MB", "BSD-3-Clause", "known", "for", "metrics"]
    assert lines["lpips"].split()[1:] == ["bundled", "11", "kB", "BSD-2-Clause", "known", "for", "metrics"]
    assert lines[NAME].split()[1] == "—"
    assert lines["mine"].split()[1] == "imported"
    assert gsr("weights", "fetch", NAME).exit_code == 0
    facts = json.loads(gsr("weights", "list", "--json").stdout)
    assert facts["folder"] == str(home)
    by_name = {fact["name"]: fact for fact in facts["weights"]}
    assert by_name[NAME]["where"] == "cached"
    assert by_name[NAME]["bytes"] == entry().path.stat().st_size
    assert by_name["gsasr-edsr-paper"]["scores"]["psnr"]["DIV2K"]["12"] == 25.5
    assert by_name["gsasr-hatl"]["license"] == "Apache-2.0"
    assert (by_name["gsasr-hatl"]["pinned"], by_name["vgg16"]["pinned"]) == (False, True)
    assert by_name["gsasr-hatl"]["files"]["encoder.pth"]["digest"] is None
    assert by_name["vgg16"]["files"]["vgg16-397923af.pth"]["digest"].startswith("sha256:397923af")


def test_names_are_not_cut_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    monkeypatch.setenv("COLUMNS", "40")
    Console().table(("name", "what"), [("gaussiansr-edsr-released", "a long story " * 5)], [], {})
    assert "gaussiansr-edsr-released" in capsys.readouterr().out


def test_fetch_verify_path_remove(gsr: Gsr, release: Fixture, home: Path) -> None:
    checkpoint = str(home / f"{NAME}.safetensors")
    result = gsr("weights", "fetch", NAME)
    assert (result.exit_code, result.stdout) == (0, f"{checkpoint}\n")
    assert f"downloading {NAME}/encoder.pth" in result.stderr
    assert gsr("weights", "fetch", NAME).stderr == ""
    assert gsr("weights", "path", NAME).stdout == f"{checkpoint}\n"
    assert gsr("weights", "path").stdout == f"{home}\n"
    lines = [f"{entry(name).path}: intact" for name in ("gsasr-lite", NAME, "lpips", "dists")]
    assert gsr("weights", "verify").stdout.splitlines() == lines
    Path(checkpoint).write_bytes(b"")
    result = gsr("weights", "verify", NAME, "gsasr-lite")
    assert result.exit_code == 1
    assert f"the weights of {NAME} are damaged" in result.stderr
    assert "intact" in result.stdout  # the others are still verified
    assert gsr("weights", "remove", NAME).exit_code == 0
    assert names(home) == set()
    result = gsr("weights", "path", NAME)
    assert result.exit_code == 1
    assert f"gsr weights fetch {NAME}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fetch"], 2, "give either names"),
        (["fetch", "gsasr-lite", "--all"], 2, "give either names"),
        (["fetch", "gsasr-edrs"], 1, "try gsasr-edsr"),
        (["verify", "nothing"], 1, "there are no weights called 'nothing'"),
        (["remove", "gsasr-edsr"], 1, "the weights of gsasr-edsr are not on this machine"),
        (["import", "gone.pth"], 2, "no such file: gone.pth"),
        (["import", "here.pth"], 2, "add --name NAME"),
        (["import", "here.pth", "--name", "gsasr-edsr"], 2, "gsasr-edsr is made from encoder.pth and decoder.pth"),
        (["import", "here.pth", "--name", "gsasr-lite"], 1, "come with gsrcli"),
        (["import", "here.safetensors"], 1, "not a safetensors file"),
    ],
)
def test_mistakes_get_messages(
    gsr: Gsr, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("here.pth", "here.safetensors"):
        (tmp_path / name).write_bytes(b"nothing")
    result = gsr("weights", *arguments)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert names(home) == set()


def test_one_failure_does_not_stop_the_rest(gsr: Gsr, release: Fixture) -> None:
    release.answer("encoder.pth", status(404))
    result = gsr("weights", "fetch", NAME, "gsasr-lite")
    assert result.exit_code == 1
    assert "there is no such file (404)" in result.stderr
    assert f"gsr weights import encoder.pth decoder.pth --name {NAME}" in result.stderr
    assert result.stdout == f"{entry('gsasr-lite').path}\n"


def test_import_by_command(gsr: Gsr, release: Fixture, home: Path, tmp_path: Path) -> None:
    result = gsr("weights", "import", *release.files.values(), "--name", NAME)
    assert (result.exit_code, result.stdout) == (0, f"{home / NAME}.safetensors\n")
    result = gsr("weights", "import", save_tiny(tmp_path / "mine.safetensors"))
    assert (result.exit_code, result.stdout) == (0, f"{home / 'mine'}.safetensors\n")
    assert release.server.requests == []


def test_upscale_fetches_on_first_use(gsr: Gsr, release: Fixture, photo: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(2):
        result = gsr("upscale", photo(), "--scale", 2, "--model", NAME, "--json", "-o", tmp_path / f"{number}.png")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["model"] == NAME
    assert len(release.server.requests) == 2
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()


def test_upscale_takes_imported_names(gsr: Gsr, home: Path, tmp_path: Path, photo: Callable[..., Path]) -> None:
    Store().import_checkpoint(save_tiny(tmp_path / "mine.safetensors"))
    assert gsr("upscale", photo(), "--scale", 2, "--model", "mine").exit_code == 0
    assert (tmp_path / "photo_x2.png").exists()
