"""A transformer over what pictures and words have become apart (FLAVA, 2112.04482, section 3.1).

B rows, V views, T tokens of a picture and a text together, D width, E width of the space that both share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from beholder.errors import BeholderError
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import Arrangement, LayerKind, build_layers, run_layers
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig
from beholder.parts.language.state import State


@dataclass(frozen=True)
class Mixed(HeadConfig):
    """depth, dim: of the branch's layer whose tokens are read, before its last norm, and of its tokens. width: of the layers;
    shared: of the space in which class tokens of both sides are compared.
    """

    output: ClassVar[str] = "mixed"
    dim: int
    depth: int
    width: int
    num_layers: int
    attention: Attention
    mlp: FeedForward
    norm: Norm = Norm("layer", 1e-12)
    cls: bool = True
    shared: int = 768
    branch: str = "image"

    def tiny(self) -> Mixed:
        return super().tiny().but(dim=32, depth=2, width=32, num_layers=2, shared=16)

    def taps(self, num_layers: int) -> tuple[int, ...]:
        return (num_layers,)

    def build(self, language: LanguageConfig | None) -> Head:
        if language is None:
            raise BeholderError("Mixed needs a text encoder whose words it reads")
        return MixedHead(self, language)


class Mixture(NamedTuple):
    """states_BTD: class token, picture, words; pooled_BD: of the class token; scores_VB: likeness before mixing."""

    states_BTD: Tensor
    pooled_BD: Tensor
    scores_VB: Tensor


class MixedHead(Head):
    """Tokens of one view for each row, and of words, both behind their last layer -> `Mixture`."""

    def __init__(self, config: Mixed, language: LanguageConfig) -> None:
        super().__init__()
        self.config, self.text_depth = config, language.num_layers
        self.image_in, self.text_in = (
            nn.Linear(config.dim, config.width),
            nn.Linear(language.dim, config.width),
        )
        self.cls = learned(config.width) if config.cls else None
        kinds = (LayerKind(config.attention, config.mlp, Arrangement()),) * config.num_layers
        self.blocks = nn.ModuleList(build_layers(config.width, kinds, config.norm))
        self.norm = config.norm.build(config.width)
        self.pool = nn.Linear(config.width, config.width)
        self.image_out, self.text_out = (
            nn.Linear(config.dim, config.shared),
            nn.Linear(language.dim, config.shared),
        )
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Mixture:
        branch, words_BTD = inputs.branches.get(self.config.branch), inputs.hidden_BTD
        if branch is None or words_BTD is None or len(branch.packed.grids) != len(words_BTD):
            views = 0 if branch is None else len(branch.packed.grids)
            rows = 0 if words_BTD is None else len(words_BTD)
            raise BeholderError(f"{views} views for {rows} texts; words and pictures are mixed one to one")
        packed, rows = branch.packed, len(words_BTD)
        counts = inputs.lengths or (words_BTD.shape[1],) * rows
        front = [] if self.cls is None else [self.cls[None]]
        mixed = [
            torch.cat((*front, self.image_in(view_ND), self.text_in(row_TD[:count])))
            for view_ND, row_TD, count in zip(
                packed.taps[self.config.depth].split(), inputs.taps[self.text_depth], counts, strict=True
            )
        ]
        lengths, x_BTD = tuple(map(len, mixed)), pad_sequence(mixed, batch_first=True)
        seen = Visibility.causal_rows(lengths, x_BTD.shape[1], device=x_BTD.device)
        x_BTD, _ = run_layers(self.blocks, x_BTD, Step(x_BTD.dtype, replace(seen, both_ways=True)))
        states_BTD = self.norm(x_BTD)
        first_VD = torch.stack([view_ND[0] for view_ND in packed.split()])
        images_VE = F.normalize(self.image_out(first_VD), dim=-1)
        texts_BE = F.normalize(self.text_out(words_BTD[:, 0]), dim=-1)
        scores_VB = images_VE @ texts_BE.T * self.scale.exp()
        return Mixture(states_BTD, self.pool(states_BTD[:, 0]).tanh(), scores_VB)
