"""Attention of whole sequences in compiled code: prompts, and pictures in encoders, in bf16 on processors with AVX-512.

B rows, H query heads, J key heads, T queries, S keys, K head width.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.native import library, openmp
from beholder.parts.blocks.masks import AttentionMask

FEWEST = 32  # queries and keys; fewer are as quick in PyTorch
MOST_KEYS = 2**16


def usable() -> bool:
    """Whether the library is there and this processor has a kernel."""
    try:
        kernels = library.kernels()
    except BeholderError:
        return False
    return (
        kernels.whole_scratch(
            library.Whole(batch=1, heads=1, kv_heads=1, queries=1, keys=1, width=1, threads=1)
        )
        > 0
    )


def attend_whole(
    q_BHTK: Tensor, k_BJSK: Tensor, v_BJSK: Tensor, mask: AttentionMask, scale: float | None
) -> Tensor | None:
    """softmax(scale q k') v, (B, H, T, K) of the queries' type; None for what the kernel does not cover: other types, few
    tokens, masks other than causal ones, gradients, values of another width, scales that turn scores round.
    """
    rows, heads, queries, width = q_BHTK.shape
    keys = k_BJSK.shape[2]
    given = (q_BHTK, k_BJSK, v_BJSK)
    covered = (
        all(x.dtype == torch.bfloat16 and x.device.type == "cpu" and x.stride(-1) == 1 for x in given)
        and not (mask.dense or mask.segments)
        and (scale is None or scale > 0)
        and min(queries, keys) >= FEWEST
        and keys <= MOST_KEYS
        and v_BJSK.shape[-1] == width
        and (queries <= keys or not mask.causal)
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in given))
    )
    if not covered:
        return None
    y_BHTK = q_BHTK.new_empty(rows, queries, heads, width).transpose(1, 2)
    call = library.Whole(
        batch=rows,
        heads=heads,
        kv_heads=k_BJSK.shape[1],
        queries=queries,
        keys=keys,
        width=width,
        window=keys if mask.window is None else mask.window,
        threads=torch.get_num_threads(),
        causal=mask.causal,
        scale=width**-0.5 if scale is None else scale,
        parallel=openmp.parallel(),
    )
    for name, x in zip("qkvy", (*given, y_BHTK), strict=True):
        setattr(call, name, x.data_ptr())
        setattr(call, f"{name}_strides", (ctypes.c_int64 * 3)(*x.stride()[:3]))
    kernels = library.kernels()
    scratch = torch.empty(kernels.whole_scratch(call) + 64, dtype=torch.uint8)
    call.scratch = scratch.data_ptr() + -scratch.data_ptr() % 64
    kernels.attend_whole(call)
    return y_BHTK
