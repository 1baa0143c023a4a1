"""Weights in the order in which the kernels read them: `abi.h` says it, panels of 32 outputs.

N outputs, K inputs, P panels, G groups of 32 inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.speed.quantise import GROUP, dequantise_int4, quantise_int4, quantise_int8

PANEL = 32
NUMBERS = {"float32": 0, "bf16": 1, "int8": 2, "int4": 3}  # of formats, as in abi.h
NAMES = {number: name for name, number in NUMBERS.items()}
UNITS = {
    "float32": (torch.float32, 1),
    "bf16": (torch.bfloat16, 2),
    "int8": (torch.uint8, 4),
}  # inputs that lie together
BYTE_ZERO = 128  # what stands for a weight of 0 in int8
HALVES = PANEL * GROUP // 2  # bytes of a group of int4 in a panel, and of its scales
SCALES = 2 * PANEL
ROWS_AT_ONCE = 32 * PANEL


@dataclass(frozen=True)
class Packed:
    """bytes: the weights; scales_N: of int8's outputs; number: of the format."""

    bytes: Tensor
    scales: Tensor | None
    outputs: int
    inputs: int
    number: int


def padded(count: int, unit: int = PANEL) -> int:
    """The next multiple."""
    return -(-count // unit) * unit


def fitting(form: str, inputs: int) -> str:
    """The format, or int8 in place of int4 where groups do not divide the inputs."""
    return "int8" if form == "int4" and inputs % GROUP else form


def num_bytes(outputs: int, inputs: int, form: str) -> int:
    """That `pack` needs for the weights."""
    form, inputs = fitting(form, inputs), padded(inputs, GROUP)
    if form == "int4":
        return padded(outputs) // PANEL * (inputs // GROUP) * (HALVES + SCALES)
    return padded(outputs) * inputs * UNITS[form][0].itemsize


def pack(weight_NK: Tensor, form: str, room: Tensor | None = None) -> Packed:
    """A matrix in a format; int8 in place of int4 where groups do not divide the inputs. room: `num_bytes` for it."""
    outputs, inputs = weight_NK.shape
    form = fitting(form, inputs)
    if room is None:
        room = torch.empty(num_bytes(outputs, inputs, form), dtype=torch.uint8)
    scales_N = torch.zeros(padded(outputs)) if form == "int8" else None
    for start in range(0, outputs, ROWS_AT_ONCE):
        rows_NK = weight_NK[start : start + ROWS_AT_ONCE]
        if form == "int8":
            q_NK, some_N = quantise_int8(rows_NK)
            assert scales_N is not None
            scales_N[start : start + len(rows_NK)] = some_N
            piece = _in_panels((q_NK.int() + BYTE_ZERO).to(torch.uint8), 4)
        elif form == "int4":
            piece = _int4(*quantise_int4(rows_NK))
        else:
            dtype, unit = UNITS[form]
            piece = _in_panels(rows_NK.to(dtype), unit)
        begin = num_bytes(start, inputs, form)
        room[begin : begin + piece.nbytes] = piece.reshape(-1).view(torch.uint8)
    return Packed(room, scales_N, outputs, inputs, NUMBERS[form])


def unpacked(packed: Packed) -> Tensor:
    """The weight (N, K) that is computed with, in float32."""
    form, groups = NAMES[packed.number], padded(packed.inputs, GROUP) // GROUP
    if form == "int4":
        room_PGX = packed.bytes.view(-1, groups, HALVES + SCALES)
        halves = room_PGX[..., :HALVES].reshape(-1, groups, 4, PANEL, 4)
        q_NK = torch.stack((halves & 15, halves >> 4), 4).permute(0, 3, 1, 2, 4, 5).flatten(2).flatten(0, 1)
        scales_PGN = room_PGX[..., HALVES:].contiguous().view(torch.float16)
        weight_NK = dequantise_int4(q_NK, scales_PGN.transpose(1, 2).reshape(-1, groups))
    else:
        dtype, unit = UNITS[form]
        panels = packed.bytes.view(dtype).view(-1, groups * GROUP // unit, PANEL, unit)
        weight_NK = panels.permute(0, 2, 1, 3).flatten(2).flatten(0, 1).float()
        if packed.scales is not None:
            weight_NK = (weight_NK - BYTE_ZERO) * packed.scales[:, None]
    return weight_NK[: packed.outputs, : packed.inputs]


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


def apart(weight_NK: Tensor, half: int) -> Tensor:
    """`side_by_side` undone, (2 half, ...): the one, then the other."""
    pieces = weight_NK.unflatten(0, (-1, 2, PANEL // 2)).unbind(1)
    return torch.cat([each.flatten(0, 1)[:half] for each in pieces])


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
