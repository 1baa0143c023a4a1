"""Patch embedding layers in place of an encoder: EVE's (2406.11832) and EVEv2's (2502.06788). Both give a learned token
for the whole picture, then row after row of patches, each with a learned token at its end.

V views, W windows, N patches of a window, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size
from beholder.parts.blocks.attention import Attention, SelfAttention
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.contracts import Encoder, Packed, VisionConfig


@dataclass(frozen=True)
class PatchLayer(VisionConfig):
    """patch: pixels per side of the first convolution's patches, stride: how many of them, each way, one token is made of.
    image_size: pixels of the longer side that it was trained with.
    """

    image_size: int
    patch: int
    stride: int
    dim: int

    @property
    def cell(self) -> int:
        """Pixels per side of one token."""
        return self.patch * self.stride

    def plane(self, size: Size) -> tuple[int, int]:
        """Rows and columns of tokens of a view of (height, width) pixels."""
        if min(size) < self.cell:
            raise BeholderError(
                f"a view of {size[1]}x{size[0]} pixels is smaller than one token of {self.cell}"
            )
        return size[0] // self.cell, size[1] // self.cell

    def grid(self, size: Size) -> Grid:
        """One row: the token of the whole picture, then rows of tokens with one more at their ends."""
        rows, columns = self.plane(size)
        return Grid(1, 1, 1 + rows * (columns + 1))

    def tiny(self) -> PatchLayer:
        return super().tiny().but(image_size=28, patch=7, stride=2, dim=32)


class PatchLayerEncoder(Encoder):
    """Views (3, h, w); subclasses say what patches become, and the token of the whole picture."""

    def __init__(self, config: PatchLayer) -> None:
        super().__init__()
        self.config = config
        self.cls, self.newline = learned(config.dim), learned(config.dim)

    def patches(self, view_3hw: Tensor) -> Tensor:
        """(rows, columns, D)."""
        raise NotImplementedError

    def whole(self, patches_RCD: Tensor) -> Tensor:
        """The token of the whole picture, (D,)."""
        return self.cls

    def forward(self, views: Sequence[Tensor]) -> Packed:
        grids = tuple(self.config.grid((view.shape[1], view.shape[2])) for view in views)
        return Packed(torch.cat([self._tokens(view.to(self.cls.dtype)) for view in views]), grids)

    def _tokens(self, view_3hw: Tensor) -> Tensor:
        patches_RCD = self.patches(view_3hw)
        breaks_R1D = self.newline.expand(len(patches_RCD), 1, -1)
        rows_ND = torch.cat((patches_RCD, breaks_R1D), 1).flatten(0, 1)
        return torch.cat((self.whole(patches_RCD)[None], rows_ND))


@dataclass(frozen=True)
class PooledPatches(PatchLayer):
    """EVE: each token is the mean of its patches, which then attends to those same patches; the token of the whole picture
    attends to all tokens. heads: of both attentions.
    """

    heads: int = 8

    def tiny(self) -> PooledPatches:
        return super().tiny().but(heads=4)  # type: ignore[return-value]

    def build(self) -> Encoder:
        return PooledPatchesEncoder(self)


class PooledPatchesEncoder(PatchLayerEncoder):
    """Official `VisionTokenizer` of EVE v1."""

    def __init__(self, config: PooledPatches) -> None:
        super().__init__(config)
        self.patch = nn.Conv2d(3, config.dim, config.patch, stride=config.patch, bias=False)
        self.near = WindowAttention(config.dim, config.heads)
        self.far = WindowAttention(config.dim, config.heads)

    def patches(self, view_3hw: Tensor) -> Tensor:
        stride = self.config.stride
        map_Dhw = self.patch(view_3hw)
        rows, columns = (side // stride for side in map_Dhw.shape[1:])
        means_WD = F.avg_pool2d(map_Dhw, stride).flatten(1).T
        cut_Dhw = map_Dhw[:, : rows * stride, : columns * stride]
        windows = cut_Dhw.unflatten(1, (rows, stride)).unflatten(3, (columns, stride))
        windows_WND = windows.permute(1, 3, 2, 4, 0).reshape(rows * columns, stride**2, -1)
        return self.near(means_WD, windows_WND).view(rows, columns, -1)

    def whole(self, patches_RCD: Tensor) -> Tensor:
        given: Tensor = self.far(self.cls[None], patches_RCD.flatten(0, 1)[None])[0]
        return given


class WindowAttention(nn.Module):
    """Queries (W, D), each with a window (W, N, D) of its own, -> (W, D): the queries and what they find. Scores are scaled by
    the whole width, as released.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm_features = (Norm("layer", 1e-5).build(dim) for _ in range(2))
        self.attn = SelfAttention(Attention(heads, out_bias=True, scale=dim**-0.5), dim)

    def forward(self, queries_WD: Tensor, windows_WND: Tensor) -> Tensor:
        attn, seen_WND = self.attn, self.norm_features(windows_WND)
        q_W1D = attn.q(self.norm1(queries_WD))[:, None]
        k_WND, v_WND = attn.k(seen_WND), attn.v(seen_WND)
        heads_WH1K = attn.attend(attn.split(q_W1D), attn.split(k_WND), attn.split(v_WND), AttentionMask())
        return queries_WD + attn.merge(heads_WH1K)[:, 0]


@dataclass(frozen=True)
class StackedPatches(PatchLayer):
    """EVEv2: a second convolution, of `stride` patches each way, behind the first. hidden: width between the two."""

    hidden: int = 1024

    def tiny(self) -> StackedPatches:
        return super().tiny().but(hidden=24)  # type: ignore[return-value]

    def build(self) -> Encoder:
        return StackedPatchesEncoder(self)


class StackedPatchesEncoder(PatchLayerEncoder):
    """Official `VisionTokenizer` of EVEv2."""

    def __init__(self, config: StackedPatches) -> None:
        super().__init__(config)
        self.patch = nn.Conv2d(3, config.hidden, config.patch, stride=config.patch)
        self.join = nn.Conv2d(config.hidden, config.dim, config.stride, stride=config.stride)

    def patches(self, view_3hw: Tensor) -> Tensor:
        map_Dhw: Tensor = self.join(F.gelu(self.patch(view_3hw)))
        return map_Dhw.permute(1, 2, 0)
