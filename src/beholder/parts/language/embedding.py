"""What a token id becomes before the first layer, and how positions are added.

B rows, T positions, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from beholder.config import Config
from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned, waves

if TYPE_CHECKING:
    from beholder.parts.contracts import LanguageInputs

POSITIONS = (None, "learned", "sinusoidal", "sinusoidal 2017")


@dataclass(frozen=True)
class TokenEmbedding(Config):
    """scale: of the token vectors (Gemma's sqrt(width)). norm: after positions (BERT, BLOOM). width: of the table where a
    matrix brings its vectors to the model's width (OPT-350m); late: positions, kinds and norm come before that matrix, which
    then has a bias (ALBERT, ELECTRA). positions: `learned` vectors that are added, or `sinusoidal` ones, with wavelengths
    as fairseq's or as those of 2017's transformer; offset: the row of position 0 (OPT's 2). segments: kinds of token with
    a vector each (BERT's token types; all tokens are of kind 0 unless told otherwise). extra: words behind the vocabulary
    that are read and never written (Llama 3.2's picture).
    """

    scale: float = 1.0
    norm: Norm | None = None
    width: int | None = None
    positions: str | None = None
    offset: int = 0
    segments: int = 0
    late: bool = False
    extra: int = 0

    def __post_init__(self) -> None:
        if self.positions not in POSITIONS:
            raise UnknownName("positions of tokens", str(self.positions), [str(name) for name in POSITIONS])

    def tiny(self) -> TokenEmbedding:
        return super().tiny().but(width=self.width and 16)

    def build(self, vocab_size: int, dim: int, context: int) -> TokenEmbedder:
        """For texts of at most `context` tokens."""
        return TokenEmbedder(self, vocab_size, dim, context)


class TokenEmbedder(nn.Module):
    """ids (B, T) -> (B, T, D), in two steps so that a fusion can put features between tokens and positions."""

    def __init__(self, config: TokenEmbedding, vocab_size: int, dim: int, context: int) -> None:
        super().__init__()
        self.config = config
        width = config.width or dim
        self.weight = nn.Parameter(torch.empty(vocab_size + config.extra, width).normal_())
        self.projection = nn.Linear(width, dim, bias=config.late) if config.width else None
        self.rows = context + config.offset
        inner = width if config.late else dim
        self.positions = learned(self.rows, inner) if config.positions == "learned" else None
        self.segments = learned(config.segments, inner) if config.segments else None
        self.norm = config.norm.build(inner) if config.norm else None

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Token vectors alone, scaled."""
        x_BTD = nn.functional.embedding(ids_BT, self.weight)
        if self.projection is not None and not self.config.late:
            x_BTD = self.projection(x_BTD)
        return x_BTD if self.config.scale == 1.0 else x_BTD * self.config.scale

    def place(
        self,
        x_BTD: Tensor,
        positions_BT: Tensor,
        segments_BT: Tensor | None = None,
        own_BT: Tensor | None = None,
        *,
        in_context: bool = False,
    ) -> Tensor:
        """`x_BTD` with positions and segments added, but to features that have their own (`own_BT`), and normed. in_context:
        see `LanguageInputs`. Raises `BeholderError` beyond the table's end.
        """
        given_BTD = x_BTD
        if self.config.positions is not None:
            rows_BT = positions_BT + self.config.offset
            if not in_context:
                self._check(rows_BT)
            x_BTD = x_BTD + self._positions(rows_BT, x_BTD.shape[-1]).to(x_BTD.dtype)
        if self.segments is not None:
            kinds = (
                self.segments[0]
                if segments_BT is None
                else nn.functional.embedding(segments_BT, self.segments)
            )
            x_BTD = x_BTD + kinds
        if own_BT is not None:
            x_BTD = torch.where(own_BT[..., None], given_BTD, x_BTD)
        x_BTD = x_BTD if self.norm is None else self.norm(x_BTD)
        return self.projection(x_BTD) if self.projection is not None and self.config.late else x_BTD

    def enter(self, inputs: LanguageInputs) -> Tensor:
        """What the first layer reads: `inputs.embeddings_BTD` placed, with what is added behind the norm."""
        given = inputs.embeddings_BTD, inputs.positions, inputs.kinds_BT, inputs.own_BT
        x_BTD = self.place(*given, in_context=inputs.in_context)
        if inputs.late_BTD is None:
            return x_BTD
        x_BTD = x_BTD if inputs.own_BT is None else x_BTD.masked_fill(inputs.own_BT[..., None], 0.0)
        return x_BTD + inputs.late_BTD

    def _check(self, rows_BT: Tensor) -> None:
        if not rows_BT.is_meta and int(rows_BT.max()) >= self.rows:
            raise BeholderError(
                f"a text of {int(rows_BT.max()) - self.config.offset + 1} tokens; this model reads at most "
                f"{self.rows - self.config.offset}"
            )

    def _positions(self, rows_BT: Tensor, dim: int) -> Tensor:
        if self.positions is None:
            return waves(rows_BT, dim, ends=self.config.positions == "sinusoidal")
        return nn.functional.embedding(rows_BT, self.positions)
