"""A branch's features as the memory that the decoder's cross-attention reads (Whisper, 2212.04356; BLIP, 2201.12086).

B rows, S tokens of memory, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from beholder.errors import BeholderError
from beholder.media.plan import Features, PicturePlan
from beholder.parts.contracts import BranchOutput, Fusion, FusionConfig, LanguageConfig, LanguageInputs


@dataclass(frozen=True)
class Memory(FusionConfig):
    """branch: whose features every layer of a decoder with `cross` reads, all of a row's views after one another."""

    branch: str = "image"

    @property
    def by_row(self) -> bool:
        return True

    def placed(self, plan: PicturePlan) -> PicturePlan:
        """Nothing in the prompt stands for features."""
        if plan.branch != self.branch:
            return plan
        return replace(plan, pieces=tuple(piece for piece in plan.pieces if not isinstance(piece, Features)))

    def build(self, language: LanguageConfig | None) -> Fusion:
        if getattr(language, "cross", None) is None:
            raise BeholderError("Memory needs a decoder with cross-attention; set its field cross")
        return MemoryFusion(self)


class MemoryFusion(Fusion):
    """Adds no modules to layers. A step without views leaves the memory to the state."""

    def __init__(self, config: Memory) -> None:
        super().__init__()
        self.config = config

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        branch = branches.get(self.config.branch)
        if branch is None:
            return draft
        rows = self._rows(branch, len(draft.ids_BT))
        lengths_B = torch.tensor([len(row_SD) for row_SD in rows], device=rows[0].device)
        memory_BSD = pad_sequence(rows, batch_first=True)
        columns_S = torch.arange(memory_BSD.shape[1], device=memory_BSD.device)
        keep_BS = columns_S < lengths_B[:, None]
        return replace(draft, memory=memory_BSD, memory_keep=None if bool(keep_BS.all()) else keep_BS)

    def _rows(self, branch: BranchOutput, num_rows: int) -> list[Tensor]:
        """Every row's tokens, (S, D); raises `BeholderError` where views cannot be dealt out to rows."""
        views = branch.packed.split()
        counts = [sum(len(plan.views) for plan in row) for row in branch.plans] or [1] * num_rows
        if len(counts) != num_rows or sum(counts) != len(views) or 0 in counts:
            raise BeholderError(
                f"{len(views)} views of branch {self.config.branch} for {num_rows} rows, whose plans hold {counts}; "
                "give every row at least one"
            )
        dealt = iter(views)
        return [torch.cat([next(dealt) for _ in range(count)]) for count in counts]
