"""Stages of a ResNet in front of patches, compared with the formulas of the release written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.vision import sizes
from beholder.parts.vision.conv_stem import ConvStem, ConvStemModel, StemPatches
from beholder.parts.vision.patches import Patches

STEM = ConvStem().tiny()


def shaken(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module.eval()


def same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """TensorFlow's padding, one side at a time."""
    for dim in (2, 3):
        length = x.shape[dim]
        total = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
        front = x.new_full([total // 2 if d == dim else n for d, n in enumerate(x.shape)], value)
        behind = x.new_full([total - total // 2 if d == dim else n for d, n in enumerate(x.shape)], value)
        x = torch.cat((front, x, behind), dim)
    return x


def standardised(weight: Tensor) -> Tensor:
    rows = weight.detach().numpy().astype(np.float64)
    out = [(row - row.mean()) / (np.sqrt(((row - row.mean()) ** 2).mean()) + 1e-5) for row in rows]
    return torch.tensor(np.stack(out), dtype=torch.float32)


def normed(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    grouped = x.unflatten(1, (norm.num_groups, -1))
    mean = grouped.mean((2, 3, 4), keepdim=True)
    var = ((grouped - mean) ** 2).mean((2, 3, 4), keepdim=True)
    flat = ((grouped - mean) / torch.sqrt(var + 1e-6)).flatten(1, 2)
    return flat * norm.weight[:, None, None] + norm.bias[:, None, None]


def conv(part: nn.Module, x: Tensor, kernel: int, stride: int) -> Tensor:
    return normed(F.conv2d(same(x, kernel, stride), standardised(part.weight), stride=stride), part.norm)


def reference(model: ConvStemModel, x: Tensor) -> Tensor:
    x = conv(model.root, x, 7, 2).clamp(min=0)
    x = F.max_pool2d(same(x, 3, 2, float("-inf")), 3, 2)
    for unit, stride in zip(model.units, (1, 2, 1), strict=True):
        y = conv(unit.layers[0], x, 1, 1).clamp(min=0)
        y = conv(unit.layers[1], y, 3, stride).clamp(min=0)
        y = conv(unit.layers[2], y, 1, 1)
        x = (y + (conv(unit.shortcut, x, 1, stride) if unit.shortcut is not None else x)).clamp(min=0)
    return x


@pytest.mark.parametrize("size", [(16, 16), (24, 40)])
@torch.no_grad()
def test_the_stem_equals_the_release(size: tuple[int, int]) -> None:
    model, pixels = shaken(STEM.build()), torch.randn(2, 3, *size)
    assert [unit.shortcut is not None for unit in model.units] == [True, True, False]
    ours = model(pixels)
    assert ours.shape == (2, STEM.dim, size[0] // STEM.stride, size[1] // STEM.stride)
    assert torch.allclose(ours, reference(model, pixels), atol=2e-4)


@torch.no_grad()
def test_patches_are_cells_of_the_stem_and_rests_are_left_out() -> None:
    patches = Patches(stem=STEM).build(12, 16)
    assert isinstance(patches, StemPatches)
    shaken(patches)
    pixels = torch.randn(1, 3, 35, 50)
    cells = patches.stem(pixels[..., :32, :48])
    want = F.conv2d(cells, patches.weight, patches.bias, stride=2)
    assert torch.allclose(patches(pixels), want, atol=1e-5) and want.shape == (1, 12, 2, 3)
    with pytest.raises(BeholderError, match="cells of 8 pixels make no patches of 12"):
        Patches(stem=STEM).build(12, 12)


def test_the_published_hybrid_has_its_published_count() -> None:
    """98,950,952 parameters at 384 pixels with 1000 labels: vit_base_r50_s16_384 in timm's results."""
    hybrid = sizes.VIT_R50_B_16.but(image_size=384)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in hybrid.build().parameters())
    assert count + 769 * 1000 == 98_950_952
    assert hybrid.grid((384, 384)) == Grid(1, 24, 24) and ConvStem().stride == 16 and ConvStem().dim == 1024
