"""Low-rank adapters: LoRA (2106.09685), with the scale of rsLoRA (2312.03732) and the magnitudes of DoRA (2402.09353).

I inputs, O outputs, R rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.adapters.base import AdaptedLinear, LinearAdapter

SUFFIXES = ("lora_a", "lora_b", "lora_m")


@dataclass(frozen=True)
class Lora(LinearAdapter):
    """W becomes W + s B A, with s = alpha / rank, or alpha / sqrt(rank) where `by_root` (rsLoRA). alpha: 2 * rank where None.
    dropout: of what A reads, while training. magnitudes: each row of the sum is scaled to a length of its own that is learned
    (DoRA); as there, gradients do not go through the row's length.
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    by_root: bool = False
    magnitudes: bool = False

    kind: ClassVar[str] = "lora"
    leaves: ClassVar[tuple[str, ...]] = SUFFIXES

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise BeholderError(f"adapters of rank {self.rank}; it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise BeholderError(f"adapters with dropout {self.dropout}; it must be from 0 to less than 1")

    @property
    def scaling(self) -> float:
        """s."""
        alpha = 2.0 * self.rank if self.alpha is None else self.alpha
        return alpha / (self.rank**0.5 if self.by_root else self.rank)

    def build(self, base: nn.Module, name: str) -> LowRankLinear:
        return LowRankLinear(base, self)


class LowRankLinear(AdaptedLinear):
    """x (W + s B A)' + bias, or with magnitudes m x ((W + s B A) / lengths of its rows)' + bias."""

    leaves = SUFFIXES
    kind = "lora"
    lora_m: nn.Parameter | None

    def __init__(self, base: nn.Module, config: Lora) -> None:
        super().__init__(base)
        self.config, self.scaling, self.draws = config, config.scaling, config.dropout > 0
        self.lora_a = self.new(config.rank, self.in_features)
        self.lora_b = self.new(self.out_features, config.rank)
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)
        if self.base is not None and config.magnitudes:
            self.__dict__["squares_O"] = self.dense().float().square().sum(1)  # it cannot change
        self.lora_m = nn.Parameter(self.lengths()) if config.magnitudes else None

    def adapt(self, x: Tensor, y: Tensor) -> Tensor:
        dropped = F.dropout(x, self.config.dropout, self.training) if self.config.dropout else x
        low = F.linear(dropped, self.lora_a.to(x.dtype))
        change = F.linear(low, (self.lora_b * self.scaling).to(x.dtype))
        if self.lora_m is None:
            return y + change
        factors_O = (self.lora_m / self.lengths()).to(x.dtype)
        bias = self.offset()
        total = change + (y if bias is None else y - bias.to(y.dtype))
        return y + change + (factors_O - 1) * total

    @torch.no_grad()
    def lengths(self) -> Tensor:
        """Of the rows of W + s B A, (O): |w|^2 + 2 s w'BA + s^2 |BA|^2, so that no matrix of W's size is made."""
        a_RI, b_OR = self.lora_a.float(), self.lora_b.float() * self.scaling
        if self.base is None:
            weight_OI = self.weight.float()
            squares_O, met_OR = weight_OI.square().sum(1), F.linear(weight_OI, a_RI)
        else:
            squares_O, bias = self.__dict__["squares_O"], self.offset()
            met_RO = self.base(a_RI)
            met_OR = (met_RO if bias is None else met_RO - bias).float().T
        total_O = squares_O + 2 * (met_OR * b_OR).sum(1) + (b_OR @ (a_RI @ a_RI.T) * b_OR).sum(1)
        return total_O.clamp(min=torch.finfo(torch.float32).tiny).sqrt()

    def change(self) -> Tensor:
        """What the adapter adds to the weight, (O, I) in float32; magnitudes aside."""
        return self.scaling * (self.lora_b.float() @ self.lora_a.float())

    def merged(self) -> tuple[Tensor, Tensor | None]:
        if self.base is not None:
            raise BeholderError(
                "a packed map cannot take up an adapter's change; load the model without a precision and merge there"
            )
        return with_change(self.weight, self.change(), self.lora_m), self.bias


def with_change(weight_OI: Tensor, change_OI: Tensor, magnitudes_O: Tensor | None) -> Tensor:
    """W + change in float32, each row as long as its magnitude where there are such."""
    total_OI = weight_OI.float() + change_OI
    if magnitudes_O is None:
        return total_OI
    lengths_O = torch.linalg.vector_norm(total_OI, dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    return total_OI * (magnitudes_O.float() / lengths_O)[:, None]
