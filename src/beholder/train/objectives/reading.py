"""One pass of a model over a batch, which the terms of a loss share.

B rows, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.model import Batch, Model
from beholder.parts.contracts import BranchOutput, LanguageOutput
from beholder.train.collate import TrainBatch

Objective = Callable[[Model, TrainBatch], Tensor]
Part = TypeVar("Part", bound=nn.Module)
AUX_SHARES = {  # of what experts add to the loss: Switch (2101.03961, section 2.2), ST-MoE (2202.08906, section 4)
    "load balance": 1e-2,
    "router z": 1e-3,
}


class Reading(NamedTuple):
    """What a model made of a batch."""

    model: Model
    item: TrainBatch
    branches: Mapping[str, BranchOutput]
    language: LanguageOutput

    def given(self, output: str) -> Any:
        """What the head of this output gives, None where it has nothing to say. No other head runs."""
        heads = self.model.apply_heads(self.item.batch, self.branches, self.language, outputs=(output,))
        return heads.get(output)


Term = Callable[[Reading], Tensor]


def read(model: Model, item: TrainBatch) -> Reading:
    """Branches and language part, no heads."""
    branches = model.encode(item.batch)
    return Reading(model, item, branches, model.read(item.batch, branches))


@dataclass(frozen=True)
class Sum:
    """An objective of several terms over one pass, each times its share (1 where `shares` is empty), and what layers of
    experts add to the loss (`AUX_SHARES`).
    """

    terms: tuple[Term, ...]
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.shares and len(self.shares) != len(self.terms):
            raise BeholderError(
                f"{len(self.terms)} terms of a loss but {len(self.shares)} shares; give one each"
            )

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        reading = read(model, item)
        loss = expert_losses(reading.language)
        for term, share in zip(self.terms, self.shares or (1.0,) * len(self.terms), strict=True):
            loss = loss + share * term(reading)
        return loss


def expert_losses(language: LanguageOutput) -> Tensor:
    """What layers of experts add to the loss, 0 where there are none."""
    loss = language.hidden_BTD.new_zeros((), dtype=torch.float32)
    for name, value in language.aux_losses.items():
        loss = loss + AUX_SHARES[name] * value
    return loss


def head_of(model: Model, kind: type[Part], needs: str) -> Part:
    """The model's head of a kind. Raises `BeholderError` that says what an objective `needs`."""
    for head in model.heads:
        if isinstance(head, kind):
            return head
    raise BeholderError(f"{model.card.name} has no head {needs}; train with next_token")


def generator_of(batch: Batch) -> torch.Generator:
    """What random draws of an objective come from: the same for the same batch, so that a resumed run draws the same."""
    seed = 0 if batch.ids_BT is None else int(batch.ids_BT.sum())
    for views in batch.views.values():
        seed += sum(int(view.sum(dtype=torch.float64) * 1000) for view in views)
    return torch.Generator().manual_seed(seed % 2**63)


def words_of(batch: Batch) -> tuple[Tensor, tuple[int, ...]]:
    """The ids (B, T) of a batch and how many of each row are no padding. Raises `BeholderError` where it has no text."""
    if batch.ids_BT is None:
        raise BeholderError("the batch has no text to learn from; use a collator that makes some")
    rows, width = batch.ids_BT.shape
    return batch.ids_BT, batch.lengths or (width,) * rows
