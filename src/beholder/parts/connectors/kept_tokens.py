"""The tokens of a picture's tiles that are least like others stay, and have read all of them (TextMonkey, 2403.04473, section
3.2; official `text_monkey/resampler.py` and `merge.py`).

P pictures, N tokens of a picture's tiles, K kept ones, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid, View
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import FeatureAttention
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.step import Step
from beholder.parts.connectors.cross_resampler import CrossResampler
from beholder.parts.contracts import Connector, ConnectorConfig, Context, Packed
from beholder.parts.vision.views import by_size, views_of_pictures


@dataclass(frozen=True)
class KeptTokens(ConnectorConfig):
    """`then` makes tokens of each view; of those of all tiles together `kept` stay, and the whole picture's follow, where views
    of a picture are tiles and the whole behind them. width, attention: of what the kept ones read the others with.
    """

    kept: int = 512
    width: int = 1024
    attention: Attention = Attention(num_heads=8, head_dim=128)
    then: ConnectorConfig = CrossResampler()

    def grid(self, grid: Grid) -> Grid:
        return self.then.grid(grid)

    def grids(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Grid, ...]:
        given = tuple(self.grid(grid) for grid in grids)
        return given if len(given) == 1 else (self._grid(given[:-1]), given[-1])

    def _grid(self, tiles: tuple[Grid, ...]) -> Grid:
        count = sum(grid.num_tokens for grid in tiles)
        if count < self.kept:
            raise BeholderError(f"{len(tiles)} tiles have {count} tokens; {self.kept} cannot be kept of them")
        return Grid(1, 1, self.kept)

    def tiny(self) -> KeptTokens:
        return super().tiny().but(kept=6, width=32)

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return KeptTokensConnector(self, in_dim, out_dim)


class KeptTokensConnector(Connector):
    """(N of each view, in_dim) -> (K and the whole's of each picture, out_dim)."""

    def __init__(self, config: KeptTokens, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.then = config.then.build(in_dim, out_dim)
        width = config.width
        self.narrow = nn.Linear(out_dim, width, bias=False)
        self.norm_features, self.norm_queries, self.norm = (Norm().build(width) for _ in range(3))
        self.attn = FeatureAttention(config.attention, width)
        self.up, self.down = nn.Linear(width, width, bias=False), nn.Linear(width, out_dim, bias=False)
        self.scale = nn.Parameter(torch.ones(1))
        nn.init.normal_(self.down.weight, std=1e-3)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        given: Packed = self.then(packed, context)
        views, grids = iter(given.split()), iter(packed.grids)
        counts = views_of_pictures(context, len(packed.grids))
        pictures = [list(islice(views, count)) for count in counts]
        kept = iter(by_size([torch.cat(own[:-1]) for own in pictures if len(own) > 1], self._read))
        tokens = [x for own in pictures for x in ((next(kept), own[-1]) if len(own) > 1 else own)]
        after = [self.config.grids((), tuple(islice(grids, count))) for count in counts]
        return Packed(
            torch.cat(tokens) if tokens else given.tokens_ND, tuple(grid for own in after for grid in own)
        )

    def _read(self, x_PND: Tensor) -> Tensor:
        """The kept tokens, with what they read added, (P, K, D)."""
        at_PK = least_alike(x_PND, self.config.kept)
        kept_PKD = x_PND.gather(1, at_PK[..., None].expand(-1, -1, x_PND.shape[-1]))
        asked = self.norm_queries(self.narrow(kept_PKD))
        read = torch.cat((self.norm_features(self.narrow(x_PND)), asked), 1)
        attn, step = self.attn, Step()
        keys, values = attn.keys(read, step)
        heads = attn.attend(attn.queries(asked, step), keys, values, AttentionMask())
        change: Tensor = self.down(F.gelu(self.up(self.norm(attn.merge(heads))))) * self.scale
        return kept_PKD + change


def least_alike(x_PND: Tensor, kept: int) -> Tensor:
    """Places (P, kept), in order, of tokens whose nearest one among those behind them, by the angle, is farthest. The last one
    has none behind it and stays.
    """
    unit = F.normalize(x_PND.detach(), dim=-1)
    alike_PNN = unit @ unit.transpose(-1, -2)
    behind = torch.ones(alike_PNN.shape[-2:], dtype=torch.bool, device=x_PND.device).triu(1)
    nearest_PN = alike_PNN.masked_fill(~behind, -torch.inf).amax(-1)
    return nearest_PN.topk(kept, largest=False).indices.sort(-1).values
