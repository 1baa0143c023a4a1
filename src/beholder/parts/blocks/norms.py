"""Normalisations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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
        if _trains(x, weight):
            given: Tensor = _TrainedRms.apply(x, weight, eps)
            return given
        return F.rms_norm(x, (self.dim,), weight, eps)


def _trains(x: Tensor, weight: Tensor) -> bool:
    """Whether gradients are wanted on a processor, in one type of 4 bytes or more."""
    own = x.device.type == "cpu" and x.dtype == weight.dtype and x.dtype in (torch.float32, torch.float64)
    return own and torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)


class _TrainedRms(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight (D,). PyTorch puts it together from small steps on a processor, each of which keeps
    what it made, and takes four times as long for both passes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        rate = length.square_().mul_(1 / x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, rate)
        return (x * rate).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, rate = ctx.saved_tensors
        unit, weighted = x * rate, given * weight
        shared = (weighted * unit).sum(-1, keepdim=True).mul_(-1 / x.shape[-1])
        own = (given * unit).reshape(-1, x.shape[-1]).sum(0)
        return weighted.addcmul_(unit, shared).mul_(rate), own, None


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
