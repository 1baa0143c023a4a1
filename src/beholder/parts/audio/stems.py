"""What turns a view of sound into the first tokens: convolutions over frames, over samples, or patches of a spectrogram.

V views, C channels, T tokens, D width; views are (V, 1, rows, columns).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.norms import Norm


class Stem(Config):
    """Settings of a map from views to tokens."""

    def grid(self, size: Size) -> Grid:
        """The tokens of a view of (rows, columns); raises `BeholderError` where it gives none."""
        raise NotImplementedError

    def filled(self, size: Size, columns: int) -> int:
        """How many tokens see any of the first `columns` columns, where the others are padding."""
        raise NotImplementedError

    def tiny_size(self, size: Size) -> Size:
        """(rows, columns) of a short view for tests."""
        return min(size[0], 32), min(size[1], 64)

    def build(self, rows: int, dim: int) -> nn.Module:
        """The module (V, 1, rows, columns) -> (V, T, D)."""
        raise NotImplementedError


@dataclass(frozen=True)
class FrameConvs(Stem):
    """One-dimensional convolutions over the frames of a spectrogram, each padded by half its kernel (Whisper, 2212.04356).

    glu: each gives twice the channels, one half a gate for the other (1911.08460); channels: of those before the last,
    the width where None.
    """

    kernels: tuple[int, ...] = (3, 3)
    strides: tuple[int, ...] = (1, 2)
    channels: int | None = None
    glu: bool = False
    act: str = "gelu"
    scale: float = 1.0

    def grid(self, size: Size) -> Grid:
        return Grid(1, 1, _length(size[1], self.kernels, self.strides, padded=True))

    def filled(self, size: Size, columns: int) -> int:
        return _length(columns, self.kernels, self.strides, padded=True) if columns else 0

    def tiny(self) -> FrameConvs:
        return self.but(channels=self.channels and 24)

    def build(self, rows: int, dim: int) -> nn.Module:
        return FrameConvStack(self, rows, dim)


class FrameConvStack(nn.Module):
    """(V, 1, rows, frames) -> (V, T, D)."""

    def __init__(self, config: FrameConvs, rows: int, dim: int) -> None:
        super().__init__()
        self.config, self.act = config, activation(config.act)
        widths = (
            [rows] + [config.channels or dim] * (len(config.kernels) - 1) + [dim * (2 if config.glu else 1)]
        )
        inputs = [width // 2 if config.glu and index else width for index, width in enumerate(widths)]
        self.convs = nn.ModuleList(
            nn.Conv1d(inputs[index], widths[index + 1], kernel, stride, padding=kernel // 2)
            for index, (kernel, stride) in enumerate(zip(config.kernels, config.strides, strict=True))
        )

    def forward(self, views_V1CF: Tensor) -> Tensor:
        x_VCT = views_V1CF[:, 0]
        for conv in self.convs:
            x_VCT = F.glu(conv(x_VCT), dim=1) if self.config.glu else self.act(conv(x_VCT))
        return x_VCT.transpose(1, 2) * self.config.scale


@dataclass(frozen=True)
class FrameLinear(Stem):
    """Each frame of a spectrogram by itself, through one matrix (Granite Speech, 2505.08699)."""

    def grid(self, size: Size) -> Grid:
        return Grid(1, 1, size[1])

    def filled(self, size: Size, columns: int) -> int:
        return columns

    def build(self, rows: int, dim: int) -> nn.Module:
        return FrameProjection(rows, dim)


class FrameProjection(nn.Module):
    """(V, 1, rows, frames) -> (V, T, D)."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(rows, dim)

    def forward(self, views_V1RF: Tensor) -> Tensor:
        return self.project(views_V1RF[:, 0].transpose(1, 2))


@dataclass(frozen=True)
class WaveConvs(Stem):
    """Convolutions over samples without padding (wav2vec 2.0, 2006.11477), then a norm and a linear map to the width.

    norms: `first` norms each channel of the first convolution over time; `all` norms all channels after each.
    project_norm: the norm before the linear map, which some HuBERT files lack.
    """

    channels: tuple[int, ...] = (512,) * 7
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    norms: str = "first"
    bias: bool = False
    act: str = "gelu"
    project_norm: Norm | None = Norm()

    def __post_init__(self) -> None:
        if self.norms not in ("first", "all"):
            raise BeholderError(f"norms of a waveform stem are {self.norms!r}; expected first or all")
        if not len(self.channels) == len(self.kernels) == len(self.strides) > 0:
            raise BeholderError(
                f"{len(self.channels)} channel counts, {len(self.kernels)} kernels and {len(self.strides)} strides; "
                "each convolution needs one of each"
            )

    def grid(self, size: Size) -> Grid:
        return Grid(1, 1, _length(size[1], self.kernels, self.strides, padded=False))

    def filled(self, size: Size, columns: int) -> int:
        return _length(columns, self.kernels, self.strides, padded=False)

    def tiny(self) -> WaveConvs:
        return super().tiny().but(channels=(16, 16, 16), kernels=(10, 3, 3), strides=(5, 2, 2))

    def tiny_size(self, size: Size) -> Size:
        return size[0], 400

    def build(self, rows: int, dim: int) -> nn.Module:
        return WaveConvStack(self, dim)


