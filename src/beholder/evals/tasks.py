"""What is asked in an evaluation: sets of questions about pictures, each under a task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from beholder.data.samples import Samples

# Tasks answered yes or no, scored by balanced accuracy: always saying yes scores a half.
BALANCED = frozenset({"presence", "easy-vqa/yes-no"})


@dataclass(frozen=True, eq=False)
class Question:
    """One question about a picture (H, W, 3) uint8. picture: which picture of the set, for errors of the mean."""

    pixels: np.ndarray
    question: str
    answer: str
    task: str
    picture: str


@dataclass(frozen=True)
class EvalSet:
    """The first `limit` samples of a data set, all where None. leave_out: tasks that exact match cannot score."""

    name: str
    dataset: Samples
    limit: int | None = 400
    leave_out: frozenset[str] = frozenset({"caption"})

    def questions(self) -> Iterator[Question]:
        """Every turn of the samples."""
        count = len(self.dataset) if self.limit is None else min(self.limit, len(self.dataset))
        for index in range(count):
            sample = self.dataset[index]
            for turn in sample.turns:
                if turn.task not in self.leave_out:
                    yield Question(sample.pixels, turn.question, turn.answer, turn.task, sample.key)
