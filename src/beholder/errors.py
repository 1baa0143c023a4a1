"""Errors a user can cause. One line says what is wrong and what to do; the command line shows it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BeholderError(ValueError):
    """Something outside the library is wrong: a file, a name, a number, a request."""


class UnknownName(BeholderError):
    """A name that stands for nothing, with the nearest ones that do."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.suggestions = nearest(name, known)
        hint = f"; nearest: {', '.join(self.suggestions)}" if self.suggestions else ""
        super().__init__(f"unknown {what} {name!r}{hint}")


class MediaError(BeholderError):
    """A picture, clip or sound that cannot be used."""


class WeightsError(BeholderError):
    """A checkpoint that does not fit, or a file of weights that is damaged or not allowed."""


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The `count` names most like `name`, best first."""
    names = sorted(set(names))
    scored = [(difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio(), other) for other in names]
    return [other for _, other in sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:count]]
