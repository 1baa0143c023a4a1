"""Where exceptions become one line and an exit code.

0 fine, 1 a check failed, 2 something the user can mend, 3 a bug, 130 interrupted, 141 nobody reads the output.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from beholder.errors import BeholderError

FINE, FAILED, USER_ERROR, BUG, INTERRUPTED, NO_READER = 0, 1, 2, 3, 130, 141
DEBUG = "--debug"


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code and lets nothing but a traceback asked for through."""
    words, debug = split_debug(sys.argv[1:] if argv is None else argv)
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # an answer may hold what a terminal of another alphabet cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from beholder.cli.app import app

        with warnings.catch_warnings():
            if not debug:
                warnings.showwarning = warn  # type: ignore[assignment]
            code = app(args=words, prog_name="beholder", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else FINE
    except (SystemExit, BrokenPipeError):  # what the libraries below make of a closed pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except BaseException as error:  # noqa: BLE001  (the last place that can say it in one line)
        if debug:
            traceback.print_exception(error)
        code, line = explained(error)
        if line:
            report(line)
        return code


def split_debug(argv: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, and whether it was among them: it may stand before or after the command."""
    words = list(argv)
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != DEBUG]
    return [*kept, *words[end:]], len(kept) < end


def explained(error: BaseException) -> tuple[int, str]:
    """The exit code and the line for an exception; no line for what the user asked for."""
    if isinstance(error, (KeyboardInterrupt, EOFError)) or type(error).__name__ == "Abort":
        return INTERRUPTED, ""
    if isinstance(error, BeholderError):
        return USER_ERROR, first_line(str(error))
    if hasattr(
        error, "format_message"
    ):  # wrong options and arguments, whichever library's base class they have
        return USER_ERROR, usage_line(error)
    if isinstance(error, OSError):
        return USER_ERROR, disk_line(error)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("beholder"):
        return (
            USER_ERROR,
            f"the package {error.name} is missing; install beholder again, or the extra it belongs to",
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return USER_ERROR, "out of memory; give smaller pictures, a shorter text or a smaller model"
    what = first_line(str(error)) or "no message"
    return BUG, f"this is a bug in beholder ({type(error).__name__}: {what}); {DEBUG} shows where"


def report(line: str, kind: str = "error") -> None:
    """One line on stderr, whatever the message holds."""
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
    print(f"{kind}: " + shown.encode(errors="backslashreplace").decode(), file=sys.stderr)


def warn(message: Warning | str, *_: Any) -> None:
    """A warning of the library or of one below it, as one line without the place in the code."""
    report(first_line(str(message)), kind="warning")


def first_line(text: str) -> str:
    """The first line of a message; says so where `--debug` would show more of it."""
    line, _, rest = text.strip().partition("\n")
    return f"{line} ({DEBUG} shows all of it)" if rest else line


def usage_line(error: BaseException) -> str:
    """A wrong option or argument, and where to read which are right; nothing where the help was just shown."""
    message = " ".join(error.format_message().split()).rstrip(".")  # type: ignore[attr-defined]
    command = getattr(getattr(error, "ctx", None), "command_path", "beholder")
    return message and f"{message[:1].lower()}{message[1:]} (see {command} --help)"


def disk_line(error: OSError) -> str:
    """What the system refused, of which file, and what to do."""
    from beholder.files import REMEDIES

    remedy = REMEDIES.get(error.errno or 0)
    what = (error.strerror or str(error) or type(error).__name__).lower()
    where = f"{error.filename}: " if error.filename else ""
    if remedy is not None:
        return f"{where}{remedy}"
    return f"{where}{first_line(what)}; check the path and try again"
