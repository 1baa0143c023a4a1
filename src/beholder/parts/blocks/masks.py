"""Who sees whom in self-attention: one rule for causal text, prefixes, bidirectional pictures, packing and siblings.

Key k is visible to query q when segment(k) is segment(q) or one of its ancestors, and block(k) <= block(q); a window w
asks besides that block(q) - block(k) < w, or with places that place(q) - place(k) < w; chunks of w blocks ask that both are in
one. Where both ways are seen, blocks count
for windows alone, by their distance to either side. Padding has segment -1 and is neither seen nor sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

PADDING = -1


@dataclass(frozen=True)
class Visibility:
    """segments_BT, blocks_BT: integers per token; parents[s]: the segment above s, or -1 for none.

    plain: True when every row is one segment without padding, so that kernels need no mask. behind: the same but for padding
    behind the rows' ends, which nobody before it sees. both_ways: not causal.
    places_BT: what windows count where tokens share a block; whole: a block is seen whole by its own, whatever the window.
    groups_BT: tokens of one forward that have the same number see each other besides, wherever they stand; -1 for none.
    """

    segments_BT: Tensor
    blocks_BT: Tensor
    parents: tuple[int, ...] = (PADDING,)
    plain: bool = False
    both_ways: bool = False
    places_BT: Tensor | None = None
    whole: bool = False
    groups_BT: Tensor | None = None
    behind: bool = False

    @classmethod
    def causal(
        cls, rows: int, length: int, *, start: int = 0, device: torch.device | None = None
    ) -> Visibility:
        """Rows of plain causal text whose first token has block `start`."""
        blocks_T = torch.arange(start, start + length, device=device)
        zeros_BT = torch.zeros(rows, length, dtype=torch.long, device=device)
        return cls(zeros_BT, blocks_T.expand(rows, length), plain=True)

    @classmethod
    def causal_rows(
        cls,
        lengths: Sequence[int],
        width: int,
        *,
        starts: Sequence[int] | None = None,
        device: torch.device | None = None,
    ) -> Visibility:
        """Causal rows of unequal lengths in a table of `width` columns, padded on the right."""
        starts = starts or [0] * len(lengths)
        full, level = all(n == width for n in lengths), len(set(starts)) == 1
        if full and level:
            return cls.causal(len(lengths), width, start=starts[0], device=device)
        columns_T = torch.arange(width, device=device)
        lengths_B1 = torch.tensor(list(lengths), device=device)[:, None]
        segments_BT = torch.where(columns_T < lengths_B1, 0, PADDING)
        blocks_BT = columns_T + torch.tensor(list(starts), device=device)[:, None]
        return cls(segments_BT, blocks_BT, plain=full, behind=level)

    def cut(self, start: int, stop: int) -> Visibility:
        """Of tokens start to stop."""
        places_BT = None if self.places_BT is None else self.places_BT[:, start:stop]
        groups_BT = None if self.groups_BT is None else self.groups_BT[:, start:stop]
        return replace(
            self,
            segments_BT=self.segments_BT[:, start:stop],
            blocks_BT=self.blocks_BT[:, start:stop],
            places_BT=places_BT,
            groups_BT=groups_BT,
        )

    def sharing(self, blocks_BT: Tensor, *, whole: bool = False) -> Visibility:
        """The same with tokens that see each other both ways because they share a block; windows still count places."""
        places_BT = self.blocks_BT if self.places_BT is None else self.places_BT
        whole = self.whole or whole
        return replace(self, blocks_BT=blocks_BT, plain=False, behind=False, places_BT=places_BT, whole=whole)

    def grouped(self, together_BT: Tensor) -> Visibility:
        """The same where tokens that are True see each other besides, whatever stands between them."""
        groups_BT = torch.where(together_BT, 0, PADDING)
        if not bool(together_BT.any()):
            return self
        return replace(self, plain=False, behind=False, groups_BT=groups_BT)

    @cached_property
    def runs(self) -> tuple[int, ...]:
        """Lengths of what stands in the rows, row after row, where that are texts side by side (or padding) of which each sees
        itself alone, causally; () where it is anything else.
        """
        others = (self.both_ways, self.groups_BT is not None, any(parent >= 0 for parent in self.parents))
        if self.plain or any(others):
            return ()
        goes_on_BT = F.pad(self.segments_BT[:, 1:] == self.segments_BT[:, :-1], (1, 0))
        rises_BT = F.pad(self.blocks_BT[:, 1:] > self.blocks_BT[:, :-1], (1, 0))
        if bool((goes_on_BT & ~rises_BT & (self.segments_BT >= 0)).any()):
            return ()
        rows, columns = (~goes_on_BT).nonzero(as_tuple=True)
        texts = torch.stack((rows, self.segments_BT[rows, columns]), 1)[self.segments_BT[rows, columns] >= 0]
        if len(torch.unique(texts, dim=0)) < len(texts):
            return ()
        starts = rows * self.segments_BT.shape[1] + columns
        return tuple(torch.diff(starts, append=starts.new_tensor([self.segments_BT.numel()])).tolist())

    @classmethod
    def bidirectional(cls, keep_BT: Tensor) -> Visibility:
        """Everybody sees everybody where `keep_BT` is True."""
        return cls(torch.where(keep_BT, 0, PADDING), torch.zeros_like(keep_BT, dtype=torch.long))


@dataclass(frozen=True)
class AttentionMask:
    """How one attention masks: no mask at all, causally, or by (B, 1, T, S) booleans; and what is added to its scores,
    (B or 1, H or 1, T, S). causal: queries stand at the end of the keys, query i sees those up to S - T + i, with a window
    the last so many of them. segments: the one row is sequences of so many tokens, one after the other, that see only
    themselves, and gets nothing else. texts: rows of texts side by side, each of which sees itself alone, causally; their table
    is made where somebody needs it.
    """

    causal: bool = False
    window: int | None = None
    allowed_B1TS: Tensor | None = None
    bias_BHTS: Tensor | None = None
    segments: tuple[int, ...] = ()
    texts: Visibility | None = None

    @classmethod
    def of(
        cls, queries: Visibility, keys: Visibility, window: int | None, chunked: bool = False
    ) -> AttentionMask:
        """The cheapest mask that is right for queries that stand at the end of `keys`."""
        num_queries, num_keys = queries.blocks_BT.shape[1], keys.blocks_BT.shape[1]
        within = window is None or num_keys <= window
        if keys.plain and within and (num_queries == 1 or queries.both_ways):
            return cls()
        causal = not (queries.both_ways or (chunked and not within))
        if keys.plain and causal:
            return cls(causal=True, window=None if within else window)
        beside = queries is keys and queries.segments_BT.device.type == "cpu" and bool(queries.runs)
        if beside and (window is None or int(queries.blocks_BT.max()) < window):
            return cls(texts=queries)
        if keys.behind and causal:
            return cls(causal=True, window=None if within else window)
        allowed_BTS = dense_mask(queries, keys.segments_BT, keys.blocks_BT, window, keys.places_BT, chunked)
        if queries.groups_BT is not None and keys.groups_BT is not None:
            query_BT1, key_B1S = queries.groups_BT[:, :, None], keys.groups_BT[:, None]
            allowed_BTS |= (query_BT1 == key_B1S) & (key_B1S >= 0)
        return cls(allowed_B1TS=allowed_BTS[:, None])

    @property
    def dense(self) -> bool:
        """Whether it needs a table of its own."""
        return self.allowed_B1TS is not None or self.bias_BHTS is not None or self.texts is not None

    @property
    def runs(self) -> tuple[int, ...]:
        """Lengths of the texts that stand side by side, row after row; () where anything else decides who sees whom."""
        return () if self.texts is None or self.bias_BHTS is not None else self.texts.runs

    @cached_property
    def _table(self) -> Tensor:
        assert self.texts is not None
        return dense_mask(self.texts, self.texts.segments_BT, self.texts.blocks_BT)[:, None]

    def plus(self, bias_BHTS: Tensor | None) -> AttentionMask:
        """The same mask with something more added to the scores."""
        if bias_BHTS is None:
            return self
        assert not self.segments, "nothing can be added to the scores of packed sequences"
        total = bias_BHTS if self.bias_BHTS is None else self.bias_BHTS + bias_BHTS
        return AttentionMask(self.causal, self.window, self.allowed_B1TS, total, texts=self.texts)

    def allowed(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        """Booleans that broadcast to (B, H, T, S); None where all keys may be seen."""
        if self.texts is not None:
            return self._table
        if self.allowed_B1TS is not None or not self.causal:
            return self.allowed_B1TS
        ones = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
        allowed = ones.tril(num_keys - num_queries)
        if self.window is not None:
            allowed = allowed.triu(num_keys - num_queries - self.window + 1)
        return allowed[None, None]

    def additive(self, q_BHTK: Tensor, k_BJSK: Tensor) -> Tensor:
        """Bias and mask as one table in the type of the queries, (B or 1, H or 1, T, S)."""
        assert self.bias_BHTS is not None
        bias_BHTS = self.bias_BHTS.to(q_BHTK.dtype)
        allowed = self.allowed(q_BHTK.shape[2], k_BJSK.shape[2], q_BHTK.device)
        return bias_BHTS if allowed is None else bias_BHTS.masked_fill(~allowed, float("-inf"))


def dense_mask(
    queries: Visibility,
    key_segments_BS: Tensor,
    key_blocks_BS: Tensor,
    window: int | None = None,
    key_places_BS: Tensor | None = None,
    chunked: bool = False,
) -> Tensor:
    """(B, T, S) booleans: True where the key may be seen. A padding query sees all, so that softmax is finite."""
    sees_SS = ancestor_table(queries.parents).to(key_segments_BS.device)
    query_BT1, key_B1S = queries.segments_BT[:, :, None], key_segments_BS[:, None, :]
    related = sees_SS[query_BT1.clamp(min=0), key_B1S.clamp(min=0)] & (query_BT1 >= 0) & (key_B1S >= 0)
    distance_BTS = queries.blocks_BT[:, :, None] - key_blocks_BS[:, None, :]
    distance_BTS = distance_BTS.abs() if queries.both_ways else distance_BTS
    mask_BTS = related & (distance_BTS >= 0)
    if window is not None:
        near_BTS = distance_BTS < window
        if key_places_BS is not None:
            places_BT = queries.blocks_BT if queries.places_BT is None else queries.places_BT
            near_BTS = places_BT[:, :, None] - key_places_BS[:, None, :] < window
        if chunked:
            near_BTS &= (queries.blocks_BT // window)[:, :, None] == (key_blocks_BS // window)[:, None, :]
        mask_BTS &= near_BTS | (distance_BTS == 0) if queries.whole else near_BTS
    return mask_BTS | (query_BT1 < 0)


def ancestor_table(parents: Sequence[int]) -> Tensor:
    """(S, S) booleans: entry [a, b] is True when segment b is a or an ancestor of a. Raises `ValueError` for a cycle."""
    sees = torch.eye(len(parents), dtype=torch.bool)
    for segment, parent in enumerate(parents):
        steps = 0
        while parent >= 0:
            sees[segment, parent] = True
            parent, steps = parents[parent], steps + 1
            if steps > len(parents):
                raise ValueError(f"segments {list(parents)} form a cycle")
    return sees


# Group visibility of joint encoders and Q-Formers: rows are the query's group, columns the key's (0 queries, 1 text).
# BLIP-2 (2301.12597), figure 2: contrastive keeps groups apart, matching lets all see all, generation lets text see
# queries and earlier text.
GROUP_TABLES: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "itc": (("all", "none"), ("none", "all")),
    "itm": (("all", "all"), ("all", "all")),
    "itg": (("all", "none"), ("all", "causal")),
}


def group_mask(groups_T: Tensor, objective: str) -> Tensor:
    """(T, T) booleans for one row whose tokens belong to `groups_T` (0 or 1) under a Q-Former objective."""
    table = GROUP_TABLES[objective]
    order_T = torch.arange(len(groups_T), device=groups_T.device)
    allowed = {
        "all": torch.ones(len(groups_T), len(groups_T), dtype=torch.bool, device=groups_T.device),
        "none": torch.zeros(len(groups_T), len(groups_T), dtype=torch.bool, device=groups_T.device),
        "causal": order_T[:, None] >= order_T[None, :],
    }
    mask_TT = allowed["none"].clone()
    for query in (0, 1):
        for key in (0, 1):
            mask_TT |= (groups_T[:, None] == query) & (groups_T[None, :] == key) & allowed[table[query][key]]
    return mask_TT


def media_mask(query_ids_BT: Tensor, key_ids_BN: Tensor, rule: str) -> Tensor:
    """(B, T, N) booleans for cross-attention. Ids count pictures from 1; a query carries the number of the last picture
    before it (0: none). `rule`: `latest` sees that picture alone, `before` sees it and all earlier ones, `own` the equal id.
    """
    query_BT1, key_B1N = query_ids_BT[:, :, None], key_ids_BN[:, None, :]
    if rule in ("latest", "own"):
        return (query_BT1 == key_B1N) & (key_B1N > 0)
    if rule == "before":
        return (key_B1N <= query_BT1) & (key_B1N > 0)
    raise ValueError(f"unknown rule {rule!r}; known: latest, before, own")
