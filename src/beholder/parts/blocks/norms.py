"""Normalisations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.config import Config
from beholder.errors import UnknownName


@dataclass(frozen=True)
class Norm(Config):
    """kind: layer (LayerNorm, 1607.06450) or rms (RMSNorm, 1910.07467)."""

    kind: str = "layer"
    eps: float = 1e-5

    def build(self, dim: int) -> nn.Module:
        if self.kind == "layer":
            return nn.LayerNorm(dim, eps=self.eps)
        if self.kind == "rms":
            return RmsNorm(dim, eps=self.eps)
        raise UnknownName("norm", self.kind, ("layer", "rms"))


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, the mean taken in float32 (official `LlamaRMSNorm`)."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, self.weight.shape, self.weight, self.eps)
