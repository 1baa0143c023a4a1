"""The command line. Heavy imports are inside the commands, so that help and facts come at once."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run `beholder` with these arguments (default: those of the process); gives the exit code."""
    from beholder.cli.boundary import run

    return run(argv)
