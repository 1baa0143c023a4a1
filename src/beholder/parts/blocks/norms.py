"""Normalisations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.errors import UnknownName


@dataclass(frozen=True)
class Norm(Config):
    """kind: layer (LayerNorm, 1607.06450) or rms (RMSNorm, 1910.07467). bias: of LayerNorm. learned: has weights at all.
    offset: added to the weights, which then start at zero (1 + weight of Gemma and of Nemotron's LayerNorm).
    """

    kind: str = "layer"
    eps: float = 1e-5
    bias: bool = True
    learned: bool = True
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("layer", "rms"):
            raise UnknownName("norm", self.kind, ("layer", "rms"))

    def build(self, dim: int, heads: int = 0) -> nn.Module:
        """A norm over `dim` channels; with `heads`, over those of each head with weights of its own."""
        if self.kind == "layer" and not heads and not self.offset:
            return nn.LayerNorm(dim, eps=self.eps, elementwise_affine=self.learned, bias=self.bias)
        return (LayerNorm if self.kind == "layer" else RmsNorm)(self, dim, heads)


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * (weight + offset), the mean taken in float32 (official `LlamaRMSNorm`)."""

    def __init__(self, config: Norm, dim: int, heads: int = 0) -> None:
        super().__init__()
        self.config, self.dim = config, dim
        shape = (heads, dim) if heads else (dim,)
        self.weight = nn.Parameter(torch.full(shape, 1.0 - config.offset)) if config.learned else None

    def forward(self, x: Tensor) -> Tensor:
        eps = self.config.eps
        if self.weight is None:
            return F.rms_norm(x, (self.dim,), None, eps)
        weight = self.weight + self.config.offset if self.config.offset else self.weight
        if weight.ndim == 2:
            return F.rms_norm(x, (self.dim,), None, eps) * weight
        return F.rms_norm(x, (self.dim,), weight, eps)


class LayerNorm(nn.Module):
    """LayerNorm with an offset of its weights, or over the last axis of (..., heads, K) with weights for each head."""

    def __init__(self, config: Norm, dim: int, heads: int = 0) -> None:
        super().__init__()
        self.config, self.dim = config, dim
        shape = (heads, dim) if heads else (dim,)
        self.weight = nn.Parameter(torch.full(shape, 1.0 - config.offset)) if config.learned else None
        self.bias = nn.Parameter(torch.zeros(shape)) if config.learned and config.bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x, (self.dim,), None, None, self.config.eps)
        y = y if self.weight is None else y * (self.weight + self.config.offset)
        return y if self.bias is None else y + self.bias
