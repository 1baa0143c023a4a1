"""Rounds of all that is measured, taken in turns, and the document that tells of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from beholder.bench.own import Contestant
from beholder.bench.roofline import shares
from beholder.bench.rounds import Round, Workload, summary
from beholder.errors import BeholderError

FORMAT = "beholder-bench-1"
WARM = 4  # tokens of the answers that nothing is counted of
SIZES = {"context": (1024, 2048, 4096, 8192, 16384), "pictures": (1, 2, 4, 8, 16, 32, 64)}

Progress = Callable[[str, int, int], None]  # what, done, total


@dataclass
class Measured:
    """What has been measured so far: the rounds of each contestant and workload, and remarks. complete: nothing was cut off."""

    contestants: Sequence[Contestant]
    workloads: Sequence[Workload]
    rounds: dict[tuple[int, int], list[Round]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    work: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    complete: bool = True


def measure(
    contestants: Sequence[Contestant], workloads: Sequence[Workload], rounds: int, progress: Progress
) -> Measured:
    """Warm up, then let the contestants take turns, the first one last in every second round. Ctrl-C ends it with what is
    there.

    What one contestant cannot do becomes a note, unless nobody can do anything.
    """
    measured = Measured(contestants, workloads)
    try:
        for place, workload in enumerate(workloads):
            _measure_one(measured, place, workload, rounds, progress)
    except KeyboardInterrupt:
        if not measured.rounds:
            raise
        measured.complete = False
        measured.notes.append("stopped before all rounds were measured")
    if not measured.rounds:
        raise BeholderError(measured.notes[0])
    return measured


def _measure_one(measured: Measured, place: int, workload: Workload, rounds: int, progress: Progress) -> None:
    what, able = told(workload), []
    short = replace(workload, new=min(workload.new, WARM), rate=None, requests=workload.concurrency)
    for number, contestant in enumerate(measured.contestants):
        progress(f"{what}, warming up", number, len(measured.contestants))
        try:
            contestant.round(short)
            measured.work[number, place] = contestant.work(workload)
        except BeholderError as error:
            measured.notes.append(str(error))
        else:
            able.append(number)
    progress(f"{what}, warming up", len(measured.contestants), len(measured.contestants))
    for turn in range(rounds):
        for number in list(able) if turn % 2 == 0 else able[::-1]:
            try:
                found = measured.contestants[number].round(workload)
            except BeholderError as error:
                measured.notes.append(str(error))
                able.remove(number)
            else:
                measured.rounds.setdefault((number, place), []).append(found)
        progress(what, turn + 1, rounds)


def told(workload: Workload) -> str:
    """A workload in some words."""
    pictures = len(workload.pictures)
    seen = f"{pictures} picture{'s' * (pictures != 1)}, " if pictures else ""
    come = f"{workload.concurrency} at a time" if workload.rate is None else f"{workload.rate:g} a second"
    return f"{seen}{workload.text} tokens, {come}"


def rows(measured: Measured, ceilings: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each contestant and workload that was measured."""
    found = []
    for place, workload in enumerate(measured.workloads):
        beside = next((measured.rounds[key] for key in sorted(measured.rounds) if key[1] == place), [])
        for number, contestant in enumerate(measured.contestants):
            own = measured.rounds.get((number, place))
            if not own:
                continue
            row = contestant.facts | asked(workload) | summary(own, workload)
            row |= {"bytes_per_token": None, "operations": None} | measured.work[number, place]
            row["shares"] = shares(row, ceilings, workload.concurrency if workload.rate is None else 0)
            row["times_as_long"] = None if own is beside else ratios(own, beside)
            found.append(row)
    return found


def asked(workload: Workload) -> dict[str, Any]:
    """A workload as part of a row; of pictures their count, since names of files are nobody else's business."""
    concurrency = workload.concurrency if workload.rate is None else None
    return {
        "pictures": len(workload.pictures),
        "text": workload.text,
        "new": workload.new,
        "concurrency": concurrency,
        "rate": workload.rate,
    }


def ratios(own: Sequence[Round], beside: Sequence[Round]) -> dict[str, float | None]:
    """How many times as long this takes as the first contestant did in the same round: medians."""
    pairs = list(zip(own, beside, strict=False))
    per_token = [(one.per_token, other.per_token) for one, other in pairs]
    slower = [one / other for one, other in per_token if one is not None and other]
    return {
        "ttft": statistics.median(one.first / other.first for one, other in pairs),
        "token": statistics.median(slower) if slower else None,
        "all": statistics.median(
            one.seconds / len(one.samples) / (other.seconds / len(other.samples)) for one, other in pairs
        ),
    }


def sweep(workload: Workload, kind: str, sizes: Iterable[int]) -> list[Workload]:
    """The same workload at growing sizes: `context`, tokens of the question, or `pictures`, the given ones again and again.
    Raises `BeholderError` where there is no picture.
    """
    if kind == "context":
        return [replace(workload, text=size) for size in sizes]
    if not workload.pictures:
        raise BeholderError(
            "--sweep pictures repeats the pictures that are given; name one: beholder bench cat.jpg"
        )
    return [
        replace(workload, pictures=tuple(workload.pictures[i % len(workload.pictures)] for i in range(size)))
        for size in sizes
    ]


def fits(found: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """For each engine and precision of a sweep, lines through time to the first token and peak memory over prompt tokens or
    pictures: `slope`, `start`, and `fit` (R squared).
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in found:
        groups.setdefault((row["engine"], row["precision"]), []).append(row)
    lines = []
    for (engine, precision), members in groups.items():
        x = [row["pictures" if kind == "pictures" else "prompt_tokens"] for row in members]
        fitted = {
            name: line(x, y)
            for name, y in (
                ("ttft", [row["ttft"]["median"] for row in members]),
                ("peak", [row["peak"] for row in members]),
                ("token", [row["token"]["median"] if row["token"] else math.nan for row in members]),
            )
        }
        lines.append({"engine": engine, "precision": precision, "over": kind} | fitted)
    return lines


def line(x: Sequence[float], y: Sequence[float]) -> dict[str, float] | None:
    """Least squares; None for fewer than two places, or values that are none."""
    if len(set(x)) < 2 or not all(map(math.isfinite, y)):
        return None
    slope, start = statistics.linear_regression(x, y)
    mean = statistics.fmean(y)
    left = sum((v - start - slope * u) ** 2 for u, v in zip(x, y, strict=True))
    whole = sum((v - mean) ** 2 for v in y)
    return {"slope": slope, "start": start, "fit": 1 - left / whole if whole else 1.0}


def document(
    measured: Measured, machine: dict[str, Any], ceilings: dict[str, Any], kind: str | None = None
) -> dict[str, Any]:
    """All that was measured, JSON-ready."""
    found = rows(measured, ceilings)
    return {
        "format": FORMAT,
        "machine": machine,
        "ceilings": ceilings,
        "complete": measured.complete,
        "rows": found,
        "fits": fits(found, kind) if kind else [],
        "notes": measured.notes,
    }


def close(contestants: Sequence[Contestant]) -> None:
    """End other processes and free models."""
    for contestant in contestants:
        contestant.close()
