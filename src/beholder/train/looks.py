"""What a model in training answers, for people to read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

import numpy as np

from beholder.data.samples import Dataset, Item, Sample, Turn, turns_of
from beholder.model import Model
from beholder.pipeline import Pipeline
from beholder.prompts.messages import Message, Picture, pictures_of, user
from beholder.prompts.tokenizer import Tokenizer
from beholder.train.reports import Answered, Look

WORDS = 24  # tokens of an answer at most


def answering(dataset: Dataset, tokenizer: Tokenizer, count: int = 4) -> Callable[[Model], Look]:
    """A function that asks a model the first question of each of the first `count` samples, and takes its greedy answers."""

    def ask(model: Model) -> Look:
        asked = [first_question(dataset[index]) for index in range(min(count, len(dataset)))]
        replies = Pipeline(model, tokenizer).answer([messages for messages, _, _ in asked], max_tokens=WORDS)
        return [
            Answered(picture, turn.question, turn.answer, str(reply))
            for (_, picture, turn), reply in zip(asked, replies, strict=True)
        ]

    return ask


def first_question(item: Item) -> tuple[list[Message], np.ndarray | None, Turn]:
    """What is said up to the first answer, the first picture shown, and question and answer."""
    if isinstance(item, Sample):
        return [user(Picture(item.pixels), item.turns[0].question)], item.pixels, item.turns[0]
    messages = list(takewhile(lambda message: message.role != "assistant", item.told))
    shown = (part.source for part in pictures_of(messages) if isinstance(part, Picture))
    return messages, next(shown, None), turns_of(item.messages)[0]
