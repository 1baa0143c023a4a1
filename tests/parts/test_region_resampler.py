"""Queries that read their own cell of a map (LLaVA-UHD's release), against points interpolated one by one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.connectors.cross_resampler import (
    CrossResampler,
    CrossResamplerConnector,
    cells_of,
    in_cells,
)
from beholder.parts.contracts import Packed
from beholder.parts.vision.positions import GridTable

CANDIDATES = ((4, 2), (3, 2), (4, 3), (3, 3), (2, 4), (2, 3), (3, 4))  # width, height


def at(map_hwD: Tensor, y: float, x: float) -> Tensor:
    """torchvision's `bilinear_interpolate`."""
    height, width, dim = map_hwD.shape
    if y > height or x > width:
        return torch.zeros(dim)
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = map_hwD[top, left] * (1 - dx) + map_hwD[top, right] * dx
    lower = map_hwD[below, left] * (1 - dx) + map_hwD[below, right] * dx
    return upper * (1 - dy) + lower * dy


def aligned(map_hwD: Tensor, side: int) -> Tensor:
    """torchvision's `roi_align` (aligned=False, as many samples as a bin is long) of side x side boxes."""
    height, width, _ = map_hwD.shape
    ratio = math.log(width / height)
    errors = [abs(ratio - math.log(w / h)) for w, h in CANDIDATES]
    across, down = CANDIDATES[errors.index(min(errors))]
    boxes = []
    for row in range(side):
        for column in range(side):
            tall, wide = (max(n / side, 1.0) for n in (height, width))
            bins = []
            for p in range(down):
                for q in range(across):
                    many = [math.ceil(tall / down), math.ceil(wide / across)]
                    samples = [
                        at(
                            map_hwD,
                            row * height / side + p * tall / down + (i + 0.5) * tall / down / many[0],
                            column * width / side + q * wide / across + (j + 0.5) * wide / across / many[1],
                        )
                        for i in range(many[0])
                        for j in range(many[1])
                    ]
                    bins.append(torch.stack(samples).mean(0))
            boxes.append(torch.stack(bins))
    return torch.stack(boxes)


@pytest.mark.parametrize(
    ("height", "width", "side"), [(8, 8, 4), (6, 13, 4), (3, 9, 4), (14, 5, 3), (30, 7, 3)]
)
def test_cells_are_sampled_as_by_roi_align(height: int, width: int, side: int) -> None:
    map_hwD = torch.randn(height, width, 5, generator=torch.Generator().manual_seed(1))
    grid = Grid(1, height, width)
    got = in_cells(map_hwD.flatten(0, 1), grid, *cells_of(grid, side))
    assert torch.allclose(got, aligned(map_hwD, side), atol=1e-5)


def test_each_query_reads_its_cell_alone() -> None:
    """Against torch's own attention, a sequence for each query."""
    config, dim = CrossResampler(queries=16, regions=True), 256
    torch.manual_seed(2)
    layer = config.build(24, dim).eval()
    assert isinstance(layer, CrossResamplerConnector)
    for parameter in layer.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape)
    other = nn.MultiheadAttention(dim, dim // 128, batch_first=True)
    for kind in ("weight", "bias"):
        joined = torch.cat([getattr(getattr(layer.attn, part), kind) for part in "qkv"])
        getattr(other, f"in_proj_{kind}").data = joined
        getattr(other.out_proj, kind).data = getattr(layer.attn.out, kind).data
    x_ND, grid = torch.randn(30, 24), Grid(1, 5, 6)
    with torch.no_grad():
        got = layer(Packed(x_ND, (grid,))).tokens_ND
        assert layer.widen is not None
        features = layer.norm_features(layer.widen(x_ND))
        places = GridTable("bicubic").resized(layer.places, 5, 6)
        queries = layer.norm_queries(layer.queries) + layer.places
        keys, values = (aligned(map_ND.unflatten(0, (5, 6)), 4) for map_ND in (features + places, features))
        read, _ = other(queries[:, None], keys, values)
        want = layer.project(layer.norm(read[:, 0]))
    assert torch.allclose(got, want, atol=2e-4)


def test_regions_need_queries_on_a_square() -> None:
    with pytest.raises(BeholderError, match="leave places at 'resized'"):
        CrossResampler(queries=16, places="waves", regions=True)
