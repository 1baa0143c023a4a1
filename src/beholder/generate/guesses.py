"""Speculative decoding (2211.17192, 2302.01318): cheap guesses of the next tokens, read by the model in one pass. A guess
counts where the model itself chooses that token, so answers are those without guesses, drawn ones included.

T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from beholder.errors import BeholderError
from beholder.generate import steps
from beholder.model import Batch, Model
from beholder.parts.language.state import State

Guess = Callable[[Sequence[int]], list[int]]  # all ids so far -> those that may come next
Guesser = Callable[[], Guess]  # makes one for each request

LONGEST = 3  # tokens that must occur before to be looked up


def look_up(count: int) -> Guesser:
    """Guess that what followed the last tokens before follows again: for answers that repeat their prompt (prompt look-up
    decoding). count: of tokens, from 1 on.
    """
    _check(count)
    return lambda: lambda ids: _repeated(list(ids), count)


def _repeated(ids: list[int], count: int) -> list[int]:
    for length in range(min(LONGEST, len(ids) - 1), 0, -1):
        tail = ids[-length:]
        for start in range(len(ids) - length - 1, -1, -1):
            if ids[start : start + length] == tail:
                return ids[start + length : start + length + count]
    return []


def draft(model: Model, target: Model, count: int) -> Guesser:
    """Guess what a smaller model says, reading words alone. Raises `BeholderError` where the two have other vocabularies."""
    _check(count)
    own, main = model.card.main, target.card.main
    if own is None or main is None or own.reads_apart:
        raise BeholderError(f"{model.card.name} continues no text; take a decoder as draft")
    if own.vocab_size != main.vocab_size:
        raise BeholderError(
            f"the draft {model.card.name} has {own.vocab_size} words and {target.card.name} {main.vocab_size}; take a draft "
            "with the same tokenizer"
        )
    return lambda: _Draft(model, count)


class _Draft:
    """Keeps what it has read from guess to guess."""

    def __init__(self, model: Model, count: int) -> None:
        self.model, self.count = model, count
        self.read: list[int] = []
        self.state = State(1)

    @torch.inference_mode()
    def __call__(self, ids: Sequence[int]) -> list[int]:
        main = self.model.card.main
        assert main is not None
        words = [token_id for token_id in ids if 0 <= token_id < main.vocab_size]
        if len(words) + self.count > main.context:
            return []
        kept = 0
        while kept < min(len(self.read), len(words) - 1) and self.read[kept] == words[kept]:
            kept += 1
        if kept < len(self.read):
            if not self.state.cuttable:
                self.state, kept = State(1), 0
            else:
                self.state.truncate([kept])
        batch = Batch(torch.tensor([words[kept:]], device=self.model.device))
        logits_1V = steps.prefill(self.model, batch, {}, self.state)
        self.read, guessed = words, []
        while True:
            guessed.append(int(logits_1V[0].argmax()))
            if len(guessed) == self.count:
                return guessed
            self.read = [*self.read, guessed[-1]]
            logits_1V = steps.advance(self.model, guessed[-1:], self.state)


def _check(count: int) -> None:
    if count < 1:
        raise BeholderError(f"{count} tokens are no guess; give 1 or more")
