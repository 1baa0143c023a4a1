"""AIMv2's objective (2411.14402, section 2.1): the next patch of the picture and the next token of the text, by one decoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.model import Model
from beholder.parts.heads.next_patch import NextPatchHead
from beholder.train.collate import TrainBatch


@dataclass(frozen=True)
class PixelsAndText:
    """share: weight of the pixels' mean squared error beside the text's cross-entropy (0.4: section 2.1)."""

    share: float = 0.4

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        batch, answers = item.batch, item.answers
        head = next((head for head in model.heads if isinstance(head, NextPatchHead)), None)
        if head is None:
            raise BeholderError(f"{model.card.name} foretells no patches; give its card a NextPatch head")
        branches = model.encode(batch)
        language = model.read(batch, branches)
        foretold_NP = model.apply_heads(batch, branches, language)[head.config.output]
        logits = model.language.logits(language.hidden_BTD[answers.rows_A, answers.places_A])
        losses_A = F.cross_entropy(logits.float(), answers.targets_A, reduction="none")
        text = (losses_A * answers.weights_A).sum() / answers.weights_A.sum()
        return text + self.share * head.loss(foretold_NP, batch.views[head.config.branch])
