"""scripts/gpu_sprint.sh: its record grows, a timeout loses nothing, and everything ends by the deadline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import gpu_sprint  # noqa: E402
import sprint_prepare  # noqa: E402
import sprint_record  # noqa: E402
import sprint_train  # noqa: E402

MACHINE = {"date": "2026-01-01", "commit": "abc", "device": "a GPU", "torch": "2.11", "python": "3.12"}


def run(*arguments: object, limit: float = 450) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / "gpu_sprint.sh"), *map(str, arguments)]
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment, check=False)


def recorded(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "gpu.json").read_text(encoding="utf-8"))["entries"]


# ---- the record ----------------------------------------------------------------------------------------


def drawing(**entries: Any) -> dict[str, Any]:
    row = {"kind": "drawing", "model": "gsasr-edsr", "backend": "cuda", "order": "picture", "scale": 4.0, "height": 720}
    return {**row, "forward_ms": 0.1, "backward_ms": 0.4, **entries}


def training(**entries: Any) -> dict[str, Any]:
    return {"kind": "training", "batch": 64, "patch": 48, "stages": {"draw": 0.002}, **entries}


def test_goals_stand_beside_what_was_measured() -> None:
    shares = [
        {"kind": "pipeline", "model": "gsasr-edsr", "scale": scale, "rasterizer_ms": 0.2, "total_ms": ms}
        for scale, ms in ((2, 9), (12, 2))
    ]
    rows = [
        drawing(forward_over_published=150.0, backward_over_published=30.0, arithmetic_floor_ms=0.025),
        drawing(order="shuffled", forward_over_published=1.0, arithmetic_floor_ms=0.001),
        drawing(backend="published", forward_over_published=1.0),
        drawing(scale=2.0, arithmetic_floor_ms=0.01),
        *shares,
        training(steps_per_second=120.0),
    ]
    assert [(measured, verdict) for _, _, measured, verdict in sprint_record.goals(rows)] == [
        ("gsasr-edsr: 4", "reached"),
        ("gsasr-edsr: 10", "not reached"),
        ("gsasr-edsr: 150", "reached"),
        ("gsasr-edsr: 30", "not reached"),
        ("×2: 2.22, ×12: 10", "not reached"),
        ("batch 64: 120", "reached"),
    ]


def test_what_is_not_known_is_not_reached() -> None:
    found = sprint_record.goals([drawing()])
    assert [verdict for *_, verdict in found] == [
        *("not reached", "not measured", "not reached", "not reached"),
        *("not measured", "not measured"),
    ]


def test_a_second_call_adds_to_the_record(tmp_path: Path) -> None:
    for commit, scale in (("abc", 4.0), ("abc", 2.0), ("def", 4.0)):
        record = sprint_record.Record(tmp_path)
        entry = record.begin("measure", {**MACHINE, "commit": commit})
        record.add(entry, drawing(scale=scale, forward_ms=scale, arithmetic_floor_ms=1.0))
    entries = recorded(tmp_path)
    assert [(entry["machine"]["commit"], entry["rows"][0]["scale"]) for entry in entries] == [
        *(("abc", 4.0), ("abc", 2.0), ("def", 4.0)),
    ]
    both, alone = (sprint_record.together(entries[:count], "measure") for count in (2, 3))
    assert both is not None
    assert alone is not None
    assert [row["scale"] for row in both["rows"]] == [4.0, 2.0]
    assert [row["scale"] for row in alone["rows"]] == [4.0]  # without those of another commit
    page = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "commit def" in page
    assert page.count("| measure | 1 |") == 3


def test_a_record_can_begin_with_another(tmp_path: Path) -> None:
    before = sprint_record.Record(tmp_path / "before")
    before.add(before.begin("smoke", MACHINE), {"name": "it works", "ok": True, "seconds": 0.1})
    record = sprint_record.Record(tmp_path / "new", tmp_path / "before" / "gpu.json")
    record.begin("train", MACHINE)
    record.write()
    assert [entry["stage"] for entry in recorded(tmp_path / "new")] == ["smoke", "train"]


# ---- stages and their time -----------------------------------------------------------------------------


def script(path: Path, *lines: str) -> list[str]:
    path.write_text("import json, os, signal, subprocess, sys, time\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return [str(path)]


def a_stage(
    record: sprint_record.Record, name: str = "measure"
) -> tuple[dict[str, Any], Callable[[dict[str, Any]], None]]:
    entry = record.begin(name, dict(MACHINE))
    return entry, gpu_sprint._adding(record, entry)


def test_rows_survive_a_time_out(tmp_path: Path) -> None:
    record = sprint_record.Record(tmp_path / "record")
    slow = script(
        tmp_path / "slow.py",
        "print(json.dumps({'plan': ['first', 'second']}))",
        f"print(json.dumps({drawing(name='first')!r}), flush=True)",
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])",
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))",
        "time.sleep(60)",
    )
    began = time.monotonic()
    entry, add = a_stage(record)
    gpu_sprint.rows_of(slow, 3.0, entry, add)
    assert time.monotonic() - began < 10
    assert (entry["not_reached"], entry["error"]) == (["second"], "stopped after 3 s")
    assert [row["name"] for row in recorded(tmp_path / "record")[0]["rows"]] == ["first"]
    state = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")  # its child has ended as well
    time.sleep(0.2)
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_what_a_failing_script_says_is_kept(tmp_path: Path) -> None:
    record = sprint_record.Record(tmp_path)
    entry, add = a_stage(record)
    broken = script(
        tmp_path / "broken.py", "print(json.dumps({'plan': ['all']}), flush=True)", "sys.exit('no library')"
    )
    gpu_sprint.rows_of(broken, 20.0, entry, add)
    assert entry["not_reached"] == ["all"]
    assert "no library" in entry["error"]


def test_one_measurement_that_fails_does_not_keep_the_others(tmp_path: Path) -> None:
    record = sprint_record.Record(tmp_path)
    entry, add = a_stage(record)
    lines = ({"plan": ["a", "b"]}, {"name": "a", "failed": "out of memory"}, drawing(name="b", notes=["note"]))
    gpu_sprint.rows_of(script(tmp_path / "s.py", *(f"print(json.dumps({line!r}))" for line in lines)), 20.0, entry, add)
    assert entry["failed"] == {"a": "out of memory"}
    assert (entry["error"], entry["not_reached"], entry["notes"]) == ("failed: a", [], ["note"])
    assert "notes" not in entry["rows"][0]


def test_tests_are_counted_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(
        "import time\nimport pytest\npytestmark = pytest.mark.gpu\n"
        "def test_a(): pass\ndef test_b(): assert False\ndef test_c(): pytest.skip('no')\n"
        "def test_d(): time.sleep(60)\n"
    )
    monkeypatch.setattr(gpu_sprint, "REPOSITORY", tmp_path)
    record = sprint_record.Record(tmp_path / "record")
    entry, add = a_stage(record, "tests")
    gpu_sprint._pytest("not sanitizer", 8.0, entry, add)
    assert entry["counts"] == {"PASSED": 1, "FAILED": 1, "SKIPPED": 1}
    assert [row["name"].rpartition("::")[2] for row in entry["rows"]] == ["test_b"]
    assert entry["error"] == "stopped after 8 s"


def test_the_stages_fit_into_the_deadline() -> None:
    assert sum(gpu_sprint.LIMITS.values()) + gpu_sprint.LAST < gpu_sprint.DEADLINE
    assert gpu_sprint.LIMITS["smoke"] + gpu_sprint.LIMITS["measure"] < gpu_sprint.DEADLINE / 3  # training gets the rest


def test_what_is_missing_is_seen_whoever_requires_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = gpu_sprint._distribution
    monkeypatch.setattr(gpu_sprint, "_distribution", lambda name: None if name == "shellingham" else here(name))
    assert gpu_sprint.lacking()[0] == ["shellingham"]


# ---- training ------------------------------------------------------------------------------------------

_TRAINER = """
from pathlib import Path
run, ends = Path(sys.argv[1]), sys.argv[2]
run.mkdir(exist_ok=True)
step = 0
def save():
    part = run / f"state-{step}.safetensors"
    part.write_text(str(step))
    (run / "weights.safetensors").write_text(str(step))
    (run / "state.json").write_text(json.dumps({"step": step, "parts": [part.name]}))
    for other in run.glob("state-*"):
        if other != part:
            other.unlink()
