"""VQ-GAN (2012.09841): a convolutional encoder and decoder around a codebook. Its forms: Make-A-Scene (2203.13131) and
Chameleon, LlamaGen's that Janus uses, RQ-VAE (residual codes), MoVQ (modulated norms) and Emu3's for pictures and clips.

V views, C channels, D width of a code vector, F frames, T latent frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.codecs.contract import Codec, CodecConfig, Shape, pack_grids, unpack_grids
from beholder.parts.codecs.convolutions import CausalConv, Double, GridNorm, Halve, Level, Middle, TimeStack
from beholder.parts.codecs.quantizers import Codebooks
from beholder.parts.contracts import Packed
from beholder.parts.vision.views import by_size


@dataclass(frozen=True)
class VqGan(CodecConfig):
    """channels: width of the finest level; multipliers: of that width, level by level, each at half the resolution of the
    one before; blocks: residual blocks of an encoder level (a decoder level has one more); latent: channels around the
    quantizer; attention: levels, 0 the finest, whose blocks are followed by attention; heads: of attention;
    middle_attention: at the lowest resolution.

    modulated: norms of the decoder read the codes (MoVQ). frames: pictures of a clip in one latent frame, a power of
    two; 0 for a codec without a time axis. decodes: False for files that hold the encoder alone.
    """

    quantizer: Codebooks
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    latent: int = 256
    attention: tuple[int, ...] = ()
    heads: int = 1
    middle_attention: bool = True
    modulated: bool = False
    frames: int = 0
    decodes: bool = True

    def __post_init__(self) -> None:
        if self.frames & (self.frames - 1):
            raise BeholderError(f"{self.frames} frames in a latent frame; expected a power of two")
        if not self.multipliers or not set(self.attention) <= set(range(len(self.multipliers))):
            raise BeholderError(f"attention at levels {self.attention} of {len(self.multipliers)}")
        if self.frames and self.latent != self.quantizer.dim:
            raise BeholderError(
                f"latents of {self.latent} and codes of {self.quantizer.dim} share convolutions over time"
            )
        if any(width % 32 for width in self.widths):
            raise BeholderError(f"widths {self.widths} do not divide into the 32 groups of the norms")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    @property
    def patch(self) -> int:
        """Pixels per side of a code."""
        return int(2 ** (len(self.multipliers) - 1))

    def level_heads(self, level: int) -> int | None:
        """Heads of the attention at a level; None where there is none."""
        return self.heads if level in self.attention else None

    def grid(self, shape: Shape) -> Grid:
        *clip, height, width = shape
        if height % self.patch or width % self.patch or not height * width:
            raise BeholderError(
                f"a view of {width}x{height} pixels does not divide into codes of {self.patch}"
            )
        if clip and (not self.frames or clip[0] % self.frames or not clip[0]):
            raise BeholderError(
                f"a clip of {clip[0]} frames, but this codec takes "
                + (f"multiples of {self.frames}" if self.frames else "pictures alone")
            )
        return Grid(clip[0] // self.frames if clip else 1, height // self.patch, width // self.patch)

    def tiny(self) -> VqGan:
        """Two levels of width 32, the lower one with attention where any has."""
        levels = (1,) if self.attention else ()
        small = {
            "channels": 32,
            "multipliers": (1, 1),
            "blocks": 1,
            "latent": 8,
            "attention": levels,
            "heads": 1,
        }
        return self.but(quantizer=self.quantizer.tiny(), frames=self.frames and 2, **small)

    def build(self) -> VqGanCodec:
        return VqGanCodec(self)


class GridEncoder(nn.Module):
    """Pixels (V, 3, H, W) -> (V, latent, h, w)."""

    def __init__(self, config: VqGan) -> None:
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        self.stem = nn.Conv2d(3, config.channels, 3, padding=1)
        self.levels = nn.ModuleList()
        for level, width in enumerate(widths):
            before = widths[level - 1] if level else config.channels
            resample = Halve(width) if level < last else None
            self.levels.append(Level([before] + [width] * config.blocks, resample, config.level_heads(level)))
        self.middle = Middle(widths[-1], config.heads if config.middle_attention else None)
        self.norm = GridNorm(widths[-1])
        self.head = nn.Conv2d(widths[-1], config.latent, 3, padding=1)

    def forward(self, pixels_V3HW: Tensor) -> Tensor:
        x_VCHW = self.stem(pixels_V3HW)
        for level in self.levels:
            x_VCHW = level(x_VCHW)
        return self.head(F.silu(self.norm(self.middle(x_VCHW))))


class GridDecoder(nn.Module):
    """(V, latent, h, w) -> pixels (V, 3, H, W). Levels are numbered as the encoder's and run from the last to the first."""

    def __init__(self, config: VqGan) -> None:
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        code_dim = config.dim if config.modulated else None
        self.stem = nn.Conv2d(config.latent, widths[-1], 3, padding=1)
        self.middle = Middle(widths[-1], config.heads if config.middle_attention else None, code_dim)
        self.levels = nn.ModuleList()
        for level, width in enumerate(widths):
            before = widths[min(level + 1, last)]
            resample = Double(width) if level else None
            blocks = [before] + [width] * (config.blocks + 1)
            self.levels.append(Level(blocks, resample, config.level_heads(level), code_dim))
        self.norm = GridNorm(widths[0], code_dim)
        self.head = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, x_VCHW: Tensor, codes_VDhw: Tensor) -> Tensor:
        x_VCHW = self.middle(self.stem(x_VCHW), codes_VDhw)
        for level in reversed(self.levels):
            x_VCHW = level(x_VCHW, codes_VDhw)
        return self.head(F.silu(self.norm(x_VCHW, codes_VDhw)))


