"""What happens to rows between products, each in one pass of compiled code: norms, turned heads, activations. On processors
without a kernel of their own, for gradients, and for other types than bf16 and float32, PyTorch computes (`covers`).

B rows, T positions, D channels, H heads, K head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from beholder.native import library, openmp

ACTIVATIONS = ("silu", "gelu_tanh", "gelu", "quick_gelu", "relu", "relu2")  # numbered as in abi.h
NORMS = ("none", "rms", "layer")  # likewise
TYPES = (torch.bfloat16, torch.float32)
WIDEST_HEAD = 512  # that turns


@dataclass(frozen=True, eq=False)
class Norm:
    """kind: of `NORMS`. weight, bias: float32, of a group's channels (D,), or of each group's (groups, D), or None."""

    kind: str
    eps: float
    weight: Tensor | None = None
    bias: Tensor | None = None


NO_NORM = Norm("none", 0.0)


def covers(x: Tensor) -> bool:
    """Whether the kernels take such an input now."""
    wanted = x.requires_grad and torch.is_grad_enabled()
    on_rows = x.dtype in TYPES and x.device.type == "cpu" and x.ndim > 0 and x.shape[-1] > 0
    return on_rows and not wanted and library.quickest() is not None


def normed(x: Tensor, norm: Norm) -> Tensor:
    """(..., D), of what is covered."""
    x_MD = _rows(x)
    y_MD = torch.empty_like(x_MD, memory_format=torch.contiguous_format)
    _run(x_MD, y_MD, norm, heads=1, groups=1)
    return y_MD.view(x.shape)


def turn(
    x_MD: Tensor, heads: int, norm: Norm, groups: int, tables: tuple[Tensor, Tensor] | None, pairs: str
) -> None:
    """Heads, side by side in rows of what is covered, normed in so many groups and turned by the row's cosines and sines,
    (..., turned) of which row m has those m modulo their count; in place. Channels of the rows lie side by side.
    """
    _run(x_MD, x_MD, norm, heads=heads, groups=groups, tables=tables, pairs=pairs)


def activated(x: Tensor, activation: int, times: Tensor | None = None, *, in_place: bool = False) -> Tensor:
    """act(x), or act(x) times, which has the rows of `x`, (..., D), of what is covered. in_place: `x` may be lost."""
    x_MD = _rows(x)
    times_MD = None if times is None else _rows(times)
    if times_MD is not None and times_MD.stride(0) != x_MD.stride(0):
        x_MD, times_MD = x_MD.contiguous(), times_MD.contiguous()
    spare = in_place and x_MD.is_contiguous()
    y_MD = x_MD if spare else torch.empty_like(x_MD, memory_format=torch.contiguous_format)
    kernel = _kernel()
    call = library.Active(
        x=x_MD.data_ptr(),
        times=None if times_MD is None else times_MD.data_ptr(),
        y=y_MD.data_ptr(),
        rows=len(x_MD),
        width=x_MD.shape[1],
        x_stride=x_MD.stride(0),
        y_stride=y_MD.stride(0),
        parallel=openmp.parallel(),
        threads=torch.get_num_threads(),
        bf16=x_MD.dtype == torch.bfloat16,
        activation=activation,
    )
    kernel.kernels.activate(call, kernel.number)
    return y_MD.view(x.shape)


def _run(
    x_MD: Tensor,
    y_MD: Tensor,
    norm: Norm,
    *,
    heads: int,
    groups: int,
    tables: tuple[Tensor, Tensor] | None = None,
    pairs: str = "half",
) -> None:
    width = x_MD.shape[1] // heads
    call = library.Heads(
        x=x_MD.data_ptr(),
        y=y_MD.data_ptr(),
        weight=None if norm.weight is None else norm.weight.data_ptr(),
        bias=None if norm.bias is None else norm.bias.data_ptr(),
        rows=len(x_MD),
        x_stride=x_MD.stride(0),
        y_stride=y_MD.stride(0),
        heads=heads,
        width=width,
        groups=groups,
        apart=0 if norm.weight is None or norm.weight.ndim == 1 else norm.weight.shape[1],
        parallel=openmp.parallel(),
        threads=torch.get_num_threads(),
        bf16=x_MD.dtype == torch.bfloat16,
        norm=NORMS.index(norm.kind),
        eps=norm.eps,
    )
    if tables is not None:
        cos, sin = tables
        call.cos, call.sin, call.turned = cos.data_ptr(), sin.data_ptr(), cos.shape[-1]
        call.places, call.adjacent = cos.numel() // cos.shape[-1], pairs == "adjacent"
    kernel = _kernel()
    kernel.kernels.heads(call, kernel.number)


def _rows(x: Tensor) -> Tensor:
    """(M, D) whose channels lie side by side."""
    x_MD = x.reshape(-1, x.shape[-1])
    return x_MD if x_MD.stride(-1) == 1 else x_MD.contiguous()


def _kernel() -> library.Kernel:
    kernel = library.quickest()
    assert kernel is not None, "ask `covers` first"
    return kernel
