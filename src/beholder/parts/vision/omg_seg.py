"""OMG-Seg (2401.10229) as an encoder: CLIP's ConvNeXt, a pixel decoder, and queries that become objects with masks, classes
being CLIP's vectors of words.

V views, Q queries, C width of queries, K classes, P phrasings of a class, h w rows and columns of a map.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.media.plan import Grid, Size
from beholder.parts.blocks.linears import Linears
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.query_decoder import PixelDecoder, QueryDecoder
from beholder.parts.vision.convnext import ConvNext
from beholder.parts.vision.stages import Maps, StagedConfig, StagedEncoder, first_dim, last_dim

FINE, QUERIES, MASKS, SCORES = (
    1,
    5,
    6,
    7,
)  # taps; 2 to 4 are the levels that queries look at, from the coarsest
SCALE = 4.6052  # exp of it is CLIP's 100


@dataclass(frozen=True)
class OmgSeg(StagedConfig):
    """backbone, decoder: the parts. queries: how many. classes: numbers of classes, of phrasings of each, and the width of
    their vectors, which checkpoints come with; a last class is none.
    """

    backbone: ConvNext
    decoder: QueryDecoder = QueryDecoder()
    queries: int = 300
    vectors: tuple[int, int, int] = (133, 14, 768)
    image_size: int = 1024
    dim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", self.backbone.dim)

    @property
    def taps(self) -> tuple[int, ...]:
        return tuple(range(FINE, SCORES + 1))

    @property
    def token_tap(self) -> int:
        return 1  # the coarsest level has the grid of the backbone's last map

    def sides(self, length: int) -> tuple[int, ...]:
        return self.backbone.sides(length)

    def grids(self, size: Size) -> tuple[Grid, ...]:
        finest, *rest = self.backbone.grids(size)
        row = Grid(1, 1, self.queries)
        return (finest, *reversed(rest), row, finest, row)

    def grid(self, size: Size) -> Grid:
        return self.backbone.grid(size)

    def tiny(self) -> OmgSeg:
        return self.but(
            backbone=self.backbone.tiny(),
            decoder=self.decoder.tiny(),
            queries=6,
            vectors=(3, 2, 12),
            image_size=64,
        )

    def build(self) -> OmgSegModel:
        return OmgSegModel(self)


class OmgSegModel(StagedEncoder):
    """Tokens are the backbone's last map; taps: the finest map, the levels, the queries with their places (2C), the masks'
    logits (Q at each cell), and how surely each is of a class.
    """

    config: OmgSeg

    def __init__(self, config: OmgSeg) -> None:
        super().__init__()
        self.config, dim = config, config.decoder.dim
        self.backbone = config.backbone.build()
        self.pixels = PixelDecoder(config.decoder, config.backbone.dims)
        self.decoder = config.decoder.build()
        self.queries, self.places = learned(config.queries, dim), learned(config.queries, dim)
        count, phrasings, width = config.vectors
        self.pool_norm, self.pool = nn.LayerNorm(dim), nn.Linear(dim, dim)
        self.project = Linears((dim, dim, dim, width))
        self.register_buffer("classes", F.normalize(torch.randn(count + 1, phrasings, width), dim=-1))

    def maps(self, pixels_V3HW: Tensor) -> Maps:
        seen = self.backbone.maps(pixels_V3HW)
        pixels = self.pixels([first_dim(tap) for tap in seen.taps])
        count = len(pixels_V3HW)
        own_VQC = self.places.expand(count, -1, -1)
        decided = self.decoder(self.queries.expand(count, -1, -1), own_VQC, pixels)
        scores_VQ = self.scores(decided.normed + self.inside(pixels.fine, decided.masks))
        queries_V1QC = torch.cat((decided.queries, own_VQC), -1)[:, None]
        taps = (
            last_dim(pixels.fine),
            *(last_dim(level) for level in pixels.levels),
            queries_V1QC,
            last_dim(decided.masks),
            scores_VQ[:, None, :, None],
        )
        return Maps(taps, seen.tokens)

    def inside(self, fine_VChw: Tensor, masks_VQhw: Tensor) -> Tensor:
        """(V, Q, C): what the finest map holds in each mask on the average, mapped (official `mask_pool`)."""
        inside_VQhw = (masks_VQhw.detach() > 0).to(fine_VChw.dtype)
        share_VQhw = inside_VQhw / (inside_VQhw.sum((-2, -1), keepdim=True) + 1e-8)
        given: Tensor = self.pool(self.pool_norm(torch.einsum("vchw,vqhw->vqc", fine_VChw, share_VQhw)))
        return given

    def scores(self, normed_VQC: Tensor) -> Tensor:
        """(V, Q): the probability of the likeliest class but none."""
        vectors_VQW = F.normalize(self.project(normed_VQC), dim=-1)
        classes_KPW: Tensor = self.classes  # type: ignore[assignment]
        logits_VQK = torch.einsum("vqw,kpw->vqkp", vectors_VQW, classes_KPW).amax(-1)
        return (logits_VQK * torch.tensor(SCALE).exp()).softmax(-1)[..., :-1].amax(-1)

    def unused_parameters(self, *, pooled: bool) -> set[str]:
        return {f"backbone.{name}" for name in self.backbone.unused_parameters(pooled=False)}
