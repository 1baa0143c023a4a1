"""Attention whose values are normed or are its keys, and whose keys and values later layers read again in place of their own
(Gemma 3n and Gemma 4; sharing as in YOCO, 2405.05254, and 2405.12981).

B rows, T queries, S keys, D width, H query heads, J key heads, K head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.parts.blocks.attention import Attention, SelfAttention
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.step import NO_PARTS, Step


@dataclass(frozen=True)
class SharedKeysAttention(Attention):
    """v_norm: of each head's values. keys_as_values: values are the keys as they are projected. lends: the name under which
    later layers of the same forward find this one's keys and values; borrows: the name of those that this layer reads, having
    none of its own, as they stand in the last layer before it that lends under that name.
    """

    v_norm: Norm | None = None
    keys_as_values: bool = False
    lends: str | None = None
    borrows: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.borrows and (self.lends or self.keys_as_values):
            raise BeholderError(
                f"a layer that borrows the keys {self.borrows!r} has none to lend or to use as values; drop one of them"
            )

    def build(self, dim: int, index: int = 0) -> SelfAttention:
        return SharedKeysSelfAttention(self, dim, index)


class SharedKeysSelfAttention(SelfAttention):
    """(B, T, D) -> (B, T, D)."""

    def __init__(self, config: SharedKeysAttention, dim: int, index: int) -> None:
        super().__init__(config, dim, index)
        self.sharing = config
        owns = config.borrows is None
        self.v_norm = config.v_norm.build(self.head_dim) if config.v_norm is not None and owns else None
        if not owns:
            del self.k
            self.k_norm = None
        if not owns or config.keys_as_values:
            del self.v

    def heads(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        name = self.sharing.borrows
        if name is None:
            return super().heads(x_BTD, step, parts)
        taken = {"qkv", "prefix", "heads"} & parts.keys()
        if taken:
            raise BeholderError(
                f"layer {self.index} borrows its keys and values, so a fusion cannot fill its slot {min(taken)!r}; choose "
                "layers that have their own"
            )
        if name not in step.shared.keys:
            raise BeholderError(
                f"layer {self.index} borrows the keys {name!r}, which no layer before it lends"
            )
        q_BHTK = self._prepare(self.q(x_BTD), self.q_norm, step)
        keys, values, mask = step.shared.keys[name]
        return self.attend(q_BHTK, keys, values, mask)

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.sharing.keys_as_values:
            q, k = self.q(x_BTD), self.k(x_BTD)
            v = k
        else:
            q, k, v = super().project(x_BTD)
        if self.v_norm is not None:
            v = self.v_norm(v.unflatten(-1, (-1, self.head_dim))).flatten(-2)
        return q, k, v

    def _kept(self, k_BJTK: Tensor, v_BJTK: Tensor, step: Step) -> tuple[Tensor, Tensor, AttentionMask]:
        kept = super()._kept(k_BJTK, v_BJTK, step)
        if self.sharing.lends is not None:
            step.shared.keys[self.sharing.lends] = kept
        return kept
