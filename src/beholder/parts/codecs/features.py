"""Codecs on another encoder's features: HuBERT units (2106.07447, 2102.01192) and the SEED tokenizer (2307.08041).

V views, N tokens, E width of the encoder's features, D width of a code vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import TransformerLayer, run_layers
from beholder.parts.codecs.contract import Codec, CodecConfig, Shape
from beholder.parts.codecs.quantizers import Codebooks
from beholder.parts.contracts import EncoderConfig, Packed


@dataclass(frozen=True)
class FeatureCodec(CodecConfig):
    """A codec of what `encoder` makes of views. Without an encoder, views are its features: (E, rows, columns)."""

    quantizer: Codebooks
    encoder: EncoderConfig | None = None

    def grid(self, shape: Shape) -> Grid:
        if len(shape) != 2:
            raise BeholderError(f"a view of shape {shape} behind its channels; expected (rows, columns)")
        return Grid(1, *shape) if self.encoder is None else self.encoder.grid((shape[0], shape[1]))


class FeatureCodecModel(Codec):
    """What codecs of features share."""

    config: FeatureCodec

    def __init__(self, config: FeatureCodec) -> None:
        super().__init__(config)
        self.encoder = config.encoder.build() if config.encoder is not None else None

    def features(self, views: Sequence[Tensor]) -> Packed:
        """Of the encoder, (N, E)."""
        if self.encoder is not None:
            return self.encoder(views)
        grids = tuple(self.config.grid(tuple(view.shape[1:])) for view in views)
        return Packed(torch.cat([view.flatten(1).T for view in views]), grids)


@dataclass(frozen=True)
class Units(FeatureCodec):
    """k-means units of speech: the nearest centroid (row of the codebook) of each feature. tap: the depth of the encoder
    whose features are taken, one of its `taps`; None takes its tokens.
    """

    modality: ClassVar[str] = "audio"

    tap: int | None = None

    def build(self) -> UnitsCodec:
        return UnitsCodec(self)


class UnitsCodec(FeatureCodecModel):
    """Units of speech; sound is made of them by a vocoder, which is no part of the codec."""

    config: Units

    @property
    def decodes(self) -> bool:
        return False

    def latents(self, views: Sequence[Tensor]) -> Packed:
        packed, tap = self.features(views), self.config.tap
        return packed if tap is None else packed.taps[tap]

    def restore(
        self, packed: Packed, shapes: Sequence[Shape] = (), scales_P: Tensor | None = None
    ) -> list[Tensor]:
        raise BeholderError("units have no decoder of their own; a vocoder makes sound of them")


def merge_runs(ids_N: Tensor) -> tuple[Tensor, Tensor]:
    """Units with repeats in a row left out, as SpeechGPT (2305.11000) reads them, and how often each stood there."""
    return torch.unique_consecutive(ids_N, return_counts=True)


@dataclass(frozen=True)
class Seed(FeatureCodec):
    """SEED: queries of a causal Q-Former (the encoder, `queries` tokens a view) as codes, and layers that turn codes back
    into a vector on which unCLIP diffusion conditions. dim_in: width of the queries where no encoder makes them.

    num_layers, attention, mlp, norm: of those layers; reduce: widths that shrink each token before all are joined;
    out: width of the vector.
    """

    quantizer: Codebooks
    encoder: EncoderConfig | None = None
    dim_in: int = 768
    queries: int = 32
    num_layers: int = 4
    attention: Attention = Attention(12, qkv_bias=True, out_bias=True)
    mlp: FeedForward = FeedForward(3072)
    norm: Norm = Norm("layer", 1e-6)
    reduce: tuple[int, ...] = (256, 128, 32)
    out: int = 1024

    def grid(self, shape: Shape) -> Grid:
        grid = super().grid(shape)
        if grid.num_tokens != self.queries:
            raise BeholderError(f"{grid.num_tokens} features of a view; this codec takes {self.queries}")
        return grid

    @property
    def width(self) -> int:
        """Of the queries, and of the layers behind the codes."""
        return self.dim_in if self.encoder is None else self.encoder.out_dim

    def tiny(self) -> Seed:
        return super().tiny().but(dim_in=32, queries=4, num_layers=2, reduce=(16, 8), out=24)

    def build(self) -> SeedCodec:
        return SeedCodec(self)


class SeedCodec(FeatureCodecModel):
    """`decode` gives vectors (out,), one for each view."""

    config: Seed

    def __init__(self, config: Seed) -> None:
        super().__init__(config)
        width, dim = config.width, config.dim
        self.to_code = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, dim))
        self.from_code = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, width))
        self.positions = learned(config.queries, width)
        self.blocks = nn.ModuleList(
            TransformerLayer(width, config.attention, config.mlp, norm=config.norm)
            for _ in range(config.num_layers)
        )
        widths = (width, *config.reduce)
        layers: list[nn.Module] = []
        for before, after in zip(widths, config.reduce, strict=False):
            layers += [nn.Linear(before, after, bias=False), nn.ReLU()]
        self.reduce = nn.Sequential(*layers[:-1])
        self.out = nn.Linear(config.queries * widths[-1], config.out)

    def latents(self, views: Sequence[Tensor]) -> Packed:
        packed = self.features(views)
        return Packed(self.to_code(packed.tokens_ND), packed.grids)

    def restore(
        self, packed: Packed, shapes: Sequence[Shape] = (), scales_P: Tensor | None = None
    ) -> list[Tensor]:
        counts = {grid.num_tokens for grid in packed.grids}
        if counts != {self.config.queries}:
            raise BeholderError(f"views of {sorted(counts)} codes; a vector is made of {self.config.queries}")
        codes_VTD = torch.stack(packed.split())
        x_VTE = self.from_code(codes_VTD) + self.positions
        x_VTE, _ = run_layers(self.blocks, x_VTE, Step(dtype=x_VTE.dtype))
        return list(self.out(self.reduce(x_VTE).flatten(1)))
