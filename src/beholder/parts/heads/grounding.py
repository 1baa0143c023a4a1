"""Detection as grounding (GLIP, 2112.03857): boxes are scored against the words of one text, in which the phrases stand.

V views, N packed cells of all levels, T words, M boxes, C channels, D width of words, H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.media.plan import Size, View
from beholder.parts.blocks.assignment import atss, centred
from beholder.parts.blocks.boxes import anchors, clipped, moved, nms
from beholder.parts.blocks.dynamic_head import DynamicLayer
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import TransformerLayer
from beholder.parts.contracts import HeadConfig, HeadInputs, LanguageConfig, Packed
from beholder.parts.heads.phrases import BoxHead, Likely
from beholder.parts.language.state import State
from beholder.parts.language.text_encoder import TextEncoder

BOX_SCALES = (10.0, 10.0, 5.0, 5.0)  # of deltas; microsoft/GLIP: rpn/vldyhead.py `BoxCoder`


@dataclass(frozen=True)
class DeepFusion(Config):
    """Layers of cross-attention both ways, each followed by a layer of the text encoder and one of a dynamic head. hidden:
    width of all heads.
    """

    num_layers: int = 6
    num_heads: int = 8
    hidden: int = 2048

    def tiny(self) -> DeepFusion:
        return self.but(num_layers=2, num_heads=2, hidden=16)


@dataclass(frozen=True)
class Grounding(HeadConfig):
    """dim: of the branch's pyramid; strides: pixels per cell of its levels. anchor: pixels per side of a cell's one anchor
    over the stride. least, before: cells of a level that are looked at, those whose score is above `least`, at most so many;
    of boxes of one phrase that overlap by more than `overlap` the best stays; most: boxes of a view. candidates: anchors
    of each level that may belong to a box in training.
    """

    output: ClassVar[str] = "boxes"
    dim: int = 256
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    fusion: DeepFusion = DeepFusion()
    branch: str = "image"
    anchor: float = 8.0
    least: float = 0.05
    before: int = 1000
    overlap: float = 0.6
    most: int = 100
    candidates: int = 9

    def tiny(self) -> Grounding:
        strides = tuple(stride // 2 for stride in self.strides)
        return super().tiny().but(dim=32, strides=strides)

    def build(self, language: LanguageConfig | None) -> GroundingHead:
        if not isinstance(language, TextEncoder) or language.causal:
            raise BeholderError(
                "Grounding needs a text encoder that reads both ways; set its field causal=False"
            )
        return GroundingHead(self, language)


class Grounded(NamedTuple):
    """boxes_N4: left, top, right, bottom in shares of a view's width and height; logits_NT: that a word speaks of a box;
    centred_N: logits of how much in the middle of it the cell is; level_N: number of the cell's level.
    """

    boxes_N4: Tensor
    logits_NT: Tensor
    centred_N: Tensor
    level_N: Tensor


class GroundingHead(BoxHead):
    """A pyramid's tokens (N, C) and words (B, T, D), one row for all views or one for each -> `Grounded`."""

    together = True

    def __init__(self, config: Grounding, language: TextEncoder) -> None:
        super().__init__()
        self.config = config
        self.tower = nn.ModuleList(
            FusedLayer(config, language, index) for index in range(config.fusion.num_layers)
        )
        self.box = nn.Linear(config.dim, 4)
        self.centred = nn.Linear(config.dim, 1)
        self.scales = nn.Parameter(torch.ones(len(config.strides), 1))
        self.project = nn.Linear(language.dim, config.dim)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.word_bias = nn.Parameter(torch.zeros(language.dim))
        self.bias = nn.Parameter(torch.tensor(-4.595))  # a share of 0.01 of all cells are boxes (1708.02002)

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Grounded:
        packed = inputs.branches[self.config.branch].packed
        words_BTD = inputs.hidden_BTD
        assert words_BTD is not None
        views = len(packed.grids)
        if len(words_BTD) not in (1, views):
            raise BeholderError(
                f"{len(words_BTD)} texts for {views} views; give one text, or one for each view"
            )
        lengths = inputs.lengths or (words_BTD.shape[1],) * len(words_BTD)
        found = []
        for view in range(views):
            row = view if len(words_BTD) > 1 else 0
            levels = [_map(packed.taps[number + 1], view) for number in range(len(self.config.strides))]
            found.append(self._view(levels, words_BTD[row : row + 1], lengths[row]))
        return Grounded(*(torch.cat(each) for each in zip(*found, strict=True)))

    def _view(self, levels: list[Tensor], words_1TD: Tensor, length: int) -> tuple[Tensor, ...]:
        """One view's levels (1, C, h, w) with its words."""
        seen = Visibility.causal_rows((length,), words_1TD.shape[1], device=words_1TD.device)
        keep_1T = seen.segments_BT >= 0
        seen = Visibility(
            seen.segments_BT, torch.zeros_like(seen.blocks_BT), plain=seen.plain, both_ways=True
        )
        for layer in self.tower:
            levels, words_1TD = layer(levels, words_1TD, keep_1T, seen)
        x_NC = torch.cat([level[0].flatten(1).T for level in levels])
        sizes = [(level.shape[-2], level.shape[-1]) for level in levels]
        counts = torch.tensor([rows * columns for rows, columns in sizes], device=x_NC.device)
        level_N = torch.arange(len(levels), device=x_NC.device).repeat_interleave(counts)
        words_TD = F.normalize(words_1TD[0], dim=-1)
        logits_NT = x_NC @ self.project(words_TD / 2).T / self.log_scale.exp()
        logits_NT = logits_NT + words_TD @ self.word_bias + self.bias
        boxes_N4 = moved(self.anchors(sizes).to(x_NC), self.box(x_NC) * self.scales[level_N], BOX_SCALES)
        height, width = (side * self.config.strides[0] for side in sizes[0])
        boxes_N4 = boxes_N4 / boxes_N4.new_tensor([width, height, width, height])
        return boxes_N4, logits_NT.masked_fill(~keep_1T, -1e4), self.centred(x_NC)[:, 0], level_N

    def anchors(self, sizes: Sequence[Size]) -> Tensor:
        """(N, 4) of all levels, whose maps have (rows, columns)."""
        return torch.cat(
            [
                anchors(rows, columns, stride, (self.config.anchor * stride,), (1.0,))
                for (rows, columns), stride in zip(sizes, self.config.strides, strict=True)
            ]
        )

    def targets(self, sizes: Sequence[Size], boxes_M4: Tensor) -> tuple[Tensor, Tensor]:
        """Of boxes in pixels, which each cell learns (N,), -1 for none, and how centred cells are in theirs (N,)."""
        anchors_N4, counts = self.anchors(sizes).to(boxes_M4), [rows * columns for rows, columns in sizes]
        owner_N = atss(anchors_N4, counts, boxes_M4, self.config.candidates)
        return owner_N, centred(anchors_N4, boxes_M4[owner_N.clamp(min=0)]).masked_fill(owner_N < 0, 0.0)

    def likely(self, found: Grounded, rows: slice, view: View, groups: Sequence[Sequence[int]]) -> Likely:
        """A phrase's score is the mean of its words', then the geometric mean of that and of how centred the cell is
        (microsoft/GLIP: rpn/inference.py `ATSSPostProcessor`).
        """
        config = self.config
        words_NT, level_N = found.logits_NT[rows].float().sigmoid(), found.level_N[rows]
        phrases_NM = torch.stack([words_NT[:, list(group)].mean(-1) for group in groups], -1)
        scores_NM = phrases_NM * found.centred_N[rows].float().sigmoid()[:, None]
        chosen = []
        for level in range(len(config.strides)):
            cells, labels = ((phrases_NM > config.least) & (level_N == level)[:, None]).nonzero(as_tuple=True)
            best = scores_NM[cells, labels].argsort(dim=0, descending=True, stable=True)[: config.before]
            chosen.append(torch.stack((cells[best], labels[best]), -1))
        cells, labels = torch.cat(chosen).unbind(-1)
        (height, width), (down, across) = view.size, view.resized  # what lies beyond is padding
        frame = scores_NM.new_tensor([width, height, width, height])
        boxes_M4 = clipped(found.boxes_N4[rows].float()[cells] * frame, min(height, down), min(width, across))
        scores_M = scores_NM[cells, labels].sqrt()
        kept = torch.zeros_like(scores_M, dtype=torch.bool)
        for label in labels.unique().tolist():
            own = (labels == label).nonzero()[:, 0]
            kept[own] = nms(boxes_M4[own], scores_M[None, own], config.overlap)[0]
        order = scores_M.masked_fill(~kept, -1.0).argsort(dim=0, descending=True, stable=True)
        order = order[: min(config.most, int(kept.sum()))]
        return Likely(boxes_M4[order] / frame, scores_M[order], labels[order])


