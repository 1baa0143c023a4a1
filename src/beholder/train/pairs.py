"""Pictures and the texts that belong to them: batches for a dual encoder, SigLIP's loss over all pairs of a batch, and the
three losses of BLIP-2's first stage.

V pictures, B texts, W words, T words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.cards.schema import Card
from beholder.data.samples import Sample
from beholder.errors import BeholderError
from beholder.media.pixels import load_views
from beholder.model import Batch, Model
from beholder.parts.heads.queried import QueryRetrievalHead, kept
from beholder.planning import branch_plan, chat_format, image_branches
from beholder.prompts.chat import complete, render
from beholder.prompts.tokenizer import Tokenizer
from beholder.train.collate import Answers, TrainBatch


class PairCollator:
    """Makes batches for a card with a text tower beside its pictures: row i of the texts is the answer of sample i's first
    turn. Raises `BeholderError` for another card, and for a text beyond the tower's context.
    """

    def __init__(self, card: Card, tokenizer: Tokenizer) -> None:
        branches = image_branches(card)
        if card.main is None or not branches or "similarity" not in {head.output for head in card.heads}:
            raise BeholderError(f"card {card.name} compares no pictures with texts; choose a dual encoder")
        self.card, self.tokenizer, self.branch, self.main = card, tokenizer, branches[0], card.main
        self.chat = chat_format(card, tokenizer)

    def __call__(self, samples: Sequence[Sample]) -> TrainBatch:
        geometry = self.branch.geometry
        assert geometry is not None
        plans, views, rows = [], [], []
        for sample in samples:
            height, width = sample.pixels.shape[:2]
            plan = branch_plan(self.card, self.branch, (height, width))
            plans.append(plan)
            views += load_views(sample.pixels, plan.views, geometry)
            rows.append(self._ids(sample))
        width = self.main.context if self.main.fills_context else max(map(len, rows))
        blank = self.tokenizer.pad_id or 0
        ids_BT = torch.tensor([row + [blank] * (width - len(row)) for row in rows])
        batch = Batch(
            ids_BT=ids_BT,
            lengths=None if self.main.fills_context else tuple(map(len, rows)),
            views={self.branch.name: views},
            plans=tuple((plan,) for plan in plans),
        )
        none = torch.zeros(0, dtype=torch.long)
        return TrainBatch(batch, Answers(none, none, none, none.float()), tuple(s.turns for s in samples))

    def _ids(self, sample: Sample) -> list[int]:
        ids = list(render(complete(sample.turns[0].answer), self.chat, self.tokenizer).ids)
        if len(ids) > self.main.context:
            raise BeholderError(
                f"sample {sample.key}: a text of {len(ids)} tokens; {self.card.name} reads at most {self.main.context}"
            )
        return ids


def sigmoid_pairs(model: Model, item: TrainBatch) -> Tensor:
    """SigLIP (2303.15343, section 3.1): each picture and text of the batch are told whether they belong together, the sum over
    all pairs divided by the number of pictures. Texts that are the same belong to each other's pictures.
    """
    output = model(item.batch)
    scores_VB = output.heads["similarity"].scores_VB
    texts = [turns[0].answer for turns in item.turns]
    belongs_VB = torch.tensor([[one == other for other in texts] for one in texts], device=scores_VB.device)
    signs_VB = torch.where(belongs_VB, 1.0, -1.0)
    return -F.logsigmoid(signs_VB * scores_VB.float()).sum() / len(texts)


SMOOTHING = 0.1  # of labels of likeness and of captions; LAVIS' blip2_qformer.py and Qformer.py
RARE = 1e-4  # added to every pair's chance to be drawn, there too
IGNORED = -100  # target of padding


def represented(model: Model, item: TrainBatch) -> Tensor:
    """BLIP-2's first stage (2301.12597, section 3.2), for a card with a `QueryRetrieval` that has a temperature and captions:
    contrast of pictures and texts, both ways; matching of the right pairs and of a wrong text for every picture and a wrong
    picture for every text, alike ones more often; the captions' words. Wrong pairs are drawn by a generator that the batch's
    ids seed, so that a resumed run draws the same. Raises `BeholderError` for another card and for fewer than two pairs.
    """
    heads = [head for head in model.heads if isinstance(head, QueryRetrievalHead)]
    head, batch = heads[0] if heads else None, item.batch
    if head is None or head.temperature is None or head.config.caption_start is None:
        raise BeholderError(
            f"{model.card.name} has no QueryRetrieval with temperature and caption_start; its first stage needs both"
        )
    if batch.ids_BT is None or len(batch.ids_BT) < 2:
        raise BeholderError(
            "matching needs a wrong pair for every right one; make batches of two pairs or more"
        )
    views = model.encode(batch)[head.config.branch].packed.split()
    words_BWD = model.read(batch, {}).hidden_BTD
    keep_BW = kept(words_BWD, batch.lengths)
    scores_BB = head.compare(head.images(views), head.texts(words_BWD, keep_BW)).float()
    own_B = torch.arange(len(scores_BB), device=scores_BB.device)
    contrast = sum(
        F.cross_entropy(scores, own_B, label_smoothing=SMOOTHING) for scores in (scores_BB, scores_BB.T)
    )
    texts_B, pictures_B = wrong_pairs(scores_BB, seed=int(batch.ids_BT.sum()))
    shown = [views[i] for i in torch.cat((own_B, own_B, pictures_B)).tolist()]
    read_B = torch.cat((own_B, texts_B, own_B))
    belongs_B = (torch.arange(len(read_B), device=own_B.device) < len(own_B)).long()
    matching = F.cross_entropy(head.match(shown, words_BWD[read_B], keep_BW[read_B]).float(), belongs_B)
    started_BT = batch.ids_BT.clone()
    started_BT[:, 0] = head.config.caption_start
    started_BWD = model.read(replace(batch, ids_BT=started_BT), {}).hidden_BTD
    told_BWT = head.tell(views, started_BWD, keep_BW, model.language.logits)
    targets_BW = batch.ids_BT[:, 1:].masked_fill(~keep_BW[:, 1:], IGNORED)
    captions = F.cross_entropy(
        told_BWT[:, :-1].float().flatten(0, 1),
        targets_BW.flatten(),
        ignore_index=IGNORED,
        label_smoothing=SMOOTHING,
    )
    return contrast / 2 + matching + captions


@torch.no_grad()
def wrong_pairs(scores_BB: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """A wrong text for every picture and a wrong picture for every text, numbers (B) each: the higher the softmax of a pair's
    score, the more often (hard negatives of ALBEF, 2107.07651, section 3.2).
    """
    generator = torch.Generator().manual_seed(seed)
    own_BB = torch.eye(len(scores_BB), dtype=torch.bool)
    drawn = []
    for sided_BB in (scores_BB, scores_BB.T):
        chances_BB = (sided_BB.float().cpu().softmax(1) + RARE).masked_fill(own_BB, 0.0)
        drawn.append(torch.multinomial(chances_BB, 1, generator=generator)[:, 0].to(scores_BB.device))
    return drawn[0], drawn[1]
