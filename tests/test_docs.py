"""What README, the documentation and CONTRIBUTING show as code runs, and what they name exists.

A line for ``gsr`` is run, on small pictures, unless `ONLY_PARSED` says why it is not: then it is parsed by the command
that it names. Other programs' lines are looked at by `FOREIGN`.
"""

from __future__ import annotations

import glob
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from support.checkpoints import save_tiny
from support.formats import DOCUMENT, with_table
from support.pictures import samples
from typer.testing import Result

from gsrcli.cli.app import app
from gsrcli.evaluation import datasets

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "examples" / "README.md"]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))

ONLY_PARSED = {
    r"--dataset (set5|urban100|div2k)": "downloads a data set",
    r"--model gsasr-edsr|weights (fetch|remove) gsasr-rdn": "downloads weights",
    r"weights import encoder\.pth": "needs the authors' files",
    r"--device cuda": "needs a GPU",
    r"train .*--profile": "takes forty steps of the whole network",
}
"""Lines of gsr, as patterns, that are parsed and not run, and why."""

_SMALL = "--batch 2 --patch 8 --scale-high 2 --scale-far 3 --held-out 1 --warmup 1 --threads 1"
SHORTENED = {
    r"^train (?!.*--resume)": f"{_SMALL} --steps 2 --minutes 0",
    r"^train .*--resume": "--steps 4",
    r"^bench": "--side 48 --scales 2 --repeats 1",
}
"""Options added to lines of these patterns, so that they take seconds."""


@dataclass(frozen=True)
class Block:
    """A fenced code block: where it begins, its language, and its text."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> Iterator[Block]:
    text = document.read_text("utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(document, 1 + text.count("\n", 0, match.start()), match[1], match[2])


BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a shell block, as words."""
    for line in text.splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word == "&&":
                if words:
                    yield words
                words = []
            else:
                words.append(word)


LINES = [(str(block), words) for block in BLOCKS if block.language == "bash" for words in commands(block.text)]
GSR_LINES = [
    (where, words[1:])
    for i, (where, words) in enumerate(LINES)
    if words[0] == "gsr" and words not in [earlier for _, earlier in LINES[:i]]
]
"""Each once, where it stands first."""


def reason_not_to_run(arguments: list[str]) -> str | None:
    return next((why for pattern, why in ONLY_PARSED.items() if re.search(pattern, " ".join(arguments))), None)


RUN = [(where, words) for where, words in GSR_LINES if not reason_not_to_run(words)]
PARSED = [(where, words) for where, words in GSR_LINES if reason_not_to_run(words)]


def ids(lines: list[tuple[str, list[str]]]) -> list[str]:
    return [f"{where} {' '.join(words)}" for where, words in lines]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in that has what the lines name."""

    def picture(name: str, width: int = 32, height: int = 18, seed: int = 0) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(samples((width, height), "RGB", seed)).save(tmp_path / name)

    for name in (
        "photo.png",
        "photo.jpg",
        "normals.png",
        "huge.tif",
        "scans/more/page.png",
        "frames/0001.png",
        "examples/cat.png",
    ):
        picture(name)
    picture("logo.png")
    frames = [Image.fromarray(samples((16, 12), "RGB", seed)) for seed in range(3)]
    for name in ("film.gif", "book.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    for seed, name in enumerate(("a", "b", "c")):
        picture(f"photos/{name}.png", 240, 180, seed)
        picture(f"results/{name}.png", 240, 180, seed)
        picture(f"restored/photos/gsasr-lite/x2/{name}.png", 240, 180, seed)
        for folder in ("pictures", "mine", "crops"):
            picture(f"{folder}/{name}.png", 64, 48, seed)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    save_tiny(tmp_path / "runs" / "mine" / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GSRCLI_HOME", str(tmp_path / "home"))
    return tmp_path


def parsed(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """Parse a line as the command that it names does; raises what the command would say of it."""
    command, words = typer.main.get_command(app), list(arguments)
    names = ["gsr"]
    while hasattr(command, "commands"):
        names.append(words.pop(0))
        command = command.commands[names[-1]]
    return names[-1], command.make_context(" ".join(names), words).params


@pytest.mark.parametrize(("where", "arguments"), RUN, ids=ids(RUN))
def test_a_line_for_gsr_runs(where: str, arguments: list[str], gsr: Callable[..., Result], desk: Path) -> None:
    before(arguments, gsr)
    words = [name for word in arguments for name in (sorted(glob.glob(word)) if "*" in word else [word])]  # noqa: PTH207
    more = [options for pattern, options in SHORTENED.items() if re.search(pattern, " ".join(arguments))]
    result = gsr(*words, *" ".join(more).split())
    assert result.exit_code == 0, result.output + str(result.exception)


def before(arguments: list[str], gsr: Callable[..., Result]) -> None:
    """Do what a line takes for granted, as the lines above it have done it."""
    if arguments[0] == "train":
        shutil.rmtree("runs")
    if "--resume" in arguments:
        assert gsr("train", "pictures", "--run", "runs/mine", *_SMALL.split(), "--steps", 2).exit_code == 0
    if arguments[-2:] == ["--model", "mine"]:
        assert gsr("weights", "import", "runs/mine/weights.safetensors", "--name", "mine").exit_code == 0


@pytest.mark.parametrize(("where", "arguments"), PARSED, ids=ids(PARSED))
def test_a_line_for_gsr_that_cannot_run_here_is_understood(where: str, arguments: list[str]) -> None:
    parsed(arguments)


def test_a_line_with_an_option_that_does_not_exist_is_not_understood() -> None:
    with pytest.raises(Exception, match="nonesuch"):
        parsed(["upscale", "photo.png", "--nonesuch"])


def test_only_what_is_there_is_excused() -> None:
    lines = [" ".join(words) for _, words in GSR_LINES]
    assert all(any(re.search(pattern, line) for line in lines) for pattern in ONLY_PARSED)


def test_the_newcomers_line_runs_as_a_process(desk: Path) -> None:
    (line,) = [words for where, words in GSR_LINES if where.startswith("README.md") and "examples/cat.png" in words]
    done = subprocess.run([sys.executable, "-m", "gsrcli", *line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Image.open("examples/cat_x6.5.png") as picture:
        assert picture.size == (208, 117)


def _is_installable(words: list[str]) -> bool:
    """Whether the files that pip is given exist, and the extras that it is asked for."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = [extra for word in words for group in re.findall(r"\[(.+)\]", word) for extra in group.split(",")]
    files = [word for option, word in pairwise(words) if option == "-c"]
    return words[1] == "install" and set(named) <= set(extras) and all((ROOT / file).is_file() for file in files)


