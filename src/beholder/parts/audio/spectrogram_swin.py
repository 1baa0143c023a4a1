"""A Swin transformer over a spectrogram folded to a square (HTS-AT, 2202.00874; CLAP, 2211.06687).

V views, F bins, T frames, S rows and columns of the square, D width of the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size
from beholder.parts.contracts import AudioConfig, AudioEncoder, Packed
from beholder.parts.vision.swin import Swin


@dataclass(frozen=True)
class SpectrogramSwin(AudioConfig):
    """bins: rows of a view, each normed as in training. Its frames are stretched to as many as S S / bins, cut into S / bins
    pieces of equal length, and the pieces stacked to the square of `encoder`. Tokens are unfolded again, their rows being
    frequencies and their columns time; the pooled vector is their mean.
    """

    encoder: Swin
    bins: int = 64
    dim: int = field(init=False)
    size: Size = field(init=False)

    def __post_init__(self) -> None:
        side, cells = self.encoder.image_size, self.encoder.sides(self.encoder.image_size)[-1]
        if side % self.bins or cells % (side // self.bins):
            raise BeholderError(
                f"{self.bins} bins do not fold to a square of {side} with {cells} tokens a side; give a divisor of both"
            )
        object.__setattr__(self, "dim", self.encoder.dim)
        object.__setattr__(self, "size", (self.bins, side * self.pieces))

    @property
    def pieces(self) -> int:
        """How many pieces of time lie above each other."""
        return self.encoder.image_size // self.bins

    def grid(self, size: Size) -> Grid:
        if size[0] != self.bins or not 0 < size[1] <= self.size[1]:
            raise BeholderError(
                f"a view of {size[0]} rows and {size[1]} columns; this encoder takes {self.bins} rows and up to "
                f"{self.size[1]} columns"
            )
        cells = self.encoder.sides(self.encoder.image_size)[-1]
        return Grid(1, cells // self.pieces, cells * self.pieces)

    def tiny(self) -> SpectrogramSwin:
        encoder = self.encoder.tiny()
        return self.but(encoder=encoder, bins=encoder.image_size // min(self.pieces, 4))

    def build(self) -> SpectrogramSwinEncoder:
        return SpectrogramSwinEncoder(self)


class SpectrogramSwinEncoder(AudioEncoder):
    """`Encoder` of spectrograms (1, F, T). columns: what is padding is cut off, and the rest stretched in its place."""

    def __init__(self, config: SpectrogramSwin) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.BatchNorm2d(config.bins)
        self.encoder = config.encoder.build()

    def forward(self, views: Sequence[Tensor], columns: Sequence[int] | None = None) -> Packed:
        heard = [view.shape[-1] for view in views] if columns is None else columns
        grids = tuple(
            self.config.grid((view.shape[-2], count)) for view, count in zip(views, heard, strict=True)
        )
        squares = [self.square(view[..., :count]) for view, count in zip(views, heard, strict=True)]
        packed: Packed = self.encoder(squares)
        pieces, (grid, *_) = self.config.pieces, packed.grids
        rows_VghwD = packed.tokens_ND.unflatten(0, (len(views), pieces, grid.height // pieces, grid.width))
        tokens_ND = rows_VghwD.transpose(1, 2).flatten(0, 3)
        return Packed(tokens_ND, grids, pooled_VD=packed.pooled_VD)

    def square(self, view_1FT: Tensor) -> Tensor:
        """(1, S, S)."""
        normed_1FT = self.norm(view_1FT.to(self.norm.weight.dtype)[None].transpose(1, 2)).transpose(1, 2)[0]
        long_1TF = normed_1FT.transpose(1, 2)
        if long_1TF.shape[1] < self.config.size[1]:
            size = (self.config.size[1], self.config.bins)
            long_1TF = F.interpolate(long_1TF[None], size, mode="bicubic", align_corners=True)[0]
        return long_1TF.unflatten(1, (self.config.pieces, -1)).transpose(2, 3).flatten(1, 2)
