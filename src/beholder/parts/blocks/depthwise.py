"""Depthwise convolutions whose backward pass is quick on processors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class _Depthwise(torch.autograd.Function):
    """oneDNN's gradient of 5x5 depthwise weights takes five times longer in bfloat16 than in float32."""

    @staticmethod
    def forward(
        ctx: Any, x_VChw: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(x_VChw, weight)
        ctx.settings, ctx.biased = (stride, padding), bias is not None
        return F.conv2d(x_VChw, weight, bias, stride, padding, groups=weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (change_VChw,) = gradients
        x_VChw, weight = ctx.saved_tensors
        (stride, padding), groups = ctx.settings, weight.shape[0]

        def of(dtype: torch.dtype, wanted: list[bool]) -> tuple[Tensor | None, ...]:
            tensors = (tensor.to(dtype) for tensor in (change_VChw, x_VChw, weight))
            return torch.ops.aten.convolution_backward(
                *tensors, None, [stride] * 2, list(padding), [1, 1], False, [0, 0], groups, wanted
            )

        back = of(x_VChw.dtype, [True, False, False])[0] if ctx.needs_input_grad[0] else None
        weights = of(torch.float32, [False, True, False])[1] if ctx.needs_input_grad[1] else None
        biases = change_VChw.sum((0, 2, 3)) if ctx.biased and ctx.needs_input_grad[2] else None
        return back, None if weights is None else weights.to(weight.dtype), biases, None, None


def depthwise(
    x_VChw: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]
) -> Tensor:
    """`F.conv2d` with as many groups as channels, in autocast's precision where that is on."""
    if torch.is_autocast_enabled(x_VChw.device.type):
        dtype = torch.get_autocast_dtype(x_VChw.device.type)
        x_VChw, weight = x_VChw.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    return _Depthwise.apply(x_VChw, weight, bias, stride, padding)
