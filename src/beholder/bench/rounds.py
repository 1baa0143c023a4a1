"""What a round measures, and what many rounds say: medians, spread, and which rounds other programs disturbed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

QUIET = 0.06  # share of the processors that other programs may take in a round that counts
ENOUGH = 5  # undisturbed rounds, else the less disturbed half counts
PARTS = ("queue", "plan", "media", "wait", "vision", "prefill")


@dataclass(frozen=True)
class Workload:
    """What is asked of a system. pictures: files, in every request. text, new: tokens of the question and of the answer.
    concurrency: requests that are there at a time; rate: requests a second in its place, which come at random. requests: of a
    round.
    """

    pictures: tuple[str, ...] = ()
    text: int = 32
    new: int = 32
    concurrency: int = 1
    rate: float | None = None
    requests: int = 1


@dataclass(frozen=True)
class Sample:
    """One request. Seconds: first, until the first token; parts of it; last, until the last one. prompt, image, new: tokens."""

    first: float
    last: float
    prompt: int = 0
    image: int = 0
    new: int = 0
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def per_token(self) -> float | None:
        """Seconds of each token after the first."""
        return (self.last - self.first) / (self.new - 1) if self.new > 1 else None


@dataclass(frozen=True)
class Round:
    """Requests that were measured together. seconds: of all of it; peak: bytes; others: share of the processors that other
    programs took; rate: at which requests came, where they came by themselves.
    """

    seconds: float
    samples: tuple[Sample, ...]
    peak: int = 0
    others: float | None = None
    rate: float | None = None

    @classmethod
    def from_data(cls, data: dict[str, Any], others: float | None) -> Round:
        """What another process tells."""
        samples = tuple(Sample(**sample) for sample in data["samples"])
        return cls(data["seconds"], samples, data["peak"], others, data.get("rate"))

    @property
    def first(self) -> float:
        return statistics.fmean(sample.first for sample in self.samples)

    @property
    def per_token(self) -> float | None:
        found = [sample.per_token for sample in self.samples if sample.per_token is not None]
        return statistics.fmean(found) if found else None

    @property
    def parts(self) -> dict[str, float]:
        """Means, which add up to `first`."""
        names = [name for name in PARTS if any(name in sample.parts for sample in self.samples)]
        return {name: statistics.fmean(s.parts.get(name, 0.0) for s in self.samples) for name in names}

    def per_second(self, count: int) -> float:
        return count / self.seconds


def undisturbed(rounds: Sequence[Round]) -> list[Round]:
    """The rounds that count: those in which other programs took little, or the less disturbed half where these are few."""
    quiet = [each for each in rounds if each.others is None or each.others <= QUIET]
    if len(quiet) >= min(ENOUGH, len(rounds)):
        return quiet
    return sorted(rounds, key=lambda each: each.others or 0.0)[: (len(rounds) + 1) // 2]


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Median, least and most."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"median": statistics.median(known), "least": min(known), "most": max(known)}


def middle(rounds: Sequence[Round]) -> Round:
    """The round whose time to the first token is the median, the lower of two."""
    return sorted(rounds, key=lambda each: each.first)[(len(rounds) - 1) // 2]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summary(rounds: Sequence[Round], workload: Workload) -> dict[str, Any]:
    """The numbers of a row, JSON-ready. Times are in seconds, memory in bytes. `parts` are of the round in the middle and add
    up to its `ttft_of_parts`.
    """
    kept = undisturbed(rounds)
    samples = [sample for each in kept for sample in each.samples]
    one, told = samples[0], middle(kept)
    pictures = len(workload.pictures)
    others = [each.others for each in kept if each.others is not None]
    return {
        "requests": len(samples),
        "prompt_tokens": one.prompt,
        "image_tokens": one.image,
        "new_tokens": one.new,
        "ttft": spread([each.first for each in kept]),
        "ttft_p95": percentile([sample.first for sample in samples], 0.95),
        "ttft_of_parts": told.first,
        "parts": told.parts,
        "token": spread([each.per_token for each in kept]),
        "tokens_per_second": spread([each.per_second(sum(s.new for s in each.samples)) for each in kept])
        if one.new
        else None,
        "pictures_per_second": spread([each.per_second(pictures * len(each.samples)) for each in kept])
        if pictures
        else None,
        "requests_per_second": spread([each.per_second(len(each.samples)) for each in kept]),
        "arrived_per_second": spread([each.rate for each in kept]),
        "peak": max(each.peak for each in kept),
        "rounds": len(rounds),
        "rounds_kept": len(kept),
        "others": statistics.median(others) if others else None,
    }
