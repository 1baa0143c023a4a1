"""The scorer: exact match after normalisation, with standard errors that know which questions share a picture."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from beholder.evals.judges import OR, overlap, told
from beholder.evals.tasks import BALANCED, Question

NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
SPELLINGS = {"grey": "gray", "centre": "center", "middle": "center"}
ARTICLES = frozenset({"a", "an", "the"})


@dataclass(frozen=True)
class Score:
    """A share between 0 and 1 and its standard error over `count` questions."""

    value: float
    error: float
    count: int


def normalise(text: str) -> str:
    """Lower case, no punctuation, no articles, numbers in digits, one spelling."""
    words = re.sub(r"[^\w\s-]", " ", text.lower()).replace("-", " ").split()
    words = [SPELLINGS.get(word, NUMBER_WORDS.get(word, word)) for word in words if word not in ARTICLES]
    return " ".join(words)


def is_right(given: str, wanted: str) -> bool:
    """Whether the answers are equal after `normalise`."""
    return normalise(given) == normalise(wanted)


def is_one_of(given: str, wanted: str) -> bool:
    """Whether an answer is one of those that `wanted` names, parted by `judges.OR`."""
    return any(is_right(given, each) for each in wanted.split(OR))


# by the last part of a task's name; all others are right where `is_right` says so
JUDGES: Mapping[str, Callable[[str, str], float]] = {
    "box": overlap,
    "caption": partial(told, normalise=normalise),
    "or-alias": is_one_of,
}


def score(task: str, questions: Sequence[Question], given: Sequence[str]) -> Score:
    """Share of right answers of one task, as its judge finds them; where it is balanced, the mean of the shares for each
    right answer.
    """
    judge = JUDGES.get(task.rpartition("/")[2], is_right)
    right = [float(judge(answer, question.answer)) for question, answer in zip(questions, given, strict=True)]
    if task not in BALANCED:
        return _mean(questions, right)
    parts = []
    for wanted in sorted({question.answer for question in questions}):
        chosen = [i for i, question in enumerate(questions) if question.answer == wanted]
        parts.append(_mean([questions[i] for i in chosen], [right[i] for i in chosen]))
    value = sum(part.value for part in parts) / len(parts)
    error = math.sqrt(sum(part.error**2 for part in parts)) / len(parts)
    return Score(value, error, len(questions))


def _mean(questions: Sequence[Question], right: Sequence[float]) -> Score:
    """Mean and its standard error, questions about one picture taken together."""
    value = sum(right) / len(right)
    apart: dict[str, float] = defaultdict(float)
    for question, each in zip(questions, right, strict=True):
        apart[question.picture] += each - value
    return Score(value, math.sqrt(sum(total**2 for total in apart.values())) / len(right), len(right))
