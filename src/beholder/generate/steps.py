"""The steps of generation: pictures encoded, prompts read, one token more for each row.

B rows, T positions, D width, V words of the vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from beholder.model import Batch, Model
from beholder.parts.blocks.masks import Visibility
from beholder.parts.contracts import BranchOutput, LanguageOutput
from beholder.parts.language.state import State

ROOM = 512  # tokens of answer that memory is set aside for at first


@torch.inference_mode()
def encode(model: Model, batch: Batch) -> dict[str, BranchOutput]:
    """The pictures' features."""
    return model.encode(batch)


@torch.inference_mode()
def prefill(model: Model, batch: Batch, branches: dict[str, BranchOutput], state: State) -> Tensor:
    """Scores (B, V) for the token after each prompt; `state` then holds the prompts."""
    output = model.read(batch, branches, state)
    return last_logits(model, output)


Advance = Callable[[Model, Sequence[int], State, "Tail | None"], Tensor]  # `advance`, or another way to do it


@torch.inference_mode()
def advance(model: Model, ids: Sequence[int], state: State, tail: Tail | None = None) -> Tensor:
    """Scores (B, V) after one more token per row. tail: where prompts were not plain causal text."""
    batch = Batch(ids_BT=torch.tensor(list(ids), device=model.device)[:, None])
    if tail is not None:
        batch = replace(batch, visibility=tail.visibility(), positions=tail.positions)
    return last_logits(model, model.read(batch, {}, state))


@dataclass(frozen=True)
class Tail:
    """Segment, block and position that the next token of each row gets after prompts with a visibility or
    positions of their own: the segment of the last token, one block and one position further.
    """

    segments_B1: Tensor
    blocks_B1: Tensor
    positions: Tensor
    parents: tuple[int, ...]

    @classmethod
    def of(cls, batch: Batch) -> Tail | None:
        """None where prompts are plain causal text."""
        if batch.visibility is None and batch.positions is None:
            return None
        assert batch.ids_BT is not None
        lengths = lengths_of(batch)
        seen = batch.visibility or Visibility.causal_rows(
            lengths, batch.ids_BT.shape[1], device=batch.ids_BT.device
        )
        last_B1 = torch.tensor(lengths, device=batch.ids_BT.device)[:, None] - 1
        positions = seen.blocks_BT if batch.positions is None else batch.positions
        places = last_B1.expand(*positions.shape[:-1], 1)
        segments_B1, blocks_B1 = (table.gather(-1, last_B1) for table in (seen.segments_BT, seen.blocks_BT))
        return cls(segments_B1, blocks_B1 + 1, positions.gather(-1, places) + 1, seen.parents)

    def visibility(self) -> Visibility:
        """Of the next token."""
        return Visibility(self.segments_B1, self.blocks_B1, self.parents)

    def fits(self, other: Tail) -> bool:
        """Whether rows of both can stand side by side."""
        return self.parents == other.parents and self.positions.shape[:-2] == other.positions.shape[:-2]

    def join(self, other: Tail) -> Tail:
        """Rows of both."""
        return Tail(
            torch.cat((self.segments_B1, other.segments_B1)),
            torch.cat((self.blocks_B1, other.blocks_B1)),
            torch.cat((self.positions, other.positions), -2),
            self.parents,
        )

    def later(self) -> Tail:
        """One token further."""
        return replace(self, blocks_B1=self.blocks_B1 + 1, positions=self.positions + 1)

    def reorder(self, rows: Sequence[int]) -> Tail:
        """For some of the rows."""
        index = torch.tensor(list(rows), device=self.blocks_B1.device)
        positions = self.positions.index_select(-2, index)
        return Tail(self.segments_B1[index], self.blocks_B1[index], positions, self.parents)


def last_logits(model: Model, output: LanguageOutput) -> Tensor:
    """Scores at each row's last token alone, so that no (B, T, V) table is made."""
    return model.language.logits(output.last())


def lengths_of(batch: Batch) -> tuple[int, ...]:
    """Tokens of each prompt."""
    assert batch.ids_BT is not None
    return batch.lengths or (batch.ids_BT.shape[1],) * len(batch.ids_BT)


def seconds_since(start: float, device: torch.device) -> float:
    """Seconds since `time.perf_counter` gave `start`, all work on the device done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


class Clock:
    """Seconds between events on a device that may run behind."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = time.perf_counter()

    def lap(self) -> float:
        """Since the last lap, all work done."""
        seconds = seconds_since(self._start, self._device)
        self._start += seconds
        return seconds
