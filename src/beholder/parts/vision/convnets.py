"""What convolutional nets are made of: convolutions with frozen batch norm, with standardised weights, and channel gates.

V views, h w rows and columns of a map, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.parts.blocks.depthwise import depthwise
from beholder.parts.blocks.positions import learned


@dataclass(frozen=True)
class BatchNorm(Config):
    """eps of a batch norm with frozen statistics (1502.03167). counted: checkpoints also hold how many training batches
    made the statistics, which is kept for export.
    """

    eps: float = 1e-5
    counted: bool = True


class ConvNorm(nn.Module):
    """A convolution and its batch norm with frozen statistics, run as one convolution. padding: see `padded_conv`."""

    mean: Tensor
    var: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        *,
        norm: BatchNorm = BatchNorm(),
        padding: str = "even",
    ) -> None:
        super().__init__()
        self.stride, self.groups, self.norm, self.padding = stride, groups, norm, padding
        fan_out = outputs * kernel**2  # He initialisation (1502.01852)
        self.weight = learned(outputs, inputs // groups, kernel, kernel, std=math.sqrt(2 / fan_out))
        self.scale = nn.Parameter(torch.ones(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("var", torch.ones(outputs))
        if norm.counted:
            self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x_VChw: Tensor) -> Tensor:
        scale = self.scale * torch.rsqrt(self.var + self.norm.eps)
        shift = self.bias - self.mean * scale
        weight = self.weight * scale[:, None, None, None]
        return padded_conv(x_VChw, weight, shift, self.stride, self.groups, padding=self.padding)


class StandardConv(nn.Module):
    """A convolution whose weights are standardised for each output, w = gain (w - mean) / sqrt(max(var fan_in, 1e-4))
    (2102.06171 section 3 and DeepMind's `WSConv2D`), padded as TensorFlow's `SAME`.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.stride, self.groups = stride, groups
        fan_in = inputs // groups * kernel**2
        self.weight = learned(outputs, inputs // groups, kernel, kernel, std=fan_in**-0.5)
        self.gain = nn.Parameter(torch.ones(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x_VChw: Tensor) -> Tensor:
        flat = self.weight.flatten(1)
        var, mean = torch.var_mean(flat, 1, correction=0, keepdim=True)
        scale = self.gain[:, None] * torch.rsqrt((var * flat.shape[1]).clamp(min=1e-4))
        weight = ((flat - mean) * scale).view_as(self.weight)
        return padded_conv(x_VChw, weight, self.bias, self.stride, self.groups, padding="same")


class ChannelGate(nn.Module):
    """Squeeze and excitation (1709.01507): channels scaled by `gate` of an MLP of their means."""

    def __init__(
        self,
        channels: int,
        hidden: int,
        act: Callable[[Tensor], Tensor],
        gate: Callable[[Tensor], Tensor] = torch.sigmoid,
    ) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.act, self.gate = act, gate

    def forward(self, x_VChw: Tensor) -> Tensor:
        gates_VC = self.gate(self.up(self.act(self.down(x_VChw.mean((2, 3))))))
        return x_VChw * gates_VC[:, :, None, None]


def padded_conv(
    x_VChw: Tensor, weight: Tensor, bias: Tensor | None, stride: int, groups: int = 1, *, padding: str
) -> Tensor:
    """A convolution by an odd kernel. padding: `even`, as much in front as behind; `same`, as TensorFlow's `SAME`; `behind`,
    one less in front, which loses the last place of an odd length.
    """
    kernel = weight.shape[-1]
    sides = [(kernel // 2 - (padding == "behind"), kernel // 2)] * 2
    if padding == "same":
        sides = [same_padding(length, kernel, stride) for length in x_VChw.shape[-2:]]
    rows, columns = sides
    if rows[0] != rows[1] or columns[0] != columns[1]:
        x_VChw, rows, columns = F.pad(x_VChw, (*columns, *rows)), (0, 0), (0, 0)
    if groups == len(weight) > 1 and weight.requires_grad and x_VChw.device.type == "cpu":
        return depthwise(x_VChw, weight, bias, stride, (rows[0], columns[0]))
    return F.conv2d(x_VChw, weight, bias, stride, (rows[0], columns[0]), groups=groups)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after so that the output has ceil(size / stride) elements."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
