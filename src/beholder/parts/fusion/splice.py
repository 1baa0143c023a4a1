"""Features placed in the token sequence: the language model reads them like words (LLaVA, 2304.08485).

B rows, T positions, N feature tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.media.plan import NEWLINE, Features, Media, PicturePlan
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.positions import learned
from beholder.parts.contracts import (
    BranchOutput,
    Fusion,
    FusionConfig,
    LanguageConfig,
    LanguageInputs,
    Packed,
)


@dataclass(frozen=True)
class Splice(FusionConfig):
    """at: the placeholder's text; token_id: its id, which may lie outside the vocabulary. branch: whose features.
    newline: a learned vector stands at row breaks (LLaVA-NeXT).
    sees: `causal`; `picture`: features that follow each other see each other both ways (Gemma 3, 2503.19786); `prompt`: so do
    all tokens of the question (PaliGemma, 2407.07726); `front`: features and all before them (Moondream); `pictures`: all
    features of the question, of whatever picture, and the tokens `marks` around them (Molmo 2). added: to the placeholder's
    own vector (Molmo, 2409.17146).
    apart: features get no place and no norm from the language part, and words count their places without them (GIT,
    2205.14100). kind: the kind of token that features are (Kosmos-2.5). scale: features are multiplied by this, where the
    language part multiplies all that it reads (Granite).
    """

    token_id: int
    at: str = "<image>"
    branch: str = "image"
    newline: bool = False
    sees: Literal["causal", "picture", "prompt", "front", "pictures"] = "causal"
    marks: tuple[int, ...] = ()
    added: bool = False
    apart: bool = False
    kind: int = 0
    scale: float = 1.0

    @property
    def reads_prompt(self) -> bool:
        return self.sees in ("prompt", "pictures")

    @property
    def in_segments(self) -> bool:
        return self.sees in ("causal", "picture") and not self.apart

    def placeholder(self) -> tuple[str, int]:
        return self.branch, self.token_id

    def tiny(self) -> Splice:
        return self.but(token_id=5)

    def build(self, language: LanguageConfig | None) -> Fusion:
        if language is None:
            raise BeholderError("Splice needs a language part to put features into")
        return SpliceFusion(self, language.dim)


class SpliceFusion(Fusion):
    """Adds no modules to layers; replaces the embeddings at placeholders."""

    def __init__(self, config: Splice, dim: int) -> None:
        super().__init__()
        self.config = config
        self.newline = learned(dim) if config.newline else None

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        places_BT = draft.ids_BT == self.config.token_id
        if self.config.sees != "causal":
            draft = replace(draft, visibility=self._visibility(draft, places_BT))
        branch = branches.get(self.config.branch)
        plans = branch.plans if branch else ((),) * len(draft.ids_BT)
        check_places(places_BT, plans, self.config.at)
        if branch is not None:
            check_views(branch)
        if branch is None:
            return draft
        places_BT = _taking_place(places_BT, plans)
        features_ND = in_prompt_order(branch.packed, branch.plans, self.newline)
        embeddings_BTD = draft.embeddings_BTD.clone()
        if features_ND.shape[-1] != embeddings_BTD.shape[-1]:
            raise BeholderError(
                f"branch {self.config.branch} gives features of {features_ND.shape[-1]} channels, the language part has "
                f"{embeddings_BTD.shape[-1]}; give the branch a connector that reaches them"
            )
        features_ND = features_ND.to(embeddings_BTD.dtype) * self.config.scale
        embeddings_BTD[places_BT] = (
            features_ND + embeddings_BTD[places_BT] if self.config.added else features_ND
        )
        routes_BT = torch.zeros_like(draft.ids_BT) if draft.routes_BT is None else draft.routes_BT
        routes_BT = routes_BT.masked_fill(places_BT, 1)
        if self.config.apart:
            before_BT = places_BT.cumsum(1)
            draft = replace(
                draft,
                positions=(draft.positions - before_BT).clamp(min=0),
                own_BT=places_BT,
                late_BTD=embeddings_BTD.masked_fill(~places_BT[..., None], 0.0),
            )
        if self.config.kind:
            kinds_BT = torch.zeros_like(draft.ids_BT) if draft.kinds_BT is None else draft.kinds_BT
            draft = replace(draft, kinds_BT=kinds_BT.masked_fill(places_BT, self.config.kind))
        return replace(draft, embeddings_BTD=embeddings_BTD, routes_BT=routes_BT)

    def _visibility(self, draft: LanguageInputs, places_BT: Tensor) -> Visibility:
        """Tokens that see each other both ways share the first one's block."""
        seen = draft.visibility
        if places_BT.shape[1] == 1:
            return seen
        blocks_BT = seen.blocks_BT
        ends_B1 = torch.tensor(draft.prompts or (0,) * len(places_BT), device=places_BT.device)[:, None]
        columns_T = torch.arange(places_BT.shape[1], device=places_BT.device)
        if self.config.sees == "pictures":
            marks_M = torch.tensor(self.config.marks, dtype=torch.long, device=places_BT.device)
            return seen.grouped((places_BT | torch.isin(draft.ids_BT, marks_M)) & (columns_T < ends_B1))
        if self.config.sees == "prompt":
            return seen.sharing(torch.where(columns_T < ends_B1, blocks_BT[:, :1], blocks_BT), whole=True)
        if self.config.sees == "front":
            front_BT = places_BT.flip(1).cumsum(1).flip(1) > 0
            return seen.sharing(torch.where(front_BT, blocks_BT[:, :1], blocks_BT))
        begins_BT = places_BT.clone()
        begins_BT[:, 1:] &= ~places_BT[:, :-1]
        columns_BT = torch.arange(places_BT.shape[1], device=places_BT.device).expand_as(places_BT)
        first_BT = torch.where(begins_BT, columns_BT, 0).cummax(1).values
        return seen.sharing(torch.where(places_BT, blocks_BT.gather(1, first_BT), blocks_BT))


