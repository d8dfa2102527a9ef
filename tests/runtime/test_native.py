"""What native libraries write to standard error."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import cv2
import pytest

from gsrcli.images.opencv import quiet_opencv

in_a_shell = pytest.mark.skipif(sys.platform == "win32", reason="a shell closes the stream")


def run_python(code: str, redirection: str = "") -> subprocess.CompletedProcess[str]:
    """Run code in its own process, with a redirection of the shell."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    if redirection:
        command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_native_output_is_caught_and_other_lines_pass() -> None:
    result = run_python(
        """
        import os, sys
        from gsrcli.runtime.native import native_output
        sys.stderr.write("before, ")
        with native_output() as output:
            os.write(2, b"Fax4Decode: Bad code word at line 26 of strip 0 (x 15).\\n")
            os.write(2, b"a line of another thread\\n")
            print("a line of Python", file=sys.stderr)
        print(output.text, end="")
        print("after", file=sys.stderr)
        """
    )
    assert result.stdout == "Fax4Decode: Bad code word at line 26 of strip 0 (x 15).\n"
    assert result.stderr == "before, a line of another thread\na line of Python\nafter\n"


@pytest.mark.parametrize(
    ("before", "native"),
    [
        ("", "TIFFReadDirectory: Warning, Unknown field.\n"),
        ("reading 1 of 2", "Fax3Decode1D: Bad code word at line 1 of strip 0 (x 2).\n"),
        ("\r 50%|#####     ", "tempfile.tif: Premature EOF.\nJPEGLib: Corrupt JPEG data.\n"),
        ("one line\nand a half", "[ WARN:0@0.123] global loadsave.cpp:1 imdecode_\n"),
        ("ZIP: 3 files\nJPEG: 4\nLZW: ", "ZIPDecode: Decoding error at scanline 0, incorrect data check.\n"),
        ("TIFFs: 3\n[INFO] a\n[ERROR] OpenCV is old\na: b\nmy.tif: ok\n", "PredictorDecodeTile: occ0%cc != 0.\n"),
        ("a line\n" * 20_000, "PackBitsDecode: Not enough data for scanline 1.\n"),
        ("", "ZSTDDecode: Not enough data.\n" * 3_000),
    ],
)
def test_messages_are_told_from_what_other_threads_write(tmp_path: Path, before: str, native: str) -> None:
    """Also from half a line in front of them, and from lines that begin with the name of a format or a level."""
    (tmp_path / "before").write_text(before, newline="")
    (tmp_path / "native").write_text(native)
    result = run_python(
        f"""
        import os, pathlib
        from gsrcli.runtime.native import native_output
        with native_output() as output:
            for name in ("before", "native"):
                os.write(2, pathlib.Path({str(tmp_path)!r}, name).read_bytes())
        print(output.text, end="")
        """
    )
    assert result.stdout == native[: 1 << 16]
    assert result.stderr == before.replace("\r", "\n")  # as text is read


def test_all_is_native_once_standard_error_is_reserved() -> None:
    result = run_python(
        """
        import os, sys
        from gsrcli.runtime.native import native_output, reserve_standard_error
        reserve_standard_error()
        with native_output() as output:
            os.write(2, b"anything\\n")
            os.write(2, b"Fax4Decode: Bad\\n")
            print("ours", file=sys.stderr)
        print(output.text, end="")
        os.write(2, b"later\\n")
        """
    )
    assert result.stdout == "Fax4Decode: Bad\n"
    assert result.stderr == "ours\nlater\n"


@in_a_shell
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&1 2>&-"])
def test_without_standard_error_its_descriptor_is_kept_from_other_files(tmp_path: Path, closed: str) -> None:
    """A file opened later keeps its bytes, and what is caught is found."""
    result = run_python(
        f"""
        import os
        from gsrcli.runtime.native import native_output
        for _ in range(2):
            with native_output() as output:
                os.write(2, b"Fax4Decode: Bad\\n")
            assert output.text == "Fax4Decode: Bad\\n"
        file = os.open({str(tmp_path / "mine")!r}, os.O_CREAT | os.O_WRONLY)
        with native_output() as output:
            os.write(file, b"mine")
        print(os.path.getsize({str(tmp_path / "mine")!r}))
        """,
        closed,
    )
    assert result.stdout == "4\n"


@in_a_shell
def test_another_file_on_the_descriptor_of_standard_error_keeps_its_bytes(tmp_path: Path) -> None:
    result = run_python(
        f"""
        import os
        file = os.open({str(tmp_path / "mine")!r}, os.O_CREAT | os.O_WRONLY)
        from gsrcli.runtime.native import native_output, reserve_standard_error
        reserve_standard_error()
        with native_output():
            os.write(file, b"mine")
        print(file, os.path.getsize({str(tmp_path / "mine")!r}))
        """,
        "2>&-",
    )
    assert result.stdout == "2 4\n"


@in_a_shell
@pytest.mark.parametrize(("taken", "caught"), [(False, "Fax4Decode: Bad\n"), (True, "")])
def test_closed_streams_of_the_program_are_the_null_device(taken: bool, caught: str) -> None:
    result = run_python(
        f"""
        import os, sys
        if {taken}:
            os.open(sys.executable, os.O_RDONLY)
        from gsrcli.cli.streams import open_standard_streams
        from gsrcli.runtime.native import native_output
        open_standard_streams()
        print("lost", file=sys.stderr, flush=True)
        with native_output() as output:
            if not {taken}:
                os.write(2, b"Fax4Decode: Bad\\n")
        print(repr(output.text), os.path.samestat(os.fstat(sys.stderr.fileno()), os.stat(os.devnull)))
        """,
        "2>&-",
    )
    assert result.stdout == f"{caught!r} True\n"


def test_overlapping_threads_leave_the_level_of_opencv_as_it_was() -> None:
    """The level belongs to the process: a thread that waits for its turn must not take it for the one to go back to."""
    logging = cv2.utils.logging
    before = logging.setLogLevel(logging.LOG_LEVEL_WARNING)
    try:
        inside, leave = threading.Event(), threading.Event()

        def first() -> None:
            with quiet_opencv():
                inside.set()
                leave.wait(10)

        def second() -> None:
            with quiet_opencv():
                pass

        threads = [threading.Thread(target=first), threading.Thread(target=second)]
        threads[0].start()
        assert inside.wait(10)
        threads[1].start()
        threads[1].join(0.2)  # it waits
        leave.set()
        for thread in threads:
            thread.join()
        assert logging.getLogLevel() == logging.LOG_LEVEL_WARNING
    finally:
        logging.setLogLevel(before)
