"""Partial LoRA (InternLM-XComposer2, 2401.16420): low-rank changes of a language model's matrices that act on tokens of
pictures alone.

B rows, T positions, N tokens of one kind, D width, R rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.blocks.attention import SelfAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.contracts import (
    BranchOutput,
    Fusion,
    FusionConfig,
    LanguageConfig,
    LanguageInputs,
    LayerParts,
)
from beholder.parts.fusion.experts import routed
from beholder.parts.language.decoder import Decoder


@dataclass(frozen=True)
class PartialLora(FusionConfig):
    """Stands behind the fusion that puts features among the words and marks their places. rank, alpha: a change is
    alpha / rank times the product of its two matrices; the official ones have rank 256 and alpha 256.
    """

    rank: int = 256
    alpha: float = 256.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise BeholderError(f"partial LoRA of rank {self.rank}; it must be at least 1")

    @property
    def in_segments(self) -> bool:
        return True

    def tiny(self) -> PartialLora:
        return self.but(rank=4, alpha=4.0)

    def build(self, language: LanguageConfig | None) -> Fusion:
        if not isinstance(language, Decoder):
            raise BeholderError("PartialLora needs a decoder whose matrices it can change")
        return PartialLoraFusion(self, language)


class PartialLoraFusion(Fusion):
    """Owns the changes, by layer and slot."""

    def __init__(self, config: PartialLora, language: Decoder) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(
            nn.ModuleDict(self._slots(language, number)) for number in range(language.num_layers)
        )

    def _slots(self, language: Decoder, number: int) -> dict[str, nn.Module]:
        kind, config, dim = language.layers[number], self.config, language.dim
        with torch.device("meta"):
            attention = None if kind.mixer is None else kind.mixer.build(dim, number)
        if not isinstance(attention, SelfAttention) or not isinstance(kind.mlp, FeedForward):
            raise BeholderError(
                f"layer {number} is not made of attention and an MLP; partial LoRA changes those"
            )
        widths = tuple(part.out_features for part in (attention.q, attention.k, attention.v))
        inner = kind.mlp.hidden
        maps = {"up": (dim, inner), "down": (inner, dim)} | ({"gate": (dim, inner)} if kind.mlp.gated else {})
        return {
            "qkv": ChangedProjections(LowRank(config, dim, sum(widths)), widths),
            "out": Changed(LowRank(config, attention.out.in_features, dim)),
            "mlp": ChangedMlp({name: LowRank(config, *sides) for name, sides in maps.items()}),
        }

    def layer_parts(self, language: LanguageConfig) -> LayerParts:
        return {number: dict(slots.items()) for number, slots in enumerate(self.layers)}  # type: ignore[operator]

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        return draft


class LowRank(nn.Module):
    """(N, inputs) -> (N, outputs), 0 at first."""

    def __init__(self, config: PartialLora, inputs: int, outputs: int) -> None:
        super().__init__()
        self.scaling = config.alpha / config.rank
        self.a = nn.Parameter(torch.empty(config.rank, inputs))
        self.b = nn.Parameter(torch.zeros(outputs, config.rank))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)

    def forward(self, x_ND: Tensor) -> Tensor:
        return F.linear(F.linear(x_ND, self.a), self.b) * self.scaling

    def change(self) -> Tensor:
        """What it adds to the matrix, (outputs, inputs)."""
        return self.scaling * (self.b @ self.a)


class Changed(nn.Module):
    """A projection with a change at pictures' tokens."""

    def __init__(self, low: LowRank) -> None:
        super().__init__()
        self.low = low

    def forward(self, x_BTD: Tensor, base: Callable[[Tensor], Tensor], inputs: LanguageInputs) -> Tensor:
        return routed(x_BTD, inputs, lambda x_ND: base(x_ND) + self.low(x_ND), base)


class ChangedProjections(Changed):
    """Queries, keys and values with one change over all three, as their matrices are one officially."""

    def __init__(self, low: LowRank, widths: tuple[int, ...]) -> None:
        super().__init__(low)
        self.widths = widths

    def forward(  # type: ignore[override]
        self,
        x_BTD: Tensor,
        base: Callable[[Tensor], tuple[Tensor, ...]],
        inputs: LanguageInputs,
    ) -> tuple[Tensor, ...]:
        if inputs.routes_BT is None:
            return base(x_BTD)
        return super().forward(x_BTD, lambda x: torch.cat(base(x), -1), inputs).split(self.widths, -1)


class ChangedMlp(nn.Module):
    """An MLP with a change of each of its matrices at pictures' tokens."""

    def __init__(self, low: Mapping[str, LowRank]) -> None:
        super().__init__()
        self.low = nn.ModuleDict(low)

    def forward(self, x_BTD: Tensor, base: Callable[..., Tensor], inputs: LanguageInputs) -> Tensor:
        return routed(x_BTD, inputs, lambda x_ND: base(x_ND, plus=self.low), base)
