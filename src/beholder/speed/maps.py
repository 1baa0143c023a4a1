"""Which packed map a matrix becomes.

N outputs, K inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from beholder.native import library
from beholder.native.packing import pack
from beholder.native.products import NativeLinear
from beholder.speed.linears import (
    INT4_OUTPUTS,
    INT8_INPUTS,
    Int4Linear,
    Int8Linear,
    OneDnnLinear,
    PackedLinear,
    PlainLinear,
    has_onednn,
)
from beholder.speed.quantise import GROUP

FEWER_BITS = ("int8", "int4")


def packed_linear(weight_NK: Tensor, bias_N: Tensor | None, kind: str) -> PackedLinear:
    """The map in a precision, or in the next wider one where its shape does not fit. Int8 and int4 are compiled where there are
    kernels for this processor; int4 needs inputs in groups of 32. PyTorch's take int8 inputs in sixteens, int4 outputs in
    sixteens as well.
    """
    outputs, inputs = weight_NK.shape
    kernel = library.quickest() if kind in FEWER_BITS else None
    if kernel is not None:
        wide_N = None if bias_N is None else bias_N.detach().float()
        return NativeLinear(pack(weight_NK.detach(), kind), wide_N, kernel, wide=True)
    if kind == "int4" and inputs % GROUP == 0 and outputs % INT4_OUTPUTS == 0:
        return Int4Linear(weight_NK, bias_N)
    if kind in FEWER_BITS and inputs % INT8_INPUTS == 0:
        return Int8Linear(weight_NK, bias_N)
    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    return (OneDnnLinear if has_onednn(dtype) else PlainLinear)(weight_NK, bias_N, dtype)
