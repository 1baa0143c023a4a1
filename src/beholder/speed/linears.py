"""Linear maps whose weight lies as the processor's kernels want it. They hold no parameters: they compute and do not train, but
gradients go through them, by the weight that is computed with, to adapters in front of them.

M rows, K inputs, N outputs, G groups of inputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.native import rows
from beholder.parts.blocks.activations import activation
from beholder.speed.quantise import (
    GROUP,
    MIDDLE,
    dequantise_int4,
    dequantise_int8,
    quantise_int4,
    quantise_int8,
)

# Rows from which it is faster to make bf16 of the weight first (measured: 2 cores with AVX-512 bf16).
MANY_ROWS_INT8 = 24
MANY_ROWS_INT4 = 192
INT8_INPUTS = 16  # torch's int8 kernel reads so many at a time, past the end of rows that are no multiple
INT4_OUTPUTS, INT4_PANEL = 16, 64  # outputs of which it takes multiples; those that its layout has together
ONEDNN_ACTIVATIONS = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "relu": ("relu", "")}
ACTIVATED = {*ONEDNN_ACTIVATIONS, *rows.ACTIVATIONS}  # that `Activated` knows


class PackedLinear(nn.Module):
    """(..., K) -> (..., N) in the type of the input, computed in `dtype`. `weight` is made anew at each reading."""

    kind = ""

    def __init__(self, shape: torch.Size, bias_N: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.out_features, self.in_features = shape
        self.dtype = dtype
        self.bias = None if bias_N is None else bias_N.detach().to(dtype)

    @property
    def weight(self) -> Tensor:
        """(N, K), that is computed with."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Of weight and bias."""
        held = (value for value in vars(self).values() if isinstance(value, Tensor))
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            through: Tensor = _Through.apply(x, self)
            return through
        if x.dtype == self.dtype:
            return self.product(x)
        return self.product(x.to(self.dtype)).to(x.dtype)

    def product(self, x: Tensor) -> Tensor:
        """Of an input in `dtype`."""
        raise NotImplementedError

    def activated(self, x: Tensor, name: str) -> Tensor | None:
        """act(y) for the activation's name in one call, without gradients; None where the map knows no such call."""
        return None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedLinear:
        raise BeholderError(
            "a packed model stays on the processor and in its precision; load it again with other ones"
        )


class _Through(torch.autograd.Function):
    """A packed map with its gradient, that of x W' for the W that is computed with; W is made for the moment."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: PackedLinear) -> Tensor:
        ctx.packed = packed
        return packed(x.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        packed: PackedLinear = ctx.packed
        return (gradient.to(packed.dtype) @ packed.weight.to(packed.dtype)).to(gradient.dtype), None


class PlainLinear(PackedLinear):
    """For processors without a kernel for the packed form."""

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__(weight_NK.shape, bias_N, dtype)
        self.kind = "float32" if dtype == torch.float32 else "bf16"
        self._weight_NK = weight_NK.detach().to(dtype).contiguous()

    @property
    def weight(self) -> Tensor:
        return self._weight_NK

    def product(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight_NK, self.bias)


class OneDnnLinear(PackedLinear):
    """float32 or bf16 in oneDNN's blocked layout."""

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__(weight_NK.shape, bias_N, dtype)
        self.kind = "float32" if dtype == torch.float32 else "bf16"
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight_NK.detach().to(dtype).contiguous())
        self._product = torch.ops.mkldnn._linear_pointwise.default

    @property
    def weight(self) -> Tensor:
        dense_NK: Tensor = self._packed.to_dense()
        return dense_NK

    def activated(self, x: Tensor, name: str) -> Tensor | None:
        known = ONEDNN_ACTIVATIONS.get(name)
        return None if known is None else self.product(x.to(self.dtype), *known).to(x.dtype)

    def product(self, x: Tensor, act: str = "none", algorithm: str = "") -> Tensor:
        """act, algorithm: what acts on the sums before they are rounded to the output's type."""
        if not x.numel():
            return x.new_zeros(*x.shape[:-1], self.out_features)
        given: Tensor = self._product(x, self._packed, self.bias, act, [], algorithm)
        return given


