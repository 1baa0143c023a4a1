"""The conformer layer (2005.08100): attention and a convolution over time between two half-weighted MLPs.

B rows, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.step import NO_PARTS, MixerConfig, MlpConfig, Step


@dataclass(frozen=True)
class TimeConv(Config):
    """The convolution of a conformer layer. kernel: odd number of frames. bias: of its three convolutions, or of the outer two
    alone where `inner_bias` is False. expansion: how many times wider the frames are inside.
    """

    kernel: int = 31
    act: str = "silu"
    bias: bool = False
    inner_bias: bool = True
    expansion: int = 1

    def tiny(self) -> TimeConv:
        return self.but(kernel=min(self.kernel, 7))

    def build(self, dim: int, norm: Norm) -> nn.Module:
        return TimeConvModule(self, dim, norm)


class TimeConvModule(nn.Module):
    """(B, T, D) -> (B, T, D): norm, gated map, depthwise convolution, batch norm, map."""

    def __init__(self, config: TimeConv, dim: int, norm: Norm) -> None:
        super().__init__()
        self.act = activation(config.act)
        bias, inner = config.bias, dim * config.expansion
        self.norm = norm.build(dim)
        self.up = nn.Conv1d(dim, 2 * inner, 1, bias=bias)
        self.depthwise = nn.Conv1d(
            inner,
            inner,
            config.kernel,
            padding=config.kernel // 2,
            groups=inner,
            bias=bias and config.inner_bias,
        )
        self.inner_norm = nn.BatchNorm1d(inner)
        self.down = nn.Conv1d(inner, dim, 1, bias=bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BDT = F.glu(self.up(self.norm(x_BTD).transpose(1, 2)), dim=1)
        return self.down(self.act(self.inner_norm(self.depthwise(x_BDT)))).transpose(1, 2)


@dataclass(frozen=True)
class SeparableConv(TimeConv):
    """The same without batch norm, in which frames hear only those before them; the gate has the activation `gate`, both halves
    further biases, and a map follows the depthwise convolution (Phi-4-multimodal, 2503.01743).
    """

    kernel: int = 3
    bias: bool = True
    gate: str = "silu"

    def __post_init__(self) -> None:
        if self.expansion != 1 or not (self.bias and self.inner_bias):
            raise BeholderError("a separable convolution keeps its width and has all biases")

    def build(self, dim: int, norm: Norm) -> nn.Module:
        return SeparableConvModule(self, dim, norm)


class SeparableConvModule(nn.Module):
    """(B, T, D) -> (B, T, D): norm, gated map, depthwise convolution over earlier frames, map, activation, map."""

    def __init__(self, config: SeparableConv, dim: int, norm: Norm) -> None:
        super().__init__()
        self.before = config.kernel - 1
        self.act, self.gate = activation(config.act), activation(config.gate)
        self.norm = norm.build(dim)
        self.up = nn.Conv1d(dim, 2 * dim, 1)
        self.up_bias, self.gate_bias = (nn.Parameter(torch.zeros(dim, 1)) for _ in range(2))
        self.depthwise = nn.Conv1d(dim, dim, config.kernel, groups=dim)
        self.pointwise = nn.Conv1d(dim, dim, 1)
        self.down = nn.Conv1d(dim, dim, 1)

    def forward(self, x_BTD: Tensor) -> Tensor:
        up_BDT, gate_BDT = self.up(self.norm(x_BTD).transpose(1, 2)).chunk(2, 1)
        x_BDT = (up_BDT + self.up_bias) * self.gate(gate_BDT + self.gate_bias)
        x_BDT = self.pointwise(self.depthwise(F.pad(x_BDT, (self.before, 0))))
        return self.down(self.act(x_BDT)).transpose(1, 2)


class ConformerLayer(nn.Module):
    """Half an MLP, attention, convolution, half an MLP, each with a norm before it and x added; then a norm."""

    def __init__(
        self, dim: int, mixer: MixerConfig, mlp: MlpConfig, conv: TimeConv, *, norm: Norm, index: int = 0
    ) -> None:
        super().__init__()
        self.norm1, self.mlp1 = norm.build(dim), mlp.build(dim)
        self.norm2, self.attn = norm.build(dim), mixer.build(dim, index)
        self.conv = conv.build(dim, norm)
        self.norm3, self.mlp2 = norm.build(dim), mlp.build(dim)
        self.after = norm.build(dim)

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        x_BTD = x_BTD + 0.5 * self.mlp1(self.norm1(x_BTD), step)
        x_BTD = x_BTD + self.attn(self.norm2(x_BTD), step)
        x_BTD = x_BTD + self.conv(x_BTD)
        return self.after(x_BTD + 0.5 * self.mlp2(self.norm3(x_BTD), step))
