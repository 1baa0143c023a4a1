"""How far away each pixel is, from a ViT's features of several depths (DPT, 2103.13413, section 3; Depth Anything, 2401.10891).

V views, h w rows and columns of a map, C channels, D width of the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig
from beholder.parts.language.state import State


@dataclass(frozen=True)
class DepthMap(HeadConfig):
    """dim: of one of the features, which the branch's tokens hold side by side, one for each of `widths`. Each becomes a map
    of so many channels, `factors` times as large (1/2, 1, 2, ...); all are brought to `width` and joined, the last one first.
    hidden: channels before the last map. patch: pixels of a token. metric: distances up to `most`; otherwise nearness >= 0.
    """

    output: ClassVar[str] = "depth"
    reads_text: ClassVar[bool] = False
    dim: int = 384
    widths: tuple[int, ...] = (48, 96, 192, 384)
    factors: tuple[float, ...] = (4.0, 2.0, 1.0, 0.5)
    width: int = 64
    hidden: int = 32
    patch: int = 14
    metric: bool = False
    most: float = 1.0
    branch: str = "image"

    def __post_init__(self) -> None:
        fits = all(factor > 0 and (factor % 1 == 0 or 1 / factor % 1 == 0) for factor in self.factors)
        if len(self.widths) != len(self.factors) or not fits:
            raise BeholderError(
                f"maps of {self.widths} channels resized by {self.factors}; give a whole number, or 1 over one, for each"
            )

    def tiny(self) -> DepthMap:
        return self.but(dim=32, widths=(8,) * len(self.widths), width=8, hidden=4)

    def build(self, language: LanguageConfig | None) -> Head:
        return DepthMapHead(self)


class DepthMapHead(Head):
    """Tokens (N, maps D) -> for each view (h, w) of its pixels."""

    def __init__(self, config: DepthMap) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.projects = nn.ModuleList(nn.Conv2d(config.dim, channels, 1) for channels in config.widths)
        pairs = list(zip(config.widths, config.factors, strict=True))
        self.resizes = nn.ModuleDict(
            {str(number): _resize(*pair) for number, pair in enumerate(pairs) if pair[1] != 1}
        )
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, width, 3, padding=1, bias=False) for channels in config.widths
        )
        self.joins = nn.ModuleList(Join(width) for _ in config.widths)
        self.first = nn.Conv2d(width, width // 2, 3, padding=1)
        self.second = nn.Conv2d(width // 2, config.hidden, 3, padding=1)
        self.last = nn.Conv2d(config.hidden, 1, 1)

    def forward(self, inputs: HeadInputs, state: State | None = None) -> tuple[Tensor, ...]:
        packed = inputs.branches[self.config.branch].packed
        if packed.tokens_ND.shape[1] != self.config.dim * len(self.config.widths):
            raise BeholderError(
                f"depth is read from {len(self.config.widths)} features of {self.config.dim} channels; the branch gives "
                f"{packed.tokens_ND.shape[1]} in all. Let its encoder take as many layers"
            )
        return tuple(self._view(x_ND, grid) for x_ND, grid in zip(packed.split(), packed.grids, strict=True))

    def _view(self, x_ND: Tensor, grid: Grid) -> Tensor:
        """(h, w)."""
        size = (grid.height, grid.width)
        maps = []
        for number, x in enumerate(x_ND.chunk(len(self.projects), -1)):
            map_1Chw = self.projects[number](x.T.unflatten(1, size)[None])
            if str(number) in self.resizes:
                map_1Chw = self.resizes[str(number)](map_1Chw)
            maps.append(self.convs[number](map_1Chw))
        joined_1Chw = self.first(self._joined(maps[::-1]))
        pixels = (size[0] * self.config.patch, size[1] * self.config.patch)
        joined_1Chw = F.interpolate(joined_1Chw, pixels, mode="bilinear", align_corners=True)
        far_hw = self.last(F.relu(self.second(joined_1Chw)))[0, 0]
        return (far_hw.sigmoid() if self.config.metric else F.relu(far_hw)) * self.config.most

    def _joined(self, maps: Sequence[Tensor]) -> Tensor:
        """The coarsest map first; each is as large behind as the next one, the last twice as large."""
        found: Tensor | None = None
        for number, (join, map_1Chw) in enumerate(zip(self.joins, maps, strict=True)):
            following = maps[number + 1].shape[2:] if number + 1 < len(maps) else None
            found = join(map_1Chw, found, following)
        assert found is not None
        return found


def _resize(channels: int, factor: float) -> nn.Module:
    if factor > 1:
        return nn.ConvTranspose2d(channels, channels, int(factor), int(factor))
    return nn.Conv2d(channels, channels, 3, int(1 / factor), padding=1)


class Join(nn.Module):
    """A map and what was joined before it, of another size, to one of the size that follows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own, self.both = Residual(width), Residual(width)
        self.project = nn.Conv2d(width, width, 1)

    def forward(
        self, map_1Chw: Tensor, before_1Chw: Tensor | None, following: Sequence[int] | None
    ) -> Tensor:
        x_1Chw = map_1Chw
        if before_1Chw is not None:
            if map_1Chw.shape != before_1Chw.shape:
                size = before_1Chw.shape[2:]
                map_1Chw = F.interpolate(map_1Chw, size, mode="bilinear", align_corners=False)
            x_1Chw = before_1Chw + self.own(map_1Chw)
        size = torch.Size(following) if following is not None else torch.Size(2 * n for n in x_1Chw.shape[2:])
        x_1Chw = F.interpolate(self.both(x_1Chw), size, mode="bilinear", align_corners=True)
        projected: Tensor = self.project(x_1Chw)
        return projected


class Residual(nn.Module):
    """(1, C, h, w) -> (1, C, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x_1Chw: Tensor) -> Tensor:
        given: Tensor = self.second(F.relu(self.first(F.relu(x_1Chw))))
        return x_1Chw + given
