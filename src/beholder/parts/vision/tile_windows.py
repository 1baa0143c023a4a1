"""A ViT whose tiles of one picture look at each other between layers, in windows that are shifted across the tiles' borders
(TextMonkey, 2403.04473, section 3.1; official `text_monkey/window.py`).

V pictures, B rows, T tokens of a tile, H W rows and columns of a picture's map, D width, C a layer's narrow width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size, View
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.connectors.perspectives import apart, together
from beholder.parts.contracts import Encoder, Packed, VisionConfig
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.swin import OffsetTable, shift_mask
from beholder.parts.vision.vit import ViT
from beholder.parts.vision.windows import Heads, merge, pad_to, partition


@dataclass(frozen=True)
class TileWindows(VisionConfig):
    """Views of a picture are `side` x `side` tiles of `tile` pixels each way in raster order and the whole behind them, which
    is seen by itself. before: numbers of layers of `base` before which all tiles' tokens become one map, whose windows of
    `window` x `window` tokens, shifted by half of it, look inside; widths, heads: of attention there.
    """

    base: ViT
    tile: int = 448
    side: int = 2
    window: int = 12
    before: tuple[int, ...] = (2, 6, 24, 46)
    widths: tuple[int, ...] = (128, 256, 512, 1024)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    dim: int = field(init=False)
    image_size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", self.base.dim)
        object.__setattr__(self, "image_size", self.tile)
        if not len(self.before) == len(self.widths) == len(self.heads):
            raise BeholderError(
                f"{len(self.before)} layers, {len(self.widths)} widths and {len(self.heads)} numbers of heads; give as many "
                "of each"
            )
        if self.before and max(self.before) >= self.base.num_layers:
            raise BeholderError(
                f"windows before layer {max(self.before)}, but the encoder has {self.base.num_layers} layers"
            )
        if self.window >= self.cells:
            raise BeholderError(
                f"windows of {self.window} tokens on a map of {self.cells}: give smaller ones"
            )

    @property
    def tiles(self) -> int:
        return self.side**2

    @property
    def cells(self) -> int:
        """Rows of a picture's map."""
        return self.side * (self.tile // self.base.patch)

    @property
    def out_dim(self) -> int:
        return self.base.out_dim

    def grid(self, size: Size) -> Grid:
        return self.base.grid(size)

    def view_grid(self, view: View) -> Grid:
        return self.base.view_grid(view)

    def tiny(self) -> TileWindows:
        base = self.base.tiny()
        return self.but(
            base=base, tile=base.image_size, window=3, before=(0, 1), widths=(8, 12), heads=(2, 3)
        )

    def build(self) -> TileWindowsEncoder:
        return TileWindowsEncoder(self)


class TileWindowsEncoder(Encoder):
    """Views of whole pictures, one picture after the other. A view by itself is the whole of one."""

    whole_pictures = True

    def __init__(self, config: TileWindows) -> None:
        super().__init__()
        self.config = config
        self.base = config.base.build()
        self.windows = nn.ModuleList(
            AcrossTiles(config, *widths_heads)
            for widths_heads in zip(config.widths, config.heads, strict=True)
        )

    def forward(self, views: Sequence[Tensor]) -> Packed:
        tiles = self.config.tiles
        if len(views) == 1:
            return self.base(views)
        if len(views) % (tiles + 1):
            raise BeholderError(
                f"{len(views)} views; this encoder takes pictures of {tiles} tiles and the whole behind them"
            )
        wholes = views[tiles :: tiles + 1]
        cut = [view for number, view in enumerate(views) if number % (tiles + 1) != tiles]
        if len({view.shape for view in cut}) > 1:
            raise BeholderError("tiles of unequal sizes do not make one map; cut pictures into equal ones")
        grid = self.config.grid((cut[0].shape[-2], cut[0].shape[-1]))
        ours, others = self.base(cut, self._parts(grid)), self.base(wholes)
        pairs = zip(
            torch.cat(ours.split()).view(len(wholes), -1, self.config.out_dim), others.split(), strict=True
        )
        grids = (grid,) * tiles
        return Packed(
            torch.cat([x_ND for pair in pairs for x_ND in pair]),
            tuple(each for whole in others.grids for each in (*grids, whole)),
        )

    def unused_parameters(self, *, pooled: bool) -> set[str]:
        return {f"base.{name}" for name in self.base.unused_parameters(pooled=pooled)}

    def _parts(self, grid: Grid) -> Mapping[int, Mapping[str, Any]]:
        """What is in the ViT's layers while it sees tiles of that grid."""
        pairs = zip(self.config.before, self.windows, strict=True)
        return {layer: {"before": self._looking(window, grid)} for layer, window in pairs}

    def _looking(self, window: nn.Module, grid: Grid) -> Callable[..., Tensor]:
        def before(x_BTD: Tensor, *_of_layers: object) -> Tensor:
            pieces = x_BTD.reshape(-1, self.config.tiles, grid.height, grid.width, x_BTD.shape[-1])
            looked = window(together(pieces, strided=False))
            return apart(looked, self.config.side, strided=False).reshape(x_BTD.shape)

        return before


class AcrossTiles(nn.Module):
    """Maps (V, H, W, D) -> the same, with what tokens read in shifted windows added; little at first."""

    def __init__(self, config: TileWindows, width: int, num_heads: int) -> None:
        super().__init__()
        dim = config.dim
        self.window = config.window
        self.places = learned(config.cells**2, dim)
        self.narrow, self.up = nn.Linear(dim, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, dim, bias=False)
        self.scale = nn.Parameter(torch.ones(1))
        self.norm1, self.norm2 = (Norm().build(width) for _ in range(2))
        self.heads = Heads(width, num_heads)
        self.bias = OffsetTable(config.window, num_heads, indexed=False)
        nn.init.normal_(self.down.weight, std=1e-3)

    def forward(self, x_VHWD: Tensor) -> Tensor:
        height, width = x_VHWD.shape[1:3]
        places_ND = GridTable("bicubic").resized(self.places, height, width)
        x_VHWC = self.narrow(x_VHWD + places_ND.view(height, width, -1))
        x_VHWC = x_VHWC + self._mixed(self.norm1(x_VHWC))
        read: Tensor = self.down(F.gelu(self.up(self.norm2(x_VHWC)))) * self.scale
        return x_VHWD + read

    def _mixed(self, x_VHWC: Tensor) -> Tensor:
        """Attention inside windows. Maps are rolled before they are padded, and padding is attended to, as officially."""
        size, shift = x_VHWC.shape[1:3], self.window // 2
        rolled = pad_to(x_VHWC.roll((-shift, -shift), (1, 2)), self.window)
        near_WTT = shift_mask(rolled.shape[1:3], self.window, shift, x_VHWC.device)
        bias = self.bias()[None].masked_fill(~near_WTT[:, None], -math.inf).repeat(len(x_VHWC), 1, 1, 1)
        q, k, v = self.heads.split(partition(rolled, self.window).flatten(1, 2))
        y_WTC = self.heads.join(F.scaled_dot_product_attention(q, k, v, attn_mask=bias))
        y_VHWC = merge(y_WTC.unflatten(1, (self.window, self.window)), size)
        return y_VHWC.roll((shift, shift), (1, 2))
