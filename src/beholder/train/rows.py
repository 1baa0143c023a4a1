"""Rows of training: conversations and questions side by side in one row, none of which sees another.

B rows, T positions, A answer tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from beholder.parts.blocks.masks import PADDING, Visibility


@dataclass(frozen=True)
class Answers:
    """Where answer tokens are predicted: at (rows_A, places_A) the token targets_A comes next. weights_A: the tokens of
    one answer share a weight of 1, so that long answers do not drown short ones.
    """

    rows_A: Tensor
    places_A: Tensor
    targets_A: Tensor
    weights_A: Tensor

    @classmethod
    def of(cls, found: Sequence[tuple[int, int, int, float]]) -> Answers:
        """From (row, place, target, weight) of each token."""
        rows, places, targets, weights = zip(*found, strict=True) if found else ((), (), (), ())
        rows_A, places_A, targets_A = (torch.tensor(x, dtype=torch.long) for x in (rows, places, targets))
        return cls(rows_A, places_A, targets_A, torch.tensor(weights, dtype=torch.float32))


@dataclass(frozen=True)
class Piece:
    """Tokens, and which of them are answer."""

    ids: Sequence[int]
    answer: Sequence[bool]

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: Piece) -> Piece:
        return Piece([*self.ids, *other.ids], [*self.answer, *other.answer])

    def weights(self) -> list[float]:
        """Of each token: those of one answer, which follow each other, share 1; 0 elsewhere."""
        out, run = [0.0] * len(self), 0
        for place, counts in enumerate([*self.answer, False]):
            if counts:
                run += 1
            elif run:
                out[place - run : place] = [1 / run] * run
                run = 0
        return out


@dataclass(frozen=True)
class Tree:
    """A trunk that all see, and branches behind it, which do not see each other: a conversation is a trunk alone, several
    questions about a picture are branches.
    """

    trunk: Piece
    branches: tuple[Piece, ...] = ()

    @property
    def width(self) -> int:
        """Tokens it takes in a row."""
        return len(self.trunk) + sum(map(len, self.branches))

    @property
    def longest(self) -> int:
        """Tokens of the longest text that is read as one."""
        return len(self.trunk) + max(map(len, self.branches), default=0)

    @property
    def prompt(self) -> int:
        """Tokens before the first answer."""
        first = self.trunk + self.branches[0] if self.branches else self.trunk
        return list(first.answer).index(True)


def table(rows: Sequence[Sequence[Tree]]) -> tuple[Tensor, Visibility | None, Answers]:
    """Ids (B, T), who sees whom (None: every row is one text), and the answers' places. Positions begin at 0 in every tree, and
    go on from the trunk's end in every branch. The n-th trees of all rows share their segments' numbers, the first tree's
    trunk being 0.
    """
    width = max(sum(tree.width for tree in row) for row in rows)
    ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
    segments_BT = torch.full_like(ids_BT, PADDING)
    blocks_BT = torch.zeros_like(ids_BT)
    found: list[tuple[int, int, int, float]] = []
    firsts, parents = _numbers(rows)
    for b, row in enumerate(rows):
        at = 0
        for tree, first in zip(row, firsts, strict=False):
            for number, piece in enumerate((tree.trunk, *tree.branches)):
                start, stop = len(tree.trunk) if number else 0, at + len(piece)
                ids_BT[b, at:stop] = torch.tensor(piece.ids)
                segments_BT[b, at:stop] = first + number
                blocks_BT[b, at:stop] = torch.arange(start, start + len(piece))
                weights = piece.weights()
                found += [
                    (b, at + i - 1, piece.ids[i], weights[i]) for i, own in enumerate(piece.answer) if own
                ]
                at = stop
    plain = len(parents) == 1
    return ids_BT, None if plain else Visibility(segments_BT, blocks_BT, parents), Answers.of(found)


def _numbers(rows: Sequence[Sequence[Tree]]) -> tuple[list[int], tuple[int, ...]]:
    """The number of the trunk of every n-th tree, and the parents of all segments."""
    firsts: list[int] = []
    parents: list[int] = []
    for n in range(max(map(len, rows))):
        firsts.append(len(parents))
        branches = max(len(row[n].branches) for row in rows if n < len(row))
        parents += [PADDING] + [firsts[-1]] * branches
    return firsts, tuple(parents)
