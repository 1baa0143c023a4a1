"""What one layer keeps of the tokens it has read: keys and values, or tensors of a fixed size.

B rows, H key heads, S capacity, T new tokens, K head width. Rows are left-aligned; each has its own length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, Self

import torch
from torch import Tensor

from beholder.parts.language.mapped import mapped_zeros

GROWTH = 512  # most tokens that key-values grow by at a time


class LayerState(Protocol):
    """What one layer keeps. Rows are chosen by `reorder`, which also repeats them; `truncate` may be refused, and is by a
    layer that is not `cuttable`. `join` takes another batch's rows in behind its own, and `keep` closes the gaps that rows
    leave, both in place. `head` copies the first tokens of one row, with room for `capacity`.
    """

    def reorder(self, rows: Tensor) -> Self: ...
    def truncate(self, lengths: Sequence[int]) -> None: ...
    def snapshot(self) -> Self: ...
    def join(self, other: Self, *, padded: bool, spare: int) -> None: ...
    def keep(self, rows: Sequence[int]) -> None: ...
    def head(self, row: int, length: int, capacity: int) -> Self: ...
    @property
    def cuttable(self) -> bool: ...
    @property
    def nbytes(self) -> int: ...


@dataclass
class SelfKeyValues:
    """Keys and values of self-attention, (B, H, S, K) each, preallocated at first use and grown by doubling, `GROWTH` tokens
    at most. rooms: what they are the first rows of, where rows have joined. mapped: where they move next, memory is their own
    (`mapped_zeros`).
    """

    capacity: int
    keys: Tensor | None = None
    values: Tensor | None = None
    rooms: tuple[Tensor, Tensor] | None = field(default=None, repr=False)
    mapped: bool = field(default=False, kw_only=True)

    def append(self, keys_BHTK: Tensor, values_BHTK: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Write T tokens after each row's length; gives all keys and values up to the longest row's end."""
        width = keys_BHTK.shape[2]
        end = max(lengths) + width
        self._reserve(keys_BHTK, values_BHTK, end)
        assert self.keys is not None and self.values is not None
        if len(set(lengths)) == 1:
            start = lengths[0]
            self.keys[:, :, start : start + width] = keys_BHTK
            self.values[:, :, start : start + width] = values_BHTK
        else:
            rows_B1, columns_BT = _places(tuple(lengths), width, keys_BHTK.device)
            self.keys[rows_B1, :, columns_BT] = keys_BHTK.transpose(1, 2)
            self.values[rows_B1, :, columns_BT] = values_BHTK.transpose(1, 2)
        return self.keys[:, :, :end], self.values[:, :, :end]

    def reserve(self, like_BHTK: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """All keys and values with room for `end` tokens, for a step that writes its own in place. like_BHTK: whose rows,
        heads, width and type the first have.
        """
        self._reserve(like_BHTK, like_BHTK, end)
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def _reserve(self, keys_BHTK: Tensor, values_BHTK: Tensor, end: int) -> None:
        if self.keys is not None and end <= self.keys.shape[2]:
            return
        capacity = self.capacity if self.keys is None else self._grown(self.keys.shape[2])
        self._move(keys_BHTK, values_BHTK, len(keys_BHTK), max(capacity, end))

    def _grown(self, capacity: int) -> int:
        return grown(capacity)

    def _move(self, keys_BHTK: Tensor, values_BHTK: Tensor, rows: int, capacity: int) -> None:
        """To rooms for `rows` rows of `capacity` tokens, like the given ones otherwise."""
        grown = []
        for like, old in ((keys_BHTK, self.keys), (values_BHTK, self.values)):
            sizes = (rows, like.shape[1], capacity, like.shape[3])
            room = mapped_zeros(like, *sizes) if self.mapped else like.new_empty(sizes)
            count, length = (0, 0) if old is None else (len(old), old.shape[2])
            if old is not None:
                room[:count, :, :length] = old
            if not self.mapped:
                room[:count, :, length:] = 0
                room[count:] = 0
            grown.append(room)
        keys, values = grown
        count = len(keys_BHTK) if self.keys is None else len(self.keys)
        self.rooms = (keys, values) if rows > count else None
        self.keys, self.values = keys[:count], values[:count]

    def join(self, other: SelfKeyValues, *, padded: bool, spare: int) -> None:
        """Rows may be of any length. spare: rows more that room is made for where it is made, so that joining one by one copies
        little.
        """
        if other.keys is None or other.values is None:
            raise ValueError("rows without keys cannot join others")
        if self.keys is None or self.values is None:
            raise ValueError("rows cannot join others without keys")
        old, (new, length) = len(self.keys), (len(other.keys), other.keys.shape[2])
        rooms = self.rooms or (self.keys, self.values)
        if len(rooms[0]) < old + new or rooms[0].shape[2] < length:
            rows = len(rooms[0]) if len(rooms[0]) >= old + new else old + new + spare
            self._move(self.keys, self.values, rows, max(rooms[0].shape[2], length))
            rooms = self.rooms or (self.keys, self.values)
        for room, given in zip(rooms, (other.keys, other.values), strict=True):
            room[old : old + new, :, :length] = given
            room[old : old + new, :, length:] = 0  # who was there before may have left what is no number
        self.rooms = rooms
        self.keys, self.values = (room[: old + new] for room in rooms)

    def keep(self, rows: Sequence[int]) -> None:
        if self.keys is None or self.values is None:
            return
        self.rooms = self.rooms or (self.keys, self.values)
        for place, row in enumerate(rows):
            if row != place:
                for room in self.rooms:
                    room[place] = room[row]
        self.keys, self.values = (room[: len(rows)] for room in self.rooms)

    def shrink(self, spare: int) -> None:
        """Give back the room of rows that have left, but for `spare`."""
        if self.keys is None or self.values is None or self.rooms is None:
            return
        if len(self.rooms[0]) > len(self.keys) + spare:
            self._move(self.keys, self.values, len(self.keys) + spare, self.keys.shape[2])

    def head(self, row: int, length: int, capacity: int) -> SelfKeyValues:
        assert self.keys is not None and self.values is not None
        found = []
        for held in (self.keys, self.values):
            room = held.new_empty(1, held.shape[1], max(length, capacity), held.shape[3])
            room[0, :, :length] = held[row, :, :length]
            if capacity > length:
                room[0, :, length:] = 0
            found.append(room)
        return SelfKeyValues(capacity, found[0], found[1])

    @property
    def cuttable(self) -> bool:
        return True

    def reorder(self, rows: Tensor) -> SelfKeyValues:
        if self.keys is None or self.values is None:
            return SelfKeyValues(self.capacity)
        return SelfKeyValues(self.capacity, self.keys[rows], self.values[rows])

    def truncate(self, lengths: Sequence[int]) -> None:
        """Nothing to do: what lies beyond a row's length is never read."""

    def snapshot(self) -> SelfKeyValues:
        if self.keys is None or self.values is None:
            return SelfKeyValues(self.capacity)
        return SelfKeyValues(self.capacity, self.keys.clone(), self.values.clone())

    @property
    def nbytes(self) -> int:
        held = self.rooms or (self.keys, self.values)
        return sum(t.numel() * t.element_size() for t in held if t is not None)


@dataclass
class Tensors:
    """Named tensors replaced as a whole: cross-attention's keys and values, recurrent and convolution states. The first
    dimension is the row. They cannot be cut to a shorter length; keep a snapshot instead.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    recurrent: bool = False

    def reorder(self, rows: Tensor) -> Tensors:
        return Tensors({name: value[rows] for name, value in self.values.items()}, self.recurrent)

    def truncate(self, lengths: Sequence[int]) -> None:
        """Cross-attention's keys do not depend on the length; a recurrent state does and raises `ValueError`."""
        if self.recurrent:
            raise ValueError(
                "a recurrent state cannot be truncated; take a snapshot before the tokens and restore it"
            )

    def snapshot(self) -> Tensors:
        return Tensors({name: value.clone() for name, value in self.values.items()}, self.recurrent)

    def join(self, other: Tensors, *, padded: bool, spare: int) -> None:
        """padded: what one has more of may be zeros in the other, because a mask says which is which."""
        if self.values.keys() != other.values.keys():
            raise ValueError("rows that keep different things cannot join")
        joined = {}
        for name, mine in self.values.items():
            theirs = other.values[name]
            if mine.shape[1:] != theirs.shape[1:] and not padded:
                raise ValueError(f"rows whose {name} are {mine.shape[1:]} and {theirs.shape[1:]} cannot join")
            joined[name] = stacked(mine, theirs)
        self.values.update(joined)

    def keep(self, rows: Sequence[int]) -> None:
        for name, value in self.values.items():
            self.values[name] = value[list(rows)]

    def head(self, row: int, length: int, capacity: int) -> Tensors:
        return self.reorder(torch.tensor([row]))

    @property
    def cuttable(self) -> bool:
        return not self.recurrent

    @property
    def nbytes(self) -> int:
        return sum(value.numel() * value.element_size() for value in self.values.values())


@lru_cache(maxsize=4)
def _places(lengths: tuple[int, ...], width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows (B, 1) and columns (B, T) of `width` tokens behind each row's length; the layers of a step share them, so that a
    GPU is told once.
    """
    with torch.inference_mode(False):
        rows_B1 = torch.arange(len(lengths), device=device)[:, None]
        return rows_B1, torch.tensor(lengths, device=device)[:, None] + torch.arange(width, device=device)


def grown(capacity: int) -> int:
    """Tokens that key-values have room for next, after `capacity`."""
    return min(2 * capacity, capacity + GROWTH)


def stacked(one: Tensor, other: Tensor, fill: float = 0) -> Tensor:
    """Rows of both, with `fill` where they are shorter than the longest, (B + C, ...)."""
    sizes = [max(pair) for pair in zip(one.shape[1:], other.shape[1:], strict=True)]
    room = one.new_full((len(one) + len(other), *sizes), fill)
    for rows, given in ((slice(0, len(one)), one), (slice(len(one), None), other)):
        room[(rows, *(slice(0, size) for size in given.shape[1:]))] = given
    return room
