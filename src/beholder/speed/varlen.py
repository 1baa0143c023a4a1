"""Attention of pictures of several sizes in one row, in one call: each sees itself alone, and none is padded.

B rows, H heads, N tokens of all pictures, K head width.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.parts.blocks.attention import SelfAttention
from beholder.parts.blocks.masks import AttentionMask


def attend_packed(
    q_1HNK: Tensor, k_1HNK: Tensor, v_1HNK: Tensor, mask: AttentionMask, scale: float | None
) -> Tensor | None:
    """softmax(scale q k') v within each of `mask.segments`, (1, H, N, K), by a kernel for sequences of any lengths; None for
    sequences of one length, which are a plain batch, shared keys, and gradients.
    """
    given = (q_1HNK, k_1HNK, v_1HNK)
    if len(set(mask.segments)) < 2 or q_1HNK.shape[1] != k_1HNK.shape[1]:
        return None
    if torch.is_grad_enabled() and any(x.requires_grad for x in given):
        return None
    starts = _starts(mask.segments, q_1HNK.device)
    shortest, longest = min(mask.segments), max(mask.segments)
    q, k, v = (
        torch.nested.nested_tensor_from_jagged(
            x[0].transpose(0, 1).contiguous(), starts, min_seqlen=shortest, max_seqlen=longest
        ).transpose(1, 2)
        for x in given
    )
    y = F.scaled_dot_product_attention(q, k, v, scale=scale)
    return y.transpose(1, 2).values().transpose(0, 1)[None]


@lru_cache(maxsize=32)
def _starts(segments: tuple[int, ...], device: torch.device) -> Tensor:
    """Where sequences begin, and where the last one ends; the layers of a tower share it."""
    with torch.inference_mode(False):
        return torch.tensor([0, *segments], device=device).cumsum(0)


def use_packed(module: nn.Module) -> None:
    """Let all attention in a module that has no kernel of its own try this one."""
    warnings.filterwarnings(
        "ignore", "The PyTorch API of nested tensors is in prototype stage"
    )  # the jagged layout is not
    for each in module.modules():
        if isinstance(each, SelfAttention) and each.kernel is None:
            each.kernel = attend_packed
