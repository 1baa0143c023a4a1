"""Rotary tables as the part's own settings make them, kept from step to step where they depend on positions alone.

B rows, P places.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from beholder.native.call import Call
from beholder.native.weights import Weights
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.transformer import LayerKind

Tables = tuple[Tensor, Tensor]
FIRST_PLACES = 1024


class Turns:
    """The kinds of rotary positions of a decoder's layers."""

    def __init__(self, layers: Sequence[LayerKind], weights: Weights) -> None:
        rotaries = [kind.mixer.rotary for kind in layers if isinstance(kind.mixer, Attention)]
        self.kinds = [each for each in dict.fromkeys(rotaries) if isinstance(each, Rotary)]
        self.width = weights.decoder.head_dim
        self._tables: dict[int, Tables] = {}
        for layer, rotary in zip(weights.layers, rotaries, strict=True):
            layer.rotary = self.kinds.index(rotary) if isinstance(rotary, Rotary) else -1
        count = max(1, len(self.kinds))
        self._turned = (ctypes.c_int32 * count)(*(each.turned(self.width) for each in self.kinds))
        self._adjacent = (ctypes.c_int32 * count)(*(each.pairs == "adjacent" for each in self.kinds))
        weights.decoder.turned = ctypes.addressof(self._turned)
        weights.decoder.adjacent = ctypes.addressof(self._adjacent)

    def __len__(self) -> int:
        return len(self.kinds)

    def at(self, places: Sequence[int], call: Call) -> list[Tables]:
        """Tell the call each row's angles at its place in a text; gives the tables, which must live until it is done."""
        used = []
        for number, kind in enumerate(self.kinds):
            if kind.scaling is not None and kind.scaling.by_length:
                tables = self._made(kind, torch.tensor(places)[:, None])
                call.turn(number, *tables, range(len(places)))
            else:
                tables = self._up_to(number, max(places))
                call.turn(number, *tables, places)
            used.append(tables)
        return used

    def at_positions(self, positions: Tensor, call: Call) -> list[Tables]:
        """`at` for positions (B, 1), or (axes, B, 1)."""
        used = []
        for number, kind in enumerate(self.kinds):
            tables = self._made(kind, positions)
            call.turn(number, *tables, range(positions.shape[-2]))
            used.append(tables)
        return used

    def _up_to(self, number: int, place: int) -> Tables:
        """(P, turned) of all places from 0 to this one and some more."""
        kept = self._tables.get(number)
        if kept is None or place >= len(kept[0]):
            count = max(FIRST_PLACES, 1 << (place + 1).bit_length())
            kept = self._made(self.kinds[number], torch.arange(count)[None])
            self._tables[number] = kept
        return kept

    def _made(self, kind: Rotary, positions: Tensor) -> Tables:
        cos, sin = kind.tables(positions, self.width, torch.float32)
        return cos.reshape(-1, cos.shape[-1]).contiguous(), sin.reshape(-1, sin.shape[-1]).contiguous()
