"""What generation's states take, measured on the model itself, and whether it fits a budget.

R rows, T tokens.
"""

from __future__ import annotations

import time

import torch

from beholder.errors import BeholderError
from beholder.model import Batch, Model
from beholder.parts.language.layer_states import SelfKeyValues, grown
from beholder.parts.language.state import State
from beholder.speed.memory import trim

PAUSE = 1.0  # least seconds between two calls of `trim`: each takes some milliseconds, and what is wanted again as many


class Room:
    """Bytes of states. budget: how many there may be. Where a model reads nothing without a picture, what a token takes is
    known from the first request on. Raises `BeholderError` where the budget is not even enough for one token.
    """

    def __init__(self, model: Model, budget: int) -> None:
        self.budget, self.known = budget, False
        self._keeps, self._trimmed = model.device.type == "cpu", float("-inf")
        self.per_token = self.fixed = 0
        try:
            self.learn(_measured(model))
        except BeholderError:
            return
        if self.bytes(1, 1) > budget:
            raise self.error(1, 1)

    def learn(self, state: State) -> None:
        """Take the measure of a state that holds a prompt."""
        layers = [layer for layer in state.layers.values() if type(layer) is SelfKeyValues]
        rows, tokens = state.room
        growing = sum(layer.nbytes for layer in layers)
        self.per_token = growing // (rows * tokens) if tokens else 0
        self.fixed = (state.nbytes - growing) // state.rows
        self.known = True

    def bytes(self, tokens: int, rows: int) -> int:
        """Of so many rows of so many tokens each."""
        return rows * (self.fixed + tokens * self.per_token)

    def plenty(self, taken: int) -> bool:
        """Whether so many bytes leave so much of the budget that speed goes first."""
        return taken <= self.budget // 4

    def tidy(self, taken: int) -> None:
        """Once more than half of the budget is to be taken, what the allocator keeps of freed memory goes back."""
        if self._keeps and taken > self.budget // 2 and time.monotonic() - self._trimmed > PAUSE:
            trim()
            self._trimmed = time.monotonic()

    def growth(self, state: State) -> int:
        """How many bytes more a state takes after one more token of every row."""
        rows, tokens = state.room
        if not tokens or max(state.lengths) < tokens:
            return 0
        return rows * (grown(tokens) - tokens) * self.per_token

    def joined(self, one: State, other: State, spare: int = 0) -> int:
        """How many bytes both take as one, with some spare rows."""
        tokens = max(one.room[1], other.room[1])
        return max(one.room[0], one.rows + other.rows + spare) * (self.fixed + tokens * self.per_token)

    def check(self, tokens: int, rows: int) -> None:
        """Raises `BeholderError` for what can never fit."""
        if self.bytes(tokens + 1, rows) > self.budget:
            raise self.error(tokens + 1, rows)

    def error(self, tokens: int, rows: int) -> BeholderError:
        """What is said of so many tokens that do not fit."""
        need = self.bytes(tokens, rows)
        many = f"{rows} x {tokens}" if rows > 1 else str(tokens)
        return BeholderError(
            f"{many} tokens need {need / 2**20:.1f} MiB of cache but the budget is {self.budget / 2**20:.1f} MiB; "
            "shorten the prompt, give fewer pictures, or raise the budget"
        )


@torch.inference_mode()
def _measured(model: Model) -> State:
    """A state with one token of one row."""
    main = model.card.main
    assert main is not None
    state, ids_11 = State(rows=1, capacity=1), torch.zeros(1, 1, dtype=torch.long, device=model.device)
    model.read(Batch(ids_11, target_BT=ids_11) if main.reads_apart else Batch(ids_11), {}, state)
    return state
