"""Hyper attention: a layer's own queries also attend to pictures, beside its self-attention (mPLUG-Owl3, 2408.04840).

B rows, T positions, N feature tokens of a row, M marks, D width, H heads, K head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.attention import Attention, attend
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.step import Step
from beholder.parts.contracts import LanguageConfig, LayerParts
from beholder.parts.fusion.cross_attention import Layers, Looking, LookingFusion, MediaLayer
from beholder.parts.language.decoder import Decoder

GATES = ("token", "channels")


@dataclass(frozen=True, kw_only=True)
class HyperAttention(Looking):
    """Layers whose heads give (1 - g) self-attention + g attention to all pictures before a token; queries and the norm of
    the input are shared, keys and values of pictures are projected by weights of their own. Keys turn by the place of their
    picture in the text (MI-RoPE).

    gate: g is the sigmoid of a projection of each `token` (equation 5), or of a learned number for each of the `channels`
    (the released models).
    """

    gate: str = "token"
    layers: Layers = Layers()
    sees: str = "before"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gate not in GATES:
            raise UnknownName("HyperAttention gate", self.gate, GATES)

    def build(self, language: LanguageConfig | None) -> HyperFusion:
        if not isinstance(language, Decoder) or not isinstance(language.attention, Attention):
            raise BeholderError("HyperAttention needs a decoder whose layers attend")
        return HyperFusion(self, language.attention, language)


class HyperFusion(LookingFusion):
    """Owns what each of its layers adds to self-attention."""

    def __init__(self, config: HyperAttention, attention: Attention, language: Decoder) -> None:
        super().__init__(config, language)
        self.numbers = config.layers.of(language.num_layers)
        self.layers = nn.ModuleList(
            HyperLayer(config, attention, language.dim, number) for number in self.numbers
        )

    def layer_parts(self, language: LanguageConfig) -> LayerParts:
        return {number: {"heads": layer} for number, layer in zip(self.numbers, self.layers, strict=True)}


class HyperLayer(MediaLayer):
    """What self-attention's heads give, (B, H, T, K), mixed with attention to pictures."""

    def __init__(self, config: HyperAttention, attention: Attention, dim: int, index: int) -> None:
        super().__init__(config.branch, config.sees, index)
        self.attention, self.head_dim = attention, attention.width(dim)
        shared = attention.kv_heads * self.head_dim
        self.k, self.v = (nn.Linear(dim, shared, bias=attention.qkv_bias) for _ in range(2))
        by_token = config.gate == "token"
        self.of_token = nn.Linear(dim, 1) if by_token else None
        self.gate = None if by_token else nn.Parameter(torch.zeros(attention.num_heads * self.head_dim))

    def forward(self, heads_BHTK: Tensor, q_BHTK: Tensor, x_BTD: Tensor, step: Step) -> Tensor:
        """x_BTD: the layer's input, normed."""
        assert step.inputs is not None
        found = self.look(step.inputs, step.state, lambda tokens_BND: self._keys(tokens_BND, step))
        if found is None:
            return heads_BHTK
        keys_BJSK, values_BJSK, allowed_BTS, _ = found
        none_BT1 = ~allowed_BTS.any(-1, keepdim=True)
        mask = AttentionMask(allowed_B1TS=(allowed_BTS | none_BT1)[:, None])
        seen_BHTK = attend(q_BHTK, keys_BJSK, values_BJSK, mask, scale=self.attention.scale)
        share = self._share(x_BTD)
        mixed_BHTK = heads_BHTK * (1 - share) + seen_BHTK * share
        return torch.where(none_BT1[:, None], heads_BHTK, mixed_BHTK)

    def _share(self, x_BTD: Tensor) -> Tensor:
        """How much pictures count, (B, 1, T, 1) or (H, 1, K)."""
        if self.of_token is not None:
            return self.of_token(x_BTD).sigmoid()[:, None]
        assert self.gate is not None
        return self.gate.sigmoid().view(-1, 1, self.head_dim)

    def _keys(self, tokens_BND: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Keys, turned by the places of their pictures, and values."""
        x_BND = tokens_BND if step.norm is None else step.norm(tokens_BND)
        k_BJNK, v_BJNK = (
            each.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for each in (self.k(x_BND), self.v(x_BND))
        )
        rotary = self.attention.rotary
        if isinstance(rotary, Rotary):
            k_BJNK = rotary.rotate(k_BJNK, rotary.tables(self._places(step), self.head_dim, k_BJNK.dtype))
        return k_BJNK, v_BJNK

    def _places(self, step: Step) -> Tensor:
        """The position of each feature's placeholder, (B, N)."""
        assert step.inputs is not None and step.positions is not None
        _, sees_BMN, marks_BT = step.inputs.cross[self.branch]
        numbers_M1 = torch.arange(sees_BMN.shape[1], device=marks_BT.device)[:, None]
        first_BM = (marks_BT[:, None] >= numbers_M1).int().argmax(-1)
        return step.positions.gather(1, first_BM).gather(1, sees_BMN.int().argmax(1))