class WaveConvStack(nn.Module):
    """(V, 1, 1, samples) -> (V, T, D)."""

    def __init__(self, config: WaveConvs, dim: int) -> None:
        super().__init__()
        self.config, self.act = config, activation(config.act)
        inputs = (1, *config.channels)
        self.convs = nn.ModuleList(
            nn.Conv1d(inputs[index], inputs[index + 1], kernel, stride, bias=config.bias)
            for index, (kernel, stride) in enumerate(zip(config.kernels, config.strides, strict=True))
        )
        normed = config.channels if config.norms == "all" else config.channels[:1]
        self.norms = nn.ModuleList(
            nn.LayerNorm(width) if config.norms == "all" else nn.GroupNorm(width, width) for width in normed
        )
        last = config.channels[-1]
        self.norm = config.project_norm.build(last) if config.project_norm is not None else None
        self.project = nn.Linear(last, dim)

    def forward(self, views_V11S: Tensor) -> Tensor:
        x_VCT = views_V11S[:, 0]
        for index, conv in enumerate(self.convs):
            x_VCT = conv(x_VCT)
            if self.config.norms == "all":
                x_VCT = self.norms[index](x_VCT.transpose(1, 2)).transpose(1, 2)
            elif index == 0:
                x_VCT = self.norms[0](x_VCT)
            x_VCT = self.act(x_VCT)
        x_VTC = x_VCT.transpose(1, 2)
        return self.project(x_VTC if self.norm is None else self.norm(x_VTC))


@dataclass(frozen=True)
class PlaneConvs(Stem):
    """Two convolutions of 3 x 3 over time and frequency, every second place of both, then linear maps, the last with a
    norm (WeNet's subsampling to a quarter, as in VITA's encoder, 2408.05211). The bins come with their published means
    and inverse deviations. scale: of the tokens.
    """

    act: str = "relu"
    norm: Norm = Norm()
    scale: float = 1.0

    def grid(self, size: Size) -> Grid:
        return Grid(1, 1, _length(size[1], (3, 3), (2, 2), padded=False))

    def filled(self, size: Size, columns: int) -> int:
        return _length(columns, (3, 3), (2, 2), padded=False)

    def build(self, rows: int, dim: int) -> nn.Module:
        return PlaneConvStack(self, rows, dim)


