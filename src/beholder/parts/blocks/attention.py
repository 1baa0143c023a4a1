"""Multi-head attention, with grouped keys (GQA, 2305.13245), rotary positions, windows and a state for generation.

B rows, T queries, S keys, D width, H query heads, J key heads, G = H / J, K head width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Alibi, QueryScale, Rotary
from beholder.parts.blocks.products import attend_in_pieces, for_products, pieces_of
from beholder.parts.blocks.relative import RelativeBuckets
from beholder.parts.blocks.rotary2d import AxialRotary
from beholder.parts.blocks.step import NO_PARTS, Mixer, MixerConfig, Step
from beholder.parts.blocks.untied_places import UntiedPlaces

# queries, keys, values, mask, scale -> what `attend` gives, or None where that has to do it
Kernel = Callable[[Tensor, Tensor, Tensor, AttentionMask, float | None], Tensor | None]
# queries, keys and values of one map (B, T, D), the step -> whether queries and keys were normed and turned there, in place
Turner = Callable[[Tensor, Step], bool]
QK_NORMS = ("head", "heads", "all")


@dataclass(frozen=True)
class Attention(MixerConfig):
    """num_kv_heads and head_dim default to num_heads and dim / num_heads. window: keys nearer than this many blocks.

    k_bias: where it differs from qkv_bias (Whisper's keys have none). scale: of the scores, 1 / sqrt(head_dim) where
    None. softcap: c tanh(scores / c) (Gemma 2). clip: bound of projected queries, keys and values (MPT).
    qk_norm: of queries and keys, over each `head` with shared weights, over each of the `heads` with its own weights,
    or over `all` channels; late: after rotary positions. inner_norm: of the joined heads before the last projection
    (sub-LN, 2210.06423). sinks: a learned score per head that takes a share of the softmax and gives nothing.
    query_scale: of queries, by position. relative: learned scores by distance, whose table a stack makes where layers
    share it. scaled_heads: what each head gives counts as often as learned (NormFormer, 2110.09456).
    """

    num_heads: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    qkv_bias: bool = False
    k_bias: bool | None = None
    out_bias: bool = False
    rotary: Rotary | AxialRotary | None = None
    alibi: Alibi | None = None
    window: int | None = None
    scale: float | None = None
    softcap: float | None = None
    clip: float | None = None
    qk_norm: Norm | None = None
    qk_norm_over: str = "head"
    qk_norm_late: bool = False
    inner_norm: Norm | None = None
    sinks: bool = False
    query_scale: QueryScale | None = None
    relative: RelativeBuckets | UntiedPlaces | None = None
    scaled_heads: bool = False
    chunked: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.qk_norm_over not in QK_NORMS:
            raise UnknownName("norm of queries and keys over", self.qk_norm_over, QK_NORMS)

    @property
    def kv_heads(self) -> int:
        return self.num_kv_heads or self.num_heads

    @property
    def turns_plainly(self) -> bool:
        """Whether queries and keys are turned, in halves of all their channels, and nothing else happens to them."""
        other = (self.qk_norm, self.clip, self.query_scale)
        plain = type(self.rotary) is Rotary and self.rotary.pairs == "half" and self.rotary.share == 1
        return plain and all(each is None for each in other)

    def width(self, dim: int) -> int:
        """Channels of one head; raises `BeholderError` where heads do not divide the width or each other."""
        if self.num_heads % self.kv_heads:
            raise BeholderError(f"{self.num_heads} query heads cannot share {self.kv_heads} key heads evenly")
        if self.head_dim is None and dim % self.num_heads:
            raise BeholderError(f"width {dim} does not divide into {self.num_heads} heads; set head_dim")
        return self.head_dim or dim // self.num_heads

    def tiny(self) -> Attention:
        kv_heads = {1: 1, self.num_heads: 4}.get(self.kv_heads, 2)
        small = super().tiny()
        return small.but(num_heads=4, num_kv_heads=kv_heads, head_dim=8, window=self.window and 6)

    def build(self, dim: int, index: int = 0) -> SelfAttention:
        return SelfAttention(self, dim, index)


QUERIES_AT_ONCE = 256  # behind earlier keys, or with a window; none of their masks is larger


@dataclass(frozen=True)
class ChunkedAttention(Attention):
    """Of the keys in the window those in the query's chunk of so many blocks alone (Llama 4)."""

    chunked: ClassVar[bool] = True


def attend(
    q_BHTK: Tensor,
    k_BJSK: Tensor,
    v_BJSK: Tensor,
    mask: AttentionMask,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    sinks_H: Tensor | None = None,
) -> Tensor:
    """softmax(scale q k' + bias) v, (B, H, T, K of v). Query heads share keys in groups of H / J neighbours."""
    if mask.segments:
        return _attend_by_segment(q_BHTK, k_BJSK, v_BJSK, mask.segments, scale, softcap, sinks_H)
    group = q_BHTK.shape[1] // k_BJSK.shape[1]
    trained = q_BHTK.requires_grad and q_BHTK.device.type == "cpu"
    if trained and softcap is None and sinks_H is None:
        pieces = pieces_of(mask, q_BHTK.shape, k_BJSK.shape[2])
        if pieces is not None:
            return attend_in_pieces(q_BHTK, k_BJSK, v_BJSK, pieces, scale)
    if softcap is not None or sinks_H is not None or (mask.dense and trained):
        return _attend_plainly(q_BHTK, k_BJSK, v_BJSK, mask, scale, softcap, sinks_H)
    if mask.causal and not mask.dense and (mask.window is not None or q_BHTK.shape[2] < k_BJSK.shape[2]):
        return _attend_behind(q_BHTK, k_BJSK, v_BJSK, mask, scale)
    if group > 1 and q_BHTK.shape[2] == 1 and mask.bias_BHTS is None:
        # One query per head: the group's heads become queries of the shared keys, and nothing is copied.
        grouped_BJGK = q_BHTK.view(q_BHTK.shape[0], k_BJSK.shape[1], group, -1)
        read_BJGK = F.scaled_dot_product_attention(
            grouped_BJGK, k_BJSK, v_BJSK, attn_mask=_table(mask, q_BHTK, k_BJSK), scale=scale
        )
        return read_BJGK.view(*q_BHTK.shape[:3], -1)
    if group > 1:
        k_BJSK, v_BJSK = (x.repeat_interleave(group, dim=1) for x in (k_BJSK, v_BJSK))
    return F.scaled_dot_product_attention(
        q_BHTK,
        k_BJSK,
        v_BJSK,
        attn_mask=mask.additive(q_BHTK, k_BJSK)
        if mask.bias_BHTS is not None
        else _table(mask, q_BHTK, k_BJSK),
        is_causal=mask.causal and not mask.dense,
        scale=scale,
    )


def _table(mask: AttentionMask, q_BHTK: Tensor, k_BJSK: Tensor) -> Tensor | None:
    """Booleans for a kernel that knows causal masks by itself."""
    return mask.allowed(q_BHTK.shape[2], k_BJSK.shape[2], q_BHTK.device) if mask.dense else None


def _attend_behind(
    q_BHTK: Tensor, k_BJSK: Tensor, v_BJSK: Tensor, mask: AttentionMask, scale: float | None
) -> Tensor:
    """`attend` causally where a kernel's own causal flag means something else: some queries after the other, each with the
    keys that any of them sees.
    """
    before = k_BJSK.shape[2] - q_BHTK.shape[2]
    pieces = []
    for number, q in enumerate(q_BHTK.split(QUERIES_AT_ONCE, 2)):
        end = before + number * QUERIES_AT_ONCE + q.shape[2]
        start = 0 if mask.window is None else max(0, end - q.shape[2] - mask.window + 1)
        allowed = mask.allowed(q.shape[2], end - start, q.device)
        seen = AttentionMask(allowed_B1TS=None if q.shape[2] == 1 else allowed)
        pieces.append(attend(q, k_BJSK[:, :, start:end], v_BJSK[:, :, start:end], seen, scale=scale))
    return torch.cat(pieces, 2)


def _attend_by_segment(
    q_1HNK: Tensor,
    k_1JNK: Tensor,
    v_1JNK: Tensor,
    segments: tuple[int, ...],
    scale: float | None,
    softcap: float | None,
    sinks_H: Tensor | None,
) -> Tensor:
    """`attend` within each of several sequences in one row, those of one length together (2307.06304)."""
    pieces = [x.split(segments, 2) for x in (q_1HNK, k_1JNK, v_1JNK)]
    given: dict[int, Tensor] = {}
    for length in dict.fromkeys(segments):
        numbers = [number for number, other in enumerate(segments) if other == length]
        q, k, v = (torch.cat([sequences[number] for number in numbers]) for sequences in pieces)
        y_SHTK = attend(q, k, v, AttentionMask(), scale=scale, softcap=softcap, sinks_H=sinks_H)
        given.update(zip(numbers, y_SHTK.split(1), strict=True))
    return torch.cat([given[number] for number in range(len(segments))], 2)


def _attend_plainly(
    q_BHTK: Tensor,
    k_BJSK: Tensor,
    v_BJSK: Tensor,
    mask: AttentionMask,
    scale: float | None,
    softcap: float | None,
    sinks_H: Tensor | None,
) -> Tensor:
    """`attend` by two matrix products: on a CPU the fused kernel's backward pass with a mask is several times slower,
    and there is none for caps and sinks.
    """
    rows, heads, queries, width = q_BHTK.shape
    shape = (*k_BJSK.shape[:2], heads // k_BJSK.shape[1], queries, width)  # B J G T K
    q_BJQK = (q_BHTK * (width**-0.5 if scale is None else scale)).reshape(*shape[:2], -1, width)
    scores_BHTS = (q_BJQK @ k_BJSK.transpose(-1, -2)).view(rows, heads, queries, -1)
    if softcap is not None:
        scores_BHTS = softcap * torch.tanh(scores_BHTS / softcap)
    if mask.bias_BHTS is not None:
        scores_BHTS = scores_BHTS + mask.bias_BHTS
    allowed = mask.allowed(queries, k_BJSK.shape[2], q_BHTK.device)
    if allowed is not None:
        scores_BHTS = scores_BHTS.masked_fill(~allowed, torch.finfo(scores_BHTS.dtype).min)
    if sinks_H is not None:
        sinks_BHT1 = sinks_H.view(1, -1, 1, 1).expand(rows, -1, queries, -1)
        weights_BHTS = torch.cat((scores_BHTS, sinks_BHT1), -1).softmax(-1)[..., :-1]
    else:
        weights_BHTS = scores_BHTS.softmax(-1)
    weights_BJQS = weights_BHTS.to(v_BJSK.dtype).reshape(*shape[:2], -1, k_BJSK.shape[2])
    return (weights_BJQS @ v_BJSK).view(rows, heads, queries, -1)


class SelfAttention(Mixer):
    """(B, T, D) -> (B, T, D). kv_dim: width of what keys and values are made of, where it is not the queries'. fused: one map
    that gives all three, where a model is packed (`beholder.speed`). turner, kernel: another way to norm and turn what that
    gives, and to attend, which may decline, there too.
    """

    fused: nn.Module | None
    turner: Turner | None = None
    kernel: Kernel | None = None

    def __init__(self, config: Attention, dim: int, index: int = 0, *, kv_dim: int | None = None) -> None:
        super().__init__()
        self.config, self.head_dim, self.index = config, config.width(dim), index
        joined, shared = config.num_heads * self.head_dim, config.kv_heads * self.head_dim
        k_bias = config.qkv_bias if config.k_bias is None else config.k_bias
        self.widths, self.fused, self.turns_plainly = (joined, shared, shared), None, config.turns_plainly
        self.q = nn.Linear(dim, joined, bias=config.qkv_bias)
        self.k = nn.Linear(kv_dim or dim, shared, bias=k_bias)
        self.v = nn.Linear(kv_dim or dim, shared, bias=config.qkv_bias)
        self.out = nn.Linear(joined, dim, bias=config.out_bias)
        self.inner_norm = config.inner_norm.build(joined) if config.inner_norm else None
        self.q_norm = self._qk_norm(config.num_heads)
        self.k_norm = self._qk_norm(config.kv_heads)
        self.sinks = nn.Parameter(torch.zeros(config.num_heads)) if config.sinks else None
        relative = config.relative if config.relative and not config.relative.shared else None
        self.relative = relative.build(config.num_heads) if relative else None
        self.head_scale = nn.Parameter(torch.ones(config.num_heads)) if config.scaled_heads else None

    def _qk_norm(self, heads: int) -> nn.Module | None:
        norm, over = self.config.qk_norm, self.config.qk_norm_over
        if norm is None:
            return None
        return norm.build(
            heads * self.head_dim if over == "all" else self.head_dim, heads if over == "heads" else 0
        )

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        y_BHTK = self.heads(x_BTD, step, parts)
        if "out" not in parts:
            return self.merge(y_BHTK)
        given_BTD: Tensor = parts["out"](y_BHTK.transpose(1, 2).flatten(2), self.project_out, step.inputs)
        return given_BTD

    def heads(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module]) -> Tensor:
        """What each head gives, (B, H, T, K)."""
        whole = self.turns_plainly or self.turner is not None
        if self.fused is not None and whole and "qkv" not in parts:
            q_BHTK, k_BJTK, v_BJTK = self._together(self.fused(x_BTD), step)
        else:
            given = parts["qkv"](x_BTD, self.project, step.inputs) if "qkv" in parts else self.project(x_BTD)
            q_BHTK = self._prepare(given[0], self.q_norm, step)
            k_BJTK = self._prepare(given[1], self.k_norm, step, keys=True)
            v_BJTK = self.split(given[2])
        if self.config.query_scale is not None:
            assert step.positions is not None
            q_BHTK = q_BHTK * self.config.query_scale.factors(step.positions).to(q_BHTK.dtype)
        k_BJTK, v_BJTK, mask = self._kept(k_BJTK, v_BJTK, step)
        if "prefix" in parts:
            k_BJTK, v_BJTK, mask = prepend(k_BJTK, v_BJTK, parts["prefix"](step), mask, q_BHTK.shape[2])
        y_BHTK = self.attend(q_BHTK, k_BJTK, v_BJTK, mask)
        return parts["heads"](y_BHTK, q_BHTK, x_BTD, step) if "heads" in parts else y_BHTK

    def _together(self, qkv_BTD: Tensor, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values split into heads, the first two prepared at once: fewer calls at each word."""
        heads, shared, rotary = self.config.num_heads, self.config.kv_heads, self.config.rotary
        if self.turner is not None and self.turner(qkv_BTD, step):
            q_BHTK, k_BJTK, v_BJTK = self.split(qkv_BTD).split((heads, shared, shared), 1)
            return q_BHTK, k_BJTK, v_BJTK
        if not self.turns_plainly:
            q_BTD, k_BTD, v_BTD = qkv_BTD.split(self.widths, -1)
            keys_BJTK = self._prepare(k_BTD, self.k_norm, step, keys=True)
            return self._prepare(q_BTD, self.q_norm, step), keys_BJTK, self.split(v_BTD)
        assert isinstance(rotary, Rotary)
        x_BLTK, v_BJTK = self.split(qkv_BTD).split((heads + shared, shared), 1)
        cos, sin = step.signed_tables(rotary, self.head_dim)
        x_BLTK = torch.addcmul(x_BLTK * cos, x_BLTK.roll(self.head_dim // 2, -1), sin)
        q_BHTK, k_BJTK = x_BLTK.split((heads, shared), 1)
        return q_BHTK, k_BJTK, v_BJTK

    def _kept(self, k_BJTK: Tensor, v_BJTK: Tensor, step: Step) -> tuple[Tensor, Tensor, AttentionMask]:
        """The new keys and values with those that the state keeps, and which of them may be seen."""
        state, window = step.state, self.config.window
        mask, bias_BHTS = step.mask(window, self.config.chunked), self._bias(step)
        if state is None:
            return k_BJTK, v_BJTK, mask.plus(bias_BHTS)
        if not state.rolling or window is None or bias_BHTS is not None:
            keys, values = state.self_attention(self.index).append(k_BJTK, v_BJTK, state.lengths)
            return keys, values, mask.plus(bias_BHTS)
        width = k_BJTK.shape[2]
        ring = state.rolling_attention(self.index, window)
        keys, values, columns = ring.roll(k_BJTK, v_BJTK, state.lengths, step.lengths)
        if columns is not None:
            mask = columns.of(mask, width, max(state.lengths) + width)
        return keys, values, mask

    def attend(self, q_BHTK: Tensor, k_BJSK: Tensor, v_BJSK: Tensor, mask: AttentionMask) -> Tensor:
        """`attend` with this layer's scales, cap and sinks."""
        config, y_BHTK = self.config, None
        if self.kernel is not None and config.softcap is None and self.sinks is None:
            y_BHTK = self.kernel(q_BHTK, k_BJSK, v_BJSK, mask, config.scale)
        if y_BHTK is None:
            y_BHTK = attend(
                q_BHTK, k_BJSK, v_BJSK, mask, scale=config.scale, softcap=config.softcap, sinks_H=self.sinks
            )
        return y_BHTK if self.head_scale is None else y_BHTK * self.head_scale[:, None, None]

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values before heads are split, (B, T, H K), (B, T, J K) twice."""
        x_BTD = for_products(x_BTD)
        if self.fused is None:
            q, k, v = self.q(x_BTD), self.k(x_BTD), self.v(x_BTD)
        else:
            q, k, v = self.fused(x_BTD).split(self.widths, -1)
        if self.config.clip is not None:
            q, k, v = (x.clamp(-self.config.clip, self.config.clip) for x in (q, k, v))
        return q, k, v

    def turned(self, x_BTD: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Queries (B, H, T, K) and keys (B, J, T, K) as they meet."""
        q, k, _ = self.project(x_BTD)
        return self._prepare(q, self.q_norm, step), self._prepare(k, self.k_norm, step, keys=True)

    def split(self, x_BTD: Tensor) -> Tensor:
        """(B, T, heads K) -> (B, heads, T, K)."""
        return x_BTD.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def merge(self, x_BHTK: Tensor) -> Tensor:
        """Heads joined and projected, (B, T, D)."""
        return self.project_out(x_BHTK.transpose(1, 2).flatten(2))

    def project_out(self, x_BTD: Tensor) -> Tensor:
        """(B, T, H K) -> (B, T, D)."""
        return self.out(x_BTD if self.inner_norm is None else self.inner_norm(x_BTD))

    def _prepare(self, x_BTD: Tensor, norm: nn.Module | None, step: Step, *, keys: bool = False) -> Tensor:
        """Queries or keys split into heads, normed and turned, (B, heads, T, K)."""
        config = self.config
        if norm is not None and config.qk_norm_over == "all":
            x_BTD = norm(x_BTD)
        x_BTHK = x_BTD.unflatten(-1, (-1, self.head_dim))
        by_head = norm if norm is not None and config.qk_norm_over != "all" else None
        if by_head is not None and not config.qk_norm_late:
            x_BTHK = by_head(x_BTHK)
        x_BHTK = x_BTHK.transpose(1, 2)
        if config.rotary is not None:
            rotary = config.rotary.of_keys if keys else config.rotary
            x_BHTK = rotary.rotate(x_BHTK, step.tables(rotary, self.head_dim))
        if by_head is not None and config.qk_norm_late:
            x_BHTK = by_head(x_BHTK.transpose(1, 2)).transpose(1, 2)
        return x_BHTK

    def _bias(self, step: Step) -> Tensor | None:
        alibi = self.config.alibi
        if alibi is None and self.relative is None:
            return step.bias_BHTS
        if self.relative is not None:
            assert step.positions is not None
            bias_BHTS = self.relative(step.positions, step.key_positions())
        else:
            assert alibi is not None
            bias_BHTS = step.alibi(alibi, self.config.num_heads)
        return bias_BHTS if step.bias_BHTS is None else bias_BHTS + step.bias_BHTS


def prepend(
    keys: Tensor, values: Tensor, prefix: tuple[Tensor, Tensor], mask: AttentionMask, num_queries: int
) -> tuple[Tensor, Tensor, AttentionMask]:
    """Keys, values and mask with prefix keys (B, J, P, K) in front that every query sees."""
    count = prefix[0].shape[2]
    allowed = mask.allowed(num_queries, keys.shape[2], keys.device)
    if allowed is None:
        allowed = torch.ones(1, 1, num_queries, keys.shape[2], dtype=torch.bool, device=keys.device)
    bias = None if mask.bias_BHTS is None else F.pad(mask.bias_BHTS, (count, 0))
    joined = AttentionMask(allowed_B1TS=F.pad(allowed, (count, 0), value=True), bias_BHTS=bias)
    first_keys, first_values = (given.to(keys.dtype) for given in prefix)
    return torch.cat((first_keys, keys), 2), torch.cat((first_values, values), 2), joined
