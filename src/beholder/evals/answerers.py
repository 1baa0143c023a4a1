"""Ways to answer questions about pictures. An answerer takes as many pictures as questions and gives as many
answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from beholder.prompts.messages import Picture, user

if TYPE_CHECKING:
    from beholder.pipeline import Pipeline

Answerer = Callable[[Sequence[np.ndarray], Sequence[str]], list[str]]

GREY = 127


def answer_with(pipeline: Pipeline, *, max_tokens: int = 24) -> Answerer:
    """The model's own greedy answers, by the same path as `Pipeline.answer`."""

    def answer(pictures: Sequence[np.ndarray], questions: Sequence[str]) -> list[str]:
        asked = [
            [user(Picture(pixels), question)] for pixels, question in zip(pictures, questions, strict=True)
        ]
        return [str(reply) for reply in pipeline.answer(asked, max_tokens=max_tokens)]

    return answer


def blind(answerer: Answerer) -> Answerer:
    """The same answerer shown an evenly grey picture of the same size in place of each picture. It is asked each question
    once per size.
    """
    known: dict[tuple[tuple[int, ...], str], str] = {}

    def answer(pictures: Sequence[np.ndarray], questions: Sequence[str]) -> list[str]:
        asked = [(pixels.shape, question) for pixels, question in zip(pictures, questions, strict=True)]
        new = [key for key in dict.fromkeys(asked) if key not in known]
        if new:
            grey = [np.full(shape, GREY, np.uint8) for shape, _ in new]
            known.update(zip(new, answerer(grey, [question for _, question in new]), strict=True))
        return [known[key] for key in asked]

    return answer
