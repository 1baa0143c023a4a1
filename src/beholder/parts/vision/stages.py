"""What encoders have in common whose maps get coarser from stage to stage: convolutional nets and hierarchical
transformers.

V views, h w rows and columns of a map, C channels, N packed tokens, D width of the last stage.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size
from beholder.parts.contracts import Encoder, Packed, VisionConfig
from beholder.parts.vision.views import by_size, size_of


class StagedConfig(VisionConfig):
    """Settings of an encoder with stages. `classes`: width of the classifier over pooled vectors that is kept for
    export, 0 for none.
    """

    classes: int = 0

    def need_each(self, *names: str) -> None:
        """Raise `BeholderError` where one of these fields has another number of stages than the first."""
        counts = {name: len(getattr(self, name)) for name in names}
        if len(set(counts.values())) > 1:
            raise BeholderError(f"{type(self).__name__}: {counts} are numbers for unequal counts of stages")

    @abstractmethod
    def sides(self, length: int) -> tuple[int, ...]:
        """Rows (or columns) of each tap's map for so many pixels."""

    @property
    def taps(self) -> tuple[int, ...]:
        """Numbers of the taps that `sides` speaks of: the stages, where nothing else is said."""
        return tuple(range(1, len(self.sides(self.image_size)) + 1))

    @property
    def token_tap(self) -> int:
        """Which of the taps has the tokens' grid."""
        return -1

    def grids(self, size: Size) -> tuple[Grid, ...]:
        """The grid of each tap; raises `BeholderError` for a view that leaves nothing of one."""
        grids = tuple(Grid(1, rows, columns) for rows, columns in zip(*map(self.sides, size), strict=True))
        if min(size) < 1 or min(min(grid) for grid in grids) < 1:
            raise BeholderError(f"a view of {size[1]}x{size[0]} pixels is too small for this encoder")
        return grids

    def grid(self, size: Size) -> Grid:
        return self.grids(size)[self.token_tap]


@dataclass(frozen=True)
class Maps:
    """What an encoder makes of V views of one size.

    taps:      the stages' maps in order, each (V, h, w, C)
    tokens:    the map that becomes tokens (V, h, w, D)
    pooled_VD: one vector per view, or None
    """

    taps: Sequence[Tensor]
    tokens: Tensor
    pooled_VD: Tensor | None = None


class StagedEncoder(Encoder):
    """`Encoder` whose taps are the maps of its stages. `pooled_only`: prefixes of what acts on pooled vectors alone."""

    config: StagedConfig
    pooled_only: tuple[str, ...] = ()

    @abstractmethod
    def maps(self, pixels_V3HW: Tensor) -> Maps:
        """The maps of views of one size."""

    def forward(self, views: Sequence[Tensor]) -> Packed:
        grids = [self.config.grids(size_of(view)) for view in views]
        found = by_size(views, self._by_view)
        taps = {
            number: Packed(
                torch.cat([maps.taps[i].flatten(0, 1) for maps in found]), tuple(grid[i] for grid in grids)
            )
            for i, number in enumerate(self.config.taps)
        }
        pooled = [maps.pooled_VD for maps in found if maps.pooled_VD is not None]
        return Packed(
            torch.cat([maps.tokens.flatten(0, 1) for maps in found]),
            tuple(grid[self.config.token_tap] for grid in grids),
            taps=taps,
            pooled_VD=torch.stack(pooled) if pooled else None,
        )

    def _by_view(self, pixels_V3HW: Tensor) -> list[Maps]:
        """The maps of each view by itself, (h, w, C), and its pooled vector (D,)."""
        maps = self.maps(pixels_V3HW.to(next(self.parameters()).dtype))
        pooled = maps.pooled_VD
        return [
            Maps([tap[i] for tap in maps.taps], maps.tokens[i], None if pooled is None else pooled[i])
            for i in range(len(pixels_V3HW))
        ]

    def unused_parameters(self, *, pooled: bool) -> set[str]:
        unused = (*(() if pooled else self.pooled_only), "classifier.")
        return {name for name, _ in self.named_parameters() if name.startswith(unused)}

    def classify(self, pixels_V3HW: Tensor) -> Tensor:
        """Scores of the classifier, (V, classes); raises `BeholderError` where the card keeps none."""
        pooled_VD = self.maps(pixels_V3HW.to(next(self.parameters()).dtype)).pooled_VD
        classifier: nn.Module | None = getattr(self, "classifier", None)
        if classifier is None or pooled_VD is None:
            raise BeholderError("this encoder was built without its classifier; set classes")
        scores_VC: Tensor = classifier(pooled_VD)
        return scores_VC


class Stage(nn.Module):
    """Blocks of one width behind the step `down` to their grid, where there is one."""

    def __init__(self, down: nn.Module | None, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.down, self.blocks = down, nn.Sequential(*blocks)

    def forward(self, x_VhwC: Tensor) -> Tensor:
        x_VhwC = x_VhwC if self.down is None else self.down(x_VhwC)
        given: Tensor = self.blocks(x_VhwC)
        return given


def each(stages: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """What each stage gives for what the one before gave."""
    given = [x]
    for stage in stages:
        given.append(stage(given[-1]))
    return given[1:]


def last_dim(x_VCHW: Tensor) -> Tensor:
    """Channels moved last, as maps have them."""
    return x_VCHW.permute(0, 2, 3, 1)


def first_dim(x_VHWC: Tensor) -> Tensor:
    """Channels moved first, as convolutions take them."""
    return x_VHWC.permute(0, 3, 1, 2)


def conv_side(length: int, kernel: int, stride: int, padding: int | None = None) -> int:
    """Outputs of a convolution along one axis; padding: on both sides, kernel // 2 where None."""
    return (length + 2 * (kernel // 2 if padding is None else padding) - kernel) // stride + 1
