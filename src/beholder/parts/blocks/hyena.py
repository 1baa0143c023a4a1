"""StripedHyena's mixer: gates around a long convolution whose filter is a sum of decaying exponentials.

Hyena (2302.10866) in the modal form of Laughing Hyena (2310.18780), so that it runs as a recurrence.
B rows, T positions, D width, H blocks of channels, K = D / H, N poles per channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.parts.blocks.recurrence import (
    CausalConv,
    RecurrentConfig,
    RecurrentMixer,
    real_tokens,
    scan,
    wide,
)
from beholder.parts.blocks.step import NO_PARTS, Step

SEGMENT = 256  # positions whose states (B, T, D, N) are held at once


@dataclass(frozen=True)
class Hyena(RecurrentConfig):
    """num_blocks: the projections come as that many blocks of both gates and the value, one after the other.
    poles: complex exponentials in each channel's filter. conv: width of the short convolution.
    """

    num_blocks: int
    poles: int = 2
    conv: int = 3
    conv_bias: bool = True

    def tiny(self) -> Hyena:
        return super().tiny().but(num_blocks=4)

    def build(self, dim: int, index: int = 0) -> HyenaMixer:
        if dim % self.num_blocks:
            raise BeholderError(f"width {dim} does not divide into {self.num_blocks} blocks of channels")
        return HyenaMixer(self, dim, index)


class HyenaMixer(RecurrentMixer):
    """x2 (h * u + D u) with u = x1 v, h_t = Re(sum of residue pole^t) for each channel.

    poles, residues: (D, N, 2), real and imaginary parts.
    """

    def __init__(self, config: Hyena, dim: int, index: int) -> None:
        super().__init__(index)
        self.config = config
        self.input = nn.Linear(dim, 3 * dim)
        self.conv = CausalConv(3 * dim, config.conv, bias=config.conv_bias)
        angles = torch.rand(dim, config.poles) * torch.pi
        radii = 1 - torch.exp(torch.rand(dim, config.poles) * 4 - 5)  # from short to long memories
        self.poles = nn.Parameter(torch.stack((radii * angles.cos(), radii * angles.sin()), -1))
        self.residues = nn.Parameter(torch.randn(dim, config.poles, 2) * 0.1)
        self.skip = nn.Parameter(torch.zeros(dim))
        self.output = nn.Linear(dim, dim)

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        memory = self.memory(step, parts)
        mixed = self.conv(self.input(x_BTD), memory, step.lengths)
        outer_BTD, inner_BTD, value_BTD = (
            x.flatten(2) for x in mixed.unflatten(-1, (self.config.num_blocks, 3, -1)).unbind(3)
        )
        u_BTD = inner_BTD * value_BTD
        filtered_BTD = self._filter(wide(u_BTD), step, memory).to(u_BTD.dtype)
        return self.output((filtered_BTD + u_BTD * self.skip) * outer_BTD)

    def _filter(self, u_BTD: Tensor, step: Step, memory: dict[str, Tensor]) -> Tensor:
        """h * u by the recurrence s_t = pole s_(t-1) + u_t; `memory["state"]` holds the last s, complex (B, D, N)."""
        poles_DN, residues_DN = (torch.view_as_complex(wide(x)) for x in (self.poles, self.residues))
        real_BT = real_tokens(u_BTD, step.lengths)
        rows, length, dim = u_BTD.shape
        state_BDN = memory.get("state", poles_DN.new_zeros(rows, dim, self.config.poles))
        pieces = []
        for at in range(0, length, SEGMENT):
            u_BTD1 = u_BTD[:, at : at + SEGMENT, :, None]
            decay = poles_DN.expand(*u_BTD1.shape[:3], -1)
            added = u_BTD1.expand_as(decay).to(decay.dtype)
            if real_BT is not None:
                padding = ~real_BT[:, at : at + SEGMENT, None, None]
                decay, added = decay.masked_fill(padding, 1.0), added.masked_fill(padding, 0.0)
            states_BTDN = scan(decay, added, state_BDN)
            pieces.append((states_BTDN * residues_DN).sum(-1).real)
            state_BDN = states_BTDN[:, -1]
        memory["state"] = state_BDN.clone()
        return torch.cat(pieces, 1)
