"""What tokenizers of pictures and sound promise: views to discrete codes, and codes back to views.

V views, N places of all views, Q codebooks that describe a place together, D width of a code vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.codecs.quantizers import Codebooks, Quantized
from beholder.parts.contracts import Packed

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Codes:
    """Discrete codes of several views, one after the other.

    ids_NQ:   in raster order of each view's grid; Q = 1 but for residual quantizers
    grids:    one per view; sound has (frames, 1, 1)
    shapes:   of each view behind its channels: (height, width), (frames, height, width) or (1, samples). Empty for codes
              that a model made up: then grids are decoded whole
    scales_P: loudness by which each piece of sound was divided, where the codec does so
    """

    ids_NQ: Tensor
    grids: tuple[Grid, ...]
    shapes: tuple[Shape, ...] = ()
    scales_P: Tensor | None = None

    def __post_init__(self) -> None:
        want = sum(grid.num_tokens for grid in self.grids)
        if self.ids_NQ.ndim != 2 or len(self.ids_NQ) != want:
            raise BeholderError(
                f"{len(self.grids)} grids hold {want} codes, but the ids are {tuple(self.ids_NQ.shape)}; "
                "give (codes, codebooks)"
            )

    def split(self) -> list[Tensor]:
        """The ids of each view, (n, Q)."""
        return list(self.ids_NQ.split([grid.num_tokens for grid in self.grids]))


class CodecConfig(Config):
    """Settings of a tokenizer of pictures or sound."""

    modality: ClassVar[str] = "image"

    quantizer: Codebooks

    @property
    def vocab_size(self) -> int:
        """Codes of one codebook."""
        return self.quantizer.size

    @property
    def num_quantizers(self) -> int:
        """Codebooks that describe a place together."""
        return self.quantizer.depth

    @property
    def dim(self) -> int:
        """Width of a code vector."""
        return self.quantizer.dim

    def depth_at(self, bandwidth: float) -> int:
        """Codebooks that fit into so many kilobits a second; all of them in codecs of pictures."""
        return self.num_quantizers

    def grid(self, shape: Shape) -> Grid:
        """Where the codes of a view of this shape (behind its channels) lie; raises `BeholderError` for a shape that the
        codec cannot take.
        """
        raise NotImplementedError

    def build(self) -> Codec:
        raise NotImplementedError


class Codec(nn.Module):
    """Views are (3, height, width), (3, frames, height, width) or (channels, 1, samples). Subclasses give `latents` and
    `restore`.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = config.quantizer.build()

    @property
    def decodes(self) -> bool:
        """Whether it can turn codes back into views."""
        return True

    def latents(self, views: Sequence[Tensor]) -> Packed:
        """What is quantized, (N, D)."""
        raise NotImplementedError

    def restore(
        self, packed: Packed, shapes: Sequence[Shape] = (), scales_P: Tensor | None = None
    ) -> list[Tensor]:
        """Views from code vectors (N, D); `shapes` and `scales_P` as in `Codes`."""
        raise NotImplementedError

    def scales(self, views: Sequence[Tensor]) -> Tensor | None:
        """The loudness by which `latents` divides, for codecs that do."""
        return None

    def encode(self, views: Sequence[Tensor], depth: int | None = None) -> Codes:
        """Codes of the first `depth` codebooks (None: of all)."""
        packed = self.latents(views)
        ids_NQ = self.quantizer(packed.tokens_ND, depth).ids_NQ
        return Codes(ids_NQ, packed.grids, _shapes(views), self.scales(views))

    def embed(self, ids_NQ: Tensor) -> Tensor:
        """Code vectors (N, D), summed over codebooks. Raises `BeholderError` for ids outside the codebooks."""
        return self.quantizer.lookup(ids_NQ)

    def decode(self, codes: Codes) -> list[Tensor]:
        """Views of the codes, of the size of those that were encoded."""
        return self.restore(Packed(self.embed(codes.ids_NQ), codes.grids), codes.shapes, codes.scales_P)

    def forward(self, views: Sequence[Tensor]) -> tuple[list[Tensor], Quantized]:
        """Training: the views again, with straight-through gradients, and what the quantizer says of itself."""
        packed = self.latents(views)
        quantized = self.quantizer(packed.tokens_ND)
        chosen = Packed(quantized.vectors_ND, packed.grids)
        return self.restore(chosen, _shapes(views), self.scales(views)), quantized


def _shapes(views: Sequence[Tensor]) -> tuple[Shape, ...]:
    return tuple(tuple(view.shape[1:]) for view in views)


def pack_grids(latents: Sequence[Tensor]) -> Packed:
    """Latents (D, frames, height, width) of each view as packed tokens."""
    grids = tuple(Grid(*latent.shape[1:]) for latent in latents)
    return Packed(torch.cat([latent.flatten(1).T for latent in latents]), grids)


def unpack_grids(packed: Packed) -> list[Tensor]:
    """The inverse of `pack_grids`."""
    return [tokens.T.unflatten(1, grid) for tokens, grid in zip(packed.split(), packed.grids, strict=True)]
