"""Codecs of waveforms: EnCodec (2210.13438) and SpeechTokenizer (2308.16692), a SEANet of causal or centred convolutions
and an LSTM around residual codebooks.

P pieces of sound, C channels, S samples, T frames, D width of a code vector.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Grid
from beholder.parts.codecs.contract import Codec, CodecConfig, Shape
from beholder.parts.codecs.quantizers import Codebooks
from beholder.parts.contracts import Packed
from beholder.parts.vision.views import by_size

PADS = ("reflect", "constant", "replicate", "circular")


@dataclass(frozen=True)
class SeaNet(Config):
    """filters: width at the rate of samples, doubled at each ratio; ratios: strides of the decoder, the encoder's come in
    reverse; repeats: residual blocks at each rate; kernel, last_kernel, inner_kernel: of the first and last convolution
    and of residual blocks, whose dilation grows by `growth` and whose inner width is divided by `compress`.

    causal: convolutions see the past alone. pad: padding mode of torch. norm: `weight` (weight normalisation, 1602.07868)
    or `group` (one GroupNorm group over a convolution's output). act: `elu` or `snake` (2306.06546). shortcut: residual
    paths go through a convolution. lstm: layers; both_ways: the encoder's reads backwards as well, which doubles its
    width. trim: share of a causal transposed convolution's surplus that is cut from the end.
    """

    filters: int = 32
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    repeats: int = 1
    kernel: int = 7
    last_kernel: int = 7
    inner_kernel: int = 3
    growth: int = 2
    compress: int = 2
    causal: bool = True
    pad: str = "reflect"
    norm: str = "weight"
    act: str = "elu"
    shortcut: bool = True
    lstm: int = 2
    both_ways: bool = False
    trim: float = 1.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("pad", self.pad, PADS),
            ("norm", self.norm, ("weight", "group")),
            ("act", self.act, ("elu", "snake")),
        ):
            if value not in known:
                raise UnknownName(f"SeaNet {name}", value, known)
        if self.filters < self.compress:
            raise BeholderError(f"{self.filters} filters leave none when divided by compress={self.compress}")
        if self.trim != 1.0 and not self.causal:
            raise BeholderError(f"trim {self.trim} has a meaning for causal convolutions alone; set it to 1")

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return math.prod(self.ratios)

    @property
    def widest(self) -> int:
        """Channels at the rate of frames."""
        return self.filters * int(2 ** len(self.ratios))

    def tiny(self) -> SeaNet:
        return self.but(filters=4, ratios=(4, 2), lstm=min(self.lstm, 1))

    def activation(self, channels: int) -> nn.Module:
        return nn.ELU() if self.act == "elu" else Snake(channels)

    def encoder(self, channels: int, dim: int) -> nn.Sequential:
        """(P, channels, S) -> (P, dim, T)."""
        width = self.filters
        layers: list[nn.Module] = [Conv(self, channels, width, self.kernel)]
        for ratio in reversed(self.ratios):
            layers += [SeaBlock(self, width, self.growth**number) for number in range(self.repeats)]
            layers += [self.activation(width), Conv(self, width, 2 * width, 2 * ratio, ratio)]
            width *= 2
        if self.lstm:
            layers.append(Lstm(width, self.lstm, self.both_ways))
            width *= 1 + self.both_ways
        return nn.Sequential(*layers, self.activation(width), Conv(self, width, dim, self.last_kernel))

    def decoder(self, dim: int, channels: int) -> nn.Sequential:
        """(P, dim, T) -> (P, channels, S)."""
        width = self.widest
        layers: list[nn.Module] = [Conv(self, dim, width, self.kernel)]
        layers += [Lstm(width, self.lstm)] if self.lstm else []
        for ratio in self.ratios:
            layers += [self.activation(width), TransposedConv(self, width, width // 2, ratio)]
            width //= 2
            layers += [SeaBlock(self, width, self.growth**number) for number in range(self.repeats)]
        return nn.Sequential(*layers, self.activation(width), Conv(self, width, channels, self.last_kernel))


class Normed(nn.Module):
    """A convolution's weights under weight normalisation: scale * direction / |direction|, the length taken over all axes
    but the first; or plain weights, with a norm behind.
    """

    def __init__(self, net: SeaNet, shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        direction = nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.direction = self.scale = self.weight = self.norm = None
        if net.norm == "weight":
            self.direction = nn.Parameter(direction)
            self.scale = nn.Parameter(direction.flatten(1).norm(dim=1)[:, None, None])
        else:
            self.weight = nn.Parameter(direction)
            self.norm = nn.GroupNorm(1, outputs)

    def convolve(self, x_PCS: Tensor, convolution: Callable[..., Tensor], **settings: int) -> Tensor:
        weight = self.weight
        if self.direction is not None and self.scale is not None:
            weight = self.direction * (self.scale / self.direction.flatten(1).norm(dim=1)[:, None, None])
        y_PCS = convolution(x_PCS, weight, self.bias, **settings)
        return y_PCS if self.norm is None else self.norm(y_PCS)


class Conv(Normed):
    """Padded so that there are ceil(S / stride) frames: in front alone where causal, else on both sides."""

    def __init__(
        self, net: SeaNet, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__(net, (outputs, inputs, kernel), outputs)
        self.net, self.stride, self.dilation = net, stride, dilation
        self.overlap = (kernel - 1) * dilation + 1 - stride

    def forward(self, x_PCS: Tensor) -> Tensor:
        missing = -x_PCS.shape[-1] % self.stride
        behind = 0 if self.net.causal else self.overlap // 2
        padded = _pad(x_PCS, self.overlap - behind, behind + missing, self.net.pad)
        return self.convolve(padded, F.conv1d, stride=self.stride, dilation=self.dilation)


class TransposedConv(Normed):
    """`ratio` samples for each; the surplus is cut off behind where causal, else on both sides."""

    def __init__(self, net: SeaNet, inputs: int, outputs: int, ratio: int) -> None:
        super().__init__(net, (inputs, outputs, 2 * ratio), outputs)
        self.ratio = ratio
        self.behind = math.ceil(ratio * net.trim) if net.causal else ratio // 2

    def forward(self, x_PCS: Tensor) -> Tensor:
        y_PCS = self.convolve(x_PCS, F.conv_transpose1d, stride=self.ratio)
        return y_PCS[..., self.ratio - self.behind : y_PCS.shape[-1] - self.behind]


def _pad(x_PCS: Tensor, front: int, behind: int, mode: str) -> Tensor:
    """Sounds shorter than a reflection are continued by zeros, which are cut off again (official `_pad1d`)."""
    extra = max(0, max(front, behind) + 1 - x_PCS.shape[-1]) if mode == "reflect" else 0
    padded = F.pad(F.pad(x_PCS, (0, extra)), (front, behind), mode)
    return padded[..., : padded.shape[-1] - extra]


class SeaBlock(nn.Module):
    """shortcut(x) + two convolutions with activations in front."""

    def __init__(self, net: SeaNet, width: int, dilation: int) -> None:
        super().__init__()
        inner = width // net.compress
        self.block = nn.Sequential(
            net.activation(width),
            Conv(net, width, inner, net.inner_kernel, dilation=dilation),
            net.activation(inner),
            Conv(net, inner, width, 1),
        )
        self.shortcut = Conv(net, width, width, 1) if net.shortcut else None

    def forward(self, x_PCS: Tensor) -> Tensor:
        return self.block(x_PCS) + (x_PCS if self.shortcut is None else self.shortcut(x_PCS))


class Lstm(nn.Module):
    """x + LSTM(x) over time; read both ways, the width doubles and x counts in each half."""

    def __init__(self, width: int, layers: int, both_ways: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers, bidirectional=both_ways)

    def forward(self, x_PCT: Tensor) -> Tensor:
        x_TPC = x_PCT.permute(2, 0, 1)
        y_TPC = self.lstm(x_TPC)[0]
        return (y_TPC + x_TPC.repeat(1, 1, 1 + self.lstm.bidirectional)).permute(1, 2, 0)


class Snake(nn.Module):
    """x + sin(a x)^2 / a with a learned a for each channel (2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x_PCS: Tensor) -> Tensor:
        return x_PCS + torch.sin(self.alpha * x_PCS).pow(2) / (self.alpha + 1e-9)


@dataclass(frozen=True)
class SoundCodec(CodecConfig):
    """rate: samples a second; channels: 1 mono, 2 stereo. loudness: divide each piece by its own. piece: samples that are
    coded at once, None for all; step: samples from one piece's start to the next, whose overlap is faded. semantic: width
    of SpeechTokenizer's teacher, onto which the first codebook's vectors can be mapped.
    """

    modality: ClassVar[str] = "audio"

    quantizer: Codebooks
    net: SeaNet = SeaNet()
    rate: int = 24000
    channels: int = 1
    loudness: bool = False
    piece: int | None = None
    step: int | None = None
    semantic: int | None = None

    def __post_init__(self) -> None:
        if (self.piece is None) != (self.step is None) or not 1 <= (self.step or 1) <= (self.piece or 1):
            raise BeholderError(
                f"pieces of {self.piece} samples every {self.step}; give both, the second not larger"
            )

    def pieces(self, samples: int) -> list[tuple[int, int]]:
        """First sample and number of samples of each piece."""
        if self.piece is None or self.step is None:
            return [(0, samples)]
        return [(start, min(self.piece, samples - start)) for start in range(0, samples, self.step)]

    def frames(self, samples: int) -> int:
        """Frames of so many samples at once."""
        return math.ceil(samples / self.net.hop)

    def samples(self, frames: int) -> int:
        """Samples of the longest sound that has so many frames, over all pieces; raises `BeholderError` where none has."""
        lengths = range(1, frames * self.net.hop + 1)
        samples = bisect.bisect_right(lengths, frames, key=lambda length: self.grid((1, length)).frames)
        if not samples or self.grid((1, samples)).frames != frames:
            raise BeholderError(f"no sound has {frames} frames in pieces of {self.piece} samples")
        return samples

    @property
    def frame_rate(self) -> int:
        """Frames a second, rounded up as officially."""
        return self.frames(self.rate)

    def depth_at(self, bandwidth: float) -> int:
        """Codebooks that fit into so many kilobits a second, at least one."""
        fitting = int(bandwidth * 1000 // (math.log2(self.vocab_size) * self.frame_rate))
        return min(max(fitting, 1), self.num_quantizers)

    def grid(self, shape: Shape) -> Grid:
        if len(shape) != 2 or shape[0] != 1 or shape[1] < 1:
            raise BeholderError(f"a view of shape {shape} behind its channels; a waveform has (1, samples)")
        return Grid(sum(self.frames(count) for _, count in self.pieces(shape[1])), 1, 1)

    def tiny(self) -> SoundCodec:
        small = super().tiny()
        return small.but(semantic=self.semantic and 12, **({"piece": 100, "step": 90} if self.piece else {}))

    def build(self) -> SeaNetCodec:
        return SeaNetCodec(self)


class SeaNetCodec(Codec):
    """`Codec` of waveforms (channels, 1, samples)."""

    config: SoundCodec

    def __init__(self, config: SoundCodec) -> None:
        super().__init__(config)
        self.encoder = config.net.encoder(config.channels, config.dim)
        self.decoder = config.net.decoder(config.dim, config.channels)
        self.semantic = nn.Linear(config.dim, config.semantic) if config.semantic else None

    def latents(self, views: Sequence[Tensor]) -> Packed:
        pieces = self._pieces(views)
        scales_P = self.scales(views)
        if scales_P is not None:
            pieces = [piece / scale for piece, scale in zip(pieces, scales_P, strict=True)]
        tokens = by_size(pieces, lambda x_PCS: self.encoder(x_PCS).transpose(1, 2))
        return Packed(torch.cat(tokens), tuple(self.config.grid(tuple(view.shape[1:])) for view in views))

    def scales(self, views: Sequence[Tensor]) -> Tensor | None:
        """Root mean square of each piece of all views, mixed to mono; None for codecs that keep loudness."""
        if not self.config.loudness:
            return None
        return torch.stack([piece.mean(0).pow(2).mean().sqrt() + 1e-8 for piece in self._pieces(views)])

    def _pieces(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Pieces (C, S) of all views, one after the other."""
        channels, dtype = self.config.channels, next(self.encoder.parameters()).dtype
        for view in views:
            self.config.grid(tuple(view.shape[1:]))
            if view.shape[0] != channels:
                raise BeholderError(f"a sound of {view.shape[0]} channels; this codec takes {channels}")
        return [
            view[:, 0, start : start + count].to(dtype)
            for view in views
            for start, count in self.config.pieces(view.shape[-1])
        ]

    def restore(
        self, packed: Packed, shapes: Sequence[Shape] = (), scales_P: Tensor | None = None
    ) -> list[Tensor]:
        config = self.config
        samples = [shape[-1] for shape in shapes] or [config.samples(grid.frames) for grid in packed.grids]
        spans = [config.pieces(count) for count in samples]
        frames = [config.frames(count) for pieces in spans for _, count in pieces]
        codes = [tokens_TD.T for tokens_TD in packed.tokens_ND.split(frames)]
        sounds = by_size(codes, self.decoder)
        if scales_P is not None:
            sounds = [sound * scale for sound, scale in zip(sounds, scales_P, strict=True)]
        views = []
        for pieces, count in zip(spans, samples, strict=True):
            mine, sounds = sounds[: len(pieces)], sounds[len(pieces) :]
            joined = mine[0] if len(pieces) == 1 else self._fade(mine)
            views.append(joined[:, None, :count])
        return views

    def _fade(self, pieces: Sequence[Tensor]) -> Tensor:
        """Overlapping pieces (C, S) added up under triangles, divided by the sum of the triangles."""
        assert self.config.step is not None
        step, longest = self.config.step, pieces[0].shape[-1]
        total = max(number * step + piece.shape[-1] for number, piece in enumerate(pieces))
        places = torch.linspace(0, 1, longest + 2, dtype=pieces[0].dtype, device=pieces[0].device)[1:-1]
        triangle = 0.5 - (places - 0.5).abs()
        joined, weights = pieces[0].new_zeros(pieces[0].shape[0], total), pieces[0].new_zeros(total)
        for number, piece in enumerate(pieces):
            span = slice(number * step, number * step + piece.shape[-1])
            joined[:, span] += triangle[: piece.shape[-1]] * piece
            weights[span] += triangle[: piece.shape[-1]]
        return joined / weights

    def meaning(self, ids_NQ: Tensor) -> Tensor:
        """SpeechTokenizer: the first codebook's vectors in the space of its teacher's features, (N, semantic)."""
        if self.semantic is None:
            raise BeholderError("this codec was built without a semantic width")
        return self.semantic(self.quantizer.lookup(ids_NQ[:, :1]))
