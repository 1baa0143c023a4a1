"""Attention in training on a processor: two matrix products a piece, pieces small enough for a core's cache, and a backward
pass that computes no more than it must. The fused kernel's backward pass there takes two to five times as long.

B rows, R rows of a piece, T queries, S keys, H query heads, J key heads, K head width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from beholder.parts.blocks.masks import AttentionMask

QUERIES = 128  # of a piece at most, where later keys are hidden
WIDE = 512  # of other pieces
SCORES = 2**18  # of a piece, as far as rows are taken together
MOST = 2**20  # queries times keys whose shares of attention are kept for the backward pass


@dataclass(frozen=True)
class Piece:
    """Queries of some rows with all keys that any of them sees; causal: query i sees the keys up to the i-th of the last ones.
    last: no later piece has these keys, and all earlier ones have no others. hidden: keys that a query does not see, booleans
    (R, 1, T, S).
    """

    rows: slice
    queries: slice
    keys: slice
    causal: bool
    last: bool
    hidden: Tensor | None = None


def pieces_of(mask: AttentionMask, shape: Sequence[int], keys: int) -> tuple[Piece, ...] | None:
    """The pieces of queries (B, H, T, K); None for a mask that adds to scores, has a window or is too large."""
    rows, heads, queries, _ = shape
    if mask.runs:
        found: list[Piece] = []
        row = start = 0
        for length in mask.runs:
            found += _pieces(slice(row, row + 1), start, length, causal=True)
            start += length
            row, start = (row + 1, 0) if start == queries else (row, start)
        return tuple(found)
    plain = mask.window is None and not (mask.causal and queries != keys)
    if mask.bias_BHTS is not None or mask.segments or queries * keys > MOST or not (plain or mask.dense):
        return None
    hidden = ~mask.allowed_B1TS.expand(rows, 1, -1, keys) if mask.allowed_B1TS is not None else None
    together = max(1, SCORES // (heads * min(queries, QUERIES) * keys))
    spans = [slice(row, min(row + together, rows)) for row in range(0, rows, together)]
    if mask.causal and hidden is None:
        return tuple(piece for span in spans for piece in _pieces(span, 0, queries, causal=True))
    starts = range(0, queries, WIDE)
    found = list[Piece]()
    for span, start in product(spans, starts):
        own = slice(start, min(start + WIDE, queries))
        unseen = None if hidden is None else hidden.expand(-1, -1, queries, -1)[span, :, own]
        found.append(Piece(span, own, slice(0, keys), False, own.stop == queries, unseen))
    return tuple(found)


def _pieces(rows: slice, first: int, length: int, *, causal: bool) -> Iterator[Piece]:
    for start in range(first, first + length, QUERIES):
        stop = min(start + QUERIES, first + length)
        yield Piece(rows, slice(start, stop), slice(first, stop), causal, stop == first + length)


def for_products(x: Tensor) -> Tensor:
    """In the type of products under autocast, for what several matrices read: each would cast it by itself."""
    device = x.device.type
    casts = device != "meta" and torch.is_autocast_enabled(device)
    return x.to(torch.get_autocast_dtype(device)) if casts else x


def attend_in_pieces(
    q_BHTK: Tensor, k_BJSK: Tensor, v_BJSK: Tensor, pieces: Sequence[Piece], scale: float | None
) -> Tensor:
    """softmax(scale q k') v of each piece, (B, H, T, K of v), in the type of autocast where that is on."""
    scale = q_BHTK.shape[-1] ** -0.5 if scale is None else scale
    given: Tensor = _InPieces.apply(*map(for_products, (q_BHTK, k_BJSK, v_BJSK)), pieces, scale)
    return given


class _InPieces(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_BHTK: Tensor, k_BJSK: Tensor, v_BJSK: Tensor, pieces: Sequence[Piece], scale: float
    ) -> Tensor:
        rows, heads, queries, _ = q_BHTK.shape
        ctx.pieces, ctx.scale = pieces, scale
        q_BHTK, k_BJSK, v_BJSK = (x.contiguous() for x in (q_BHTK * scale, k_BJSK, v_BJSK))
        y_BHTK = q_BHTK.new_empty(rows, queries, heads, v_BJSK.shape[-1]).transpose(1, 2)
        kept = []
        for piece in pieces:
            q, k, v = _cut(piece, q_BHTK, k_BJSK, v_BJSK)
            scores = q @ k.mT
            _hide(scores, piece)
            shares = scores.softmax(-1)
            kept.append(shares)
            _place(y_BHTK, piece, shares @ v)
        ctx.save_for_backward(q_BHTK, k_BJSK, v_BJSK, *kept)
        return y_BHTK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given_BHTK: Tensor) -> tuple[Tensor | None, ...]:
        q_BHTK, k_BJSK, v_BJSK, *kept = ctx.saved_tensors
        dq_BHTK = torch.empty_like(q_BHTK)
        dk_BJSK, dv_BJSK = torch.empty_like(k_BJSK), torch.empty_like(v_BJSK)
        for piece, shares in zip(reversed(ctx.pieces), reversed(kept), strict=True):
            q, k, v = _cut(piece, q_BHTK, k_BJSK, v_BJSK)
            dy = _grouped(given_BHTK[piece.rows, :, piece.queries], k.shape[1])
            dscores = torch._softmax_backward_data(dy @ v.mT, shares, -1, shares.dtype)
            for into, change in ((dv_BJSK, shares.mT @ dy), (dk_BJSK, dscores.mT @ q)):
                own = into[piece.rows, :, piece.keys]
                own.copy_(change) if piece.last else own.add_(change)
            _place(dq_BHTK, piece, dscores @ k)
        return dq_BHTK.mul_(ctx.scale), dk_BJSK, dv_BJSK, None, None


def _cut(piece: Piece, q_BHTK: Tensor, k_BJSK: Tensor, v_BJSK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a piece reads; query heads that share keys stand behind each other."""
    k, v = (x[piece.rows, :, piece.keys] for x in (k_BJSK, v_BJSK))
    return _grouped(q_BHTK[piece.rows, :, piece.queries], k.shape[1]), k, v


def _grouped(x_RHTK: Tensor, heads: int) -> Tensor:
    """(R, J, G T, K)."""
    if x_RHTK.shape[1] == heads:
        return x_RHTK
    return x_RHTK.reshape(x_RHTK.shape[0], heads, -1, x_RHTK.shape[-1])


def _place(into_BHTK: Tensor, piece: Piece, x: Tensor) -> None:
    own = into_BHTK[piece.rows, :, piece.queries]
    own.copy_(x.view(own.shape))


def _hide(scores: Tensor, piece: Piece) -> None:
    """In place: what a query does not see, in causal pieces the keys behind its own."""
    count, lowest = piece.queries.stop - piece.queries.start, torch.finfo(scores.dtype).min
    if piece.causal:
        later_TT = torch.ones(count, count, dtype=torch.bool).triu(1)
        scores[..., -count:].unflatten(2, (-1, count)).masked_fill_(later_TT, lowest)
    elif piece.hidden is not None:
        scores.unflatten(2, (-1, count)).masked_fill_(piece.hidden[:, :, None], lowest)
