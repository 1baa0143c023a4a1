"""Norms for inference in bf16: compiled ones, and in fewer calls where PyTorch computes. And queries and keys, normed and
turned, which they share the compiled pass with.

B rows, T positions, D channels, H query heads, J key heads, K head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.native import library, rows
from beholder.parts.blocks.attention import SelfAttention
from beholder.parts.blocks.norms import LayerNorm, RmsNorm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.rotary2d import AxialRotary
from beholder.parts.blocks.step import Step

FEW_VALUES = 1 << 14  # up to which the number of calls counts and not what they read


class PackedRmsNorm(nn.Module):
    """`RmsNorm` with shared weights or none. torch takes ten calls for it on a processor."""

    def __init__(self, norm: RmsNorm) -> None:
        super().__init__()
        self.config, self.dim = norm.config, norm.dim
        self.weight = None if norm.weight is None else norm.weight.detach().bfloat16() + norm.config.offset
        self._twice_D = None if self.weight is None else self.weight.repeat(2)
        weight_D = torch.ones(norm.dim) if self.weight is None else self.weight.float()
        self._scaled_D = weight_D * norm.dim**0.5
        self._compiled = rows.Norm("rms", norm.config.eps, None if self.weight is None else weight_D)

    def forward(self, x: Tensor) -> Tensor:
        if rows.covers(x):
            return rows.normed(x, self._compiled)
        if x.numel() <= FEW_VALUES and x.dtype == torch.bfloat16:
            both = torch.cat((x, -x), -1)  # their mean is 0 and their variance the mean of squares
            return torch.layer_norm(both, (2 * self.dim,), self._twice_D, None, self.config.eps)[
                ..., : self.dim
            ]
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        if length.requires_grad:
            inverse = (length.square() + self.dim * self.config.eps).rsqrt()
            return (x * inverse * self._scaled_D).to(x.dtype)
        inverse = length.square_().add_(self.dim * self.config.eps).rsqrt_()
        return (x * inverse).mul_(self._scaled_D).to(x.dtype)


class PackedLayerNorm(nn.Module):
    """`nn.LayerNorm` over one axis, whose weights are those of bf16."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.eps, self.normalized_shape = norm.eps, norm.normalized_shape
        self.weight, self.bias = (
            None if given is None else given.detach().bfloat16() for given in (norm.weight, norm.bias)
        )
        wide = (None if given is None else given.float() for given in (self.weight, self.bias))
        self._compiled = rows.Norm("layer", norm.eps, *wide)

    def forward(self, x: Tensor) -> Tensor:
        if rows.covers(x):
            return rows.normed(x, self._compiled)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


def packed_norm(norm: nn.Module) -> nn.Module | None:
    """The norm for inference in bf16 in another's place; None where that stays."""
    if type(norm) is RmsNorm and (norm.weight is None or norm.weight.ndim == 1):
        return PackedRmsNorm(norm)
    if type(norm) is nn.LayerNorm and len(norm.normalized_shape) == 1 and library.quickest() is not None:
        return PackedLayerNorm(norm)
    return None


class Turner:
    """What happens to queries and keys of an attention layer before they meet, in one compiled pass and in place. Use `of`."""

    def __init__(self, attention: SelfAttention, norms: tuple[rows.Norm, rows.Norm]) -> None:
        config = attention.config
        self.heads, self.width, self.norms = (config.num_heads, config.kv_heads), attention.head_dim, norms
        self.whole = config.qk_norm_over == "all"
        self.rotary = config.rotary
        self.pairs = "half" if config.rotary is None else config.rotary.pairs

    @classmethod
    def of(cls, attention: SelfAttention, dtype: torch.dtype) -> Turner | None:
        """None where nothing happens or something that is not compiled. dtype: of the norms' weights."""
        config, kind = attention.config, type(attention)
        rotary = config.rotary
        norms = tuple(_norm_of(norm, dtype) for norm in (attention.q_norm, attention.k_norm))
        if (
            library.quickest() is None
            or kind._prepare is not SelfAttention._prepare
            or (rotary is None and config.qk_norm is None)
            or None in norms
            or config.clip is not None
            or (config.qk_norm is not None and config.qk_norm_late)
            or (rotary is not None and not _turns_simply(rotary))
            or (rotary is not None and attention.head_dim > rows.WIDEST_HEAD)
        ):
            return None
        return cls(attention, norms)  # type: ignore[arg-type]

    def __call__(self, qkv_BTD: Tensor, step: Step) -> bool:
        """Whether it was done to the queries and keys, the first and the next of all channels."""
        tables = None if self.rotary is None else step.tables(self.rotary, self.width)
        if not rows.covers(qkv_BTD) or not (tables is None or _fit(tables, qkv_BTD)):
            return False
        x_MD, start = qkv_BTD.view(-1, qkv_BTD.shape[-1]), 0
        plain = all(norm is rows.NO_NORM for norm in self.norms)
        parts = ((sum(self.heads), rows.NO_NORM),) if plain else zip(self.heads, self.norms, strict=True)
        for heads, norm in parts:
            part = x_MD[:, start : start + heads * self.width]
            rows.turn(part, heads, norm, 1 if plain or self.whole else heads, tables, self.pairs)
            start += heads * self.width
        return True


def _norm_of(norm: nn.Module | None, dtype: torch.dtype) -> rows.Norm | None:
    """For the kernels; None where they lack something."""
    if norm is None:
        return rows.NO_NORM
    if isinstance(norm, PackedRmsNorm | PackedLayerNorm):
        return norm._compiled
    if isinstance(norm, RmsNorm | LayerNorm):
        offset = norm.config.offset
        weight = None if norm.weight is None else (norm.weight.detach().to(dtype) + offset).float()
        return rows.Norm(norm.config.kind, norm.config.eps, weight, _wide(getattr(norm, "bias", None), dtype))
    if type(norm) is nn.LayerNorm:
        return rows.Norm("layer", norm.eps, _wide(norm.weight, dtype), _wide(norm.bias, dtype))
    return None


def _wide(given: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if given is None else given.detach().to(dtype).float().contiguous()


def _turns_simply(rotary: Rotary | AxialRotary) -> bool:
    """Whether queries and keys turn alike, by tables of their places."""
    kind = type(rotary)
    known = kind.rotate in (Rotary.rotate, AxialRotary.rotate)
    return known and kind.of_keys in (Rotary.of_keys, AxialRotary.of_keys)


def _fit(tables: tuple[Tensor, Tensor], qkv_BTD: Tensor) -> bool:
    """Whether each token has its row of the tables, or each column one for all rows."""
    rows_B, columns = qkv_BTD.shape[:2]
    cos, sin = tables
    places = cos.numel() // cos.shape[-1]
    same = all(each.dtype == qkv_BTD.dtype and each.is_contiguous() for each in tables)
    return (
        same and cos.shape == sin.shape and places in (columns, rows_B * columns) and qkv_BTD.is_contiguous()
    )
