"""Sparse gates that share a layer between text and picture: the self-resurrecting activation unit (VisualGPT, 2102.10407).

B rows, T positions, N feature tokens, L levels of features, D width, H heads, K head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.parts.blocks.attention import attend
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.step import Step
from beholder.parts.contracts import LanguageConfig, LayerParts
from beholder.parts.fusion.cross_attention import Layers, Looking, LookingFusion, MediaLayer


@dataclass(frozen=True, kw_only=True)
class Resurrecting(Looking):
    """Between self-attention and MLP of every layer, for each of the `levels` that features hold along their channels:
    attention E to them, and gates a = sigmoid(W [H; E]) of the text H and 1 - a of E, each of which counts as 0 up to
    `threshold`; the levels' sums add up, divided by the root of their number.
    """

    token_id: int | None = None
    num_heads: int = 12
    levels: int = 3
    threshold: float = 0.2
    layers: Layers = Layers()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.threshold < 0.5:
            raise BeholderError(
                f"a threshold of {self.threshold}; from 0.5 on both gates can be closed, so give less"
            )

    def tiny(self) -> Resurrecting:
        return super().tiny().but(num_heads=4)

    def build(self, language: LanguageConfig | None) -> ResurrectingFusion:
        if language is None:
            raise BeholderError("Resurrecting needs a language part whose layers it shares")
        return ResurrectingFusion(self, language)


class ResurrectingFusion(LookingFusion):
    """Owns the attention and the gates of its layers."""

    def __init__(self, config: Resurrecting, language: LanguageConfig) -> None:
        super().__init__(config, language)
        self.numbers = config.layers.of(language.num_layers)
        self.layers = nn.ModuleList(
            ResurrectingLayer(config, language.dim, number) for number in self.numbers
        )

    def layer_parts(self, language: LanguageConfig) -> LayerParts:
        return {number: {"between": layer} for number, layer in zip(self.numbers, self.layers, strict=True)}


class ResurrectingLayer(MediaLayer):
    """(B, T, D) -> (B, T, D). Text and features go through the layer's own first norm; levels share one attention."""

    def __init__(self, config: Resurrecting, dim: int, index: int) -> None:
        super().__init__(config.branch, config.sees, index)
        self.heads, self.levels, self.threshold = config.num_heads, config.levels, config.threshold
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.gates = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(config.levels))

    def forward(self, x_BTD: Tensor, step: Step) -> Tensor:
        assert step.inputs is not None
        found = self.look(step.inputs, step.state, lambda features_BNE: self._keys(features_BNE, step))
        if found is None:
            return x_BTD
        keys, values, allowed_BTN, _ = found  # heads of all levels side by side
        none_BT1 = ~allowed_BTN.any(-1, keepdim=True)
        mask = AttentionMask(allowed_B1TS=(allowed_BTN | none_BT1)[:, None])
        q_BHTK = self._split(self.q(_normed(x_BTD, step)))
        levels = zip(keys.split(self.heads, 1), values.split(self.heads, 1), self.gates, strict=True)
        total_BTD = torch.zeros_like(x_BTD)
        for k_BHNK, v_BHNK, gate in levels:
            seen_BTD = self.out(attend(q_BHTK, k_BHNK, v_BHNK, mask).transpose(1, 2).flatten(2))
            share_BTD = torch.sigmoid(gate(torch.cat((x_BTD, seen_BTD), -1)))
            total_BTD = total_BTD + self._open(share_BTD) * x_BTD + self._open(1 - share_BTD) * seen_BTD
        return torch.where(none_BT1, x_BTD, total_BTD / self.levels**0.5)

    def _open(self, share: Tensor) -> Tensor:
        """A gate, closed up to the threshold."""
        return share * (share > self.threshold)

    def _keys(self, features_BNE: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        levels = [_normed(level, step) for level in features_BNE.chunk(self.levels, -1)]
        keys, values = (torch.cat([self._split(of(level)) for level in levels], 1) for of in (self.k, self.v))
        return keys, values

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _normed(x: Tensor, step: Step) -> Tensor:
    """Through the norm of the layer that runs."""
    return x if step.norm is None else step.norm(x)
