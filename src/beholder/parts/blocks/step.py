"""What the layers of one forward share, and what the two halves of a layer promise.

B rows, T positions, D width, S keys, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from beholder.config import Config
from beholder.parts.blocks.masks import PADDING, AttentionMask, Visibility

if TYPE_CHECKING:
    from beholder.parts.blocks.positions import Alibi
    from beholder.parts.contracts import LanguageInputs
    from beholder.parts.language.state import State

Tables = tuple[Tensor, Tensor]
NO_PARTS: Mapping[str, nn.Module] = {}


class RotaryTables(Protocol):
    """A setting that turns positions into tables for attention; hashable, so that layers share them."""

    def tables(self, positions: Tensor, head_dim: int, dtype: torch.dtype) -> Tables: ...


@dataclass(eq=False)
class Shared:
    """keys: name -> keys, values and mask of a layer that later ones read again. layer_inputs: (B, T, layers, P), what each
    layer reads of its own of every token. distances: a vector for each distance (R, D).
    """

    keys: dict[str, tuple[Tensor, Tensor, AttentionMask]] = field(default_factory=dict)
    layer_inputs: Tensor | None = None
    distances: Tensor | None = None


@dataclass(eq=False)
class Step:
    """Everything that layers have in common in one forward. Masks and tables are made once for each setting.

    queries, keys: who is new and who may be seen, both None where everybody sees everybody
    positions:     (B, T) or (axes, B, T) of the new tokens, for rotary tables and relative biases
    bias_BHTS:     added to every layer's scores
    segments:      lengths of the sequences that the one row holds, which see only themselves; () where rows are sequences
    inputs, state: of a language model; lengths of its rows are `inputs.lengths`
    memory_BSD, memory_keep_BS, memory_bias_BHTS: what an encoder gave for cross-attention, False where it is padding, and
                   what is added to every layer's scores of it
    alone:         no layer reads a memory, though it could (BLIP's text encoder by itself)
    norm, mixer:   what the layer that runs applies to its input, and its mixer
    shared:        what layers find there of each other
    aux, stats:    name -> what each layer of experts adds to the loss, and what it reports
    """

    dtype: torch.dtype = torch.float32
    queries: Visibility | None = None
    keys: Visibility | None = None
    positions: Tensor | None = None
    bias_BHTS: Tensor | None = None
    segments: tuple[int, ...] = ()
    inputs: LanguageInputs | None = None
    state: State | None = None
    memory_BSD: Tensor | None = None
    memory_keep_BS: Tensor | None = None
    memory_bias_BHTS: Tensor | None = None
    alone: bool = False
    norm: nn.Module | None = None
    mixer: Mixer | None = None
    shared: Shared = field(default_factory=Shared)
    aux: dict[str, list[Tensor]] = field(default_factory=dict)
    stats: dict[str, list[Tensor]] = field(default_factory=dict)
    _masks: dict[tuple[int | None, bool], AttentionMask] = field(default_factory=dict)
    _tables: dict[tuple[RotaryTables, int, bool], Tables] = field(default_factory=dict)  # True: signed ones
    _biases: dict[tuple[Alibi, int], Tensor] = field(default_factory=dict)

    def mask(self, window: int | None = None, chunked: bool = False) -> AttentionMask:
        """Who may be seen through a window, or in a chunk, of so many blocks; the same mask at each call."""
        key = (window, chunked)
        if key not in self._masks:
            self._masks[key] = (
                AttentionMask(segments=self.segments)
                if self.queries is None
                else AttentionMask.of(self.queries, self.keys or self.queries, window, chunked)
            )
        return self._masks[key]

    def set_mask(self, mask: AttentionMask, window: int | None = None) -> None:
        """What `mask` shall give where visibility alone does not decide it."""
        self._masks[window, False] = mask

    def hide(self, hidden_BS: Tensor, positions: Tensor) -> None:
        """From here on nobody sees the tokens that are True, and the others have these positions."""
        keys = self.keys or self.queries
        assert keys is not None, "only layers that mask can hide tokens"
        segments_BS = keys.segments_BT.masked_fill(hidden_BS, PADDING)
        self.keys, self.positions = (
            replace(keys, segments_BT=segments_BS, plain=False, behind=False),
            positions,
        )
        for made in (self._masks, self._tables, self._biases):
            made.clear()

    def memory_mask(self) -> AttentionMask:
        """Which of the memory's tokens may be seen, and what is added to their scores."""
        keep_BS = self.memory_keep_BS
        mask = AttentionMask() if keep_BS is None else AttentionMask(allowed_B1TS=keep_BS[:, None, None])
        return mask.plus(self.memory_bias_BHTS)

    def tables(self, rotary: RotaryTables, head_dim: int) -> Tables:
        """Cosines and sines for `rotary.rotate`; the same at each call."""
        key = (rotary, head_dim, False)
        if key not in self._tables:
            self._tables[key] = rotary.tables(self._real_positions(), head_dim, self.dtype)
        return self._tables[key]

    def signed_tables(self, rotary: RotaryTables, head_dim: int) -> Tables:
        """`tables` with the first half of the sines negated, for channels that have changed halves; the same at each call."""
        key = (rotary, head_dim, True)
        if key not in self._tables:
            cos, sin = self.tables(rotary, head_dim)
            first, second = sin.chunk(2, -1)
            self._tables[key] = cos, torch.cat((-first, second), -1)
        return self._tables[key]

    def set_tables(self, rotary: RotaryTables, head_dim: int, tables: Tables) -> None:
        """What `tables` shall give where positions alone do not decide it."""
        self._tables[rotary, head_dim, False] = tables

    def alibi(self, alibi: Alibi, num_heads: int) -> Tensor:
        """(B, H, T, S), what distance adds to scores; the same at each call."""
        if (alibi, num_heads) not in self._biases:
            assert self.positions is not None
            bias_BHTS = alibi.bias(self.positions, self.key_positions(), num_heads)
            self._biases[alibi, num_heads] = bias_BHTS
        return self._biases[alibi, num_heads]

    def _real_positions(self) -> Tensor:
        """Positions with 0 at padding, whose row is then no longer than its text."""
        positions, lengths = self.positions, self.lengths
        assert positions is not None
        if lengths is None or all(length == positions.shape[-1] for length in lengths):
            return positions
        columns_T = torch.arange(positions.shape[-1], device=positions.device)
        lengths_B1 = torch.tensor(list(lengths), device=positions.device)[:, None]
        return positions.masked_fill(columns_T >= lengths_B1, 0)

    def key_positions(self) -> Tensor:
        """(B, S): of the new tokens' keys, or of all that the state holds, which rows keep in order from 0."""
        assert self.positions is not None
        if self.keys is None or self.keys is self.queries:
            return self.positions
        rows, count = self.keys.blocks_BT.shape
        return torch.arange(count, device=self.positions.device).expand(rows, count)

    @property
    def fixed(self) -> bool:
        """Whether nothing may ask for values of tensors; see `State`."""
        return self.state is not None and self.state.fixed

    @property
    def lengths(self) -> tuple[int, ...] | None:
        """New tokens of each row; None where all rows are full."""
        return self.inputs.lengths if self.inputs is not None else None


class MixerConfig(Config):
    """Settings of the half of a layer that lets tokens see each other."""

    @property
    def in_segments(self) -> bool:
        """Whether a row may hold several texts that do not see each other."""
        return True

    def build(self, dim: int, index: int = 0) -> Mixer:
        """The module for layer `index`, under which generation's state keeps what it needs."""
        raise NotImplementedError


class Mixer(nn.Module):
    """(B, T, D) -> (B, T, D). `parts` are a fusion's modules for this layer, by slot."""

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        raise NotImplementedError


class MlpConfig(Config):
    """Settings of the half of a layer that sees one token at a time."""

    def build(self, dim: int) -> Mlp:
        raise NotImplementedError


class Mlp(nn.Module):
    """(..., D) -> (..., D). What experts add to the loss goes into `step.aux`."""

    def forward(self, x: Tensor, step: Step | None = None) -> Tensor:
        raise NotImplementedError
