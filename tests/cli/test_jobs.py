"""Finding inputs, naming outputs, and refusing clashes before any work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from gsrcli.cli.jobs import Job, plan_jobs
from gsrcli.errors import UsageError

Touch = Callable[..., Path]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def touch(tmp_path: Path) -> Touch:
    """Create empty files; nothing here opens them."""

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def plan(
    *inputs: str, output: str | None = None, label: str = "x2", suffix: str | None = None, recursive: bool = False
) -> list[Job]:
    return plan_jobs(inputs, Path(output) if output else None, label, suffix, recursive).jobs


def pairs(jobs: Iterable[Job]) -> list[tuple[str, str]]:
    return [(job.input.as_posix(), job.output.as_posix()) for job in jobs]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("photo.png", "photo_x2.png"),
        ("PHOTO.JPG", "PHOTO_x2.jpg"),
        ("a.b.jpeg", "a.b_x2.jpeg"),
        ("scan.tif", "scan_x2.tif"),
        ("fun.gif", "fun_x2.gif"),
        ("camera.jfif", "camera_x2.png"),  # not written, so .png
        ("no_suffix", "no_suffix_x2.png"),
        ("größe 写真 №1.png", "größe 写真 №1_x2.png"),
        ("sub/photo.png", "sub/photo_x2.png"),
    ],
)
def test_outputs_are_next_to_their_inputs(touch: Touch, source: str, target: str) -> None:
    touch(source)
    assert pairs(plan(source)) == [(source, target)]


def test_format_changes_the_suffix(touch: Touch) -> None:
    touch("a.png")
    assert pairs(plan("a.png", suffix=".webp")) == [("a.png", "a_x2.webp")]


@pytest.mark.parametrize("output", ["large.png", "sub/large.jpg", "LARGE.PNG"])
def test_output_may_name_the_file_of_one_input(touch: Touch, output: str) -> None:
    touch("a.png")
    assert pairs(plan("a.png", output=output)) == [("a.png", output)]


@pytest.mark.parametrize("name", ["photo[1].png", "photo (1) [large].png", "what?.png", "five*.png"])
def test_brackets_in_the_name_of_a_file_are_not_a_pattern(touch: Touch, name: str) -> None:
    touch(name, "photo1.png")
    assert pairs(plan(name)) == [(name, f"{name[:-4]}_x2.png")]
    assert pairs(plan(name, output="large.png")) == [(name, "large.png")]


@pytest.mark.parametrize("output", ["large", "deep/er", "."])
def test_output_may_name_a_folder(touch: Touch, output: str) -> None:
    touch("a.png", "b.jpg")
    expected = [("a.png", (Path(output) / "a_x2.png").as_posix()), ("b.jpg", (Path(output) / "b_x2.jpg").as_posix())]
    assert pairs(plan("a.png", "b.jpg", output=output)) == expected
    assert pairs(plan("a.png", output=output)) == expected[:1]


def test_a_folder_that_exists_may_be_called_anything(touch: Touch) -> None:
    touch("a.png", "v1.5/x", "b.png")
    assert pairs(plan("a.png", output="v1.5")) == [("a.png", "v1.5/a_x2.png")]
    assert pairs(plan("a.png", "b.png", output="v2.5"))[1] == ("b.png", "v2.5/b_x2.png")


def test_a_folder_as_the_output_file_is_refused(touch: Touch) -> None:
    touch("a.png", "large.png/x")
    with pytest.raises(UsageError, match=r"large\.png is a folder"):
        plan("a.png", output="large.png")


@pytest.mark.parametrize("output", ["large.txt", "large.svg"])
def test_an_output_of_an_unknown_format_is_refused(touch: Touch, output: str) -> None:
    touch("a.png")
    with pytest.raises(UsageError, match="cannot write to") as caught:
        plan("a.png", output=output)
    assert caught.value.hint is not None
    assert ".png" in caught.value.hint


def test_several_inputs_cannot_become_one_file(touch: Touch) -> None:
    """Whether the file exists or not: nobody wants a folder called large.png."""
    touch("a.png", "b.png", "there.png")
    for output in ("there.png", "large.png"):
        with pytest.raises(UsageError, match=output):
            plan("a.png", "b.png", output=output)


def test_a_folder_gives_its_pictures_sorted(touch: Touch) -> None:
    touch("in/b.png", "in/a.JPG", "in/notes.txt", "in/.hidden.png", "in/._a.png", "in/sub/c.png", "in/dir.png/x")
    assert pairs(plan("in")) == [("in/a.JPG", "in/a_x2.jpg"), ("in/b.png", "in/b_x2.png")]


def test_recursive_keeps_the_structure(touch: Touch) -> None:
    touch("in/b.png", "in/sub/a.png", "in/sub/deep/a.png")
    assert pairs(plan("in", output="out", recursive=True)) == [
        ("in/b.png", "out/b_x2.png"),
        ("in/sub/a.png", "out/sub/a_x2.png"),
        ("in/sub/deep/a.png", "out/sub/deep/a_x2.png"),
    ]
    assert pairs(plan("in", recursive=True))[1] == ("in/sub/a.png", "in/sub/a_x2.png")


def test_the_current_folder(touch: Touch) -> None:
    touch("a.png", "sub/b.png")
    jobs = plan(".", output="out", recursive=True)
    assert pairs(jobs) == [("a.png", "out/a_x2.png"), ("sub/b.png", "out/sub/b_x2.png")]


def test_patterns(touch: Touch) -> None:
    root = touch("a1.png", "a2.png", "b1.png", "sub/a3.png", "sub.png/x")
    assert [j.input.name for j in plan("a*.png")] == ["a1.png", "a2.png"]
    assert [j.input.name for j in plan("**/a?.png")] == ["a1.png", "a2.png", "a3.png"]
    assert [j.input.name for j in plan("[ab]1.png")] == ["a1.png", "b1.png"]
    assert [j.input.name for j in plan(f"{root}/s*/*.png")] == ["a3.png"]
    assert pairs(plan("s*/*.png", output="out")) == [("sub/a3.png", "out/a3_x2.png")]


def test_a_pattern_that_matches_nothing_is_refused(touch: Touch) -> None:
    touch("a.png")
    with pytest.raises(UsageError, match=r"nothing matches b\*\.png"):
        plan("a.png", "b*.png")


def test_a_pattern_that_matches_only_folders_is_not_silently_ignored(touch: Touch) -> None:
    touch("photos/a.png")
    try:
        jobs = plan("phot*")
    except UsageError:
        return
    assert [job.input.name for job in jobs] == ["a.png"]


@pytest.mark.parametrize(("recursive", "advised"), [(False, True), (True, False)])
def test_a_folder_without_pictures_is_refused(touch: Touch, recursive: bool, advised: bool) -> None:
    touch("in/notes.txt", "in/sub/notes.txt")
    with pytest.raises(UsageError, match="there are no pictures in in") as caught:
        plan("in", recursive=recursive)
    assert (caught.value.hint is not None and "--recursive" in caught.value.hint) == advised


def test_a_missing_file_is_a_job_that_will_fail(touch: Touch) -> None:
    """The others are still done."""
    touch("a.png")
    assert [j.input.name for j in plan("gone.png", "a.png")] == ["gone.png", "a.png"]


@pytest.mark.parametrize(
    "inputs",
    [
        ("in/a.png", "in/a.png"),
        ("in/a.png", "./in/a.png"),
        ("in", "in/a.png"),
        ("in", "in/*.png"),
        ("in/sub/../a.png", "in/a.png"),
        ("in", "{root}/in/a.png"),
    ],
)
@pytest.mark.parametrize("output", [None, "out"])
def test_each_input_is_used_once_however_it_is_written(
    touch: Touch, tmp_path: Path, inputs: tuple[str, ...], output: str | None
) -> None:
    touch("in/a.png", "in/sub/x")
    jobs = plan(*(text.format(root=tmp_path) for text in inputs), output=output)
    assert [job.output.resolve() for job in jobs] == [tmp_path / (output or "in") / "a_x2.png"]


@pytest.mark.parametrize("more", ["in/sub", "in/sub/a.png"])
@pytest.mark.parametrize("output", [None, "out"])
def test_a_folder_and_a_part_of_it(touch: Touch, more: str, output: str | None) -> None:
    """The part may be named to be safe, or by a shell's pattern; it is not a second picture."""
    touch("in/a.png", "in/sub/a.png")
    jobs = plan("in", more, recursive=True, output=output)
    assert sorted(job.input.as_posix() for job in jobs) == ["in/a.png", "in/sub/a.png"]


