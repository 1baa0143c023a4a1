"""Swin transformers: attention in windows that shift from layer to layer (2103.14030), and version 2 (2111.09883): cosine
scores, biases from an MLP of log-spaced offsets, norms after the branches.

V views, h w rows and columns of a map, C channels, W windows, T tokens of a window, H heads, K head width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.vision.positions import offset_index
from beholder.parts.vision.stages import Maps, Stage, StagedConfig, StagedEncoder, each, last_dim
from beholder.parts.vision.windows import Embed, Heads, MapLayer, merge, pad_to, partition

BIAS_HIDDEN, LARGEST_SCALE = 512, math.log(100)  # microsoft/Swin-Transformer: models/swin_transformer_v2.py


@dataclass(frozen=True)
class Swin(StagedConfig):
    """width: of the first stage, doubled at each next one. depths, heads: layers and heads of each stage. window: tokens per
    side of a window. ratio: hidden width of the MLPs over the stage's width. last_norm: tokens are normed.
    indexed: checkpoints also hold which bias belongs to which pair of tokens, kept for export. channels: of the views.

    cosine: version 2; `trained_windows` are then the stages' windows in pre-training, whose offsets the biases are made
    from (0: the stage's own).
    """

    image_size: int = 224
    patch: int = 4
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    ratio: float = 4.0
    qkv_bias: bool = True
    act: str = "gelu"
    norm: Norm = Norm()
    last_norm: bool = True
    indexed: bool = False
    cosine: bool = False
    trained_windows: tuple[int, ...] = ()
    classes: int = 0
    channels: int = 3
    dim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", self.width * 2 ** (len(self.depths) - 1))
        self.need_each("depths", "heads", *(("trained_windows",) if self.trained_windows else ()))

    def sides(self, length: int) -> tuple[int, ...]:
        first = -(-length // self.patch)
        return tuple(-(-first // 2**stage) for stage in range(len(self.depths)))

    def tiny(self) -> Swin:
        count = len(self.depths)
        small = self.but(image_size=8 * 2 ** (count - 1), patch=2, width=8, window=4)
        return small.but(depths=(2,) * count, heads=(2,) * count)

    def build(self) -> SwinModel:
        return SwinModel(self)


class OffsetTable(nn.Module):
    """A learned bias for each offset between two tokens of a window and each head."""

    def __init__(self, window: int, num_heads: int, *, indexed: bool) -> None:
        super().__init__()
        self.window, self.table = window, learned((2 * window - 1) ** 2, num_heads)
        if indexed:
            self.register_buffer("index", offset_index(window, window))

    def forward(self) -> Tensor:
        """(H, T, T)."""
        return self.table[offset_index(self.window, self.window, self.table.device)].permute(2, 0, 1)


class OffsetMlp(nn.Module):
    """16 sigmoid(MLP(offsets)), offsets in log space so that windows of other sizes fit (2111.09883 sections 3.3, 3.4)."""

    def __init__(self, window: int, trained_window: int, num_heads: int) -> None:
        super().__init__()
        self.window, self.reach = window, (trained_window or window) - 1
        self.up, self.down = nn.Linear(2, BIAS_HIDDEN), nn.Linear(BIAS_HIDDEN, num_heads, bias=False)

    def forward(self) -> Tensor:
        """(H, T, T)."""
        steps = torch.arange(1 - self.window, self.window, device=self.up.weight.device) * (
            8 / max(self.reach, 1)
        )
        logs = (steps.sign() * torch.log2(steps.abs() + 1) / 3).to(self.up.weight.dtype)
        pairs = torch.stack(torch.meshgrid(logs, logs, indexing="ij"), -1).flatten(0, 1)
        table = self.down(F.relu(self.up(pairs)))
        bias_TTH = table[offset_index(self.window, self.window, table.device)]
        return 16 * bias_TTH.permute(2, 0, 1).sigmoid()


def shift_mask(size: Sequence[int], window: int, shift: int, device: torch.device | None = None) -> Tensor:
    """(windows of one view, T, T): True where two tokens of a map rolled by `shift` were neighbours before (Swin, 2103.14030
    figure 4). `size`: (height, width) of the map, divisible by the window.
    """
    places = [torch.arange(length, device=device) for length in size]
    rows, columns = (
        (place >= length - window).int() + (place >= length - shift).int()
        for place, length in zip(places, size, strict=True)
    )
    regions_WT = partition((rows[:, None] * 3 + columns)[None, :, :, None], window).flatten(1)
    return regions_WT[:, :, None] == regions_WT[:, None]


class WindowAttention(nn.Module):
    """Attention inside windows of a map, which may be rolled by `shift` cells first."""

    def __init__(self, config: Swin, stage: int, *, shifted: bool) -> None:
        super().__init__()
        dim, num_heads = config.width * 2**stage, config.heads[stage]
        side = config.image_size // config.patch // 2**stage
        # Version 2 fixes windows and shifts by the size it was made for; version 1 shifts wherever several windows fit.
        self.window = min(config.window, side) if config.cosine else config.window
        self.shift = config.window // 2 if shifted and (side > self.window or not config.cosine) else 0
        self.heads = Heads(
            dim, num_heads, bias=config.qkv_bias, key_bias=config.qkv_bias and not config.cosine
        )
        self.log_scale: nn.Parameter | None = None
        self.bias: nn.Module = OffsetTable(self.window, num_heads, indexed=config.indexed)
        if config.cosine:
            self.log_scale = nn.Parameter(torch.full((num_heads,), math.log(10)))
            trained = config.trained_windows[stage] if config.trained_windows else 0
            self.bias = OffsetMlp(self.window, trained, num_heads)

    def forward(self, x_VhwC: Tensor) -> Tensor:
        views, size = len(x_VhwC), x_VhwC.shape[1:3]
        shift = self.shift if self.log_scale is not None or min(size) > self.window else 0
        x_VhwC = pad_to(x_VhwC, self.window).roll((-shift, -shift), (1, 2))
        padded = x_VhwC.shape[1:3]
        q, k, v = self.heads.split(partition(x_VhwC, self.window).flatten(1, 2))
        scale = None
        if self.log_scale is not None:
            q = F.normalize(q, dim=-1) * self.log_scale.clamp(max=LARGEST_SCALE).exp()[:, None, None]
            k, scale = F.normalize(k, dim=-1), 1.0
        bias = self.bias()[None]
        if shift:
            near_WTT = shift_mask(padded, self.window, shift, bias.device)
            bias = bias.masked_fill(~near_WTT[:, None], -torch.inf).repeat(views, 1, 1, 1)
        y_WTC = self.heads.join(F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale))
        y_VhwC = merge(y_WTC.unflatten(1, (self.window, self.window)), padded).roll((shift, shift), (1, 2))
        return y_VhwC[:, : size[0], : size[1]]


def block(config: Swin, stage: int, index: int) -> MapLayer:
    """A layer of a stage; every other one shifts its windows. Version 2 norms what the branches give."""
    dim = config.width * 2**stage
    attention = WindowAttention(config, stage, shifted=index % 2 == 1)
    mlp = FeedForward(int(config.ratio * dim), config.act)
    return MapLayer(dim, attention, mlp, config.norm, after=config.cosine)


class PatchMerge(nn.Module):
    """Cells of 2x2 joined and halved in width; a norm before or after (version 2)."""

    def __init__(self, dim: int, *, after: bool) -> None:
        super().__init__()
        self.after = after
        self.linear = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = Norm().build(2 * dim if after else 4 * dim)

    def forward(self, x_VhwC: Tensor) -> Tensor:
        x = pad_to(x_VhwC, 2)
        x = torch.cat([x[:, row::2, column::2] for column in range(2) for row in range(2)], -1)
        return self.norm(self.linear(x)) if self.after else self.linear(self.norm(x))


class SwinModel(StagedEncoder):
    """`Vision` by attention in windows; tokens are the last map's cells, normed."""

    config: Swin

    def __init__(self, config: Swin) -> None:
        super().__init__()
        self.config = config
        self.stem = Embed(config.channels, config.width, config.patch, config.patch, unit=config.patch)
        self.stages = nn.ModuleList()
        for stage, depth in enumerate(config.depths):
            down = PatchMerge(config.width * 2 ** (stage - 1), after=config.cosine) if stage else None
            self.stages.append(Stage(down, (block(config, stage, index) for index in range(depth))))
        self.norm = config.norm.build(config.dim) if config.last_norm else None
        self.classifier = nn.Linear(config.dim, config.classes) if config.classes else None

    def maps(self, pixels_V3HW: Tensor) -> Maps:
        taps = each(self.stages, self.stem(last_dim(pixels_V3HW)))
        tokens = taps[-1] if self.norm is None else self.norm(taps[-1])
        return Maps(taps, tokens, tokens.mean((1, 2)))
