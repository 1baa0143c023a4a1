"""The one transformer over sound and other signals: Whisper (2212.04356), AST (2104.01778), BEATs (2212.09058), wav2vec
2.0 (2006.11477), HuBERT (2106.07447), WavLM (2110.13900), conformers (2005.08100), ImageBind's trunks (2305.05665).

V views, T tokens of a view with class tokens, N packed tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Grid, Size, View
from beholder.parts.audio.conformer import ConformerLayer, TimeConv
from beholder.parts.audio.positions import ConvPositions, TokenPositions
from beholder.parts.audio.stems import SignalPatches, Stem
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.relative import shared_bias
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import Arrangement, TransformerLayer, run_layers
from beholder.parts.contracts import AudioConfig, AudioEncoder, Packed

POOLS = (None, "cls", "mean")


@dataclass(frozen=True)
class SignalTransformer(AudioConfig):
    """size: (rows, columns) of the views it was made for, which the position table fits; other encoders take any number
    of columns.

    cls: learned tokens in front. first_norm, last_norm: before the first and after the last layer. conv: layers are
    conformers with this convolution, of an arrangement of their own. shrink: the mean of so many neighbouring
    tokens is taken before the last norm (Qwen2-Audio). pool: None, `cls` (the mean of the class tokens) or `mean`, after
    the last norm. taps: depths whose features are kept as well (0: before the first layer). mask_token: a vector that
    stands for hidden frames in pretraining, kept for export. letters: how many letters half of the layers tell by CTC; what
    they tell is added to the tokens there (self-conditioned CTC, 2104.02724); 0: none do. block: longer signals are heard in
    blocks of so many tokens, the last one filled up with zeros, which count (Phi-4-multimodal); padding is then cut off.
    """

    stem: Stem
    size: Size
    dim: int
    num_layers: int
    attention: Attention
    mlp: FeedForward
    norm: Norm = Norm("layer", 1e-5)
    arrangement: Arrangement = Arrangement()
    positions: TokenPositions | None = None
    cls: int = 0
    first_norm: bool = False
    last_norm: bool = True
    conv: TimeConv | None = None
    shrink: int = 1
    pool: str | None = None
    taps: tuple[int, ...] = ()
    mask_token: bool = False
    letters: int = 0
    block: int | None = None

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise UnknownName("pool of an audio encoder", str(self.pool), [str(name) for name in POOLS])
        if self.conv is not None and self.arrangement != Arrangement():
            raise BeholderError(
                "conformer layers have an arrangement of their own; leave arrangement as it is"
            )
        if self.block is not None and (self.taps or self.cls or self.positions or self.letters):
            raise BeholderError(
                "blocks of a signal have no class tokens, positions, letters or other depths; leave out block"
            )
        if self.letters and self.taps:
            raise BeholderError(
                "an encoder that tells letters gives no features of other depths; leave out taps"
            )
        if not all(0 <= depth <= self.num_layers for depth in self.taps):
            raise BeholderError(
                f"an encoder of {self.num_layers} layers has no features at depths {self.taps}; "
                f"take some of 0 to {self.num_layers}"
            )

    @property
    def channels(self) -> int:
        return self.stem.channels if isinstance(self.stem, SignalPatches) else 1

    @property
    def table_rows(self) -> int:
        """Tokens of a view of the size it was made for, with class tokens."""
        return self.cls + self.stem.grid(self.size).num_tokens

    @property
    def idle_positions(self) -> bool:
        """Whether the positions are there for export alone."""
        return isinstance(self.positions, ConvPositions) and self.positions.idle

    def grid(self, size: Size) -> Grid:
        if size[0] != self.size[0]:
            raise BeholderError(
                f"this encoder takes views of {self.size[0]} rows, not {size[0]}; check the front end's bins"
            )
        return self._shrunk(self._stem_grid(size))

    def view_grid(self, view: View) -> Grid:
        """Of the columns that are no padding."""
        grid = self.grid(view.size)
        return grid if view.filled == view.size[1] else _cut(grid, self.filled(view.size, view.filled))

    def filled(self, size: Size, columns: int) -> int:
        """How many of the tokens of a view of `size` see its first `columns` columns, which are no padding."""
        return self.stem.filled(size, columns) // self.shrink

    def tiny(self) -> SignalTransformer:
        """Two layers of width 32 on short views."""
        kept = tuple(min(depth, 2) for depth in self.taps)
        small = super().tiny().but(dim=32, num_layers=min(2, self.num_layers), taps=kept)
        return small.but(size=self.stem.tiny_size(self.size))

    def build(self) -> SignalEncoder:
        return SignalEncoder(self)

    def _stem_grid(self, size: Size) -> Grid:
        grid = self.stem.grid(size)
        if self.positions is not None and self.positions.fixed:
            too_long = grid.num_tokens > self.table_rows - self.cls
            if too_long or (grid.height > 1 and size != self.size):
                raise BeholderError(
                    f"this encoder has positions for views of {self.size[1]} columns, not {size[1]}; "
                    "pad or cut the signal"
                )
        return grid

    def _shrunk(self, grid: Grid) -> Grid:
        return grid if self.shrink == 1 else Grid(1, 1, grid.num_tokens // self.shrink)


class SignalEncoder(AudioEncoder):
    """`Encoder` of signals. What is padding in a view is passed as `columns`; no result depends on the other views."""

    def __init__(self, config: SignalTransformer) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.stem = config.stem.build(config.size[0], dim)
        self.cls = learned(config.cls, 1, dim) if config.cls else None
        self.positions = config.positions.build(config.table_rows, dim) if config.positions else None
        self.bias = shared_bias(config.attention, config.dim)
        self.first_norm = config.norm.build(dim) if config.first_norm else None
        self.blocks = nn.ModuleList(self._layer(index) for index in range(config.num_layers))
        self.last_norm = config.norm.build(dim) if config.last_norm else None
        self.mask_token = learned(dim) if config.mask_token else None
        self.tell = nn.Linear(dim, config.letters) if config.letters else None
        self.told = nn.Linear(config.letters, dim) if config.letters else None

    def _layer(self, index: int) -> nn.Module:
        config = self.config
        if config.conv is not None:
            return ConformerLayer(
                config.dim, config.attention, config.mlp, config.conv, norm=config.norm, index=index
            )
        return TransformerLayer(
            config.dim, config.attention, config.mlp, config.arrangement, norm=config.norm, index=index
        )

    def forward(self, views: Sequence[Tensor], columns: Sequence[int] | None = None) -> Packed:
        """views: V tensors (C, rows, columns). columns: how many of each view's columns are no padding; convolutions see
        the others, attention does not, and no tokens are given for them.
        """
        if self.config.block is not None and columns is not None:
            views = [view[..., :count] for view, count in zip(views, columns, strict=True)]
        sizes = [(view.shape[-2], view.shape[-1]) for view in views]
        grids = [self.config.grid(size) for size in sizes]
        groups: dict[tuple[Size, bool], list[int]] = {}
        for index, size in enumerate(sizes):
            padded = columns is not None and columns[index] < size[1]
            groups.setdefault((size, padded), []).append(index)
        encoded: dict[int, dict[int, Tensor]] = {}
        for (size, padded), indices in groups.items():
            filled = None
            if padded and columns is not None:
                filled = [self.config.stem.filled(size, columns[index]) for index in indices]
            encoded.update(zip(indices, self._encode([views[i] for i in indices], filled), strict=True))
        return self._packed([encoded[index] for index in range(len(views))], grids)

    def unused_parameters(self, *, pooled: bool) -> set[str]:
        idle = ("mask_token", "positions.") if self.config.idle_positions else ("mask_token",)
        return {name for name, _ in self.named_parameters() if name.startswith(idle)}

    def _encode(self, views: Sequence[Tensor], filled: list[int] | None) -> list[dict[int, Tensor]]:
        """For each view of one size its features by depth, without padding: (T, D), class tokens in front; the last depth
        is normed. filled: tokens of each view that are no padding, None where all are.
        """
        config = self.config
        x_VTD = self._embed(torch.stack(list(views)).to(next(self.parameters()).dtype), filled)
        taps, count, rows = (*config.taps, config.num_layers), x_VTD.shape[1], len(x_VTD)
        if config.block is not None and count > config.block:
            x_VTD = (
                F.pad(x_VTD, (0, 0, 0, -count % config.block)).unflatten(1, (-1, config.block)).flatten(0, 1)
            )
        step = self._step(x_VTD, filled)
        half = config.num_layers // 2 if self.tell is not None else 0
        if half and self.tell is not None and self.told is not None:
            x_VTD, _ = run_layers(self.blocks[:half], x_VTD, step)
            x_VTD = x_VTD + self.told(self.tell(x_VTD).softmax(-1))
        last_VTD, kept = run_layers(self.blocks[half:], x_VTD, step, taps=() if half else taps)
        if len(last_VTD) != rows:
            last_VTD = last_VTD.unflatten(0, (rows, -1)).flatten(1, 2)[:, :count]
        kept[config.num_layers] = self._finish(last_VTD)
        results = []
        for index in range(rows):
            ends = dict.fromkeys(kept, None if filled is None else config.cls + filled[index])
            if filled is not None and config.shrink > 1:
                ends[config.num_layers] = filled[index] // config.shrink
            results.append({depth: kept_VTD[index, : ends[depth]] for depth, kept_VTD in kept.items()})
        return results

    def _embed(self, pixels: Tensor, filled: list[int] | None) -> Tensor:
        x_VTD = self.stem(pixels)
        if filled is not None:
            keep_VT = _first(filled, x_VTD.shape[1], x_VTD.device)
            x_VTD = x_VTD * keep_VT[..., None]
        if self.cls is not None:
            x_VTD = torch.cat((self.cls.transpose(0, 1).expand(len(x_VTD), -1, -1), x_VTD), 1)
        if self.positions is not None and not self.config.idle_positions:
            x_VTD = x_VTD + self.positions(x_VTD)
        return x_VTD if self.first_norm is None else self.first_norm(x_VTD)

    def _step(self, x_VTD: Tensor, filled: list[int] | None) -> Step:
        count = x_VTD.shape[1]
        queries = keys = None
        if filled is not None:
            keep_VT = _first([self.config.cls + number for number in filled], count, x_VTD.device)
            queries, keys = (
                Visibility.bidirectional(torch.ones_like(keep_VT)),
                Visibility.bidirectional(keep_VT),
            )
        positions = torch.arange(count, device=x_VTD.device)[None]
        bias = None if self.bias is None else self.bias(positions, positions)
        return Step(x_VTD.dtype, queries, keys, positions=positions, bias_BHTS=bias)

    def _finish(self, x_VTD: Tensor) -> Tensor:
        if self.config.shrink > 1:
            x_VTD = F.avg_pool1d(x_VTD.transpose(1, 2), self.config.shrink).transpose(1, 2)
        return x_VTD if self.last_norm is None else self.last_norm(x_VTD)

    def _packed(self, encoded: Sequence[dict[int, Tensor]], grids: Sequence[Grid]) -> Packed:
        config = self.config
        depths = {}
        for depth in {*config.taps, config.num_layers}:
            tokens = [features[depth][config.cls :] for features in encoded]
            own = tuple(_cut(grid, len(x_TD)) for grid, x_TD in zip(grids, tokens, strict=True))
            depths[depth] = Packed(torch.cat(tokens), own)
        last = depths[config.num_layers]
        pooled = None
        if config.pool is not None:
            heads = slice(0, config.cls) if config.pool == "cls" else slice(config.cls, None)
            pooled = torch.stack([features[config.num_layers][heads].mean(0) for features in encoded])
        taps = {depth: depths[depth] for depth in config.taps}
        return Packed(last.tokens_ND, last.grids, taps, pooled)


def _first(counts: Sequence[int], width: int, device: torch.device) -> Tensor:
    """(V, width) booleans: True in the first `counts` columns."""
    return torch.arange(width, device=device) < torch.tensor(list(counts), device=device)[:, None]


def _cut(grid: Grid, count: int) -> Grid:
    """The grid of the first `count` tokens of `grid`: whole columns of the last axis that varies first."""
    if count == grid.num_tokens:
        return grid
    if grid.frames > 1:
        return Grid(count // (grid.height * grid.width), grid.height, grid.width)
    return Grid(1, 1, count)
