"""What generation's states take, measured on the model itself, and whether it fits a budget.

R rows, T tokens.
"""

from __future__ import annotations

import torch

from beholder.errors import BeholderError
from beholder.model import Batch, Model
from beholder.parts.language.layer_states import grown
from beholder.parts.language.state import State


class Room:
    """Bytes of states. budget: how many there may be. Raises `BeholderError` where it is not even enough for one token."""

    def __init__(self, model: Model, budget: int) -> None:
        self.budget = budget
        one, two = (_measured(model, count) for count in (1, 2))
        self.per_token = two - one
        self.fixed = one - self.per_token
        if self.bytes(1, 1) > budget:
            raise self.error(1, 1)

    def bytes(self, tokens: int, rows: int) -> int:
        """Of so many rows of so many tokens each."""
        return rows * (self.fixed + tokens * self.per_token)

    def growth(self, state: State) -> int:
        """How many bytes more a state takes after one more token of every row."""
        rows, tokens = state.room
        if not tokens or max(state.lengths) < tokens:
            return 0
        return rows * (grown(tokens) - tokens) * self.per_token

    def joined(self, one: State, other: State) -> int:
        """How many bytes both take as one, without spare rows."""
        tokens = max(one.room[1], other.room[1])
        return max(one.room[0], one.rows + other.rows) * (self.fixed + tokens * self.per_token)

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
def _measured(model: Model, tokens: int) -> int:
    """Bytes of a state with so many tokens of one row."""
    main = model.card.main
    assert main is not None
    state = State(rows=1, capacity=tokens)
    ids_1T = torch.zeros(1, tokens, dtype=torch.long, device=model.device)
    batch = Batch(target_BT=ids_1T, ids_BT=ids_1T[:, :1]) if main.reads_apart else Batch(ids_1T)
    model.read(batch, {}, state)
    return state.nbytes