def stop(*_):
    if ends == "never":
        return
    save()
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
while not (ends == "soon" and step == 20):
    step += 1
    time.sleep(0.05)
    save()
    with (run / "log.jsonl").open("a") as log:
        line = {"step": step, "loss": 1 / step, "learning_rate": 1e-3, "seconds": step / 20, "samples_per_second": 9.0}
        log.write(json.dumps(line | ({"psnr": {"2": 30.0}} if step % 10 == 0 else {})) + "\\n")
"""


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[dict[str, Any], float]]:
    """Run the stage with a trainer that ends ``soon``, ``interrupted`` or ``never``; return its entry and overtime."""
    values = {"LAST": 6, "SETTLED": 0, "SAVING": 4, "COPY_EVERY": 1, "WORTH": 1}
    for name, value in values.items():
        monkeypatch.setattr(gpu_sprint, name, value)
    trainer = script(tmp_path / "trainer.py", _TRAINER)

    def train(ends: str) -> tuple[dict[str, Any], float]:
        def command(_: Path, run: Path, *__: object, **___: object) -> list[str]:
            return [sys.executable, *trainer, str(run), ends]

        monkeypatch.setattr(sprint_train, "train_command", command)
        work_folder = tmp_path / "work"
        work_folder.mkdir()
        work = gpu_sprint.Work(work_folder, "cpu", None, tmp_path / "out", time.monotonic() + 16)
        record = sprint_record.Record(tmp_path / "out")
        gpu_sprint.run_stage("train", work, record, dict(MACHINE))
        return recorded(tmp_path / "out")[0], time.monotonic() - work.ends

    return train


@pytest.mark.parametrize("ends", ["soon", "interrupted", "never"])
def test_training_is_over_by_the_deadline_and_leaves_a_whole_run(
    trained: Callable[[str], tuple[dict[str, Any], float]], tmp_path: Path, ends: str
) -> None:
    entry, late = trained(ends)
    assert late < 0
    outcome = {"soon": "by itself", "interrupted": "interrupted", "never": "killed because it did not save in time"}
    assert entry["ended"] == outcome[ends]
    assert "error" not in entry or ends == "never"
    assert entry["steps"] == len(entry["rows"]) > 10
    assert entry["samples_per_second"] == 9.0
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    state = json.loads((tmp_path / "out" / "run" / "state.json").read_text())
    assert files == [
        *("gpu.json", "gpu.md", "run/log.jsonl", f"run/{state['parts'][0]}", "run/state.json"),
        "run/weights.safetensors",
    ]
    assert (tmp_path / "out" / "run" / state["parts"][0]).read_text() == str(state["step"])


def test_a_copied_run_is_no_larger_than_a_machine_returns(tmp_path: Path) -> None:
    run, kept = tmp_path / "run", tmp_path / "kept"
    run.mkdir()
    for name in ("weights.safetensors", "log.jsonl", "state-2-0.safetensors", "state-2-1.safetensors"):
        (run / name).write_text(name)
    (run / "state.json").write_text('["state-2-0.safetensors", "state-2-1.safetensors"]')
    (run / "state-1-0.safetensors").write_text("of before")
    assert sprint_train.snapshot(run, kept)
    assert sorted(path.name for path in kept.iterdir()) == [
        *("log.jsonl", "state-2-0.safetensors", "state-2-1.safetensors", "state.json", "weights.safetensors"),
    ]
    (run / "plateau-2-0.safetensors").write_text("plateau")
    (run / "plateau.json").write_text('["plateau-2-0.safetensors"]')
    assert sprint_train.snapshot(run, kept)
    assert len(list(kept.iterdir())) == 5  # the plateau's two would be too many
    assert sprint_train.oversized(kept) == []
    with (kept / "weights.safetensors").open("r+b") as file:
        file.truncate((16 << 20) + 1)
    assert sprint_train.oversized(kept) == ["weights.safetensors has 16777217 bytes"]


def test_training_continues_the_carried_run(tmp_path: Path) -> None:
    state, run = tmp_path / "state", tmp_path / "run"
    state.mkdir()
    (state / "weights.safetensors").write_text("weights")
    sprint_train.begin_run(tmp_path, run)
    command = sprint_train.train_command(tmp_path, run, "cuda", carried=tmp_path, minutes=3)
    assert command[-4:] == ["--from", str(state / "weights.safetensors"), "--minutes", "3.00"]
    (state / "state.json").write_text("{}")
    run.rmdir()
    sprint_train.begin_run(tmp_path, run)
    command = sprint_train.train_command(tmp_path, run, "cuda", minutes=3, arguments=["--minutes", "1"])
    assert command[-3:] == ["--resume", "--minutes", "1"]


# ---- what is carried -----------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Write a large smooth picture, a fine one, one to leave out, one too small, and a file that is not a picture."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    random = np.random.default_rng(0)
    y, x = np.mgrid[:820, :900]
    smooth = 128 + 100 * np.sin(x / 40 + y / 60)[..., None] * [1, 0.5, 0.2]
    fine = 128 + 100 * np.sin(x[:450, :500] * 1.1 + y[:450, :500] / 3)[..., None] * [1, 1, 1]
    for name, pixels in (("deep/smooth.png", smooth), ("fine.png", fine), ("out.png", fine), ("small.png", fine[:99])):
        noisy = (pixels + random.normal(0, 1, pixels.shape)).clip(0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(folder / name)
    (folder / "broken.jpg").write_text("no picture")
    return folder


def test_a_pack_holds_the_pictures_and_no_more_than_there_is_room_for(pictures: Path, tmp_path: Path) -> None:
    pack, room = tmp_path / "pictures.tar", 500_000
    told = sprint_prepare.make_pack(pictures, pack, room, {"out.png"})
    assert told.startswith("2 of 4 pictures, 1 of them halved")
    assert pack.stat().st_size <= room
    folder = sprint_train.unpack(pack, tmp_path / "unpacked")
    sizes = {}
    for path in folder.iterdir():
        with Image.open(path) as picture:
            sizes[path.name] = picture.size
            if path.name == "fine.avif":
                original = np.asarray(Image.open(pictures / "fine.png").convert("L"), float)
                error = np.square(np.asarray(picture.convert("L"), float) - original).mean()
                assert 10 * np.log10(255**2 / error) > 38
    assert sizes == {"fine.avif": (500, 450), "deep_smooth.avif": (450, 410)}
    with tarfile.open(pack) as tar:
        assert tar.getnames() == ["fine.avif", "deep_smooth.avif"]  # the most detailed first
        first = tar.getmembers()[0].size
    assert sprint_prepare.trim(pack, first + 1024 + tarfile.RECORDSIZE) == 1
    assert pack.stat().st_size <= first + 1024 + tarfile.RECORDSIZE
    with tarfile.open(pack) as tar:
        assert tar.getnames() == ["fine.avif"]


def test_what_is_carried_stays_within_the_limit(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "some.whl").write_bytes(bytes(100_000))

    monkeypatch.setattr(sprint_prepare, "download", download)
    validation, state, carried = tmp_path / "validation", tmp_path / "state", tmp_path / "carried"
    for folder, names in ((validation, ["a.png", "excluded.txt"]), (state, ["weights.safetensors", "other.txt"])):
        folder.mkdir()
        for name in names:
            (folder / name).write_text("out.png\n")
    arguments = [carried, "--pictures", pictures, "--validation", validation, "--state", state, "--limit", "1"]
    monkeypatch.setattr(sys, "argv", ["prepare", *map(str, arguments)])
    assert sprint_prepare.main() == 0
    files = {path.relative_to(carried).as_posix() for path in carried.rglob("*") if path.is_file()}
    assert files == {
        *("pictures.tar", "wheels/some.whl", "validation/a.png", "validation/excluded.txt"),
        "state/weights.safetensors",
    }
    pack = carried / "pictures.tar"
    with tarfile.open(pack) as tar:
        first = tar.getmembers()[0].size + 1024 + tarfile.RECORDSIZE
    others = sprint_prepare.size(carried) - pack.stat().st_size
    (state / "state-1.safetensors").write_bytes(bytes((1 << 20) - others - first))
    assert sprint_prepare.main() == 0  # a larger state leaves room for fewer pictures
    assert sprint_prepare.size(carried) <= 1 << 20
    assert "1 of the existing ones kept" in capsys.readouterr().out


# ---- the whole command ---------------------------------------------------------------------------------


def test_without_a_gpu_it_measures_nothing(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = run("--output", tmp_path / "record", "--commit", "abc")
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "no CUDA device" in done.stderr


@pytest.mark.slow
def test_a_rehearsal_on_the_cpu_leaves_a_record(pictures: Path, tmp_path: Path) -> None:
    carried, output = tmp_path / "carried", tmp_path / "output"
    carried.mkdir()
    sprint_prepare.make_pack(pictures, carried / "pictures.tar", 1 << 20, set())
    (carried / "train.args").write_text("--batch 2 --held-out 1 --minutes 0.05  # small\n")
    arguments = ("--device", "cpu", "--commit", "abc", "--carried", carried, "--output", output)
    done = run(*arguments, "--deadline", 400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(entry["stage"], entry["machine"]["commit"]) for entry in recorded(output)] == [
        *(("smoke", "abc"), ("measure", "abc"), ("train", "abc")),
    ]
    page = (output / "gpu.md").read_text(encoding="utf-8")
    assert "A rehearsal on a CPU" in page
    assert "| drawing, % of gsasr-edsr's time | ≤ 5 | ×4: " in page
    assert (output / "run" / "weights.safetensors").exists()
    assert len([path for path in output.rglob("*") if path.is_file()]) <= 8
