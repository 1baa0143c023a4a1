"""Prompts read piece by piece or side by side: where they may be cut, and what the language part gets.

R rows, T positions of a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.parts.blocks.masks import Visibility
from beholder.parts.contracts import LanguageInputs

TABLES = ("routes_BT", "kinds_BT", "own_BT", "late_BTD")  # by token, where a system has them


def can_be_cut(inputs: LanguageInputs) -> bool:
    """Whether a prompt may be read in pieces: its tokens are all there is, and see no later ones but in blocks."""
    return not (inputs.cross or inputs.visibility.groups_BT is not None or inputs.visibility.both_ways) and (
        inputs.memory is None and inputs.target_BT is None
    )


def stop_of(cuts: list[int] | None, begin: int, most: int, total: int) -> int:
    """Where the next piece of a prompt ends: `most` tokens on, or where tokens that see each other both ways let it."""
    if begin + most >= total:
        return total
    if cuts is None:
        return begin + most
    before = [cut for cut in cuts if begin < cut <= begin + most]
    return before[-1] if before else next(cut for cut in cuts if cut > begin)


def cuts_of(seen: Visibility) -> list[int] | None:
    """Where a prompt may be cut in two: nobody before sees anybody behind. None where that is everywhere."""
    if seen.plain:
        return None
    blocks_T = seen.blocks_BT[0]
    highest_T = blocks_T.cummax(0).values
    lowest_T = blocks_T.flip(0).cummin(0).values.flip(0)
    return [*(torch.nonzero(highest_T[:-1] < lowest_T[1:])[:, 0] + 1).tolist(), len(blocks_T)]


def piece_of(inputs: LanguageInputs, start: int, stop: int) -> LanguageInputs:
    """Tokens start to stop of the one row there is."""
    tables: dict[str, Any] = {
        name: None if table is None else table[:, start:stop]
        for name in TABLES
        for table in (getattr(inputs, name),)
    }
    return replace(
        inputs,
        ids_BT=inputs.ids_BT[:, start:stop],
        embeddings_BTD=inputs.embeddings_BTD[:, start:stop],
        positions=inputs.positions[..., start:stop],
        visibility=inputs.visibility.cut(start, stop),
        lengths=None,
        deep={layer: added_BTD[:, start:stop] for layer, added_BTD in inputs.deep.items()},
        **tables,
    )


def alike(one: LanguageInputs, other: LanguageInputs) -> bool:
    """Whether two prompts of one row, which may be cut anywhere, consist of the same tables."""
    given = [{name for name in TABLES if getattr(each, name) is not None} for each in (one, other)]
    return (
        given[0] == given[1]
        and one.deep.keys() == other.deep.keys()
        and one.positions.shape[:-1] == other.positions.shape[:-1]
    )


def side_by_side(prompts: Sequence[LanguageInputs], start: int) -> LanguageInputs:
    """Prompts of one row that are `alike`, or what is left of each behind `start` tokens, as rows of one table, which ends with
    the longest.
    """
    lengths = tuple(prompt.ids_BT.shape[1] for prompt in prompts)
    first, width = prompts[0], max(lengths)

    def rows(tables: Sequence[Tensor], axis: int = 1) -> Tensor:
        after = (0, 0) * (tables[0].ndim - 1 - axis)
        padded = [F.pad(table, (*after, 0, width - n)) for table, n in zip(tables, lengths, strict=True)]
        return torch.cat(padded, axis - 1)

    tables: dict[str, Any] = {
        name: rows([getattr(prompt, name) for prompt in prompts])
        for name in TABLES
        if getattr(first, name) is not None
    }
    starts = [start] * len(prompts)
    counts = [prompt.prompts for prompt in prompts]
    return replace(
        first,
        ids_BT=rows([prompt.ids_BT for prompt in prompts]),
        embeddings_BTD=rows([prompt.embeddings_BTD for prompt in prompts]),
        positions=rows([prompt.positions for prompt in prompts], first.positions.ndim - 1),
        visibility=Visibility.causal_rows(lengths, width, starts=starts, device=first.ids_BT.device),
        lengths=None if min(lengths) == width else lengths,
        deep={layer: rows([prompt.deep[layer] for prompt in prompts]) for layer in first.deep},
        regions=tuple(row for prompt in prompts for row in (prompt.regions or ((),)))
        if any(prompt.regions for prompt in prompts)
        else (),
        prompts=None if None in counts else tuple(n for count in counts for n in count or ()),
        in_context=all(prompt.in_context for prompt in prompts),
        **tables,
    )
