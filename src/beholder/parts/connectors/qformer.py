"""The Q-Former (BLIP-2, 2301.12597): learned queries that see each other, and words where there are any, and read a picture.

V views, S tokens of a view, E their width, Q queries, W words, T = Q + W, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.masks import AttentionMask, group_mask
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.step import Step
from beholder.parts.connectors.projections import Linear
from beholder.parts.contracts import Connector, ConnectorConfig, Context, Packed
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.vision.views import by_size


@dataclass(frozen=True)
class QueryStack(Config):
    """BERT's layers over queries and words. every: layers 0, `every`, 2 `every` and so on read the picture, queries alone.
    words: these have MLPs of their own; without, queries come alone.
    """

    queries: int = 32
    dim: int = 768
    num_layers: int = 12
    every: int = 2
    attention: Attention = Attention(12, qkv_bias=True, out_bias=True)
    mlp: FeedForward = FeedForward(3072)
    norm: Norm = Norm("layer", 1e-12)
    words: bool = False

    def tiny(self) -> QueryStack:
        return super().tiny().but(queries=4, dim=32, num_layers=2)

    def build(self, memory_dim: int) -> QueryTransformer:
        """memory_dim: width of the picture's tokens."""
        return QueryTransformer(self, memory_dim)


class QueryLayer(nn.Module):
    """Self-attention of all, the picture read by queries, an MLP for queries and one for words; norms after the sums."""

    def __init__(self, config: QueryStack, memory_dim: int, index: int) -> None:
        super().__init__()
        dim, heads = config.dim, config.attention
        self.attn = heads.build(dim, index)
        self.after1 = config.norm.build(dim)
        cross = CrossAttention(
            heads.num_heads, head_dim=heads.head_dim, qkv_bias=True, out_bias=True, memory_dim=memory_dim
        )
        reads = index % config.every == 0
        self.cross = cross.build(dim, index) if reads else None
        self.cross_after = config.norm.build(dim) if reads else None
        self.mlp, self.after2 = config.mlp.build(dim), config.norm.build(dim)
        self.words_mlp = config.mlp.build(dim) if config.words else None
        self.words_after2 = config.norm.build(dim) if config.words else None

    def forward(self, x_VTD: Tensor, queries: int, step: Step, *, keep_words: bool = True) -> Tensor:
        """queries: how many of the tokens, from the first on; keep_words: the others are given as well."""
        x_VTD = self.after1(x_VTD + self.attn(x_VTD, step))
        q_VQD, w_VWD = x_VTD.split([queries, x_VTD.shape[1] - queries], 1)
        w_VWD = w_VWD if keep_words else w_VWD[:, :0]
        if queries:
            if self.cross is not None and self.cross_after is not None:
                q_VQD = self.cross_after(q_VQD + self.cross(q_VQD, step))
            q_VQD = self.after2(q_VQD + self.mlp(q_VQD))
        if w_VWD.shape[1]:
            assert self.words_mlp is not None and self.words_after2 is not None, "a stack built without words"
            w_VWD = self.words_after2(w_VWD + self.words_mlp(w_VWD))
        return torch.cat((q_VQD, w_VWD), 1)


class QueryTransformer(nn.Module):
    """Memory (V, S, E) and words (V, W, D) -> queries and words (V, T, D)."""

    def __init__(self, config: QueryStack, memory_dim: int) -> None:
        super().__init__()
        self.config = config
        self.queries = learned(config.queries, config.dim)
        self.norm = config.norm.build(config.dim)
        self.blocks = nn.ModuleList(QueryLayer(config, memory_dim, i) for i in range(config.num_layers))

    def forward(
        self,
        memory_VSE: Tensor | None,
        words_VWD: Tensor | None = None,
        *,
        keep_VW: Tensor | None = None,
        objective: str = "itm",
        memory_keep_VS: Tensor | None = None,
        keep_words: bool = True,
    ) -> Tensor:
        """memory None: words alone. keep_VW: False where words are padding. objective: who sees whom, `group_mask`'s `itc`,
        `itm` or `itg`. keep_words False: queries alone are given.
        """
        rows = len(memory_VSE) if memory_VSE is not None else len(words_VWD) if words_VWD is not None else 0
        parts = [] if memory_VSE is None else [self.queries.expand(rows, -1, -1)]
        queries = 0 if memory_VSE is None else self.config.queries
        parts += [] if words_VWD is None else [words_VWD]
        x_VTD = self.norm(torch.cat(parts, 1))
        step = Step(x_VTD.dtype, memory_BSD=memory_VSE, memory_keep_BS=memory_keep_VS)
        if words_VWD is not None:
            step.set_mask(self._mask(queries, words_VWD, keep_VW, objective))
        for number, block in enumerate(self.blocks, start=1):
            kept = keep_words or number < len(self.blocks)
            x_VTD = block(x_VTD, queries, step, keep_words=kept)
        return x_VTD

    def pairs(
        self,
        views: Sequence[Tensor],
        words_VWD: Tensor,
        keep_VW: Tensor,
        *,
        objective: str = "itm",
        keep_words: bool = True,
    ) -> list[Tensor]:
        """Each view (S, E) read with the words of its row, views of one size together: queries and words (T, D) of each."""
        read: dict[int, Tensor] = {}
        for size in dict.fromkeys(len(view) for view in views):
            chosen = [number for number, view in enumerate(views) if len(view) == size]
            seen_VTD = self(
                torch.stack([views[number] for number in chosen]),
                words_VWD[chosen],
                keep_VW=keep_VW[chosen],
                objective=objective,
                keep_words=keep_words,
            )
            read.update(zip(chosen, seen_VTD, strict=True))
        return [read[number] for number in range(len(views))]

    def _mask(self, queries: int, words_VWD: Tensor, keep_VW: Tensor | None, objective: str) -> AttentionMask:
        groups_T = torch.tensor([0] * queries + [1] * words_VWD.shape[1], device=words_VWD.device)
        allowed_VTT = group_mask(groups_T, objective)[None].expand(len(words_VWD), -1, -1)
        if keep_VW is not None:
            keep_VT = torch.cat((keep_VW.new_ones(len(keep_VW), queries), keep_VW), 1)
            itself_TT = torch.eye(len(groups_T), dtype=torch.bool, device=words_VWD.device)
            allowed_VTT = (allowed_VTT & keep_VT[:, None]) | itself_TT  # so that padding's softmax is finite
        return AttentionMask(allowed_B1TS=allowed_VTT[:, None])