FOREIGN: dict[str, Callable[[list[str]], bool]] = {
    "pip": _is_installable,
    "pre-commit": lambda words: words == ["pre-commit", "install"] and (ROOT / ".pre-commit-config.yaml").is_file(),
    "ruff": lambda words: words[1] in ("check", "format"),
    "mypy": lambda words: words == ["mypy"],
    "lint-imports": lambda words: words == ["lint-imports", "--no-cache"],
    "pytest": lambda words: all((ROOT / word).exists() for word in words[1:] if "/" in word),
    ".ci/run": lambda words: (ROOT / ".ci" / "run").exists(),
}
"""How lines of other programs, which install or check, are looked at."""


@pytest.mark.parametrize(("where", "words"), [line for line in LINES if line[1][0] != "gsr"])
def test_a_line_for_another_program_names_what_there_is(where: str, words: list[str]) -> None:
    assert FOREIGN[words[0]](words), f"{where}: {shlex.join(words)}"


WITH_PYTHON = sorted({block.document for block in BLOCKS if block.language == "python"} - {ROOT / "CONTRIBUTING.md"})


@pytest.mark.parametrize("document", WITH_PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_runs(document: Path, desk: Path) -> None:
    lines = [""] * len(document.read_text("utf-8").splitlines())  # so that a traceback gives the document's
    for block in blocks(document):
        if block.language == "python":
            code = block.text.splitlines()
            lines[block.line : block.line + len(code)] = code
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_model_in_the_recipe_upscales_in_tiles_as_without() -> None:
    import gsrcli

    (block,) = [block for block in BLOCKS if block.language == "python" and block.document.name == "CONTRIBUTING.md"]
    names: dict[str, Any] = {"__name__": "recipe"}
    sys.modules["recipe"] = type(sys)("recipe")  # where dataclasses look up annotations
    try:
        exec(compile(block.text, str(block), "exec", dont_inherit=True), names)
    finally:
        del sys.modules["recipe"]
    model = names["Sketch"]()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    picture = samples((20, 12), "RGB", 0)
    untiled, tiled = (gsrcli.upscale(picture, 2.5, model=model, tile=tile) for tile in (None, 8))
    assert untiled.shape == (30, 50, 3)
    assert np.abs(untiled.astype(int) - tiled).max() <= 1


def test_the_data_set_in_the_recipe_is_one() -> None:
    (block,) = [block for block in BLOCKS if block.language == "toml"]
    content = tomllib.loads(block.text)
    archives = {name: datasets._archive(name, **entry) for name, entry in content["archives"].items()}
    (dataset,) = [datasets._dataset(name, archives, **entry) for name, entry in content["datasets"].items()]
    assert dataset.archive is archives["example"]


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert len(BLOCKS) > 20
    assert {block.language for block in BLOCKS} <= {"bash", "python", "toml"}


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_links_to_exists(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), link


def test_the_table_of_formats_is_that_of_the_package() -> None:
    """If not, run tests/support/formats.py."""
    document = DOCUMENT.read_text("utf-8")
    assert document == with_table(document)


FOLDERS = ("gsrcli", "csrc", "tests", "docs", "scripts", "benchmarks", "examples", ".github", ".ci")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_names_that_a_document_mentions_exist(document: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for path in re.findall(r"`([\w.-]+/[\w./-]*)`", text):
        if path.split("/")[0] in FOLDERS and not path.startswith("examples/cat_x"):
            assert (ROOT / path).exists() or path.startswith(".github/"), path  # which source distributions leave out
    sentences = " ".join(text.split())
    for name, path in re.findall(r"`(\w+)` (?:in|of) `([\w./-]+\.(?:py|cu|h|toml))`", sentences):
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text("utf-8")), f"{name} in {path}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_options_that_a_document_mentions_exist(document: Path) -> None:
    known = {name for command in _every_command() for parameter in command.params for name in parameter.opts}
    prose = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    mentioned = {option for code in re.findall(r"`([^`]+)`", prose) for option in re.findall(r"(?<!\S)--[\w-]+", code)}
    assert mentioned - {"--help", "--strict"} <= known  # the latter is mypy's


def _every_command() -> Iterator[Any]:
    pending: list[Any] = [typer.main.get_command(app)]
    while pending:
        command = pending.pop()
        yield command
        pending += getattr(command, "commands", {}).values()
