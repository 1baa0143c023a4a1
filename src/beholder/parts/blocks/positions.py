"""Positions: learned tables, and rotary embeddings that act inside attention (RoFormer, 2104.09864)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.config import Config
from beholder.errors import UnknownName


@dataclass(frozen=True)
class Llama3Scaling(Config):
    """Llama 3.1's frequency scaling (official `_compute_llama3_parameters`): long wavelengths are divided by `factor`,
    short ones kept, those between are blended.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_length: int

    def scale(self, frequencies_F: Tensor) -> Tensor:
        wavelengths_F = 2 * math.pi / frequencies_F
        blend_F = (self.original_length / wavelengths_F - self.low_freq_factor) / (
            self.high_freq_factor - self.low_freq_factor
        )
        blend_F = blend_F.clamp(0, 1)
        return (1 - blend_F) * frequencies_F / self.factor + blend_F * frequencies_F


@dataclass(frozen=True)
class LinearScaling(Config):
    """Positions divided by `factor` (position interpolation, 2306.15595)."""

    factor: float

    def scale(self, frequencies_F: Tensor) -> Tensor:
        return frequencies_F / self.factor


@dataclass(frozen=True)
class Rotary(Config):
    """theta: base of the wavelengths. pairs: `half` rotates channel i with i + K/2 (GPT-NeoX order), `adjacent` 2i with
    2i + 1 (the paper's order).
    """

    theta: float = 10000.0
    pairs: str = "half"
    scaling: Llama3Scaling | LinearScaling | None = None

    def __post_init__(self) -> None:
        if self.pairs not in ("half", "adjacent"):
            raise UnknownName("rotary pairs", self.pairs, ("half", "adjacent"))

    def frequencies(self, head_dim: int, device: torch.device | None = None) -> Tensor:
        """(K / 2,) radians per position, float32."""
        exponents_F = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
        frequencies_F = 1.0 / self.theta**exponents_F
        return self.scaling.scale(frequencies_F) if self.scaling else frequencies_F

    def tables(self, positions_BT: Tensor, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines (B, 1, T, K), computed in float32, for `rotate`."""
        frequencies_F = self.frequencies(head_dim, positions_BT.device)
        angles_BTF = positions_BT.float()[..., None] * frequencies_F
        joined = (
            torch.cat((angles_BTF, angles_BTF), -1)
            if self.pairs == "half"
            else angles_BTF.repeat_interleave(2, -1)
        )
        return joined.cos().to(dtype)[:, None], joined.sin().to(dtype)[:, None]

    def rotate(self, x_BHTK: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """The heads turned by the angles in `tables`."""
        cos, sin = tables
        if self.pairs == "half":
            first, second = x_BHTK.chunk(2, -1)
            turned = torch.cat((-second, first), -1)
        else:
            turned = torch.stack((-x_BHTK[..., 1::2], x_BHTK[..., ::2]), -1).flatten(-2)
        return x_BHTK * cos + turned * sin


def learned(*shape: int, std: float = 0.02) -> nn.Parameter:
    """A learned tensor, drawn with a standard deviation; 0.02 is what vision transformers start their tables from."""
    return nn.Parameter(torch.empty(*shape).normal_(std=std))