def _map(packed: Packed, view: int) -> Tensor:
    """A view's map of one level, (1, C, h, w)."""
    grid = packed.grids[view]
    return packed.split()[view].T.unflatten(1, (grid.height, grid.width))[None]


class FusedLayer(nn.Module):
    """Levels and words look at each other, then each at themselves."""

    def __init__(self, config: Grounding, language: TextEncoder, index: int) -> None:
        super().__init__()
        self.fuse = CrossBothWays(config.dim, language.dim, config.fusion)
        arrangement, norm = language.arrangement, language.norm
        self.text = TransformerLayer(
            language.dim, language.attention, language.mlp, arrangement, norm=norm, index=index
        )
        self.levels = DynamicLayer(config.dim)

    def forward(
        self, levels: Sequence[Tensor], words_BTD: Tensor, keep_BT: Tensor, seen: Visibility
    ) -> tuple[list[Tensor], Tensor]:
        cells_BNC = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
        cells_BNC, words_BTD = self.fuse(cells_BNC, words_BTD, keep_BT)
        words_BTD = self.text(words_BTD, Step(words_BTD.dtype, seen))
        ends = list(accumulate(level.shape[-2] * level.shape[-1] for level in levels))
        parts = cells_BNC.transpose(1, 2).tensor_split(ends[:-1], -1)
        maps = [part.unflatten(-1, level.shape[-2:]) for part, level in zip(parts, levels, strict=True)]
        return self.levels(maps), words_BTD


