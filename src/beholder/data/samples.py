"""What a data set gives: pictures with questions and answers, by number, so that a run resumes exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Turn:
    """One question about a picture, its answer, and the task that the pair is scored under."""

    question: str
    answer: str
    task: str


@dataclass(frozen=True)
class Sample:
    """One picture, (height, width, 3) uint8 RGB, with its turns; `key` names it within its data set."""

    pixels: np.ndarray
    turns: tuple[Turn, ...]
    key: str


class Dataset(Protocol):
    """A list of samples. Item `i` is a pure function of the data set's settings and `i`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Mixture:
    """Draws every sample from one of several data sets, chosen with fixed odds by the sample's own number.

    `length` is how many samples the mixture has; the default is the sum of its parts. Raises ValueError when
    the weights are not one positive number per data set.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        weights: Sequence[float],
        seed: int = 0,
        *,
        length: int | None = None,
    ) -> None:
        if not datasets or len(datasets) != len(weights) or min(weights) <= 0:
            raise ValueError(
                f"{len(datasets)} data sets but weights {list(weights)}: give one positive weight for each"
            )
        self.datasets = tuple(datasets)
        self.odds = np.asarray(weights, dtype=float) / sum(weights)
        self.seed = seed
        self.length = sum(len(part) for part in datasets) if length is None else length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        index = checked_index(index, self.length)
        rng = np.random.default_rng([self.seed, index])
        part = self.datasets[int(rng.choice(len(self.datasets), p=self.odds))]
        return part[int(rng.integers(len(part)))]


def checked_index(index: int, length: int) -> int:
    """`index` counted from the start, for a sequence of `length` items. Raises IndexError beyond it."""
    if not -length <= index < length:
        raise IndexError(f"sample {index} of {length}")
    return index % length
