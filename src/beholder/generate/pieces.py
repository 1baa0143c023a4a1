"""Prompts read piece by piece: where they may be cut, and what the language part gets of each piece.

T positions of a prompt.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from beholder.parts.blocks.masks import Visibility
from beholder.parts.contracts import LanguageInputs


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
        for name in ("routes_BT", "kinds_BT", "own_BT", "late_BTD")
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
