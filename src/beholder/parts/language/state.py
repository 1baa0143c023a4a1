"""What generation carries from step to step, for every kind of layer.

B rows, H key heads, S capacity, T new tokens, K head width. Rows are left-aligned; each has its own length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from beholder.parts.blocks.masks import PADDING, Visibility
from beholder.parts.language.layer_states import LayerState, SelfKeyValues, Tensors, stacked

if TYPE_CHECKING:
    from beholder.parts.language.rolling import RollingKeyValues

__all__ = ["LayerState", "SelfKeyValues", "State", "Tensors"]


@dataclass
class State:
    """All of a batch's memory.

    lengths:    tokens kept of each row
    plain:      every row is causal text without padding in it
    segments_BS, blocks_BS: of the kept tokens, for masks
    placed:     some tokens share a block, so that windows count places
    rolling:    layers with a window keep no more than it; for texts alone, whose blocks are their places
    layers:     (kind, layer number) -> state; kinds are `self`, `cross` and `recurrent`
    shift_B:    what positions of new tokens are ahead of (or behind) their number: pictures may take fewer positions than
                tokens (CogVLM). Cutting a row back into such a picture is not foreseen
    memory, memory_keep: an encoder's output, (B, M, D), made once per request, and (B, M) booleans where some is padding
    fixed:      nothing in a step may depend on values of tensors but through operations of fixed shape (`speed.graphs`)
    """

    fixed: ClassVar[bool] = False
    rows: int
    capacity: int = 256
    lengths: list[int] = field(default_factory=list)
    plain: bool = True
    placed: bool = False
    rolling: bool = False
    segments_BS: Tensor | None = None
    blocks_BS: Tensor | None = None
    layers: dict[tuple[str, int], LayerState] = field(default_factory=dict)
    memory: Tensor | None = None
    memory_keep: Tensor | None = None
    shift_B: Tensor | None = None

    def __post_init__(self) -> None:
        self.lengths = self.lengths or [0] * self.rows

    def self_attention(self, layer: int) -> SelfKeyValues:
        """The key-values of a layer, made at first use."""
        found = self.layers.setdefault(("self", layer), SelfKeyValues(self.capacity))
        assert isinstance(found, SelfKeyValues)
        return found

    def rolling_attention(self, layer: int, window: int) -> RollingKeyValues:
        """The key-values of a layer that sees `window` tokens, in a ring, made at first use."""
        from beholder.parts.language.rolling import RollingKeyValues

        found = self.layers.setdefault(("self", layer), RollingKeyValues(self.capacity, window=window))
        assert isinstance(found, RollingKeyValues)
        return found

    def recurrent(self, layer: int) -> Tensors:
        """The recurrent state of a layer, empty at first use."""
        found = self.layers.setdefault(("recurrent", layer), Tensors(recurrent=True))
        assert isinstance(found, Tensors)
        return found

    def cross_attention(self, layer: int) -> Tensors:
        """Keys and values of the memory in a layer, empty at first use."""
        found = self.layers.setdefault(("cross", layer), Tensors())
        assert isinstance(found, Tensors)
        return found

    def append(self, visibility: Visibility) -> Visibility:
        """Note the new tokens' segments and blocks; gives those of all tokens kept, the new ones included. `commit` must
        follow once all layers have appended.
        """
        width = visibility.blocks_BT.shape[1]
        end = max(self.lengths) + width
        if self.segments_BS is None or self.blocks_BS is None or self.segments_BS.shape[1] < end:
            self._reserve(max(end, self.capacity, 2 * end if self.segments_BS is not None else 0), visibility)
        assert self.segments_BS is not None and self.blocks_BS is not None
        self.plain = self.plain and (visibility.plain or visibility.behind)
        self.placed = self.placed or visibility.places_BT is not None
        level = len(set(self.lengths)) == 1
        if level:
            start = self.lengths[0]
            self.segments_BS[:, start:end] = visibility.segments_BT
            self.blocks_BS[:, start:end] = visibility.blocks_BT
        else:
            columns_BT = self._columns(width)
            self.segments_BS.scatter_(1, columns_BT, visibility.segments_BT)
            self.blocks_BS.scatter_(1, columns_BT, visibility.blocks_BT)
        groups_BS = None
        if visibility.groups_BT is not None:  # of these tokens alone
            groups_BS = self.segments_BS.new_full((self.rows, end), PADDING)
            groups_BS.scatter_(1, self._columns(width), visibility.groups_BT)
        columns_S = torch.arange(end, device=self.segments_BS.device)
        places_BS = columns_S.expand(self.rows, end) if self.placed else None
        return Visibility(
            self.segments_BS[:, :end],
            self.blocks_BS[:, :end],
            visibility.parents,
            self.plain and level and visibility.plain,
            places_BT=places_BS,
            groups_BT=groups_BS,
            behind=self.plain and level,
        )

    def _columns(self, width: int) -> Tensor:
        """(B, width): where the next tokens of each row stand."""
        assert self.segments_BS is not None
        device = self.segments_BS.device
        return torch.tensor(self.lengths, device=device)[:, None] + torch.arange(width, device=device)

    def commit(self, width: int, lengths: Sequence[int] | None) -> None:
        """Count the new tokens: `lengths` of them in each row, or `width` in every row."""
        added = lengths if lengths is not None else [width] * self.rows
        self.lengths = [old + new for old, new in zip(self.lengths, added, strict=True)]

    def place(self, planned_BT: Tensor, positions: Tensor, lengths: Sequence[int]) -> None:
        """Note that the new tokens' positions are not those that were planned: later ones go on from the last."""
        if positions is planned_BT:
            return
        rows_B = torch.arange(self.rows, device=planned_BT.device)
        last_B = torch.tensor(list(lengths), device=planned_BT.device).clamp(min=1) - 1
        placed_BT = positions if positions.ndim == 2 else positions.amax(0)
        moved_B = placed_BT[rows_B, last_B] - planned_BT[rows_B, last_B]
        self.shift_B = moved_B if self.shift_B is None else self.shift_B + moved_B

    def _reserve(self, capacity: int, like: Visibility) -> None:
        segments_BS = like.segments_BT.new_full((self.rows, capacity), PADDING)
        blocks_BS = like.blocks_BT.new_zeros((self.rows, capacity))
        if self.segments_BS is not None and self.blocks_BS is not None:
            segments_BS[:, : self.segments_BS.shape[1]] = self.segments_BS
            blocks_BS[:, : self.blocks_BS.shape[1]] = self.blocks_BS
        self.segments_BS, self.blocks_BS = segments_BS, blocks_BS

    def reorder(self, rows: Sequence[int]) -> State:
        """A state whose row i is this one's row `rows[i]`; rows may repeat or be left out."""
        index = torch.tensor(list(rows))
        return State(
            rows=len(rows),
            capacity=self.capacity,
            lengths=[self.lengths[row] for row in rows],
            plain=self.plain,
            placed=self.placed,
            rolling=self.rolling,
            segments_BS=None if self.segments_BS is None else self.segments_BS[index],
            blocks_BS=None if self.blocks_BS is None else self.blocks_BS[index],
            layers={key: layer.reorder(index) for key, layer in self.layers.items()},
            memory=None if self.memory is None else self.memory[index],
            memory_keep=None if self.memory_keep is None else self.memory_keep[index],
            shift_B=None if self.shift_B is None else self.shift_B[index],
        )

    def fork(self, copies: int) -> State:
        """Every row `copies` times, neighbours together."""
        return self.reorder([row for row in range(self.rows) for _ in range(copies)])

    def join(self, other: State, *, spare: int = 0) -> None:
        """Take the rows of another state in behind one's own; that state must not be used any more. Raises `ValueError`, and
        changes nothing, where some layer keeps what cannot stand side by side. spare: rows more that room is made for.
        """
        if self.layers.keys() != other.layers.keys() or self.rolling != other.rolling:
            raise ValueError("rows whose layers keep different things cannot join")
        if (self.memory is None) != (other.memory is None):
            raise ValueError("rows with and without an encoder's output cannot join")
        self._check_join(other)
        for key, layer in self.layers.items():
            layer.join(other.layers[key], padded=self._padded(key), spare=spare)
        self._join_tables(other)
        self.shift_B = _both(self.shift_B, other.shift_B, self.rows, other.rows)
        self.plain, self.placed = self.plain and other.plain, self.placed or other.placed
        self.lengths, self.rows = [*self.lengths, *other.lengths], self.rows + other.rows
        self.capacity = max(self.capacity, other.capacity)

    def _check_join(self, other: State) -> None:
        for key, layer in self.layers.items():
            theirs = other.layers[key]
            if isinstance(layer, Tensors) and isinstance(theirs, Tensors):
                names = {name: value.shape[1:] for name, value in layer.values.items()}
                others = {name: value.shape[1:] for name, value in theirs.values.items()}
                if names.keys() != others.keys() or (names != others and not self._padded(key)):
                    raise ValueError(f"what layer {key[1]} keeps of both cannot stand side by side")

    def _padded(self, key: tuple[str, int]) -> bool:
        """Whether a mask says which of a layer's tensors are real: attention to an encoder's output, or to pictures seen."""
        layer = self.layers[key]
        return key[0] == "cross" and (self.memory is not None or "seen" in getattr(layer, "values", ()))

    def _join_tables(self, other: State) -> None:
        if self.segments_BS is not None and self.blocks_BS is not None:
            assert other.segments_BS is not None and other.blocks_BS is not None
            self.segments_BS = stacked(self.segments_BS, other.segments_BS, PADDING)
            self.blocks_BS = stacked(self.blocks_BS, other.blocks_BS)
        if self.memory is not None and other.memory is not None:
            mine, theirs = _kept(self.memory, self.memory_keep), _kept(other.memory, other.memory_keep)
            same = self.memory.shape[1] == other.memory.shape[1]
            masked = not same or self.memory_keep is not None or other.memory_keep is not None
            self.memory_keep = stacked(mine, theirs) if masked else None
            self.memory = stacked(self.memory, other.memory)

    def keep(self, rows: Sequence[int]) -> None:
        """Leave other rows out, in place: `rows[i]` is i, or a later row that moves there."""
        for layer in self.layers.values():
            layer.keep(rows)
        chosen = list(rows)
        self.rows, self.lengths = len(chosen), [self.lengths[row] for row in chosen]
        for name in ("segments_BS", "blocks_BS", "memory", "memory_keep", "shift_B"):
            table = getattr(self, name)
            if table is not None:
                setattr(self, name, table[chosen])

    def head(self, row: int, length: int, capacity: int) -> State:
        """A copy of what a row keeps of its first `length` tokens, with room for `capacity`. Raises `ValueError` where fewer
        were read, or more by a layer that cannot forget.
        """
        kept = self.lengths[row]
        if length > kept or (length < kept and not self.cuttable):
            raise ValueError(f"row {row} holds {kept} tokens and cannot be cut to {length}")
        chosen = slice(row, row + 1)
        return State(
            rows=1,
            capacity=capacity,
            lengths=[length],
            plain=self.plain,
            placed=self.placed,
            rolling=self.rolling,
            segments_BS=None if self.segments_BS is None else self.segments_BS[chosen, :length].clone(),
            blocks_BS=None if self.blocks_BS is None else self.blocks_BS[chosen, :length].clone(),
            layers={key: layer.head(row, length, capacity) for key, layer in self.layers.items()},
            memory=None if self.memory is None else self.memory[chosen].clone(),
            memory_keep=None if self.memory_keep is None else self.memory_keep[chosen].clone(),
            shift_B=None if self.shift_B is None else self.shift_B[chosen].clone(),
        )

    @property
    def room(self) -> tuple[int, int]:
        """(rows, tokens) that there is memory for in layers that keep all tokens; (rows, 0) where none does."""
        for layer in self.layers.values():
            if type(layer) is SelfKeyValues and layer.keys is not None:
                held = layer.rooms[0] if layer.rooms is not None else layer.keys
                return len(held), held.shape[2]
        return self.rows, 0

    def shrink(self, spare: int = 0) -> None:
        """Give back the memory of rows that have left, but for `spare` rows."""
        for layer in self.layers.values():
            if isinstance(layer, SelfKeyValues):
                layer.shrink(spare)

    def save_memory(self) -> None:
        """From now on give back at once what keys and values outgrow, at the price of new pages."""
        for layer in self.layers.values():
            if isinstance(layer, SelfKeyValues):
                layer.mapped = True

    @property
    def cuttable(self) -> bool:
        """Whether `truncate` works."""
        return all(layer.cuttable for layer in self.layers.values())

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget what lies beyond `lengths`; raises `ValueError` where a layer cannot or a row is shorter."""
        for row, (old, new) in enumerate(zip(self.lengths, lengths, strict=True)):
            if not 0 <= new <= old:
                raise ValueError(f"row {row} holds {old} tokens and cannot be cut to {new}")
        for layer in self.layers.values():
            layer.truncate(lengths)
        self.lengths = list(lengths)
        if self.segments_BS is not None:
            columns_S = torch.arange(self.segments_BS.shape[1], device=self.segments_BS.device)
            beyond_BS = columns_S >= torch.tensor(self.lengths, device=columns_S.device)[:, None]
            self.segments_BS = self.segments_BS.masked_fill(beyond_BS, PADDING)

    def snapshot(self) -> State:
        """A copy that later steps do not change."""
        return State(
            rows=self.rows,
            capacity=self.capacity,
            lengths=list(self.lengths),
            plain=self.plain,
            placed=self.placed,
            rolling=self.rolling,
            segments_BS=None if self.segments_BS is None else self.segments_BS.clone(),
            blocks_BS=None if self.blocks_BS is None else self.blocks_BS.clone(),
            layers={key: layer.snapshot() for key, layer in self.layers.items()},
            memory=self.memory,
            memory_keep=self.memory_keep,
            shift_B=self.shift_B,
        )

    @property
    def nbytes(self) -> int:
        """Bytes held by the layers and the encoder's memory."""
        memory = 0 if self.memory is None else self.memory.numel() * self.memory.element_size()
        return memory + sum(layer.nbytes for layer in self.layers.values())


def _both(one_B: Tensor | None, other_C: Tensor | None, rows: int, others: int) -> Tensor | None:
    """Numbers of both, 0 where there are none, (B + C); None where both have none."""
    given = one_B if one_B is not None else other_C
    if given is None:
        return None
    first = given.new_zeros(rows) if one_B is None else one_B
    return torch.cat((first, given.new_zeros(others) if other_C is None else other_C))


def _kept(memory: Tensor, keep: Tensor | None) -> Tensor:
    """Which of an encoder's output is no padding."""
    return memory.new_ones(memory.shape[:2], dtype=torch.bool) if keep is None else keep
