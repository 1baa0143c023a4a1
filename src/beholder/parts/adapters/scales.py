"""(IA)3 (2205.05638): a learned factor for each output of keys and values, and for each input of an MLP's last matrix.

I inputs, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.parts.adapters.base import AdaptedLinear, LinearAdapter


@dataclass(frozen=True)
class Scaled(LinearAdapter):
    """Outputs are scaled, or inputs of maps whose name matches `inputs`. The paper's are keys, values and an MLP's `down`."""

    inputs: str = "*.down"

    kind: ClassVar[str] = "ia3"
    leaves: ClassVar[tuple[str, ...]] = ("ia3",)

    def build(self, base: nn.Module, name: str) -> ScaledLinear:
        return ScaledLinear(base, of_inputs=fnmatchcase(name, self.inputs))


class ScaledLinear(AdaptedLinear):
    """f (x W' + bias), or (f x) W' + bias."""

    leaves = Scaled.leaves
    kind = Scaled.kind

    def __init__(self, base: nn.Module, *, of_inputs: bool) -> None:
        super().__init__(base)
        self.of_inputs = of_inputs
        self.ia3 = self.new(self.in_features if of_inputs else self.out_features)
        nn.init.ones_(self.ia3)

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x * self.ia3.to(x.dtype)) if self.of_inputs else self.adapt(x, self.product(x))

    def adapt(self, x: Tensor, y: Tensor) -> Tensor:
        if self.of_inputs:
            raise BeholderError(
                "factors of inputs go with maps that are not joined with others; scale their outputs"
            )
        return y * self.ia3.to(y.dtype)

    def merged(self) -> tuple[Tensor, Tensor | None]:
        if self.base is not None:
            raise BeholderError(
                "a packed map cannot take up factors; load the model without a precision and merge there"
            )
        if self.of_inputs:
            return self.weight.float() * self.ia3, self.bias
        bias = None if self.bias is None else nn.Parameter((self.bias * self.ia3).to(self.bias.dtype))
        return self.weight.float() * self.ia3[:, None], bias
