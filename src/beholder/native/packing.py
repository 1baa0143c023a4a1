"""Weights in the order in which the kernels read them: `abi.h` says it, panels of 32 outputs.

N outputs, K inputs, P panels, G groups of 32 inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.speed.quantise import GROUP, quantise_int4, quantise_int8

PANEL = 32
NUMBERS = {"float32": 0, "bf16": 1, "int8": 2, "int4": 3}  # of formats, as in abi.h
BYTE_ZERO = 128  # what stands for a weight of 0 in int8


@dataclass(frozen=True)
class Packed:
    """bytes_N: the weights; scales_N: of int8's outputs; number: of the format."""

    bytes: Tensor
    scales: Tensor | None
    outputs: int
    inputs: int
    number: int


def padded(count: int, unit: int = PANEL) -> int:
    """The next multiple."""
    return -(-count // unit) * unit


def pack(weight_NK: Tensor, form: str) -> Packed:
    """A matrix in a format; int8 in place of int4 where groups do not divide the inputs."""
    outputs, inputs = weight_NK.shape
    if form == "int4" and inputs % GROUP:
        form = "int8"
    scales_N = None
    if form == "int8":
        q_NK, scales_N = quantise_int8(weight_NK)
        bytes_ = _in_panels((q_NK.int() + BYTE_ZERO).to(torch.uint8), 4)
        scales_N = F.pad(scales_N.float(), (0, padded(outputs) - outputs)).contiguous()
    elif form == "int4":
        bytes_ = _int4(*quantise_int4(weight_NK))
    elif form == "bf16":
        bytes_ = _in_panels(weight_NK.to(torch.bfloat16), 2)
    else:
        bytes_ = _in_panels(weight_NK.float(), 1)
    return Packed(bytes_.reshape(-1).view(torch.uint8), scales_N, outputs, inputs, NUMBERS[form])


def side_by_side(gate_NK: Tensor, up_NK: Tensor) -> Tensor:
    """Sixteen outputs of the one, the same sixteen of the other, and so on, (2 N padded, ...)."""
    half = PANEL // 2
    pieces = (
        F.pad(each, (0, 0) * (each.ndim - 1) + (0, padded(len(each), half) - len(each))).unflatten(
            0, (-1, half)
        )
        for each in (gate_NK, up_NK)
    )
    return torch.cat(tuple(pieces), 1).flatten(0, 1)


def _in_panels(weight_NK: Tensor, unit: int) -> Tensor:
    """(P, K / unit, 32, unit)."""
    outputs, inputs = weight_NK.shape
    whole_NK = F.pad(weight_NK, (0, padded(inputs, GROUP) - inputs, 0, padded(outputs) - outputs))
    return whole_NK.view(-1, PANEL, whole_NK.shape[1] // unit, unit).permute(0, 2, 1, 3).contiguous()


def _int4(q_NK: Tensor, scales_NG: Tensor) -> Tensor:
    """(P, G, 576) bytes: 512 of half bytes, 32 scales."""
    more = padded(len(q_NK)) - len(q_NK)
    q_NK, scales_NG = (F.pad(x, (0, 0, 0, more)) for x in (q_NK, scales_NG))
    q_PNGI = q_NK.view(-1, PANEL, scales_NG.shape[1], 4, 2, 4)  # four times two fours of inputs
    low, high = q_PNGI.unbind(4)
    halves = (low | (high << 4)).permute(0, 2, 3, 1, 4).flatten(2)
    scales = scales_NG.half().view(-1, PANEL, scales_NG.shape[1]).transpose(1, 2).contiguous()
    return torch.cat((halves, scales.view(torch.uint8)), 2)
