"""Losses over pictures themselves: their labels, and their next patch, feature or code.

V views, N tokens of pictures, P pixel values of a patch, C labels, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.errors import BeholderError, UnknownName
from beholder.model import Batch, Model, token_spans
from beholder.parts.fusion.code_words import CodeWordsFusion
from beholder.parts.heads.labels import LabelsHead
from beholder.parts.heads.next_feature import NextFeatureHead
from beholder.parts.heads.next_patch import NextPatchHead
from beholder.train.collate import TrainBatch
from beholder.train.cross_entropy import answer_loss
from beholder.train.objectives.reading import Reading, Sum, head_of, words_of
from beholder.train.objectives.text import Answered

PIXELS = 0.4  # of the pixels' error beside the text's cross-entropy: AIMv2 (2411.14402, section 2.1)
CODES = 0.5  # of pictures' codes beside words: Emu3 (2409.18869, section 2.3)


def labelled(model: Model, item: TrainBatch) -> Tensor:
    """Cross-entropy of each picture's label, the answer of its first turn, for a card with the head `Labels`; with `several`
    labels, of each one for itself, the answers of all turns being those that hold. Raises `BeholderError` for a label that
    the head does not have.
    """
    head = head_of(model, LabelsHead, "Labels")
    scores_VC = model.apply_heads(Batch(), model.encode(item.batch), None, outputs=("labels",))[
        "labels"
    ].float()
    if len(scores_VC) != len(item.turns):
        raise BeholderError(
            f"{len(scores_VC)} views for {len(item.turns)} samples; labels need one view of each"
        )
    index = {word: number for number, word in enumerate(head.config.words)}
    for word in (turn.answer for turns in item.turns for turn in turns):
        if word not in index:
            raise UnknownName(f"label of {model.card.name}", word, index)
    chosen = [[index[turn.answer] for turn in turns] for turns in item.turns]
    if not head.config.several:
        targets_V = torch.tensor([labels[0] for labels in chosen], device=scores_VC.device)
        return F.cross_entropy(scores_VC, targets_V)
    holds_VC = torch.zeros_like(scores_VC)
    for view, labels in enumerate(chosen):
        holds_VC[view, labels] = 1.0
    return F.binary_cross_entropy_with_logits(scores_VC, holds_VC)


def next_patch(reading: Reading) -> Tensor:
    """Mean squared error of the pixels of every picture's next patch, each patch normed (AIMv2, 2411.14402, section 2.1), for a
    card with the head `NextPatch`.
    """
    head = head_of(reading.model, NextPatchHead, "NextPatch")
    foretold_NP = reading.given(head.config.output)
    return head.loss(foretold_NP, reading.item.batch.views[head.config.branch])


# AIMv2's objective: the next patch of the picture and the next token of the text, by one decoder
pixels_and_text = Sum((Answered(), next_patch), (1.0, PIXELS))


def next_feature(reading: Reading) -> Tensor:
    """Mean squared error of each feature of a picture from the token in front of it, features being what the language part
    reads, held still (Emu, 2307.05222, section 2.2), for a card with the head `NextFeature`. Raises `BeholderError` where
    the batch has none.
    """
    head = head_of(reading.model, NextFeatureHead, "NextFeature")
    given_BTD, batch = reading.given(head.config.output), reading.item.batch
    spans = [span for span in token_spans(batch, reading.model.card) if span.branch == head.config.branch]
    if not spans:
        raise BeholderError(
            "the batch has no picture whose features could be foretold; give rows with pictures"
        )
    inputs = reading.model.prepare(batch, reading.branches).embeddings_BTD.detach()
    starts = [max(span.start, 1) for span in spans]
    told, aims = (
        torch.cat(
            [x_BTD[s.row, first - back : s.stop - back] for s, first in zip(spans, starts, strict=True)]
        )
        for x_BTD, back in ((given_BTD, 1), (inputs, 0))
    )
    return F.mse_loss(told.float(), aims.float())


def next_code(reading: Reading) -> Tensor:
    """Cross-entropy of the codes of pictures, which are words of the language part, each from what stands in front of it
    (Chameleon, 2405.09818, section 2; Emu3, 2409.18869, section 2.3; LWM, 2402.08268, section 4), ends of rows included, for a
    card with the fusion `CodeWords`. Raises `BeholderError` where codes are never written (`Decoder.silent`) or there are none.
    """
    model, (ids_BT, _) = reading.model, words_of(reading.item.batch)
    fusion = next((part for part in model.fusion if isinstance(part, CodeWordsFusion)), None)
    if fusion is None:
        raise BeholderError(
            f"{model.card.name} has no codes of pictures among its words; train with next_token"
        )
    silent = getattr(model.card.main, "silent", None)
    if silent is not None and set(range(*silent)) & set(fusion.config.words):
        raise BeholderError(f"{model.card.name} never writes codes of pictures; build it with silent=None")
    rows_N, places_N = (ids_BT == fusion.config.token_id).nonzero().unbind(1)
    rows_N, places_N = rows_N[places_N > 0], places_N[places_N > 0]
    if not len(rows_N):
        raise BeholderError("the batch has no picture whose codes could be foretold; give rows with pictures")
    targets_N = fusion.read(ids_BT, reading.branches)[rows_N, places_N]
    hidden_ND = reading.language.hidden_BTD[rows_N, places_N - 1]
    weights_N = torch.full(targets_N.shape, 1 / len(targets_N), device=targets_N.device)
    return answer_loss(hidden_ND, model.language.logits, targets_N, weights_N)
