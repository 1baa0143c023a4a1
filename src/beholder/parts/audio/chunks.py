"""An encoder of sound that hears chunks of a view by themselves, so that attention reaches no further and long sounds cost no
more than they are long (Qwen2.5-Omni, 2503.20215, section 2.1).

V views, N packed tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size, View
from beholder.parts.audio.transformer import SignalTransformer
from beholder.parts.blocks.positions import learned
from beholder.parts.contracts import AudioConfig, AudioEncoder, Packed


@dataclass(frozen=True)
class Chunks(AudioConfig):
    """encoder: hears `columns` columns of a view at a time, the last ones fewer; what is padding is not heard at all. A view's
    tokens follow each other. spare: the shape of a table that released files hold and no forward reads.
    """

    encoder: SignalTransformer
    columns: int
    spare: tuple[int, int] | None = None
    dim: int = field(init=False)
    size: Size = field(init=False)

    def __post_init__(self) -> None:
        if self.columns < 1 or self.encoder.pool or self.encoder.taps:
            raise BeholderError(
                f"chunks of {self.columns} columns by an encoder with pool {self.encoder.pool} and taps {self.encoder.taps}; "
                "chunks need a column, and give features of the last depth alone"
            )
        object.__setattr__(self, "dim", self.encoder.dim)
        object.__setattr__(self, "size", (self.encoder.size[0], 2 * self.columns))

    def chunks(self, count: int) -> list[int]:
        """How many columns each chunk of `count` has, without a last one that is too short for a token."""
        cut = [min(self.columns, count - start) for start in range(0, count, self.columns)]
        return [width for width in cut if self._tokens(width)]

    def grid(self, size: Size) -> Grid:
        if size[0] != self.encoder.size[0]:
            raise BeholderError(
                f"this encoder takes views of {self.encoder.size[0]} rows, not {size[0]}; check the front end's bins"
            )
        return Grid(1, 1, sum(self._tokens(width) for width in self.chunks(size[1])))

    def view_grid(self, view: View) -> Grid:
        """Of the columns that are no padding."""
        return self.grid((view.size[0], min(view.filled, view.size[1])))

    def tiny(self) -> Chunks:
        encoder = self.encoder.tiny()
        return self.but(encoder=encoder, columns=min(self.columns, 20), spare=self.spare and (2, 32))

    def build(self) -> ChunksEncoder:
        return ChunksEncoder(self)

    def _tokens(self, columns: int) -> int:
        return self.encoder.grid((self.encoder.size[0], columns)).num_tokens


class ChunksEncoder(AudioEncoder):
    """`Encoder` of sounds by their chunks."""

    def __init__(self, config: Chunks) -> None:
        super().__init__()
        self.config = config
        self.encoder = config.encoder.build()
        self.spare = learned(*config.spare) if config.spare else None

    def forward(self, views: Sequence[Tensor], columns: Sequence[int] | None = None) -> Packed:
        heard = [view.shape[-1] for view in views] if columns is None else columns
        widths = [self.config.chunks(count) for count in heard]
        pieces = [
            piece
            for view, own in zip(views, widths, strict=True)
            for piece in view[..., : sum(own)].split(own, -1)
        ]
        packed: Packed = self.encoder(pieces)
        rows = self.config.encoder.size[0]
        return Packed(packed.tokens_ND, tuple(self.config.grid((rows, count)) for count in heard))

    def unused_parameters(self, *, pooled: bool) -> set[str]:
        inner = {f"encoder.{name}" for name in self.encoder.unused_parameters(pooled=pooled)}
        return inner | ({"spare"} if self.spare is not None else set())
