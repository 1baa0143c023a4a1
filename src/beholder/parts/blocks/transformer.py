"""The pre-norm transformer layer that encoders and decoders share.

B rows, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from beholder.parts.blocks.attention import Attention, AttentionMask, SelfAttention, attend, prepend
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.contracts import LanguageInputs
from beholder.parts.language.state import State


@dataclass(frozen=True)
class Step:
    """What one forward shares among its layers: the mask, rotary tables, and for a language model its inputs and state."""

    mask: AttentionMask
    rotary: tuple[Tensor, Tensor] | None = None
    inputs: LanguageInputs | None = None
    state: State | None = None


NO_PARTS: Mapping[str, nn.Module] = {}


class TransformerLayer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). `parts` are a fusion's modules for this layer, by slot."""

    def __init__(
        self, dim: int, attention: Attention, mlp: FeedForward, norm: Norm, *, index: int = 0
    ) -> None:
        super().__init__()
        self.index = index
        self.norm1 = norm.build(dim)
        self.attn = SelfAttention(attention, dim)
        self.norm2 = norm.build(dim)
        self.mlp = mlp.build(dim)

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        if "before" in parts:
            x_BTD = parts["before"](x_BTD, step.inputs, step.state)
        x_BTD = x_BTD + self._attention(self.norm1(x_BTD), step, parts)
        y_BTD = self.norm2(x_BTD)
        x_BTD = x_BTD + (parts["mlp"](y_BTD, self.mlp, step.inputs) if "mlp" in parts else self.mlp(y_BTD))
        return parts["after"](x_BTD, step.inputs, step.state) if "after" in parts else x_BTD

    def _attention(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module]) -> Tensor:
        attn, mask = self.attn, step.mask
        q, k, v = parts["qkv"](x_BTD, attn.project, step.inputs) if "qkv" in parts else attn.project(x_BTD)
        q, k, v = attn.split(q), attn.split(k), attn.split(v)
        if step.rotary is not None and attn.config.rotary is not None:
            q, k = (attn.config.rotary.rotate(heads, step.rotary) for heads in (q, k))
        if step.state is not None:
            k, v = step.state.self_attention(self.index).append(k, v, step.state.lengths)
        if "prefix" in parts:
            k, v, mask = prepend(k, v, parts["prefix"](step.inputs), mask, q.shape[2])
        return attn.merge(attend(q, k, v, mask))
