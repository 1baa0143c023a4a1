"""Weights in 8 and 4 bits, and back.

N outputs, K inputs, G groups of neighbouring inputs.

8 bits: one scale per output, w = q scale. 4 bits: w = (q - 8) scale with q from 0 to 15 and a scale for each group of 32
inputs, 4.5 bits a weight. These scales are float16 with no more than eight significant bits, so that bfloat16 holds the same
numbers and every kernel computes with the same weights.

On weights that were never in 4 bits (MiniLM) the error is 8.4 % of their size; a zero beside each scale would make it 7.4 %
for half a bit more. It would also follow the grid of a file in Q4_1 so closely that small changes learned since (adapters
merged into such weights, as in `mini`) are rounded away to nothing: in a trial none of 32 answers of `mini` stayed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from beholder.errors import BeholderError

GROUP = 32
MIDDLE = 8  # what stands for a weight of 0 in 4 bits
LARGEST = (
    8.0,
    8.75,
    7.25,
)  # steps from 0 to where the largest weight of a group is put before the scale is fitted
ROWS_AT_ONCE = 1024


def quantise_int8(weight_NK: Tensor) -> tuple[Tensor, Tensor]:
    """q_NK int8 from -127 to 127 and scales_N float32; a row of zeros has the scale 1."""
    weight_NK = weight_NK.detach().float()
    largest_N = weight_NK.abs().amax(1)
    scales_N = torch.where(largest_N > 0, largest_N / 127, 1.0)
    return (weight_NK / scales_N[:, None]).round_().to(torch.int8), scales_N


def dequantise_int8(q_NK: Tensor, scales_N: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weight (N, K) that is computed with."""
    return (q_NK.float() * scales_N[:, None]).to(dtype)


def quantise_int4(weight_NK: Tensor, group: int = GROUP) -> tuple[Tensor, Tensor]:
    """q_NK uint8 from 0 to 15, one a byte, and scales_NG float16: w = (q - 8) scale. Scales may be negative, so that the
    largest weight of a group, of either sign, has the step more that lies on one side.

    Of several scales, each fitted by least squares, the one with the smallest squared error is taken in each group. Raises
    `BeholderError` where groups do not divide the inputs or a value is too large for float16.
    """
    if weight_NK.shape[1] % group:
        raise BeholderError(
            f"{weight_NK.shape[1]} inputs are no whole groups of {group}; keep this weight in int8 or bf16"
        )
    pieces = [_int4(rows.detach().float(), group) for rows in weight_NK.split(ROWS_AT_ONCE)]
    q_NK, scales_NG = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    if not bool(scales_NG.isfinite().all()):
        raise BeholderError("a weight is too large for int4 with float16 scales; keep it in int8 or bf16")
    return q_NK, scales_NG


def dequantise_int4(q_NK: Tensor, scales_NG: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weight (N, K) that is computed with."""
    q_NGI = q_NK.view(*scales_NG.shape, -1).float() - MIDDLE
    return (q_NGI * scales_NG.float()[..., None]).flatten(1).to(dtype)


def _int4(weight_NK: Tensor, group: int) -> tuple[Tensor, Tensor]:
    w_NGI = weight_NK.view(len(weight_NK), -1, group)
    low_NG1, high_NG1 = w_NGI.amin(2, keepdim=True), w_NGI.amax(2, keepdim=True)
    extreme_NG1 = torch.where(high_NG1 > -low_NG1, high_NG1, low_NG1)
    least_NG1 = torch.full_like(low_NG1, torch.inf)
    kept = [torch.full_like(like, torch.nan) for like in (w_NGI, low_NG1)]
    for steps in LARGEST:
        q_NGI = _steps(w_NGI, extreme_NG1 / -steps)
        fitted_NG1 = (q_NGI * w_NGI).sum(2, keepdim=True) / q_NGI.square().sum(2, keepdim=True).clamp(min=1)
        scale_NG1 = _eight_bits(fitted_NG1)
        q_NGI = _steps(w_NGI, scale_NG1)
        error_NG1 = (w_NGI - q_NGI * scale_NG1).square().sum(2, keepdim=True)
        better_NG1 = error_NG1 < least_NG1
        least_NG1 = torch.minimum(error_NG1, least_NG1)
        kept = [torch.where(better_NG1, new, old) for new, old in zip((q_NGI, scale_NG1), kept, strict=True)]
    q_NGI, scales_NG1 = kept
    return (q_NGI.flatten(1) + MIDDLE).to(torch.uint8), scales_NG1.squeeze(2).half()


def _steps(w_NGI: Tensor, scale_NG1: Tensor) -> Tensor:
    inverse_NG1 = torch.where(scale_NG1 != 0, 1 / scale_NG1, 0.0)
    return (w_NGI * inverse_NG1).round_().clamp_(-MIDDLE, MIDDLE - 1)


def _eight_bits(values: Tensor) -> Tensor:
    """Numbers that float16 and bfloat16 both hold."""
    return values.bfloat16().half().bfloat16().float()
