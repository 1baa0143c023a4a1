"""Convolutional blocks of VQ-GAN (2012.09841), with norms that codes modulate (MoVQ, 2209.09002) and causal convolutions
over time (Emu3, 2409.18869).

V views, C channels, D width of a code vector.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.step import Step


class GridNorm(nn.GroupNorm):
    """GroupNorm in 32 groups; with `code_dim`, scaled and shifted at each place by maps of the code there."""

    def __init__(self, channels: int, code_dim: int | None = None) -> None:
        super().__init__(32, channels, eps=1e-6)
        self.scale = nn.Conv2d(code_dim, channels, 1) if code_dim else None
        self.shift = nn.Conv2d(code_dim, channels, 1) if code_dim else None

    def forward(self, x_VCHW: Tensor, codes_VDhw: Tensor | None = None) -> Tensor:
        y_VCHW = super().forward(x_VCHW)
        if self.scale is None or self.shift is None:
            return y_VCHW
        assert codes_VDhw is not None
        codes_VDHW = F.interpolate(codes_VDhw, size=x_VCHW.shape[-2:], mode="nearest")
        return y_VCHW * self.scale(codes_VDHW) + self.shift(codes_VDHW)


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), x through a 1x1 convolution where the width changes."""

    def __init__(self, inputs: int, outputs: int, code_dim: int | None = None) -> None:
        super().__init__()
        self.norm1 = GridNorm(inputs, code_dim)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = GridNorm(outputs, code_dim)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x_VCHW: Tensor, codes_VDhw: Tensor | None = None) -> Tensor:
        y_VCHW = self.conv1(F.silu(self.norm1(x_VCHW, codes_VDhw)))
        y_VCHW = self.conv2(F.silu(self.norm2(y_VCHW, codes_VDhw)))
        return y_VCHW + (x_VCHW if self.shortcut is None else self.shortcut(x_VCHW))


class GridAttention(nn.Module):
    """x + attention(norm(x)) over all places of a grid."""

    def __init__(self, channels: int, heads: int, code_dim: int | None = None) -> None:
        super().__init__()
        self.norm = GridNorm(channels, code_dim)
        self.attn = Attention(heads, qkv_bias=True, out_bias=True).build(channels)

    def forward(self, x_VCHW: Tensor, codes_VDhw: Tensor | None = None) -> Tensor:
        tokens_VTC = self.norm(x_VCHW, codes_VDhw).flatten(2).transpose(1, 2)
        y_VTC = self.attn(tokens_VTC, Step(dtype=x_VCHW.dtype))
        return x_VCHW + y_VTC.transpose(1, 2).unflatten(2, x_VCHW.shape[-2:])


class Halve(nn.Conv2d):
    """Half the height and width; the padding goes below and to the right."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2)

    def forward(self, x_VCHW: Tensor) -> Tensor:
        return super().forward(F.pad(x_VCHW, (0, 1, 0, 1)))


class Double(nn.Conv2d):
    """Twice the height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x_VCHW: Tensor) -> Tensor:
        return super().forward(F.interpolate(x_VCHW, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where there is any, then a change of resolution."""

    def __init__(
        self, widths: list[int], resample: nn.Module | None, heads: int | None, code_dim: int | None = None
    ) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.blocks = nn.ModuleList(ResidualBlock(*pair, code_dim) for pair in pairs)
        self.attentions = nn.ModuleList(GridAttention(width, heads, code_dim) for _, width in pairs if heads)
        self.resample = resample

    def forward(self, x_VCHW: Tensor, codes_VDhw: Tensor | None = None) -> Tensor:
        for number, block in enumerate(self.blocks):
            x_VCHW = block(x_VCHW, codes_VDhw)
            if self.attentions:
                x_VCHW = self.attentions[number](x_VCHW, codes_VDhw)
        return x_VCHW if self.resample is None else self.resample(x_VCHW)


class Middle(nn.Module):
    """Block, attention, block at the lowest resolution."""

    def __init__(self, channels: int, heads: int | None, code_dim: int | None = None) -> None:
        super().__init__()
        self.block1 = ResidualBlock(channels, channels, code_dim)
        self.attention = GridAttention(channels, heads, code_dim) if heads else None
        self.block2 = ResidualBlock(channels, channels, code_dim)

    def forward(self, x_VCHW: Tensor, codes_VDhw: Tensor | None = None) -> Tensor:
        x_VCHW = self.block1(x_VCHW, codes_VDhw)
        if self.attention is not None:
            x_VCHW = self.attention(x_VCHW, codes_VDhw)
        return self.block2(x_VCHW, codes_VDhw)


class CausalConv(nn.Conv3d):
    """A convolution over (frames, height, width) that sees two frames back and keeps height and width."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int], stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=(stride, 1, 1))

    def forward(self, x_VCTHW: Tensor) -> Tensor:
        rows, columns = (size // 2 for size in self.kernel_size[1:])
        return super().forward(F.pad(x_VCTHW, (columns, columns, rows, rows, 2, 0)))


class TimeBlock(nn.Module):
    """A residual block over time, with batch norms whose statistics come from the file."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm3d(channels)
        self.conv1 = CausalConv(channels, channels, (3, 3, 3))
        self.norm2 = nn.BatchNorm3d(channels)
        self.conv2 = CausalConv(channels, channels, (3, 3, 3))

    def forward(self, x_VCTHW: Tensor) -> Tensor:
        y_VCTHW = self.conv1(F.silu(self.norm1(x_VCTHW)))
        return x_VCTHW + self.conv2(F.silu(self.norm2(y_VCTHW)))


class TimeStack(nn.Module):
    """Halves (kernel 4) or doubles the frames `halvings` times, with residual blocks at the lower rate."""

    def __init__(self, channels: int, halvings: int, blocks: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        kernel, stride = ((3, 3, 3), 1) if up else ((4, 3, 3), 2)
        self.convs = nn.ModuleList(CausalConv(channels, channels, kernel, stride) for _ in range(halvings))
        self.blocks = nn.ModuleList(TimeBlock(channels) for _ in range(blocks))

    def forward(self, x_VCTHW: Tensor) -> Tensor:
        if self.up:
            for block in self.blocks:
                x_VCTHW = block(x_VCTHW)
        for conv in self.convs:
            x_VCTHW = F.silu(conv(torch.repeat_interleave(x_VCTHW, 2, 2) if self.up else x_VCTHW))
        if not self.up:
            for block in self.blocks:
                x_VCTHW = block(x_VCTHW)
        return x_VCTHW
