"""Keys and values in a ring as long as the window of their layer (2310.06825, section 2), so that generation's memory stops
growing there.

B rows, H key heads, T new tokens, C columns that are given, K head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.language.layer_states import SelfKeyValues


class Columns(NamedTuple):
    """positions_BC: where each given key stands in its row; filled_BC: False where nothing has been kept yet."""

    positions_BC: Tensor
    filled_BC: Tensor

    def of(self, mask: AttentionMask, num_queries: int, num_keys: int) -> AttentionMask:
        """A mask over all `num_keys` positions, for these columns alone."""
        rows, count = self.positions_BC.shape
        allowed = mask.allowed(num_queries, num_keys, self.positions_BC.device)
        filled_B1TC = self.filled_BC[:, None, None].expand(rows, 1, num_queries, count)
        if allowed is None:
            return AttentionMask(allowed_B1TS=filled_B1TC)
        index_B1TC = self.positions_BC[:, None, None].expand(rows, 1, num_queries, count)
        whole_B1TS = allowed.expand(rows, 1, num_queries, num_keys)
        return AttentionMask(allowed_B1TS=whole_B1TS.gather(3, index_B1TC) & filled_B1TC)


@dataclass
class RollingKeyValues(SelfKeyValues):
    """The last `window` keys and values of each row: position p is kept in place p % window. longest: tokens of the longest
    row so far; until it reaches the window, all is as in `SelfKeyValues`.
    """

    window: int = 0
    longest: int = 0

    def roll(
        self, keys_BHTK: Tensor, values_BHTK: Tensor, lengths: Sequence[int], counts: Sequence[int] | None
    ) -> tuple[Tensor, Tensor, Columns | None]:
        """Note T new tokens behind each row's `lengths`, of which `counts` are no padding; gives the keys and values that new
        tokens may see, and which they are, None where they are all from position 0 on.
        """
        width = keys_BHTK.shape[2]
        ends = [length + (width if counts is None else counts[row]) for row, length in enumerate(lengths)]
        self.longest = max(self.longest, *ends)
        if max(lengths) + width <= self.window:
            keys, values = self.append(keys_BHTK, values_BHTK, lengths)
            return keys, values, None
        if width == 1:
            self._keep(keys_BHTK, values_BHTK, lengths, ends)
            assert self.keys is not None and self.values is not None
            return self.keys, self.values, self._columns(ends, self.keys.device)
        found: tuple[Tensor, Tensor, Columns | None] = keys_BHTK, values_BHTK, None
        if max(lengths):
            found = self._behind(keys_BHTK, values_BHTK, lengths)
        self._keep(keys_BHTK, values_BHTK, lengths, ends)
        return found

    def _behind(
        self, keys_BHTK: Tensor, values_BHTK: Tensor, lengths: Sequence[int]
    ) -> tuple[Tensor, Tensor, Columns]:
        """What is kept, and the new tokens behind it."""
        assert self.keys is not None and self.values is not None
        kept = self._columns(lengths, keys_BHTK.device)
        starts_B1 = torch.tensor(list(lengths), device=keys_BHTK.device)[:, None]
        new_BT = starts_B1 + torch.arange(keys_BHTK.shape[2], device=starts_B1.device)
        columns = Columns(
            torch.cat((kept.positions_BC, new_BT), 1),
            torch.cat((kept.filled_BC, torch.ones_like(new_BT, dtype=torch.bool)), 1),
        )
        return torch.cat((self.keys, keys_BHTK), 2), torch.cat((self.values, values_BHTK), 2), columns

    def _keep(
        self, keys_BHTK: Tensor, values_BHTK: Tensor, lengths: Sequence[int], ends: Sequence[int]
    ) -> None:
        """Write those new tokens that the ring still holds when all are noted; padding is no token."""
        self._reserve(keys_BHTK, values_BHTK, self.window)
        assert self.keys is not None and self.values is not None
        device = keys_BHTK.device
        starts_B1, ends_B1 = (torch.tensor(list(n), device=device)[:, None] for n in (lengths, ends))
        positions_BT = starts_B1 + torch.arange(keys_BHTK.shape[2], device=device)
        wanted_BT = (positions_BT < ends_B1) & (positions_BT >= ends_B1 - self.window)
        rows, columns = wanted_BT.nonzero(as_tuple=True)
        places = positions_BT[rows, columns] % self.window
        self.keys[rows, :, places] = keys_BHTK[rows, :, columns]
        self.values[rows, :, places] = values_BHTK[rows, :, columns]

    def _columns(self, ends: Sequence[int], device: torch.device) -> Columns:
        """The latest position below each row's end that stands in each place of the ring."""
        assert self.keys is not None
        places_C = torch.arange(self.keys.shape[2], device=device)
        last_B1 = torch.tensor(list(ends), device=device)[:, None] - 1
        positions_BC = last_B1 - (last_B1 - places_C) % self.window
        filled_BC = positions_BC >= 0
        return Columns(positions_BC.clamp(min=0), filled_BC)

    def _reserve(self, keys_BHTK: Tensor, values_BHTK: Tensor, end: int) -> None:
        self.capacity = min(self.capacity, self.window)
        super()._reserve(keys_BHTK, values_BHTK, end)

    def _grown(self, capacity: int) -> int:
        return min(super()._grown(capacity), self.window)

    def reorder(self, rows: Tensor) -> RollingKeyValues:
        return self._like(super().reorder(rows))

    def snapshot(self) -> RollingKeyValues:
        return self._like(super().snapshot())

    def _like(self, other: SelfKeyValues) -> RollingKeyValues:
        return RollingKeyValues(
            other.capacity, other.keys, other.values, window=self.window, longest=self.longest
        )

    def head(self, row: int, length: int, capacity: int) -> RollingKeyValues:
        assert self.keys is not None
        capacity = min(capacity, self.window)
        longest = min(length, self.longest)
        given = super().head(row, min(length, self.keys.shape[2]), capacity)
        return RollingKeyValues(capacity, given.keys, given.values, window=self.window, longest=longest)

    def join(self, other: SelfKeyValues, *, padded: bool, spare: int) -> None:
        """Position p stands in place p % window in both."""
        assert isinstance(other, RollingKeyValues)
        super().join(other, padded=padded, spare=spare)
        self.longest = max(self.longest, other.longest)

    @property
    def cuttable(self) -> bool:
        return self.longest <= self.window

    def truncate(self, lengths: Sequence[int]) -> None:
        """What was written over cannot be had again; raises `ValueError` once the ring has gone round."""
        if self.longest > self.window:
            raise ValueError(
                f"a ring of {self.window} keys has gone round; take a snapshot before the tokens and restore it"
            )
