"""Attention inside square windows of a map, and what may be added to its scores.

V views, h w rows and columns of a map, W windows of all views, T tokens of a window, C channels, H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.vision.stages import first_dim, last_dim


def pad_to(x_VhwC: Tensor, window: int) -> Tensor:
    """Zeros added behind, so that windows divide the map."""
    height, width = x_VhwC.shape[1:3]
    return F.pad(x_VhwC, (0, 0, 0, -width % window, 0, -height % window))


def partition(x_VhwC: Tensor, window: int) -> Tensor:
    """A map, padded where needed, cut into windows (W, window, window, C)."""
    views, height, width, channels = (x_VhwC := pad_to(x_VhwC, window)).shape
    grid = x_VhwC.reshape(views, height // window, window, width // window, window, channels)
    return grid.transpose(2, 3).reshape(-1, window, window, channels)


def merge(x_WwwC: Tensor, size: Sequence[int]) -> Tensor:
    """Windows put together again to maps of `size` (height, width), without the padding."""
    (height, width), window = size, x_WwwC.shape[1]
    rows, columns = -(-height // window), -(-width // window)
    grid = x_WwwC.reshape(-1, rows, columns, *x_WwwC.shape[1:]).transpose(2, 3)
    return grid.reshape(-1, rows * window, columns * window, x_WwwC.shape[-1])[:, :height, :width]


class Heads(nn.Module):
    """Queries, keys and values of `num_heads` heads, (W, T, C) -> (W, H, T, K) each, and the map that joins them."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        out: int | None = None,
        bias: bool = True,
        key_bias: bool | None = None,
    ) -> None:
        super().__init__()
        out = out or dim
        if out % num_heads:
            raise BeholderError(f"width {out} does not divide into {num_heads} heads")
        self.num_heads = num_heads
        self.q = nn.Linear(dim, out, bias=bias)
        self.k = nn.Linear(dim, out, bias=bias if key_bias is None else key_bias)
        self.v = nn.Linear(dim, out, bias=bias)
        self.out = nn.Linear(out, out)

    def split(self, x_WTC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values."""
        q, k, v = (part(x_WTC).unflatten(-1, (self.num_heads, -1)) for part in (self.q, self.k, self.v))
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def join(self, x_WHTK: Tensor) -> Tensor:
        """(W, H, T, K) -> (W, T, C)."""
        return self.out(x_WHTK.transpose(1, 2).flatten(2))


class MapLayer(nn.Module):
    """What mixes the cells of a map (V, h, w, C), then an MLP, each added to its input; norms before them or `after`. scale:
    where learned scales of both start, None for none.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        mlp: FeedForward,
        norm: Norm,
        *,
        after: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.after = after
        self.norm1, self.norm2 = norm.build(dim), norm.build(dim)
        self.mixer, self.mlp = mixer, mlp.build(dim)
        scales = [nn.Parameter(torch.full((dim,), scale)) if scale is not None else None for _ in range(2)]
        self.scale1, self.scale2 = scales

    def forward(self, x_VhwC: Tensor) -> Tensor:
        for norm, branch, scale in (
            (self.norm1, self.mixer, self.scale1),
            (self.norm2, self.mlp, self.scale2),
        ):
            y = norm(branch(x_VhwC)) if self.after else branch(norm(x_VhwC))
            x_VhwC = x_VhwC + (y if scale is None else scale * y)
        return x_VhwC


class Embed(nn.Module):
    """A strided convolution of a map, padded first until `unit` divides its sides, with a norm over channels before or
    after it.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        padding: int = 0,
        *,
        norm: Norm = Norm(),
        before: bool = False,
        unit: int = 1,
    ) -> None:
        super().__init__()
        self.before, self.unit = before, unit
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        self.norm = norm.build(inputs if before else outputs)

    def forward(self, x_VhwC: Tensor) -> Tensor:
        x_VhwC = pad_to(x_VhwC, self.unit)
        if self.before:
            return last_dim(self.conv(first_dim(self.norm(x_VhwC))))
        return self.norm(last_dim(self.conv(first_dim(x_VhwC))))
