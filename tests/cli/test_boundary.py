"""Exit codes, --debug, interrupts, pipes, and what is imported when."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beholder.cli import boundary, facts
from beholder.errors import BeholderError
from tests.cli.conftest import Run

BEHOLDER = (sys.executable, "-m", "beholder")


def test_version_and_help(run: Run) -> None:
    from beholder import __version__

    assert run("--version") == (0, f"beholder {__version__}\n", "")
    shown = run("--help")
    assert shown.code == 0
    for name in ("ask", "chat", "look", "list", "show", "compare", "parity", "convert", "pull", "doctor"):
        assert f" {name} " in shown.out


def test_no_command_shows_the_help_and_no_error(run: Run) -> None:
    shown = run()
    assert shown.code == 2 and "Usage" in shown.out + shown.err and "error:" not in shown.err


@pytest.mark.parametrize("words", [("--debug", "show", "nobody"), ("show", "nobody", "--debug")])
def test_debug_is_taken_before_and_after_the_command(run: Run, words: tuple[str, ...]) -> None:
    shown = run(*words)
    assert shown.code == 2 and "Traceback" in shown.err
    assert shown.err.splitlines()[-1].startswith("error: unknown system or card 'nobody'")


def test_words_after_two_dashes_are_words() -> None:
    assert boundary.split_debug(["ask", "--debug", "--", "--debug"]) == (["ask", "--", "--debug"], True)
    assert boundary.split_debug(["ask", "--", "--debug"]) == (["ask", "--", "--debug"], False)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BeholderError("no; do this"), 2, "no; do this"),
        (BeholderError("no\n  because"), 2, "no (--debug shows all of it)"),
        (FileNotFoundError(2, "No such file or directory", "x"), 2, "x: no such file or directory; check"),
        (PermissionError(13, "Permission denied", "x"), 2, "x: permission denied; choose a folder you may"),
        (ModuleNotFoundError("no", name="av"), 2, "the package av is missing; install"),
        (ModuleNotFoundError("no", name="beholder.x"), 3, "this is a bug in beholder"),
        (MemoryError(), 2, "out of memory; give smaller pictures"),
        (KeyboardInterrupt(), 130, ""),
        (RuntimeError("odd"), 3, "this is a bug in beholder (RuntimeError: odd); --debug shows where"),
    ],
)
def test_every_exception_has_a_line_and_a_code(error: BaseException, code: int, line: str) -> None:
    got = boundary.explained(error)
    assert got[0] == code and got[1].startswith(line) and bool(got[1]) == bool(line)


def test_bug_is_called_a_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from beholder.catalogue import views

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(views, "list_rows", broken)
    shown = run("list")
    assert (shown.code, shown.out) == (3, "")
    assert shown.err == (
        "error: this is a bug in beholder (ZeroDivisionError: by zero); --debug shows where\n"
    )


def test_warnings_are_lines_on_stderr(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    from beholder.catalogue import views

    def warning(systems: object) -> list[object]:
        warnings.warn("mind this", UserWarning, stacklevel=1)
        return []

    monkeypatch.setattr(views, "list_rows", warning)
    assert run("list", "--json") == (0, "[]\n", "warning: mind this\n")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["list", "--help"],
        ["list", "--evidence", "--json"],
        ["show", "llava-1.5"],
        ["compare", "llava-1.5", "flamingo"],
        ["doctor"],
    ],
)
def test_facts_come_without_torch(words: list[str]) -> None:
    code = (
        "import sys; from beholder.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(code or (9 if 'torch' in sys.modules else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "torch was imported"
    assert done.stderr == ""


def test_closed_pipe_is_silent() -> None:
    shown = subprocess.Popen([*BEHOLDER, "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert shown.stdout is not None and shown.stderr is not None
    shown.stdout.read(1)
    shown.stdout.close()
    assert (shown.wait(30), shown.stderr.read()) == (boundary.NO_READER, b"")
    shown.stderr.close()


def test_interrupt_is_130_and_silent(tmp_path: Path) -> None:
    recipe, begun = tmp_path / "recipe.py", tmp_path / "begun"
    recipe.write_text(f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(60)\n")
    running = subprocess.Popen(
        [*BEHOLDER, "train", str(recipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell's background jobs ignore it
    )
    while not begun.exists() and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (130, b"", b"")


def test_colour_and_width_follow_the_surroundings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    narrow = run("list", "--year", "2023")
    assert narrow.code == 0 and max(map(len, narrow.out.splitlines())) <= 40 and "\x1b" not in narrow.out
    monkeypatch.delenv("COLUMNS")
    assert max(map(len, run("list", "--year", "2023").out.splitlines())) > 100


def test_names_complete() -> None:
    assert "llava-1.5" in facts.complete_name("llava-1")
    assert "llava-1.5-13b" in facts.complete_name("llava-1")
    assert facts.complete_name("zzz") == []


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md"])
def test_pages_tell_of_every_command(samples: Path, page: str) -> None:
    from beholder.cli.app import PANELS

    told = (samples.parents[1] / page).read_text(encoding="utf-8")
    names = [name for commands in PANELS.values() for name in commands]
    assert [name for name in names if f"`{name} " not in told and f"beholder {name}" not in told] == []
