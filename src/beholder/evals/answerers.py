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
    """The same answerer shown an evenly grey picture of the same size in place of each picture."""

    def answer(pictures: Sequence[np.ndarray], questions: Sequence[str]) -> list[str]:
        return answerer([np.full_like(pixels, GREY) for pixels in pictures], questions)

    return answer
