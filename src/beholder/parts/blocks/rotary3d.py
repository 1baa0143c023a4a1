"""Rotary positions of patches in time and plane (V-JEPA 2, 2506.09985, section 2.1).

B rows, T tokens, F frequencies of an axis, K head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.media.plan import Grid
from beholder.parts.blocks.rotary2d import AxialRotary
from beholder.parts.blocks.rotary_scaling import theta_powers


@dataclass(frozen=True)
class SpaceTimeRotary(AxialRotary):
    """A third of each head's channels, an even number, turns with time, the next with the row, then with the column; what is
    left does not turn. The channels of a pair are neighbours and, as in released models, turn with neighbouring frequencies:
    those of an axis follow each other twice over its channels.
    """

    of_frames: ClassVar[bool] = True
    pairs: str = "adjacent"

    def places(self, grid: Grid, device: torch.device | None = None) -> Tensor:
        """(3, frames * height * width): time, row and column of each patch in raster order, float32."""
        axes = [torch.arange(count, dtype=torch.float32, device=device) for count in grid]
        return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)

    def tables(self, positions: Tensor, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines (B, 1, T, K) for `rotate`, computed in float32. positions: (3, B, T)."""
        width = head_dim // 3 // 2 * 2
        frequencies_F = 1.0 / theta_powers(self.theta, width, positions.device)
        angles_BTK = torch.cat([(places[..., None] * frequencies_F).tile(2) for places in positions], -1)
        angles_BTK = F.pad(angles_BTK, (0, head_dim - 3 * width))
        return angles_BTK.cos().to(dtype)[:, None], angles_BTK.sin().to(dtype)[:, None]