def in_prompt_order(
    packed: Packed, plans: Sequence[Sequence[PicturePlan]], newline: Tensor | None = None
) -> Tensor:
    """Every picture's tokens in the order its plan puts them in the prompt, (N, D)."""
    views = packed.split()
    ordered, first = [], 0
    for plan in (plan for row in plans for plan in row):
        tokens_ND = torch.cat(views[first : first + len(plan.grids)])
        first += len(plan.grids)
        if newline is not None:  # stands last, where index NEWLINE = -1 finds it
            tokens_ND = torch.cat((tokens_ND, newline[None].to(tokens_ND.dtype)))
        for piece in plan.pieces:
            if isinstance(piece, Features) and not isinstance(piece, Media):
                if newline is None and NEWLINE in piece.order:
                    raise BeholderError(
                        "the geometry plans row breaks but the fusion has none; set Splice(newline=True)"
                    )
                if len(piece.order) and int(piece.order.max()) >= len(tokens_ND) - (newline is not None):
                    raise BeholderError(
                        f"the geometry places token {int(piece.order.max())} of a picture that has "
                        f"{len(tokens_ND) - (newline is not None)}; give it a geometry made for this encoder and connector"
                    )
                ordered.append(tokens_ND[torch.from_numpy(piece.order).to(tokens_ND.device)])
    return torch.cat(ordered) if ordered else packed.tokens_ND[:0]


def check_places(places_BT: Tensor, plans: Sequence[Sequence[PicturePlan]], at: str) -> None:
    """Every row has as many placeholders, written `at`, as its pictures need; raises `BeholderError` otherwise."""
    if len(plans) != len(places_BT):
        raise BeholderError(
            f"{len(plans)} rows have plans of pictures, {len(places_BT)} have ids; give one a row"
        )
    for row, (places_T, pictures) in enumerate(zip(places_BT, plans, strict=True)):
        got, want = int(places_T.sum()), sum(plan.num_tokens for plan in pictures)
        if got != want:
            raise BeholderError(
                f"row {row} has {got} {at} placeholders but its {len(pictures)} pictures give {want} tokens; check the "
                "prompt and the geometry"
            )


def _taking_place(places_BT: Tensor, plans: Sequence[Sequence[PicturePlan]]) -> Tensor:
    """The placeholders whose features stand in the sequence, without those that only stand for features (NVLM-H)."""
    pieces = [piece for row in plans for plan in row for piece in plan.pieces if isinstance(piece, Features)]
    flags = [not isinstance(piece, Media) for piece in pieces for _ in range(piece.num_tokens)]
    own_BT = places_BT.clone()
    own_BT[places_BT] = torch.tensor(flags, dtype=torch.bool, device=places_BT.device)
    return own_BT


def check_views(branch: BranchOutput) -> None:
    """The views that were encoded are those that the plans speak of, grid by grid."""
    planned = tuple(grid for row in branch.plans for plan in row for grid in plan.grids)
    if branch.packed.grids != planned:
        raise BeholderError(
            f"{len(branch.packed.grids)} views were encoded but the plans have {len(planned)}, or other grids; "
            "load the pictures by their plans"
        )
