"""beholder in a process of its own, so that the memory of several precisions is told apart:
`python -m beholder.bench.worker`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from beholder.bench.others import serve
from beholder.bench.own import Opening, Own
from beholder.bench.rounds import Workload


class Worker:
    """Answers `serve`."""

    def __init__(self) -> None:
        self._own: Own | None = None

    def open(self, given: dict[str, Any]) -> dict[str, Any]:
        self._own = Own.open(Opening(**given))
        return self._own.facts

    def round(self, given: dict[str, Any]) -> dict[str, Any]:
        """A `Round` as data."""
        assert self._own is not None
        return asdict(self._own.round(workload_of(given)))

    def work(self, given: dict[str, Any]) -> dict[str, Any]:
        """What is known of a workload."""
        assert self._own is not None
        return self._own.work(workload_of(given))

    def prompt(self, given: dict[str, Any]) -> dict[str, Any]:
        """What another library is asked."""
        assert self._own is not None
        return self._own.prompt(workload_of(given))


def workload_of(given: dict[str, Any]) -> Workload:
    return Workload(**given | {"pictures": tuple(given["pictures"])})


if __name__ == "__main__":
    serve(Worker())
