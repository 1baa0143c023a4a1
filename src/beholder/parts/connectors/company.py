"""A connector with a map for features that come alone and one for those beside another branch's (Phi-4-multimodal, 2503.01743,
section 2.1: speech with and without pictures).
"""

from __future__ import annotations

from dataclasses import dataclass

from beholder.errors import BeholderError
from beholder.media.plan import Grid, View
from beholder.parts.connectors.projections import Mlp
from beholder.parts.contracts import Connector, ConnectorConfig, Context, Packed


@dataclass(frozen=True)
class ByCompany(ConnectorConfig):
    """alone: for what this branch gives by itself; beside: where another branch sees something in the same batch. Both make as
    many tokens.
    """

    alone: ConnectorConfig = Mlp()
    beside: ConnectorConfig = Mlp()

    def grid(self, grid: Grid) -> Grid:
        return self._same((self.alone.grid(grid),), (self.beside.grid(grid),))[0]

    def grids(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Grid, ...]:
        return self._same(self.alone.grids(views, grids), self.beside.grids(views, grids))

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return ByCompanyConnector(self, in_dim, out_dim)

    @staticmethod
    def _same(alone: tuple[Grid, ...], beside: tuple[Grid, ...]) -> tuple[Grid, ...]:
        if alone != beside:
            raise BeholderError(
                f"features alone make {alone}, beside others {beside}; both must make as many tokens"
            )
        return alone


class ByCompanyConnector(Connector):
    """(N, in_dim) -> what the map for the company they are in makes of them."""

    def __init__(self, config: ByCompany, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.alone = config.alone.build(in_dim, out_dim)
        self.beside = config.beside.build(in_dim, out_dim)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        given: Packed = (self.beside if context and context.beside else self.alone)(packed, context)
        return given
