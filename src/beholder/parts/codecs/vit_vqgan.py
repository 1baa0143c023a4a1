"""ViT-VQGAN (2110.04627): transformers over patches on both sides of a codebook of unit vectors. Layers have tanh between
the two maps of their MLPs (`FeedForward(act="tanh")`).

V views, T patches, E width of a transformer, D width of a code vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import TransformerLayer, run_layers
from beholder.parts.codecs.contract import Codec, CodecConfig, Shape, pack_grids, unpack_grids
from beholder.parts.codecs.quantizers import Codebooks
from beholder.parts.contracts import Packed
from beholder.parts.vision.views import by_size


@dataclass(frozen=True)
class PatchTransformer(Config):
    """One side of the codec. dim: width."""

    dim: int
    num_layers: int
    attention: Attention
    mlp: FeedForward
    norm: Norm = Norm("layer", 1e-5)

    def tiny(self) -> PatchTransformer:
        return super().tiny().but(dim=32, num_layers=2)

    def build(self, grid: Grid) -> PatchLayers:
        return PatchLayers(self, grid)


@dataclass(frozen=True)
class VitVqGan(CodecConfig):
    """size: (height, width) of a view, the only one it takes; patch: pixels per side of a code; channels: 3 for pictures,
    1 for spectrograms.
    """

    quantizer: Codebooks
    encoder: PatchTransformer
    decoder: PatchTransformer
    size: Size = (256, 256)
    patch: int = 8
    channels: int = 3

    def grid(self, shape: Shape) -> Grid:
        if shape != self.size:
            raise BeholderError(
                f"this codec takes pictures of {self.size[1]}x{self.size[0]} pixels, not a view of shape {shape}"
            )
        return Grid(1, self.size[0] // self.patch, self.size[1] // self.patch)

    def tiny(self) -> VitVqGan:
        return super().tiny().but(size=(16, 16), patch=4)

    def build(self) -> VitVqGanCodec:
        return VitVqGanCodec(self)


class PatchLayers(nn.Module):
    """Positions added, then layers and a norm: (V, T, E) -> (V, T, E)."""

    positions: Tensor

    def __init__(self, config: PatchTransformer, grid: Grid) -> None:
        super().__init__()
        self.register_buffer("positions", grid_sinusoids(grid.height, grid.width, config.dim))
        self.blocks = nn.ModuleList(
            TransformerLayer(config.dim, config.attention, config.mlp, norm=config.norm)
            for _ in range(config.num_layers)
        )
        self.norm = config.norm.build(config.dim)

    def forward(self, x_VTE: Tensor) -> Tensor:
        x_VTE = x_VTE + self.positions
        return self.norm(run_layers(self.blocks, x_VTE, Step(dtype=x_VTE.dtype))[0])


class VitVqGanCodec(Codec):
    """`Codec` by transformers."""

    config: VitVqGan

    def __init__(self, config: VitVqGan) -> None:
        super().__init__(config)
        patch, grid = config.patch, config.grid(config.size)
        self.patch = nn.Conv2d(config.channels, config.encoder.dim, patch, stride=patch)
        self.encoder = config.encoder.build(grid)
        self.to_code = nn.Linear(config.encoder.dim, config.dim)
        self.from_code = nn.Linear(config.dim, config.decoder.dim)
        self.decoder = config.decoder.build(grid)
        self.pixels = nn.ConvTranspose2d(config.decoder.dim, config.channels, patch, stride=patch)

    def latents(self, views: Sequence[Tensor]) -> Packed:
        for view in views:
            self.config.grid(tuple(view.shape[1:]))
        return pack_grids(by_size(views, self._latents))

    def _latents(self, pixels_VCHW: Tensor) -> Iterable[Tensor]:
        patches_VEhw = self.patch(pixels_VCHW.to(self.patch.weight.dtype))
        codes_VTD = self.to_code(self.encoder(patches_VEhw.flatten(2).transpose(1, 2)))
        return codes_VTD.transpose(1, 2).unflatten(2, (1, *patches_VEhw.shape[-2:]))

    def restore(
        self, packed: Packed, shapes: Sequence[Shape] = (), scales_P: Tensor | None = None
    ) -> list[Tensor]:
        return by_size(unpack_grids(packed), self._restore)

    def _restore(self, codes_VDThw: Tensor) -> Iterable[Tensor]:
        x_VTE = self.decoder(self.from_code(codes_VDThw.flatten(2).transpose(1, 2)))
        return self.pixels(x_VTE.transpose(1, 2).unflatten(2, codes_VDThw.shape[-2:]))


def grid_sinusoids(rows: int, columns: int, dim: int) -> Tensor:
    """(rows * columns, dim): half of the channels for the column, half for the row, each sines then cosines of
    wavelengths from 2 pi to 10000 * 2 pi, the end left out (MAE, 2111.06377).
    """
    quarter = dim // 4
    rates_F = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles_SF = torch.arange(max(rows, columns), dtype=torch.float64)[:, None] * rates_F
    waves_SF = torch.cat((angles_SF.sin(), angles_SF.cos()), 1)
    across, down = waves_SF[:columns].repeat(rows, 1), waves_SF[:rows].repeat_interleave(columns, 0)
    return torch.cat((across, down), 1).float()