class CrossBothWays(nn.Module):
    """One table of scores: cells read words by its softmax over words, words read cells by that over cells. Both sides start
    from their normed selves and add what they have read, scaled.
    """

    def __init__(self, dim: int, text_dim: int, config: DeepFusion) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.image_norm, self.text_norm = nn.LayerNorm(dim), nn.LayerNorm(text_dim)
        self.image_key, self.text_key = nn.Linear(dim, config.hidden), nn.Linear(text_dim, config.hidden)
        self.image_value, self.text_value = nn.Linear(dim, config.hidden), nn.Linear(text_dim, config.hidden)
        self.image_out, self.text_out = nn.Linear(config.hidden, dim), nn.Linear(config.hidden, text_dim)
        self.image_scale = nn.Parameter(torch.full((dim,), 1 / config.num_layers))
        self.text_scale = nn.Parameter(torch.full((text_dim,), 1 / config.num_layers))

    def forward(self, cells_BNC: Tensor, words_BTD: Tensor, keep_BT: Tensor) -> tuple[Tensor, Tensor]:
        cells_BNC, words_BTD = self.image_norm(cells_BNC), self.text_norm(words_BTD)
        cells_BHNK, words_BHTK = self._heads(self.image_key(cells_BNC)), self._heads(self.text_key(words_BTD))
        scores_BHNT = cells_BHNK @ words_BHTK.transpose(-1, -2) * cells_BHNK.shape[-1] ** -0.5
        of_cells = scores_BHNT.masked_fill(~keep_BT[:, None, None], -torch.inf).softmax(-1)
        of_words = scores_BHNT.transpose(-1, -2).softmax(-1)
        from_words = of_cells @ self._heads(self.text_value(words_BTD))
        from_cells = of_words @ self._heads(self.image_value(cells_BNC))
        cells_BNC = cells_BNC + self.image_scale * self.image_out(from_words.transpose(1, 2).flatten(2))
        return cells_BNC, words_BTD + self.text_scale * self.text_out(from_cells.transpose(1, 2).flatten(2))

    def _heads(self, x_BTE: Tensor) -> Tensor:
        return x_BTE.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
