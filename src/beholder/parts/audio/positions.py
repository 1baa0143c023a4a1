"""Where tokens of sound stand: a table, sine waves, or a convolution over their neighbours.

V views, T tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.positions import learned, sinusoids


class TokenPositions(Config):
    """Settings of what is added to the tokens. fixed: there is a largest number of tokens."""

    fixed: ClassVar[bool] = False

    def build(self, count: int, dim: int) -> nn.Module:
        """The module (V, T, D) -> what is added. count: tokens that the encoder was made for."""
        raise NotImplementedError


@dataclass(frozen=True)
class SignalTable(TokenPositions):
    """A vector for each token; shorter views take the first rows."""

    fixed: ClassVar[bool] = True

    def build(self, count: int, dim: int) -> nn.Module:
        return SignalRows(count, dim)


class SignalRows(nn.Module):
    """(V, T, D) -> (T, D)."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.weight = learned(count, dim)

    def forward(self, x_VTD: Tensor) -> Tensor:
        return self.weight[: x_VTD.shape[1]]


@dataclass(frozen=True)
class SinePositions(TokenPositions):
    """Sine waves; the first token has position `first`."""

    first: int = 0

    def build(self, count: int, dim: int) -> nn.Module:
        return SineRows(self)


class SineRows(nn.Module):
    """(V, T, D) -> (T, D)."""

    def __init__(self, config: SinePositions) -> None:
        super().__init__()
        self.config = config

    def forward(self, x_VTD: Tensor) -> Tensor:
        return sinusoids(*x_VTD.shape[1:], first=self.config.first).to(x_VTD)


@dataclass(frozen=True)
class ConvPositions(TokenPositions):
    """A grouped convolution over `kernel` neighbours, its weights normed per place in the kernel (wav2vec 2.0,
    2006.11477; weight normalisation, 1602.07868). idle: kept for export and not used, as in conformers with positions of
    their own.
    """

    kernel: int = 128
    groups: int = 16
    act: str = "gelu"
    idle: bool = False

    def tiny(self) -> ConvPositions:
        return self.but(kernel=16, groups=4)

    def build(self, count: int, dim: int) -> nn.Module:
        return PositionConv(self, dim)


class PositionConv(nn.Module):
    """(V, T, D) -> (V, T, D)."""

    def __init__(self, config: ConvPositions, dim: int) -> None:
        super().__init__()
        self.config, self.act = config, activation(config.act)
        self.weight = learned(dim, dim // config.groups, config.kernel)
        self.scale = nn.Parameter(torch.ones(1, 1, config.kernel))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x_VTD: Tensor) -> Tensor:
        kernel = self.config.kernel
        weight = self.weight * (self.scale / self.weight.norm(dim=(0, 1), keepdim=True))
        y_VDT = F.conv1d(
            x_VTD.transpose(1, 2), weight, self.bias, padding=kernel // 2, groups=self.config.groups
        )
        return self.act(y_VDT[..., : x_VTD.shape[1]]).transpose(1, 2)