class VqGanCodec(Codec):
    """`Codec` by convolutions. A picture in a codec with a time axis is a clip of `frames` equal pictures."""

    config: VqGan

    def __init__(self, config: VqGan) -> None:
        super().__init__(config)
        latent, halvings = config.latent, config.frames.bit_length() - 1
        self.encoder = GridEncoder(config)
        self.to_code = _bridge(config, latent, config.dim)
        self.from_code = _bridge(config, config.dim, latent)
        self.decoder = GridDecoder(config) if config.decodes else None
        self.time_down = self.time_up = None
        if config.frames:
            self.time_down = TimeStack(latent, halvings, config.blocks, up=False)
            self.time_up = TimeStack(latent, halvings, config.blocks, up=True) if config.decodes else None

    @property
    def decodes(self) -> bool:
        return self.config.decodes

    def latents(self, views: Sequence[Tensor]) -> Packed:
        for view in views:
            self.config.grid(tuple(view.shape[1:]))
        return pack_grids(by_size(views, self._latents))

    def encoded(self, pixels: Tensor) -> Tensor:
        """The encoder's output before the map to codes: (V, latent, T, h, w) of pictures (V, 3, H, W) or clips
        (V, 3, F, H, W).
        """
        if pixels.ndim == 4:
            pixels = pixels[:, :, None].expand(-1, -1, max(self.config.frames, 1), -1, -1)
        rows = len(pixels)
        x_VCHW = self.encoder(pixels.transpose(1, 2).flatten(0, 1).to(self.encoder.stem.weight.dtype))
        x_VCTHW = x_VCHW.unflatten(0, (rows, -1)).transpose(1, 2)
        return x_VCTHW if self.time_down is None else self.time_down(x_VCTHW)

    def _latents(self, pixels: Tensor) -> Iterable[Tensor]:
        return self.to_code(self.encoded(pixels))

    def restore(
        self, packed: Packed, shapes: Sequence[Shape] = (), scales_P: Tensor | None = None
    ) -> list[Tensor]:
        views = by_size(unpack_grids(packed), self._restore)
        given = [shapes[number] if shapes else view.shape[2:] for number, view in enumerate(views)]
        stills = [
            len(shape) == 2 and grid.frames == 1 for shape, grid in zip(given, packed.grids, strict=True)
        ]
        return [view[:, 0] if still else view for view, still in zip(views, stills, strict=True)]

    def _restore(self, codes_VDThw: Tensor) -> Tensor:
        """(V, D, T, h, w) -> (V, 3, F, H, W)."""
        if self.decoder is None:
            raise BeholderError("this codec was built without its decoder; set decodes=True")
        rows, x_VCThw = len(codes_VDThw), self.from_code(codes_VDThw)
        if self.time_up is not None:
            both = self.time_up(torch.cat((x_VCThw, codes_VDThw)))
            x_VCThw, codes_VDThw = both.chunk(2)
        frames = (x.transpose(1, 2).flatten(0, 1) for x in (x_VCThw, codes_VDThw))
        return self.decoder(*frames).unflatten(0, (rows, -1)).transpose(1, 2)


class Channels(nn.Linear):
    """A linear map of the channels, axis 1."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def _bridge(config: VqGan, inputs: int, outputs: int) -> nn.Module:
    """The map between the encoder's channels and the codes' width."""
    return CausalConv(inputs, outputs, (3, 1, 1)) if config.frames else Channels(inputs, outputs)