class PlaneConvStack(nn.Module):
    """(V, 1, rows, frames) -> (V, T, D)."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, config: PlaneConvs, rows: int, dim: int) -> None:
        super().__init__()
        self.config, self.act = config, activation(config.act)
        self.register_buffer("mean", torch.zeros(rows))
        self.register_buffer("inverse_std", torch.ones(rows))
        self.convs = nn.ModuleList(nn.Conv2d(inputs, dim, 3, 2) for inputs in (1, dim))
        self.join = nn.Linear(dim * _length(rows, (3, 3), (2, 2), padded=False), dim)
        self.project = nn.Linear(dim, dim)
        self.norm = config.norm.build(dim)

    def forward(self, views_V1MF: Tensor) -> Tensor:
        x_VCTM = (views_V1MF.transpose(2, 3) - self.mean) * self.inverse_std
        for conv in self.convs:
            x_VCTM = self.act(conv(x_VCTM))
        x_VTD = self.join(x_VCTM.transpose(1, 2).flatten(2))
        return self.act(self.norm(self.project(x_VTD))) * self.config.scale


@dataclass(frozen=True)
class HalvingConvs(Stem):
    """`steps` convolutions of 3 x 3 over time and frequency, each taking every second place of both; all but the first are
    depthwise with a map behind. One linear map joins what is left of the frequencies (NeMo's `dw_striding`, in
    Phi-4-multimodal, 2503.01743). The bins come with their published means and inverse deviations.
    """

    channels: int
    steps: int = 3
    act: str = "relu"

    def grid(self, size: Size) -> Grid:
        return Grid(1, 1, self.filled(size, size[1]))

    def filled(self, size: Size, columns: int) -> int:
        return -(-columns // 2**self.steps)

    def tiny(self) -> HalvingConvs:
        return self.but(channels=16)

    def build(self, rows: int, dim: int) -> nn.Module:
        return HalvingConvStack(self, rows, dim)


class HalvingConvStack(nn.Module):
    """(V, 1, rows, frames) -> (V, T, D)."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, config: HalvingConvs, rows: int, dim: int) -> None:
        super().__init__()
        self.act, width = activation(config.act), config.channels
        self.register_buffer("mean", torch.zeros(rows))
        self.register_buffer("inverse_std", torch.ones(rows))
        self.first = nn.Conv2d(1, width, 3, 2, padding=1)
        self.depthwise, self.pointwise = (
            nn.ModuleList(
                nn.Conv2d(width, width, kernel, stride, padding=kernel // 2, groups=groups)
                for _ in range(config.steps - 1)
            )
            for kernel, stride, groups in ((3, 2, width), (1, 1, 1))
        )
        self.join = nn.Linear(width * -(-rows // 2**config.steps), dim)

    def forward(self, views_V1MF: Tensor) -> Tensor:
        x_VCTM = self.act(self.first((views_V1MF.transpose(2, 3) - self.mean) * self.inverse_std))
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            x_VCTM = self.act(pointwise(depthwise(x_VCTM)))
        return self.join(x_VCTM.transpose(1, 2).flatten(2))


@dataclass(frozen=True)
class SignalPatches(Stem):
    """Patches of a view as tokens (AST, 2104.01778). patch, stride: along rows and columns.

    channels: of the view. frames: that a patch spans where views are clips (C, frames, rows, columns); a still picture
    is repeated (ImageBind). by_time: tokens in the order of columns, then rows, so that the grid's frames are time
    (BEATs, 2212.09058); else rows, then columns. width: of the patches before a linear map to the encoder's, which there
    is where given. norm: of the patches.
    """

    patch: Size = (16, 16)
    stride: Size = (16, 16)
    channels: int = 1
    frames: int = 1
    bias: bool = True
    by_time: bool = False
    width: int | None = None
    norm: Norm | None = None

    def grid(self, size: Size) -> Grid:
        steps = zip(size, self.patch, self.stride, strict=True)
        rows, columns = (1 + (have - patch) // stride for have, patch, stride in steps)
        if min(rows, columns) < 1:
            raise BeholderError(f"a view of {size} gives no patch of {self.patch}; give a longer one")
        return Grid(columns, rows, 1) if self.by_time else Grid(1, rows, columns)

    def filled(self, size: Size, columns: int) -> int:
        grid = self.grid(size)
        if not self.by_time:
            return grid.num_tokens
        return min(-(-columns // self.stride[1]), grid.frames) * grid.height

    def tiny(self) -> SignalPatches:
        return super().tiny().but(width=self.width and 24)

    def tiny_size(self, size: Size) -> Size:
        rows, columns = (min(have, 3 * patch) for have, patch in zip(size, self.patch, strict=True))
        return rows, columns

    def build(self, rows: int, dim: int) -> nn.Module:
        return SignalPatchStack(self, dim)


class SignalPatchStack(nn.Module):
    """(V, C, rows, columns) or (V, C, frames, rows, columns) -> (V, T, D)."""

    def __init__(self, config: SignalPatches, dim: int) -> None:
        super().__init__()
        self.config = config
        width, channels, bias = config.width or dim, config.channels, config.bias
        self.patch: nn.Module = nn.Conv2d(channels, width, config.patch, config.stride, bias=bias)
        if config.frames > 1:
            kernel, stride = ((config.frames, *pair) for pair in (config.patch, config.stride))
            self.patch = nn.Conv3d(channels, width, kernel, stride, bias=bias)
        self.norm = config.norm.build(width) if config.norm is not None else None
        self.project = nn.Linear(width, dim) if config.width is not None else None

    def forward(self, views: Tensor) -> Tensor:
        if self.config.frames > 1 and views.ndim == 4:
            views = views[:, :, None].expand(-1, -1, self.config.frames, -1, -1)
        maps = self.patch(views)
        x_VTD = (maps.transpose(-1, -2) if self.config.by_time else maps).flatten(2).transpose(1, 2)
        x_VTD = x_VTD if self.norm is None else self.norm(x_VTD)
        return x_VTD if self.project is None else self.project(x_VTD)


def _length(count: int, kernels: tuple[int, ...], strides: tuple[int, ...], *, padded: bool) -> int:
    """Outputs of a stack of convolutions; raises `BeholderError` where there are none."""
    length = count
    for kernel, stride in zip(kernels, strides, strict=True):
        length = (length + (2 * (kernel // 2) if padded else 0) - kernel) // stride + 1
        if length < 1:
            raise BeholderError(
                f"a view of {count} columns is too short for this encoder; pad it with silence"
            )
    return length