@pytest.mark.parametrize(
    ("files", "output", "suffix"),
    [
        (("one/a.png", "two/a.png"), "out", None),
        (("a.png", "a.jpg"), None, ".png"),
        (("a.png", "a.jfif"), None, None),
        (("a.png", "a.PNG"), None, None),
    ],
)
def test_two_inputs_with_one_output_are_refused(
    touch: Touch, files: tuple[str, ...], output: str | None, suffix: str | None
) -> None:
    touch(*files)
    with pytest.raises(UsageError, match="would both be written to") as caught:
        plan(*files, output=output, suffix=suffix)
    assert all(Path(name).as_posix() in str(caught.value) for name in files)
    assert caught.value.hint is not None


@pytest.mark.parametrize("inputs", [("in",), ("in/*",), ("in/a.png", "in/a_x2.png", "in/b.jpg", "in/b_x2.jpg")])
def test_outputs_of_an_earlier_run_are_not_inputs(touch: Touch, inputs: tuple[str, ...]) -> None:
    touch("in/a.png", "in/b.jpg", "in/a_x2.png", "in/b_x2.jpg")
    assert pairs(plan(*inputs)) == [("in/a.png", "in/a_x2.png"), ("in/b.jpg", "in/b_x2.jpg")]


def test_outputs_of_an_earlier_run_below_the_inputs_are_not_inputs(touch: Touch) -> None:
    touch("in/a.png", "in/sub/b.png", "in/large/a_x2.png", "in/large/sub/b_x2.png")
    jobs = plan("in", output="in/large", recursive=True)
    assert pairs(jobs) == [("in/a.png", "in/large/a_x2.png"), ("in/sub/b.png", "in/large/sub/b_x2.png")]


def test_an_empty_input_is_not_the_current_folder(touch: Touch) -> None:
    touch("a.png")
    with pytest.raises(UsageError, match="empty"):
        plan("")


@pytest.mark.skipif(not hasattr(os, "setresuid"), reason="needs Linux")
def test_folders_that_cannot_be_read_fail_as_jobs(touch: Touch) -> None:
    """Only their owner may look into them; the other pictures are found."""
    root = touch("in/a.png", "in/closed/b.png", "in/seen/c.png")
    (root / "in/closed").chmod(0)
    (root / "in/seen").chmod(0o444)  # names can be read, files cannot be looked at
    program = (
        "import os\n"
        "from gsrcli.cli.jobs import plan_jobs\n"
        "from pathlib import Path\n"
        "if os.geteuid() == 0:\n"
        "    os.setresuid(65534, 65534, 65534)\n"  # the superuser may look anywhere
        "print(*(job.input.as_posix() for job in plan_jobs(['in'], Path('/'), 'x2', None, True).jobs))\n"
    )
    for folder in [root, *root.parents][:-2]:
        folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=False)
    assert done.stdout.split() == ["in/a.png", "in/closed", "in/seen/c.png"], done.stderr
