"""Depthwise convolutions and their gradients are those of plain ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from beholder.parts.blocks.depthwise import depthwise


@pytest.mark.parametrize(
    ("kernel", "stride", "side"), [(3, 1, 9), (5, 1, 7), (5, 2, 9), (5, 1, 13), (5, 2, 20)]
)
def test_values_and_gradients_are_those_of_a_plain_convolution(kernel: int, stride: int, side: int) -> None:
    padding = (kernel // 2, kernel // 2)
    given = []
    for own in (True, False):
        torch.manual_seed(0)
        x, weight, bias = torch.randn(2, 6, side, side), torch.randn(6, 1, kernel, kernel), torch.randn(6)
        leaves = [each.requires_grad_() for each in (x, weight, bias)]
        y = depthwise(*leaves, stride, padding) if own else F.conv2d(*leaves, stride, padding, groups=6)
        given.append((y, *torch.autograd.grad(y.square().sum(), leaves)))
    for mine, plain in zip(*given, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-6, atol=1e-6 * float(plain.abs().max()))


def test_autocast_computes_in_its_precision() -> None:
    x, weight = torch.randn(1, 4, 7, 7), torch.randn(4, 1, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = depthwise(x, weight, None, 1, (2, 2))
    (change,) = torch.autograd.grad(y.float().square().sum(), [weight])
    plain = F.conv2d(x, weight, None, 1, 2, groups=4)
    (wanted,) = torch.autograd.grad(plain.square().sum(), [weight])
    assert y.dtype == torch.bfloat16 and change.dtype == torch.float32
    assert float((change - wanted).norm() / wanted.norm()) < 0.02
