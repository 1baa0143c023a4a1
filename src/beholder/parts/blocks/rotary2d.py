"""Rotary positions of patches in a plane: some of a head's pairs of channels turn with the row, the others with the column.

B rows, T tokens, F frequencies, H heads, K head width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from beholder.config import Config
from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Grid
from beholder.parts.blocks.positions import turn_pairs
from beholder.parts.blocks.rotary_scaling import theta_powers


@dataclass(frozen=True)
class AxialRotary(Config):
    """Rows turn the first half of the pairs, columns the second (EVA-02, 2303.11331; Qwen2-VL, 2409.12191).

    pairs: `half` turns channel i with i + K/2, `adjacent` 2i with 2i + 1. dealt: rows take every other frequency of those
    for K channels, columns the rest (Pixtral, 2410.07073); else both have those for K/2.
    reference: rows and columns are stretched to so many, 0 leaves them (EVA-02). centred: patch centres from -1 to 1, in
    turns (DINOv3, 2508.10104). learned_cls: the class token turns as well, by learned angles (MLCD). woven: pairs belong to
    columns and rows in turn, both with the frequencies of their place (MoonViT, 2504.07491). columns_first: columns turn the
    first half of the pairs; origin: number of the first row and column (Llama 4).
    """

    of_frames: ClassVar[bool] = False  # whether time is an axis

    theta: float = 10000.0
    pairs: str = "half"
    dealt: bool = False
    reference: int = 0
    centred: bool = False
    learned_cls: bool = False
    woven: bool = False
    columns_first: bool = False
    origin: int = 0

    def __post_init__(self) -> None:
        if self.pairs not in ("half", "adjacent"):
            raise UnknownName("rotary pairs", self.pairs, ("half", "adjacent"))

    @property
    def of_keys(self) -> AxialRotary:
        """Keys turn as queries do."""
        return self

    def places(self, grid: Grid, device: torch.device | None = None) -> Tensor:
        """(axes, tokens): `coordinates` of a grid's patches."""
        return self.coordinates(grid.height, grid.width, device)

    def coordinates(self, height: int, width: int, device: torch.device | None = None) -> Tensor:
        """(2, height * width): row and column of each patch in raster order, float32."""
        axes = []
        for count in (height, width):
            places = self.origin + torch.arange(count, dtype=torch.float32, device=device)
            if self.centred:
                places = 2 * math.pi * (2 * ((places + 0.5) / count) - 1)
            elif self.reference:
                places = places / count * self.reference
            axes.append(places)
        return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)

    def tables(self, positions: Tensor, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines (B, 1, T, K) for `rotate`, computed in float32. positions: (2, B, T); a token at (0, 0) is left
        as it is.
        """
        if head_dim % 4:
            raise BeholderError(
                f"heads of {head_dim} channels have no equal pairs for two axes; use 4, 8, ..."
            )
        width = head_dim if self.dealt else head_dim // 2
        frequencies_F = 1.0 / theta_powers(self.theta, width, positions.device)
        by_axis = (frequencies_F[::2], frequencies_F[1::2]) if self.dealt else (frequencies_F, frequencies_F)
        angles = [places[..., None] * f for places, f in zip(positions, by_axis, strict=True)]
        if self.woven or self.columns_first:
            angles = angles[::-1]
        angles_BTF = torch.stack(angles, -1).flatten(-2) if self.woven else torch.cat(angles, -1)
        return self.tables_of(angles_BTF, dtype)

    def tables_of(self, angles_BTF: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines (B, 1, T, K) of one angle for each pair of channels."""
        joined = angles_BTF.tile(2) if self.pairs == "half" else angles_BTF.repeat_interleave(2, -1)
        return joined.cos().to(dtype)[:, None], joined.sin().to(dtype)[:, None]

    def rotate(self, x_BHTK: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """The heads turned by the angles in `tables`."""
        return turn_pairs(x_BHTK, *tables, self.pairs)
