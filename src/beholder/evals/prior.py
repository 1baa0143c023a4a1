"""What can be answered without the picture: the most common answer of training to a question of the same wording."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from beholder.data.samples import Turn

COMMON = 0.02  # words in a smaller share of a task's questions are names, not wording


class Prior:
    """An answerer (see `answerers`) that looks at no picture. `fit` it on turns of the training data."""

    def __init__(self, answers: dict[str, str], common: frozenset[str], fallback: str) -> None:
        self.answers, self.common, self.fallback = answers, common, fallback

    @classmethod
    def fit(cls, turns: Iterable[Turn]) -> Prior:
        """Learn from turns; questions that differ only in rare words (names of things) are one template."""
        turns = list(turns)
        tasks = Counter(turn.task for turn in turns)
        found: Counter[tuple[str, str]] = Counter()
        for turn in turns:
            found.update((turn.task, word) for word in set(_words(turn.question)))
        common = frozenset(word for (task, word), count in found.items() if count >= COMMON * tasks[task])
        by_template: dict[str, Counter[str]] = defaultdict(Counter)
        for turn in turns:
            by_template[_template(turn.question, common)][turn.answer] += 1
        best = {template: _most_common(answers) for template, answers in by_template.items()}
        return cls(best, common, _most_common(Counter(turn.answer for turn in turns)))

    def __call__(self, pictures: Sequence[np.ndarray], questions: Sequence[str]) -> list[str]:
        return [self.answers.get(_template(question, self.common), self.fallback) for question in questions]


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def _template(question: str, common: frozenset[str]) -> str:
    """The question with runs of rare words as one gap."""
    return re.sub(
        r"(_ )+", "_ ", " ".join(word if word in common else "_" for word in _words(question)) + " "
    )


def _most_common(answers: Counter[str]) -> str:
    return min(answers, key=lambda answer: (-answers[answer], answer))