@dataclass(frozen=True)
class QFormer(ConnectorConfig):
    """Queries that have read a view, through one matrix: so many tokens for a view of any size.

    vocab_size: queries also see the question, in words of a vocabulary of its own, and at most `context` of them
    (InstructBLIP, 2305.06500); None: the view alone. linear: what brings queries to the language model's width.
    """

    stack: QueryStack = QueryStack()
    linear: ConnectorConfig = Linear()
    vocab_size: int | None = None
    context: int = 512

    def __post_init__(self) -> None:
        if (self.vocab_size is not None) != self.stack.words:
            raise BeholderError(
                f"a Q-Former with vocab_size {self.vocab_size} and stack.words {self.stack.words}; set both or neither"
            )

    @property
    def reads_text(self) -> bool:
        return self.vocab_size is not None

    @property
    def reads_words(self) -> bool:
        return self.vocab_size is not None

    def grid(self, grid: Grid) -> Grid:
        return Grid(1, 1, self.stack.queries)

    def tiny(self) -> QFormer:
        return super().tiny().but(vocab_size=self.vocab_size and 64)

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return QFormerConnector(self, in_dim, out_dim)


class QFormerConnector(Connector):
    """(N, in_dim) -> (V Q, out_dim)."""

    def __init__(self, config: QFormer, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.stack = config.stack.build(in_dim)
        self.linear = config.linear.build(config.stack.dim, out_dim)
        self.words = None
        if config.vocab_size is not None:
            words = TokenEmbedding(positions="learned")
            self.words = words.build(config.vocab_size, config.stack.dim, config.context)

    def unused_parameters(self) -> set[str]:
        """What the last layer makes of words, which no query sees any more."""
        last = f"stack.blocks.{self.config.stack.num_layers - 1}.words_"
        return {name for name, _ in self.named_parameters() if name.startswith(last)}

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        views = packed.split()
        read = by_size(views, self.stack) if self.words is None else self._asked(views, context or Context())
        grids = tuple(self.config.grid(grid) for grid in packed.grids)
        return self.linear(Packed(torch.cat(read) if read else packed.tokens_ND, grids))

    def _asked(self, views: list[Tensor], context: Context) -> list[Tensor]:
        """Each view's queries, which have seen its row's question, (Q, D)."""
        words_VWD, keep_VW = self._questions(len(views), context)
        return self.stack.pairs(views, words_VWD, keep_VW, keep_words=False)

    def _questions(self, num_views: int, context: Context) -> tuple[Tensor, Tensor]:
        """Every view's words (V, W, D) and which of them are no padding."""
        assert self.words is not None
        if context.words is None:
            raise BeholderError(
                "this Q-Former reads the question in words of its own; give them (Batch.words), or put their tokenizer "
                "beside the weights in qformer_tokenizer/"
            )
        ids_BW, keep_BW = context.words
        pairs = zip(context.pictures, context.rows, strict=True)
        rows = [row for plan, row in pairs for _ in plan.views]
        if not rows:
            rows = [0] * num_views if len(ids_BW) == 1 else list(range(len(ids_BW)))
        if len(rows) != num_views:
            raise BeholderError(
                f"{num_views} views but questions for {len(rows)}; give the plans of all pictures"
            )
        places_W = torch.arange(ids_BW.shape[1], device=ids_BW.device)
        words_BWD = self.words.place(self.words(ids_BW), places_W.expand_as(ids_BW))
        return words_BWD[rows], keep_BW.bool()[rows]
