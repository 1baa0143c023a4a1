"""Weights that tokens of pictures have for themselves inside a language model's layers: the visual expert of CogVLM
(2311.03079), mPLUG-Owl2's modality-adaptive module (2311.04257), EVEv2's modality-wise layers (2502.06788).

B rows, T positions, N tokens of one kind, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.blocks.attention import SelfAttention
from beholder.parts.contracts import (
    BranchOutput,
    Fusion,
    FusionConfig,
    LanguageConfig,
    LanguageInputs,
    LayerParts,
)
from beholder.parts.language.decoder import Decoder

PICTURE = 1  # in `LanguageInputs.routes_BT`, as `Splice` marks features


@dataclass(frozen=True)
class VisualExpert(FusionConfig):
    """Stands behind the fusion that puts features among the words and marks their places.

    norms, queries, keys_values, out, mlp: which weights of every layer pictures have for themselves.
    last_is_text: the last token of each run of features goes through the words' weights (CogVLM as released).
    one_position: the features of a run between its first and its last share one position (CogVLM).
    """

    norms: bool = False
    queries: bool = True
    keys_values: bool = True
    out: bool = True
    mlp: bool = True
    last_is_text: bool = False
    one_position: bool = False

    @property
    def in_segments(self) -> bool:
        return not self.one_position

    def build(self, language: LanguageConfig | None) -> Fusion:
        if not isinstance(language, Decoder):
            raise BeholderError("VisualExpert needs a decoder whose layers it can double")
        return VisualExpertFusion(self, language)


class VisualExpertFusion(Fusion):
    """Owns the pictures' weights, by layer and slot."""

    def __init__(self, config: VisualExpert, language: Decoder) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(
            nn.ModuleDict(self._slots(language, number)) for number in range(language.num_layers)
        )

    def _slots(self, language: Decoder, number: int) -> dict[str, nn.Module]:
        config, kind = self.config, language.layers[number]
        assert kind.mixer is not None
        attention = kind.mixer.build(language.dim, number)
        if not isinstance(attention, SelfAttention):
            raise BeholderError(f"layer {number} has no attention whose projections pictures could have anew")
        slots: dict[str, nn.Module] = {}
        if config.norms:
            slots |= {name: Routed(language.norm.build(language.dim)) for name in ("norm1", "norm2")}
        wanted = {"q": config.queries, "k": config.keys_values, "v": config.keys_values}
        projections = {name: getattr(attention, name) for name, own in wanted.items() if own}
        if projections:
            slots["qkv"] = RoutedProjections(projections)
        if config.out:
            slots["out"] = Routed(attention.out)
        if config.mlp:
            if kind.mlp is None:
                raise BeholderError(f"layer {number} has no MLP that pictures could have anew; set mlp=False")
            slots["mlp"] = Routed(kind.mlp.build(language.dim))
        return slots

    def layer_parts(self, language: LanguageConfig) -> LayerParts:
        return {number: dict(slots.items()) for number, slots in enumerate(self.layers)}  # type: ignore[operator]

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        if draft.routes_BT is None:
            return draft
        placed_BT = draft.routes_BT == PICTURE
        if not bool(placed_BT.any()):
            return replace(draft, routes_BT=None)
        if self.config.last_is_text:
            behind_BT = F.pad(placed_BT, (0, 1))[:, 1:]
            draft = replace(draft, routes_BT=draft.routes_BT.masked_fill(placed_BT & ~behind_BT, 0))
        return _in_one_position(draft, placed_BT) if self.config.one_position else draft


def _in_one_position(draft: LanguageInputs, placed_BT: Tensor) -> LanguageInputs:
    """The features of each run between its first and its last share one position."""
    before_BT, behind_BT = F.pad(placed_BT, (1, 0))[:, :-1], F.pad(placed_BT, (0, 1))[:, 1:]
    inner_BT = placed_BT & before_BT & behind_BT
    stays_BT = inner_BT & F.pad(inner_BT, (1, 0))[:, :-1]
    return replace(draft, positions=draft.positions - stays_BT.cumsum(1))


@dataclass(frozen=True)
class OnePosition(FusionConfig):
    """Stands behind the fusion that puts features among the words: between its first and its last the features of a run
    share one position, and go through the words' weights (GLM-4V, 2408.16500).
    """

    def build(self, language: LanguageConfig | None) -> Fusion:
        return OnePositionFusion()


class OnePositionFusion(Fusion):
    """Has no weights."""

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        return draft if draft.routes_BT is None else _in_one_position(draft, draft.routes_BT == PICTURE)


def routed(
    x_BTD: Tensor,
    inputs: LanguageInputs,
    own: Callable[[Tensor], Tensor],
    base: Callable[[Tensor], Tensor],
) -> Tensor:
    """own(x) at pictures' tokens, base(x) elsewhere; without pictures just base(x)."""
    if inputs.routes_BT is None:
        return base(x_BTD)
    chosen_BT = inputs.routes_BT == PICTURE
    words_ND = base(x_BTD[~chosen_BT])
    y_BTD = words_ND.new_empty((*chosen_BT.shape, words_ND.shape[-1]))
    y_BTD[~chosen_BT] = words_ND
    y_BTD[chosen_BT] = own(x_BTD[chosen_BT]).to(words_ND.dtype)
    return y_BTD


class Routed(nn.Module):
    """A norm, a projection or an MLP that pictures have for themselves."""

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.own = own

    def forward(self, x_BTD: Tensor, base: Callable[[Tensor], Tensor], inputs: LanguageInputs) -> Tensor:
        return routed(x_BTD, inputs, self.own, base)


class RoutedProjections(nn.Module):
    """Those of queries, keys and values that pictures have for themselves; they share the others with words."""

    def __init__(self, own: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.own = nn.ModuleDict(own)

    def forward(
        self,
        x_BTD: Tensor,
        base: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
        inputs: LanguageInputs,
    ) -> tuple[Tensor, ...]:
        if inputs.routes_BT is None:
            return base(x_BTD)
        widths: list[int] = []

        def words(x_ND: Tensor) -> Tensor:
            given = base(x_ND)
            widths[:] = [y_ND.shape[-1] for y_ND in given]
            return torch.cat(given, -1)

        def pictures(x_ND: Tensor) -> Tensor:
            shared = base(x_ND) if len(self.own) < 3 else (x_ND,) * 3
            pairs = zip(("q", "k", "v"), shared, strict=True)
            return torch.cat([self.own[name](x_ND) if name in self.own else y_ND for name, y_ND in pairs], -1)

        return routed(x_BTD, inputs, pictures, words).split(widths, -1)
