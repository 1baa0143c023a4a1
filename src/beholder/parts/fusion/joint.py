"""Words and features read together by a bidirectional encoder as one sequence (VisualBERT, 1908.03557; ViLT, 2102.03334).

B rows, T words, N feature tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from beholder.errors import BeholderError
from beholder.media.plan import Features, PicturePlan
from beholder.parts.blocks.masks import PADDING, Visibility
from beholder.parts.blocks.positions import learned
from beholder.parts.contracts import BranchOutput, Fusion, FusionConfig, LanguageConfig, LanguageInputs


@dataclass(frozen=True)
class Joint(FusionConfig):
    """A row's features follow its words. segments: kinds of features with a vector each, of which `kind` is added to all;
    positions: rows of their own table of places, whose first is added to all, as regions have no order; 0 of either for none.
    late: kinds are of words too (theirs is 0), and are added behind the norm of words, which features do not have (ViLT).
    """

    branch: str = "image"
    segments: int = 2
    kind: int = 1
    positions: int = 512
    late: bool = False

    def __post_init__(self) -> None:
        if self.segments and not 0 <= self.kind < self.segments:
            raise BeholderError(
                f"features are of kind {self.kind}, but there are {self.segments} kinds from 0"
            )

    def tiny(self) -> Joint:
        return self.but(positions=self.positions and 16)

    @property
    def by_row(self) -> bool:
        return True

    def placed(self, plan: PicturePlan) -> PicturePlan:
        """Nothing in the prompt stands for features."""
        if plan.branch != self.branch:
            return plan
        return replace(plan, pieces=tuple(piece for piece in plan.pieces if not isinstance(piece, Features)))

    def build(self, language: LanguageConfig | None) -> Fusion:
        if language is None or getattr(language, "causal", True):
            raise BeholderError("Joint needs a text encoder that reads both ways; set its field causal=False")
        return JointFusion(self, language.dim)


class JointFusion(Fusion):
    """Adds no modules to layers; appends features, with their kind and place, to the words."""

    def __init__(self, config: Joint, dim: int) -> None:
        super().__init__()
        self.config = config
        self.segments = learned(config.segments, dim) if config.segments else None
        self.positions = learned(config.positions, dim) if config.positions else None

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        branch = branches.get(self.config.branch)
        if branch is None:
            return draft
        features = self._by_row(branch, len(draft.ids_BT))
        counts = draft.lengths or (draft.ids_BT.shape[1],) * len(draft.ids_BT)
        lengths = tuple(count + len(row_ND) for count, row_ND in zip(counts, features, strict=True))
        marks = (
            draft.embeddings_BTD.new_zeros(()) if self.segments is None else self.segments[self.config.kind]
        )
        marks = marks if self.positions is None else marks + self.positions[0]
        rows = [
            torch.cat((x_TD[:count], row_ND.to(x_TD.dtype) + marks))
            for x_TD, count, row_ND in zip(draft.embeddings_BTD, counts, features, strict=True)
        ]
        width, device = max(lengths), draft.ids_BT.device
        columns_T = torch.arange(width, device=device)
        own_BT = columns_T >= torch.tensor(counts, device=device)[:, None]
        kinds_BT = draft.kinds_BT
        late_BTD = None
        embeddings_BTD = pad_sequence(rows, batch_first=True)
        if self.config.late:
            words = embeddings_BTD.new_zeros(()) if self.segments is None else self.segments[0]
            late_BTD = torch.where(own_BT[..., None], embeddings_BTD, words)
        return replace(
            draft,
            ids_BT=_widened(draft.ids_BT, width, PADDING).masked_fill(own_BT, PADDING),
            embeddings_BTD=embeddings_BTD,
            late_BTD=late_BTD,
            positions=_widened(draft.positions, width, 0).masked_fill(own_BT, 0),
            visibility=Visibility.causal_rows(lengths, width, device=device),
            lengths=None if len(set(lengths)) == 1 else lengths,
            kinds_BT=None if kinds_BT is None else _widened(kinds_BT, width, 0).masked_fill(own_BT, 0),
            own_BT=own_BT,
            routes_BT=own_BT.long(),
        )

    def _by_row(self, branch: BranchOutput, num_rows: int) -> list[Tensor]:
        """Every row's features, (N, D); raises `BeholderError` where plans and rows do not agree."""
        planned = [sum(len(plan.grids) for plan in row) for row in branch.plans]
        if len(planned) != num_rows or sum(planned) != len(branch.packed.grids):
            raise BeholderError(
                f"{len(branch.packed.grids)} views of branch {self.config.branch} for {num_rows} rows, whose plans hold "
                f"{planned}; give every row the plans of its pictures"
            )
        views = iter(branch.packed.split())
        empty = branch.packed.tokens_ND[:0]
        return [torch.cat([empty, *(next(views) for _ in range(count))]) for count in planned]


def _widened(x_BT: Tensor, width: int, value: int) -> Tensor:
    """`x_BT` with `width` columns; what is cut off was padding."""
    return torch.nn.functional.pad(x_BT, (0, width - x_BT.shape[1]), value=value)
