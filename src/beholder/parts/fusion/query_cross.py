"""QLLaMA (InternVL, 2312.14238; OpenGVLab/InternVL: modeling_qllama.py): learned queries in a language model's sequence read
their picture between self-attention and MLP; words see it through them alone.

B rows, T positions, N feature tokens, D width, E width of the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from beholder.errors import BeholderError
from beholder.parts.blocks.cross_attention import CrossAttention, FeatureAttention
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.step import Step
from beholder.parts.contracts import (
    BranchOutput,
    Fusion,
    FusionConfig,
    LanguageConfig,
    LanguageInputs,
    LayerParts,
)
from beholder.parts.fusion.experts import PICTURE


@dataclass(frozen=True)
class QueryCross(FusionConfig):
    """Stands behind the fusion that puts queries among the words and marks their places. every: layers 0, `every`, 2 `every`
    and so on read the pictures. attention: `memory_dim` is the encoder's width. norm: of queries and of features.
    """

    reads_encoded: ClassVar[bool] = True
    attention: CrossAttention = CrossAttention(num_heads=32, memory_dim=3200)
    norm: Norm = Norm("rms", 1e-6)
    every: int = 2
    branch: str = "image"

    def build(self, language: LanguageConfig | None) -> Fusion:
        if language is None:
            raise BeholderError("QueryCross needs a language part whose layers read pictures")
        return QueryCrossFusion(self, language)


class QueryCrossFusion(Fusion):
    """Owns the attention of those layers that read pictures."""

    def __init__(self, config: QueryCross, language: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.numbers = range(0, language.num_layers, config.every)
        self.layers = nn.ModuleList(QueryCrossLayer(config, language.dim, number) for number in self.numbers)

    def layer_parts(self, language: LanguageConfig) -> LayerParts:
        return {number: {"between": layer} for number, layer in zip(self.numbers, self.layers, strict=True)}

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        """`cross`: mark m > 0 stands for the m-th picture of a row, whose queries have it; words have mark 0."""
        branch = branches.get(self.config.branch)
        if branch is None or draft.routes_BT is None:
            return draft
        views = iter(branch.encoded[0].split())
        rows = [[torch.cat([next(views) for _ in plan.views]) for plan in row] for row in branch.plans]
        width = branch.encoded[0].tokens_ND.shape[-1]
        empty = branch.encoded[0].tokens_ND.new_zeros(0, width)
        tokens_BNE = pad_sequence([torch.cat((*row, empty)) for row in rows], batch_first=True)
        count = 1 + max(map(len, rows))
        sees_BMN = torch.zeros(
            len(rows), count, tokens_BNE.shape[1], dtype=torch.bool, device=tokens_BNE.device
        )
        marks_BT = torch.zeros_like(draft.ids_BT)
        for number, (plans, features) in enumerate(zip(branch.plans, rows, strict=True)):
            places = (
                (draft.routes_BT[number] == PICTURE).nonzero().flatten().split([p.num_tokens for p in plans])
            )
            start = 0
            for mark, (own, place) in enumerate(zip(features, places, strict=True), 1):
                sees_BMN[number, mark, start : start + len(own)] = True
                marks_BT[number, place] = mark
                start += len(own)
        return replace(draft, cross={**draft.cross, self.config.branch: (tokens_BNE, sees_BMN, marks_BT)})


class QueryCrossLayer(nn.Module):
    """x + attention(norm(x), norm(features)) at queries, x at words."""

    def __init__(self, config: QueryCross, dim: int, index: int) -> None:
        super().__init__()
        memory_dim = config.attention.memory_dim or dim
        self.branch = config.branch
        self.norm_queries, self.norm_features = config.norm.build(dim), config.norm.build(memory_dim)
        self.attn: FeatureAttention = config.attention.build(dim, index)

    def forward(self, x_BTD: Tensor, step: Step) -> Tensor:
        cross = None if step.inputs is None else step.inputs.cross.get(self.branch)
        if cross is None:
            return x_BTD
        tokens_BNE, sees_BMN, marks_BT = cross
        allowed_BTN = sees_BMN.gather(1, marks_BT[..., None].expand(-1, -1, sees_BMN.shape[-1]))
        word_BT1 = (marks_BT == 0)[..., None]
        mask = AttentionMask(allowed_B1TS=(allowed_BTN | word_BT1)[:, None])  # words' results are not used
        keys, values = self.attn.keys(self.norm_features(tokens_BNE), step)
        queries = self.attn.queries(self.norm_queries(x_BTD), step)
        read_BTD = self.attn.merge(self.attn.attend(queries, keys, values, mask))
        return torch.where(word_BT1, x_BTD, x_BTD + read_BTD)
