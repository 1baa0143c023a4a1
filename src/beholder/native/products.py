"""Prompts through the weights of the compiled steps, so that a model holds them once.

M rows, K inputs, N outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.native import library, openmp
from beholder.native.packing import NAMES, Packed, apart, padded, side_by_side, unpacked
from beholder.native.rows import ACTIVATIONS
from beholder.speed.linears import Gated, PackedLinear

IN_ORDER, ACTIVATED, HALVES, AS_IT_IS = 0, 1, 2, -1  # as in abi.h
LINE = 64
WIDE = {"int8": 4, "int4": 5}  # numbers of formats, as in abi.h


def matrix_of(packed: Packed, bias_N: Tensor | None) -> tuple[library.Matrix, Tensor | None]:
    """The matrix for the kernels, and its bias, padded, which must live as long; None where it is zero."""
    matrix = library.Matrix(
        data=packed.bytes.data_ptr(),
        scales=None if packed.scales is None else packed.scales.data_ptr(),
        outputs=packed.outputs,
        inputs=packed.inputs,
        format=packed.number,
    )
    if bias_N is None or not bool(bias_N.any()):
        return matrix, None
    kept_N = F.pad(bias_N.detach().float(), (0, padded(packed.outputs) - len(bias_N))).contiguous()
    matrix.bias = kept_N.data_ptr()
    return matrix, kept_N


class NativeLinear(PackedLinear):
    """A map whose weight the compiled steps read as well. hidden: channels of a gate and what it multiplies, which lie
    side by side and are given one after the other; None for other maps. wide: what meets weights of 8 and 4 bits has 16, with a
    scale for each 32 of them, which is nearer than bf16; else 8, as in steps.
    """

    def __init__(
        self,
        packed: Packed,
        bias_N: Tensor | None,
        kernel: library.Kernel,
        *,
        hidden: int | None = None,
        wide: bool = False,
    ) -> None:
        kind = NAMES[packed.number]
        outputs = packed.outputs if hidden is None else 2 * hidden
        dtype = torch.float32 if kind == "float32" else torch.bfloat16
        super().__init__(torch.Size((outputs, packed.inputs)), None, dtype)
        self.kind, self.hidden, self._kernel, self._packed = kind, hidden, kernel, packed
        self.bias = bias_N
        beside_N = (
            bias_N if bias_N is None or hidden is None else side_by_side(bias_N[:hidden], bias_N[hidden:])
        )
        self._matrix, self._kept = matrix_of(packed, beside_N)
        if wide and kind in WIDE:
            self._matrix.format = WIDE[kind]

    @property
    def weight(self) -> Tensor:
        weight_NK = unpacked(self._packed)
        weight_NK = weight_NK if self.hidden is None else apart(weight_NK, self.hidden)
        return weight_NK.to(self.dtype)

    @property
    def nbytes(self) -> int:
        scales = 0 if self._packed.scales is None else self._packed.scales.nbytes
        return self._packed.bytes.nbytes + scales + (0 if self.bias is None else self.bias.nbytes)

    def product(self, x: Tensor) -> Tensor:
        return self._product(x, IN_ORDER if self.hidden is None else HALVES, self.out_features)

    def activated(self, x: Tensor, name: str) -> Tensor | None:
        """act(gate(x)) up(x), (..., K) -> (..., hidden); of a map without a gate act(x W' + bias), (..., K) -> (..., N)."""
        if name not in ACTIVATIONS:
            return None
        order, width = (IN_ORDER, self.out_features) if self.hidden is None else (ACTIVATED, self.hidden)
        return self._product(x.to(self.dtype), order, width, ACTIVATIONS.index(name)).to(x.dtype)

    def _product(self, x: Tensor, order: int, width: int, activation: int = AS_IT_IS) -> Tensor:
        x_MK = x.reshape(-1, self.in_features)
        x_MK = x_MK if x_MK.stride(-1) == 1 else x_MK.contiguous()
        y_MN = x.new_empty(len(x_MK), width)
        if not len(x_MK):
            return y_MN.view(*x.shape[:-1], width)
        call = library.Product(
            matrix=self._matrix,
            x=x_MK.data_ptr(),
            y=y_MN.data_ptr(),
            rows=len(x_MK),
            x_stride=x_MK.stride(0),
            y_stride=width,
            half=self.hidden or 0,
            parallel=openmp.parallel(),
            threads=torch.get_num_threads(),
            bf16=x.dtype == torch.bfloat16,
            order=order,
            activation=activation,
        )
        kernels, number = self._kernel.kernels, self._kernel.number
        scratch = torch.empty(kernels.product_scratch(call, number) + LINE, dtype=torch.uint8)
        call.scratch = scratch.data_ptr() + -scratch.data_ptr() % LINE
        kernels.product(call, number)
        return y_MN.view(*x.shape[:-1], width)


class NativeGated(Gated):
    """`Gated` whose activation the product applies itself, unless an adapter stands between or something trains."""

    def forward(self, x: Tensor) -> Tensor:
        joined: nn.Module = self.joined
        if isinstance(joined, NativeLinear) and not (x.requires_grad and torch.is_grad_enabled()):
            given = None if self.name is None else joined.activated(x, self.name)
            if given is not None:
                return given
        return super().forward(x)
