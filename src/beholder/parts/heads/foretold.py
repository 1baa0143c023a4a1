"""Features of patches that were not seen, from those that were (V-JEPA, 2404.08471, section 3; V-JEPA 2, 2506.09985).

V views, N patches of a view, M of them seen, D width of the encoder, P of the predictor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.rotary3d import SpaceTimeRotary
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import TransformerLayer
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig, Packed
from beholder.parts.language.state import State


@dataclass(frozen=True)
class Foretold(HeadConfig):
    """dim: of the branch's tokens; width, num_layers, attention, mlp: of the predictor. masks: learned tokens that stand for
    what is not seen, of which number `mask` is used.
    """

    output: ClassVar[str] = "foretold"
    reads_text: ClassVar[bool] = False
    dim: int
    width: int
    num_layers: int
    attention: Attention
    mlp: FeedForward
    norm: Norm = Norm("layer", 1e-6)
    masks: int = 10
    mask: int = 1
    branch: str = "image"

    def __post_init__(self) -> None:
        if not 0 <= self.mask < self.masks:
            raise BeholderError(f"mask {self.mask} of {self.masks}; count them from 0")
        if not isinstance(self.attention.rotary, SpaceTimeRotary):
            raise BeholderError(
                "patches to foretell are known by their places; set attention.rotary=SpaceTimeRotary()"
            )

    def tiny(self) -> Foretold:
        return super().tiny().but(dim=32, width=32, num_layers=1)

    def build(self, language: LanguageConfig | None) -> Head:
        return ForetoldHead(self)


class ForetoldHead(Head):
    """Tokens (V N, D) -> features of all patches as they are foretold from all, on the same grids."""

    def __init__(self, config: Foretold) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.enter = nn.Linear(config.dim, width)
        self.masks = learned(config.masks, width)
        self.blocks = nn.ModuleList(
            TransformerLayer(width, config.attention, config.mlp, norm=config.norm, index=index)
            for index in range(config.num_layers)
        )
        self.norm = config.norm.build(width)
        self.leave = nn.Linear(width, config.dim)

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Packed:
        packed = inputs.branches[self.config.branch].packed
        views = zip(packed.split(), packed.grids, strict=True)
        return Packed(torch.cat([self.foretell(x_ND, grid) for x_ND, grid in views]), packed.grids)

    def foretell(
        self, x_ND: Tensor, grid: Grid, seen_M: Tensor | None = None, wanted_N: Tensor | None = None
    ) -> Tensor:
        """Features (wanted, D) of the patches of `grid` numbered `wanted_N`, from those of `x_ND` numbered `seen_M`; all where
        None.
        """
        every_N = torch.arange(len(x_ND), device=x_ND.device)
        seen_M, wanted_N = (every_N if chosen is None else chosen for chosen in (seen_M, wanted_N))
        rotary = self.config.attention.rotary
        assert isinstance(rotary, SpaceTimeRotary)
        context_MP = self.enter(x_ND[seen_M])
        hidden_NP = self.masks[self.config.mask].expand(len(wanted_N), -1).to(context_MP.dtype)
        x_1TP = torch.cat((context_MP, hidden_NP))[None]
        places_31T = rotary.places(grid, x_ND.device)[:, torch.cat((seen_M, wanted_N))][:, None]
        step = Step(x_1TP.dtype, positions=places_31T)
        for block in self.blocks:
            x_1TP = block(x_1TP, step)
        foretold: Tensor = self.leave(self.norm(x_1TP[0, len(seen_M) :]))
        return foretold
