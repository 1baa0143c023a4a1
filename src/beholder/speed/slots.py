"""Memory of fixed shape for generation: places for so many rows of so many tokens, and what a step of fixed shape sees of it.

R rows that there is room for, B of them taken, H key heads, S places for tokens, K head width.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.parts.blocks.masks import PADDING, Visibility
from beholder.parts.language.layer_states import SelfKeyValues, Tensors
from beholder.parts.language.rolling import RollingKeyValues
from beholder.parts.language.state import State

FEWEST = 128  # places; fewer are as quick

Key = tuple[str, int]


def rows_for(rows: int) -> int:
    """The next power of two."""
    return 1 << (rows - 1).bit_length()


def places_for(tokens: int) -> int:
    """The next of 128, 192, 256, 384, 512, 768, ...: at most a third is not used."""
    whole = max(FEWEST, rows_for(tokens))
    return whole * 3 // 4 if whole > FEWEST and tokens <= whole * 3 // 4 else whole


class Slots:
    """Keys and values of every layer, (R, H, S, K) each, with the tables of who sees whom, (R, S). A state that `take`s them
    keeps what it has read there, as the first rows of these tensors, so that it may go on by ordinary steps at any time.
    """

    def __init__(self, state: State, rows: int, places: int) -> None:
        """For states whose layers keep tensors like those of this one."""
        self.rows, self.places = rows, places
        self.rooms: dict[Key, tuple[Tensor, Tensor]] = {}
        for key, layer in state.layers.items():
            assert isinstance(layer, SelfKeyValues) and layer.keys is not None and layer.values is not None
            keys, values = (
                held.new_zeros(rows, held.shape[1], places, held.shape[3])
                for held in (layer.keys, layer.values)
            )
            self.rooms[key] = keys, values
        assert state.segments_BS is not None and state.blocks_BS is not None
        self.segments_RS = state.segments_BS.new_full((rows, places), PADDING)
        self.blocks_RS = state.blocks_BS.new_zeros((rows, places))
        self._owner: weakref.ref[State] | None = None

    @staticmethod
    def bytes_for(state: State, rows: int, places: int) -> int:
        """Of such slots, as states count them."""
        held = [
            (layer.keys, layer.values) for layer in state.layers.values() if isinstance(layer, SelfKeyValues)
        ]
        each = (t for pair in held for t in pair if t is not None)
        return sum(rows * t.shape[1] * places * t.shape[3] * t.element_size() for t in each)

    @property
    def free(self) -> bool:
        """Whether no state keeps anything here."""
        state = None if self._owner is None else self._owner()
        return state is None or not self.holds(state)

    @property
    def nbytes(self) -> int:
        """Of keys and values, as states count them."""
        return sum(t.numel() * t.element_size() for room in self.rooms.values() for t in room)

    def like(self, state: State) -> bool:
        """Whether the state's layers keep such tensors."""
        if state.layers.keys() != self.rooms.keys():
            return False
        return all(
            isinstance(layer, SelfKeyValues)
            and layer.keys is not None
            and layer.values is not None
            and all(
                (held.dtype, held.shape[1], held.shape[3]) == (room.dtype, room.shape[1], room.shape[3])
                for held, room in zip((layer.keys, layer.values), self.rooms[key], strict=True)
            )
            for key, layer in state.layers.items()
        )

    def holds(self, state: State) -> bool:
        """Whether what the state has read is here."""
        return state.layers.keys() == self.rooms.keys() and all(
            isinstance(layer, SelfKeyValues) and layer.rooms is self.rooms[key]
            for key, layer in state.layers.items()
        )

    def take(self, state: State) -> None:
        """Copy what a state has read; it is kept here from then on."""
        rows, read = state.rows, max(state.lengths)
        if not self.holds(state):
            for key, layer in state.layers.items():
                assert isinstance(layer, SelfKeyValues)
                for room, held in zip(self.rooms[key], (layer.keys, layer.values), strict=True):
                    assert held is not None
                    room[:rows, :, :read] = held[:, :, :read]
                    room[:rows, :, read:] = (
                        0  # of others; what is no number would spread though nobody may see it
                    )
                layer.rooms = self.rooms[key]
                layer.keys, layer.values = (room[:rows] for room in self.rooms[key])
            self._owner = weakref.ref(state)
        for name, table in (("segments_BS", self.segments_RS), ("blocks_BS", self.blocks_RS)):
            held = getattr(state, name)
            if held.data_ptr() != table.data_ptr() or held.shape != (rows, self.places):
                width = min(held.shape[1], self.places)
                own = held[:, :width].clone()  # it may lie in the table
                table[:rows].fill_(PADDING if name == "segments_BS" else 0)
                table[:rows, :width] = own
                setattr(state, name, table[:rows])


class Unknown(Sequence[int]):
    """Rows' lengths that are on the device alone: they may be handed on, and not be asked for."""

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        raise BeholderError("a layer asks how long rows are, which a step of fixed shape does not know")

    def __getitem__(self, index: int | slice) -> int:  # type: ignore[override]
        return len(self)


@dataclass
class FixedKeyValues(SelfKeyValues):
    """The first rows and places of a layer's slots. at_R1: where each row's new token goes."""

    at_R1: Tensor = field(default_factory=lambda: torch.zeros(0, 1, dtype=torch.long))

    def append(self, keys_BHTK: Tensor, values_BHTK: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Write one token in every row; gives all places."""
        assert self.keys is not None and self.values is not None
        for room, new in ((self.keys, keys_BHTK), (self.values, values_BHTK)):
            room.scatter_(2, self.at_R1[:, None, :, None].expand_as(new), new)
        return self.keys, self.values


class FixedState(State):
    """What the layers see of slots in a step of fixed shape: `rows` rows of one token more each, and all of `places` places,
    with tables that say which of them are filled. lengths_R: on the device.
    """

    fixed: ClassVar[bool] = True

    def __init__(self, slots: Slots, rows: int, places: int, lengths_R: Tensor, *, placed: bool) -> None:
        super().__init__(rows, places, Unknown(), placed=placed)  # type: ignore[arg-type]
        self.at_R1 = lengths_R[:, None]
        self.tables = slots.segments_RS[:rows, :places], slots.blocks_RS[:rows, :places]
        self.kept = {
            layer: FixedKeyValues(
                places, keys[:rows, :, :places], values[:rows, :, :places], at_R1=self.at_R1
            )
            for (_, layer), (keys, values) in slots.rooms.items()
        }

    def self_attention(self, layer: int) -> FixedKeyValues:
        return self.kept[layer]

    def append(self, visibility: Visibility) -> Visibility:
        segments_RS, blocks_RS = self.tables
        segments_RS.scatter_(1, self.at_R1, visibility.segments_BT)
        blocks_RS.scatter_(1, self.at_R1, visibility.blocks_BT)
        places_RS = None
        if self.placed:
            places_RS = torch.arange(self.capacity, device=blocks_RS.device).expand_as(blocks_RS)
        return Visibility(segments_RS, blocks_RS, visibility.parents, places_BT=places_RS)

    def commit(self, width: int, lengths: Sequence[int] | None) -> None:
        """Whoever asked for the step counts the token."""

    def recurrent(self, layer: int) -> Tensors:
        raise BeholderError(f"layer {layer} keeps a recurrent state")

    def cross_attention(self, layer: int) -> Tensors:
        raise BeholderError(f"layer {layer} reads an encoder's output")

    def rolling_attention(self, layer: int, window: int) -> RollingKeyValues:
        raise BeholderError(f"layer {layer} keeps a ring of {window} keys")