class Int8Linear(PackedLinear):
    """8 bits and a scale for each output."""

    kind = "int8"

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None) -> None:
        super().__init__(weight_NK.shape, bias_N, torch.bfloat16)
        self.q_NK, scales_N = quantise_int8(weight_NK)
        self.scales_N = scales_N.bfloat16()

    @property
    def weight(self) -> Tensor:
        return dequantise_int8(self.q_NK, self.scales_N.float(), torch.bfloat16)

    def product(self, x: Tensor) -> Tensor:
        x_MK = x.reshape(-1, self.in_features).contiguous()
        if 0 < len(x_MK) < MANY_ROWS_INT8:
            y_MN = torch._weight_int8pack_mm(x_MK, self.q_NK, self.scales_N)
        else:
            y_MN = F.linear(x_MK, self.q_NK.to(x.dtype)) * self.scales_N
        y_MN = y_MN if self.bias is None else y_MN + self.bias
        return y_MN.view(*x.shape[:-1], self.out_features)


class Int4Linear(PackedLinear):
    """4 bits, and a scale for each group of inputs. The kernel wants a zero beside each scale, which is 0: 5 bits a weight."""

    kind = "int4"

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None) -> None:
        super().__init__(weight_NK.shape, bias_N, torch.bfloat16)
        q_NK, scales_NG = quantise_int4(weight_NK)
        self._packed = torch._convert_weight_to_int4pack_for_cpu(q_NK.int(), 1)
        scales_GN = scales_NG.bfloat16().T
        self._numbers_GN2 = torch.stack((scales_GN, torch.zeros_like(scales_GN)), -1).contiguous()
        self._few = MANY_ROWS_INT4 if self.out_features % INT4_PANEL == 0 and _panels_known() else None

    @property
    def weight(self) -> Tensor:
        """In float32 what few rows are multiplied with; many rows are with its bf16."""
        if self.out_features % INT4_PANEL == 0 and _panels_known():
            q_NK = unpack_panels(self._packed, self.in_features).view(-1, self.in_features)
            return dequantise_int4(q_NK, self._scales(), torch.bfloat16)
        eye_KK = torch.eye(self.in_features, dtype=torch.bfloat16)
        return self._kernel(eye_KK).T

    def product(self, x: Tensor) -> Tensor:
        x_MK = x.reshape(-1, self.in_features).contiguous()
        few = not len(x_MK) or self._few is None or len(x_MK) < self._few
        y_MN = self._kernel(x_MK) if few else F.linear(x_MK, self._in_bf16())
        y_MN = y_MN if self.bias is None else y_MN + self.bias
        return y_MN.view(*x.shape[:-1], self.out_features)

    def _kernel(self, x_MK: Tensor) -> Tensor:
        if not len(x_MK):
            return x_MK.new_zeros(0, self.out_features)
        return torch.ops.aten._weight_int4pack_mm_for_cpu.default(
            x_MK, self._packed, GROUP, self._numbers_GN2
        )

    def _in_bf16(self) -> Tensor:
        """`weight` in place and in few passes."""
        panels_PHRK = unpack_panels(self._packed, self.in_features, torch.bfloat16)
        weight_PHRGI = panels_PHRK.unflatten(-1, (-1, GROUP))
        weight_PHRGI.sub_(MIDDLE).mul_(self._scales().view(*weight_PHRGI.shape[:-1], 1))
        return panels_PHRK.view(-1, self.in_features)

    def _scales(self) -> Tensor:
        return self._numbers_GN2[..., 0].T.contiguous()


