"""What detectors refine the levels of a pyramid with: the dynamic head (2106.08322), whose attention is over levels (one
weight for each), places (deformable convolutions, 1811.11168) and channels (dynamic ReLU, 2003.10027).

V views, h w rows and columns of a level, C channels, K places that a convolution reads (3 x 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 16  # of group norms, as in microsoft/GLIP maskrcnn_benchmark/config/defaults.py
PLACES = 9


class DeformConv(nn.Module):
    """A 3x3 convolution whose places are moved and weighted by others, then a group norm."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(dim, dim, 3, stride, padding=1)
        self.norm = nn.GroupNorm(min(GROUPS, dim), dim)

    def forward(self, x_VChw: Tensor, moves: Tensor, weights: Tensor) -> Tensor:
        """moves: (V, 2K, h', w'), rows before columns for each place; weights: (V, K, h', w'); -> (V, C, h', w')."""
        height, width = x_VChw.shape[-2:]
        rows, columns = moves.shape[-2:]
        y_hw, x_hw = torch.meshgrid(
            torch.arange(rows, device=moves.device) * self.stride,
            torch.arange(columns, device=moves.device) * self.stride,
            indexing="ij",
        )
        read = []
        for place in range(PLACES):
            down = y_hw + place // 3 - 1 + moves[:, 2 * place]
            across = x_hw + place % 3 - 1 + moves[:, 2 * place + 1]
            points = torch.stack((2 * (across + 0.5) / width - 1, 2 * (down + 0.5) / height - 1), -1)
            sampled = F.grid_sample(x_VChw, points.to(x_VChw.dtype), align_corners=False)
            read.append(sampled * weights[:, place : place + 1])
        weight_CCK = self.conv.weight.flatten(2)
        y = torch.einsum("ock,kvchw->vohw", weight_CCK, torch.stack(read))
        assert self.conv.bias is not None
        normed: Tensor = self.norm(y + self.conv.bias[:, None, None])
        return normed


class DynamicRelu(nn.Module):
    """The larger of two lines of each channel, which the mean of the map decides."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(dim, dim // 4), nn.Linear(dim // 4, 4 * dim)

    def forward(self, x_VChw: Tensor) -> Tensor:
        shares = F.hardsigmoid(self.down(F.relu(self.up(x_VChw.mean((2, 3)))))) - 0.5
        slope, start, other_slope, other_start = shares[..., None, None].chunk(4, 1)
        return torch.maximum(x_VChw * (2 * slope + 1) + start, x_VChw * 2 * other_slope + other_start)


class DynamicLayer(nn.Module):
    """Each level by itself and by its neighbours, brought to its size, weighted and averaged."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.above, self.same, self.below = DeformConv(dim, 1), DeformConv(dim, 1), DeformConv(dim, 2)
        self.offset = nn.Conv2d(dim, 3 * PLACES, 3, padding=1)
        self.weight = nn.Conv2d(dim, 1, 1)
        self.relu = DynamicRelu(dim)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The finest level (V, C, h, w) first."""
        return [self._level(levels, number) for number in range(len(levels))]

    def _level(self, levels: Sequence[Tensor], number: int) -> Tensor:
        here = levels[number]
        moves, weights = self.offset(here).split((2 * PLACES, PLACES), 1)
        weights = weights.sigmoid()
        given = [self.same(here, moves, weights)]
        if number > 0:
            given.append(self.below(levels[number - 1], moves, weights))
        if number < len(levels) - 1:
            above = levels[number + 1]
            found = self.above(above, _as_read(moves, above), _as_read(weights, above))
            given.append(F.interpolate(found, here.shape[-2:], mode="bilinear", align_corners=True))
        scaled = [x * F.hardsigmoid(F.relu(self.weight(x.mean((2, 3), keepdim=True)))) for x in given]
        refined: Tensor = self.relu(torch.stack(scaled).mean(0))
        return refined


def _as_read(x_VKhw: Tensor, level: Tensor) -> Tensor:
    """A finer level's moves or weights as the kernel of the released models reads them for a coarser level: their numbers in
    order, as if they were in its shape, and the rest not at all.
    """
    kinds, (height, width) = x_VKhw.shape[1], level.shape[-2:]
    return x_VKhw.flatten(1)[:, : kinds * height * width].view(-1, kinds, height, width)
