"""A decoder that reads texts in both directions and gives one vector for each: LLM2Vec (2404.05961), and LLM2CLIP
(2411.04997), where an adapter brings the vectors to the space of pictures.

B rows, T positions, D width, P width of the shared space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.contracts import Language, LanguageConfig, LanguageInputs, LanguageOutput, LayerParts
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.state import State


@dataclass(frozen=True)
class TextAdapter(Config):
    """Residual MLPs over a text's vector, a norm and a matrix to the shared space (microsoft/LLM2CLIP
    llm2clip/eva_clip/model.py `TextProj`). unit: vectors come in with length 1. expansion: of the MLPs.
    """

    width: int = 1280
    depth: int = 4
    expansion: int = 2
    unit: bool = True

    def tiny(self) -> TextAdapter:
        return self.but(width=32)

    def build(self, dim: int) -> TextAdapterModel:
        return TextAdapterModel(self, dim)


class AdapterBlock(nn.Module):
    """x + MLP(norm(x))."""

    def __init__(self, dim: int, expansion: int) -> None:
        super().__init__()
        self.norm = Norm().build(dim)
        self.mlp = FeedForward(expansion * dim).build(dim)

    def forward(self, x_BD: Tensor) -> Tensor:
        return x_BD + self.mlp(self.norm(x_BD))


class TextAdapterModel(nn.Module):
    """(B, D) -> (B, P)."""

    def __init__(self, config: TextAdapter, dim: int) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(AdapterBlock(dim, config.expansion) for _ in range(config.depth))
        self.norm = Norm().build(dim)
        self.linear = nn.Linear(dim, config.width)

    def forward(self, x_BD: Tensor) -> Tensor:
        x_BD = F.normalize(x_BD, dim=-1) if self.config.unit else x_BD
        for block in self.blocks:
            x_BD = block(x_BD)
        return self.linear(self.norm(x_BD))


@dataclass(frozen=True)
class TwoWayDecoder(LanguageConfig):
    """decoder: whose tokens see those behind them too; it writes nothing, so its scores are those of a tied table. skip:
    tokens in front that the mean over a text leaves out, the prompt's. context: longest text in tokens.
    """

    decoder: Decoder
    adapter: TextAdapter | None = None
    skip: int = 0
    context: int = 512

    def __post_init__(self) -> None:
        if not self.decoder.tied:
            raise BeholderError("a decoder that only reads needs no output matrix; set tied=True")

    @property
    def dim(self) -> int:  # type: ignore[override]
        return self.decoder.dim

    @property
    def vocab_size(self) -> int:  # type: ignore[override]
        return self.decoder.vocab_size

    @property
    def num_layers(self) -> int:  # type: ignore[override]
        return self.decoder.num_layers

    @property
    def feature_dim(self) -> int:
        return self.dim if self.adapter is None else self.adapter.width

    def build(self) -> TwoWayModel:
        return TwoWayModel(self)


class TwoWayModel(Language):
    """`Language` whose `pooled_BD` is the mean of the hidden states, through the adapter where there is one."""

    def __init__(self, config: TwoWayDecoder) -> None:
        super().__init__()
        self.config = config
        self.decoder = config.decoder.build()
        self.adapter = None if config.adapter is None else config.adapter.build(config.dim)

    def embed(self, ids_BT: Tensor) -> Tensor:
        return self.decoder.embed(ids_BT)

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        return self.decoder.logits(hidden_BTD)

    def forward(
        self,
        inputs: LanguageInputs,
        state: State | None = None,
        *,
        layer_parts: LayerParts | None = None,
        taps: Sequence[int] = (),
    ) -> LanguageOutput:
        """Whole texts at once; raises `BeholderError` for one of no more tokens than `skip`."""
        seen = replace(inputs.visibility, both_ways=True)
        output = self.decoder(replace(inputs, visibility=seen), None, layer_parts=layer_parts, taps=taps)
        rows, width = inputs.ids_BT.shape
        lengths = inputs.lengths or (width,) * rows
        if min(lengths) <= self.config.skip:
            raise BeholderError(
                f"a text of {min(lengths)} tokens, of which the first {self.config.skip} are the prompt's; "
                "write it with the system's own prompt format"
            )
        places_T = torch.arange(width, device=inputs.ids_BT.device)
        ends_B1 = torch.tensor(lengths, device=places_T.device)[:, None]
        counts_BT1 = ((places_T >= self.config.skip) & (places_T < ends_B1))[..., None]
        mean_BD = (output.hidden_BTD * counts_BT1).sum(1) / counts_BT1.sum(1)
        return replace(output, pooled_BD=mean_BD if self.adapter is None else self.adapter(mean_BD))
