"""Depthwise convolutions whose backward pass is quick on processors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FEW_CELLS = 64  # of an output map, up to which the gradient of large kernels is summed tap by tap


class _Depthwise(torch.autograd.Function):
    """Gradients as oneDNN and PyTorch are quickest at them: of weights in float32, which takes a fifth of the time of bfloat16
    for 5x5 kernels; of inputs in float32 where the stride is not 1 (a twentieth); all with channels last.
    """

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
            maps = (each.to(dtype, memory_format=torch.channels_last) for each in (change_VChw, x_VChw))
            return torch.ops.aten.convolution_backward(
                *maps,
                weight.to(dtype),
                None,
                [stride] * 2,
                list(padding),
                [1, 1],
                False,
                [0, 0],
                groups,
                wanted,
            )

        back = weights = None
        if ctx.needs_input_grad[0]:
            (back, *_) = of(x_VChw.dtype if stride == 1 else torch.float32, [True, False, False])
        if ctx.needs_input_grad[1]:
            few = change_VChw.shape[2:].numel() <= FEW_CELLS and weight[0].numel() > 9
            weights = (
                _tap_by_tap(change_VChw, x_VChw, weight.shape[2:], stride, padding)
                if few
                else of(torch.float32, [False, True, False])[1]
            )
        biases = change_VChw.sum((0, 2, 3)) if ctx.biased and ctx.needs_input_grad[2] else None
        return (
            None if back is None else back.to(x_VChw.dtype),
            None if weights is None else weights.to(weight.dtype),
            biases,
            None,
            None,
        )


def _tap_by_tap(
    change_VChw: Tensor, x_VChw: Tensor, kernel: torch.Size, stride: int, padding: tuple[int, int]
) -> Tensor:
    """The gradient of weights (C, 1, *kernel) in float32: each tap's inputs times the changes of the outputs, summed."""
    height, width = change_VChw.shape[2:]
    change_VhwC = change_VChw.float().permute(0, 2, 3, 1).contiguous()
    x_VHWC = x_VChw.float().permute(0, 2, 3, 1).contiguous()
    x_VHWC = F.pad(x_VHWC, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    taps = [
        (change_VhwC * x_VHWC[:, i : i + stride * height : stride, j : j + stride * width : stride]).sum(
            (0, 1, 2)
        )
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return torch.stack(taps, 1).unflatten(1, (1, *kernel))


def depthwise(
    x_VChw: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]
) -> Tensor:
    """`F.conv2d` with as many groups as channels, in autocast's precision where that is on."""
    if torch.is_autocast_enabled(x_VChw.device.type):
        dtype = torch.get_autocast_dtype(x_VChw.device.type)
        x_VChw, weight = x_VChw.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    return _Depthwise.apply(x_VChw, weight, bias, stride, padding)
