"""Norms in fewer calls, for inference in bf16.

B rows, T positions, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from beholder.parts.blocks.norms import RmsNorm

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

    def forward(self, x: Tensor) -> Tensor:
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


def packs(norm: nn.Module) -> bool:
    """Whether a norm is one of these."""
    return type(norm) is RmsNorm and (norm.weight is None or norm.weight.ndim == 1)
