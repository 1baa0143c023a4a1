"""LFM2's mixer: a short causal convolution between two gates (2511.23404).

B rows, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from beholder.parts.blocks.recurrence import CausalConv, RecurrentConfig, RecurrentMixer
from beholder.parts.blocks.step import NO_PARTS, Step


@dataclass(frozen=True)
class ShortConv(RecurrentConfig):
    """conv: width of the convolution. bias: of all its maps."""

    conv: int = 3
    bias: bool = False

    def build(self, dim: int, index: int = 0) -> ShortConvMixer:
        return ShortConvMixer(self, dim, index)


class ShortConvMixer(RecurrentMixer):
    """out(c conv(b x)) with b, c and x projected from each token."""

    def __init__(self, config: ShortConv, dim: int, index: int) -> None:
        super().__init__(index)
        self.input = nn.Linear(dim, 3 * dim, bias=config.bias)
        self.conv = CausalConv(dim, config.conv, bias=config.bias)
        self.output = nn.Linear(dim, dim, bias=config.bias)

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        before_BTD, after_BTD, x_BTD = self.input(x_BTD).chunk(3, -1)
        return self.output(after_BTD * self.conv(before_BTD * x_BTD, self.memory(step, parts), step.lengths))