def unpack_panels(packed: Tensor, inputs: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    """(P, 2, 32, K): what torch's int4 kernel for AVX-512 reads, panels of 64 outputs in which each input has 32 bytes with
    output r in the low and 32 + r in the high half of byte r.
    """
    bytes_PRK = packed.view(-1, inputs, INT4_PANEL // 2).transpose(1, 2).contiguous()
    q_PHRK = torch.empty(len(bytes_PRK), 2, *bytes_PRK.shape[1:], dtype=dtype)
    q_PHRK[:, 0], q_PHRK[:, 1] = bytes_PRK & 15, bytes_PRK >> 4
    return q_PHRK


@functools.cache
def _panels_known() -> bool:
    """Whether this processor's layout is that of `unpack_panels`."""
    q_NK = torch.randint(0, 16, (2 * INT4_PANEL, GROUP), generator=torch.Generator().manual_seed(0))
    packed = torch._convert_weight_to_int4pack_for_cpu(q_NK.int(), 1)
    if packed.numel() * 2 != q_NK.numel() or packed.dtype != torch.uint8:
        return False
    return torch.equal(unpack_panels(packed, GROUP).view(-1, GROUP).long(), q_NK)


class Slice(nn.Module):
    """Some outputs of a joined map, for callers that want them alone."""

    def __init__(self, joined: PackedLinear, start: int, count: int) -> None:
        super().__init__()
        self.__dict__["_joined"] = joined  # owned by the module that joins
        self.start, self.count = start, count
        self.in_features, self.out_features = joined.in_features, count

    @property
    def joined(self) -> PackedLinear:
        """The map that these are outputs of."""
        joined: PackedLinear = self.__dict__["_joined"]
        return joined

    @property
    def weight(self) -> Tensor:
        """(N, K) of these outputs."""
        return self.joined.weight[self.start : self.start + self.count]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.joined(x)
        return y[..., self.start : self.start + self.count]


def slices(joined: PackedLinear, counts: Sequence[int]) -> list[Slice]:
    """The maps that a joined one holds, of so many outputs each."""
    return [Slice(joined, sum(counts[:number]), count) for number, count in enumerate(counts)]


class Gated(nn.Module):
    """act(gate(x)) up(x) from one map that gives both. name: of the activation, where it is one of those by itself."""

    def __init__(
        self, joined: PackedLinear, act: Callable[[Tensor], Tensor], name: str | None = None
    ) -> None:
        super().__init__()
        self.joined, self.act, self.name = joined, act, name
        self.number = rows.ACTIVATIONS.index(name) if name in rows.ACTIVATIONS else None

    def forward(self, x: Tensor) -> Tensor:
        both = self.joined(x)
        gate, up = both.chunk(2, -1)
        if self.number is not None and rows.covers(both):
            return rows.activated(gate, self.number, up)
        return self.act(gate) * up


class Activated(nn.Module):
    """act(up(x)) in one call, or in two that are compiled. name: of the activation."""

    def __init__(self, up: PackedLinear, name: str) -> None:
        super().__init__()
        self.__dict__["up"] = up  # owned by the MLP
        self.name, self.act = name, activation(name)
        self.number = rows.ACTIVATIONS.index(name) if name in rows.ACTIVATIONS else None

    def forward(self, x: Tensor) -> Tensor:
        up: PackedLinear = self.__dict__["up"]
        given = None if x.requires_grad and torch.is_grad_enabled() else up.activated(x, self.name)
        if given is not None:
            return given
        y = up(x)
        if self.number is not None and rows.covers(y):
            return rows.activated(y, self.number, in_place=True)
        return self.act(y)


def is_packed(module: nn.Module) -> bool:
    """Whether a module holds packed maps."""
    return any(isinstance(one, PackedLinear) for one in module.modules())


@functools.cache
def has_onednn(dtype: torch.dtype) -> bool:
    """Whether this processor and this torch multiply packed weights of a type fast."""
    ops = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not hasattr(ops, "_linear_pointwise"):
        return False
    if not hasattr(ops, "_reorder_linear_weight"):
        return False
    return dtype == torch.float32 or bool(ops._is_mkldnn_bf16_supported())
