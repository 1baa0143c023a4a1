"""Losses over pictures and the texts that belong to them: contrast, sigmoids of all pairs, matching, BLIP-2's first stage.

V pictures, B texts, N things another sense has seen, W words, D width of vectors, T words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from beholder.errors import BeholderError
from beholder.model import Batch, Model
from beholder.parts.contracts import BranchOutput, Packed
from beholder.parts.heads.bound import BoundHead
from beholder.parts.heads.joint import Matching
from beholder.parts.heads.queried import QueryRetrievalHead, kept
from beholder.parts.heads.similarity import SimilarityHead
from beholder.parts.heads.text_query import TextQueryHead
from beholder.train.collate import TrainBatch
from beholder.train.objectives.processes import gathered, passed_on, world
from beholder.train.objectives.reading import Reading, Sum, generator_of, head_of, words_of
from beholder.train.objectives.text import Answered, MaskedWords

SMOOTHING = 0.1  # of labels of likeness and of captions; LAVIS' blip2_qformer.py and Qformer.py
RARE = 1e-4  # added to every pair's chance to be drawn, there too
IGNORED = -100  # target of padding
Compare = Callable[[Tensor, Tensor], Tensor]


def among(scores_VB: Tensor, first: int = 0, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of finding a row's own column, which is `first` + i for row i."""
    own_V = torch.arange(first, first + len(scores_VB), device=scores_VB.device)
    return F.cross_entropy(scores_VB.float(), own_V, label_smoothing=smoothing)


def both_sides(scores_VB: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """InfoNCE of pictures among texts and of texts among pictures, the mean of both (CLIP, 2103.00020, figure 3)."""
    return (among(scores_VB, smoothing=smoothing) + among(scores_VB.T, smoothing=smoothing)) / 2


def vectors(model: Model, batch: Batch) -> tuple[SimilarityHead, Tensor, Tensor]:
    """The head `Similarity` with the unit vectors (V, D) of a batch's pictures and (B, D) of its texts, which are read without
    the pictures. Raises `BeholderError` for a card without, and where pictures and texts are not as many.
    """
    head = head_of(model, SimilarityHead, "Similarity")
    only = ("similarity",)
    seen = model.apply_heads(Batch(), model.encode(batch), None, outputs=only).get("similarity")
    read = model.apply_heads(batch, {}, model.read(batch, {}), outputs=only).get("similarity")
    images_VD, texts_BD = getattr(seen, "images_VD", None), getattr(read, "texts_BD", None)
    views, texts = (0 if side is None else len(side) for side in (images_VD, texts_BD))
    if images_VD is None or texts_BD is None or views != texts:
        raise BeholderError(
            f"{views} views for {texts} texts; pairs need one picture of one view for each text"
        )
    return head, images_VD, texts_BD


@dataclass(frozen=True)
class Contrast:
    """CLIP's InfoNCE (2103.00020, section 2.3), with the head's learned temperature, for a card with the head `Similarity`.

    gather: the pictures and texts of all processes are each other's negatives (not where no gradient is wanted, as processes
    may look at held-out pairs a different number of times); False: those of a process. local: each process
    compares its own with all, not all with all, which gives the same gradients for a share of the products (OpenCLIP
    src/open_clip/loss.py, `local_loss`). gradients: the vectors of other processes learn too (`gather_with_grad`).
    """

    gather: bool = True
    local: bool = True
    gradients: bool = True

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        head, images_VD, texts_BD = vectors(model, item.batch)
        return self.between(head.compare, images_VD, texts_BD)

    def between(
        self, compare: Compare, images_VD: Tensor, texts_BD: Tensor, *, smoothing: float = 0.0
    ) -> Tensor:
        """The loss of vectors of pictures and of as many texts; `compare` gives their scores (V, B). smoothing: of labels."""
        rank, size = world() if self.gather and torch.is_grad_enabled() else (0, 1)
        if size == 1:
            return both_sides(compare(images_VD, texts_BD), smoothing=smoothing)
        first, count = rank * len(images_VD), len(images_VD)
        all_images, all_texts = (gathered(x, gradients=self.gradients) for x in (images_VD, texts_BD))
        if self.local:
            to_texts = among(compare(images_VD, all_texts), first, smoothing=smoothing)
            return (to_texts + among(compare(all_images, texts_BD).T, first, smoothing=smoothing)) / 2
        if not self.gradients:  # the own rows learn in any case
            all_images, all_texts = (
                torch.cat((every[:first], own, every[first + count :]))
                for every, own in ((all_images, images_VD), (all_texts, texts_BD))
            )
        return both_sides(compare(all_images, all_texts), smoothing=smoothing)


@dataclass(frozen=True)
class Sigmoids:
    """SigLIP (2303.15343, section 3.1): each picture and text are told whether they belong together, the sum over all pairs
    divided by the number of pictures. Texts that are the same belong to each other's pictures.

    chunk: so many texts are compared at a time and their scores made again for the gradient, so that memory grows with the
    batch, not its square; 0 for all at once. gather: texts of the other processes come by one process after the other (section
    3.3).
    """

    chunk: int = 0
    gather: bool = True

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        head, images_VD, texts_BD = vectors(model, item.batch)
        own_V = text_keys(item.batch)
        others_B, loss = own_V, images_VD.new_zeros((), dtype=torch.float32)
        for turn in range(world()[1] if self.gather and torch.is_grad_enabled() else 1):
            if turn:
                texts_BD, others_B = passed_on(texts_BD), passed_on(others_B)
            for start in range(0, len(texts_BD), self.chunk or len(texts_BD)):
                part = slice(start, start + (self.chunk or len(texts_BD)))
                given = (head, images_VD, texts_BD[part], own_V, others_B[part])
                loss = loss + (
                    checkpoint(_sigmoids, *given, use_reentrant=False, preserve_rng_state=False)
                    if self.chunk
                    else _sigmoids(*given)
                )
        return loss / len(images_VD)


def _sigmoids(
    head: SimilarityHead, images_VD: Tensor, texts_BD: Tensor, own_V: Tensor, others_B: Tensor
) -> Tensor:
    signs_VB = torch.where(own_V[:, None] == others_B, 1.0, -1.0)
    return -F.logsigmoid(signs_VB * head.compare(images_VD, texts_BD).float()).sum()


def text_keys(batch: Batch) -> Tensor:
    """A number (B,) of each text, the same for the same words."""
    ids_BT, lengths = words_of(batch)
    rows = [hash(tuple(ids_T[:length].tolist())) for ids_T, length in zip(ids_BT, lengths, strict=True)]
    return torch.tensor(rows, device=ids_BT.device)


def sigmoid_pairs(model: Model, item: TrainBatch) -> Tensor:
    """`Sigmoids` at their defaults."""
    return Sigmoids()(model, item)


@dataclass(frozen=True)
class TextContrast:
    """InfoNCE of texts in pairs, rows 0 and 1, 2 and 3, ... of a batch: each first one shall find its second among all second
    ones, by the cosine of pooled vectors over `temperature` (LLM2CLIP, 2411.04997, section 3.2, where captions of one picture
    are a pair; SimCSE's supervised loss, 2104.08821, section 4).
    """

    temperature: float = 0.05

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        pooled_BD = model.read(item.batch, {}).pooled_BD
        if pooled_BD is None:
            raise BeholderError(
                f"{model.card.name} makes no vectors of texts; choose a card with a text tower"
            )
        if len(pooled_BD) % 2:
            raise BeholderError(f"{len(pooled_BD)} texts; pairs need an even number")
        first_BD, second_BD = F.normalize(pooled_BD.float(), dim=-1).view(-1, 2, pooled_BD.shape[1]).unbind(1)
        scores_BB = first_BD @ second_BD.T / self.temperature
        return F.cross_entropy(scores_BB, torch.arange(len(scores_BB), device=scores_BB.device))


def bound(model: Model, item: TrainBatch) -> Tensor:
    """InfoNCE both ways of the pictures and what each other sense has seen of the same things, added up over senses, for a card
    with the head `Bound` (ImageBind, 2305.05665, section 3.1). Temperatures are those of the branches' connectors.
    """
    head_of(model, BoundHead, "Bound")
    given = model.apply_heads(Batch(), model.encode(item.batch), None, outputs=("bound",))["bound"]
    losses = []
    for scores_NV in given:
        if scores_NV is not None:
            if scores_NV.shape[0] != scores_NV.shape[1]:
                raise BeholderError(
                    f"{scores_NV.shape[0]} things for {scores_NV.shape[1]} pictures; give pairs"
                )
            losses.append(2 * both_sides(scores_NV))  # both directions are added, equation 2
    if not losses:
        raise BeholderError("the batch has no pictures with something else that was sensed; give pairs")
    return torch.stack(losses).sum()


def row_contrast(reading: Reading) -> Tensor:
    """InfoNCE of each row's words and the mean of its pictures' vectors (COSMO, 2401.00849, section 3.1), for a card with the
    head `TextQuery`. Raises `BeholderError` for another, and for rows without a picture.
    """
    head = head_of(reading.model, TextQueryHead, "TextQuery")
    branch = reading.branches.get(head.config.likeness.branch)
    counts = [sum(len(plan.grids) for plan in row) for row in branch.plans] if branch else [0]
    if branch is None or branch.packed.pooled_VD is None or not all(counts):
        raise BeholderError("a row without pictures has nothing to compare its words with; leave it out")
    means_BD = torch.stack([views.mean(0) for views in branch.packed.pooled_VD.split(counts)])
    texts_BD = head.texts(reading.language.taps[head.config.depth], reading.language.lengths)
    return both_sides(head.likeness.compare(head.images(means_BD), texts_BD))


def contrasted(model: Model, item: TrainBatch) -> Tensor:
    """`next_token` and `row_contrast`, alike."""
    return Sum((Answered(), row_contrast))(model, item)


@dataclass(frozen=True)
class Represented:
    """BLIP-2's first stage (2301.12597, section 3.2), for a card with a `QueryRetrieval` that has a temperature and captions:
    contrast of pictures and texts, both ways; matching of the right pairs and of a wrong text for every picture and a wrong
    picture for every text, alike ones more often; the captions' words. The fields are their shares. Other processes' pairs are
    told apart too, but not learned from (LAVIS: models/blip2_models/blip2_qformer.py). Raises `BeholderError` for another card
    and for fewer than two pairs.
    """

    contrast: float = 1.0
    matching: float = 1.0
    captions: float = 1.0

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        head = next((head for head in model.heads if isinstance(head, QueryRetrievalHead)), None)
        if head is None or head.temperature is None or head.config.caption_start is None:
            raise BeholderError(
                f"{model.card.name} has no QueryRetrieval with temperature and caption_start; its first stage needs both"
            )
        ids_BT, _ = words_of(item.batch)
        check_pairs(len(ids_BT))
        views = model.encode(item.batch)[head.config.branch].packed.split()
        words_BWD = model.read(item.batch, {}).hidden_BTD
        keep_BW = kept(words_BWD, item.batch.lengths)
        images_BQC, texts_BC = head.images(views), head.texts(words_BWD, keep_BW)
        contrast = Contrast(gradients=False).between(head.compare, images_BQC, texts_BC, smoothing=SMOOTHING)
        loss = self.contrast * contrast
        if self.matching:
            scores_BB = head.compare(images_BQC, texts_BC).float()
            shown, read_B, belongs_B = pairings(scores_BB, generator_of(item.batch))
            asked = head.match([views[i] for i in shown.tolist()], words_BWD[read_B], keep_BW[read_B])
            loss = loss + self.matching * F.cross_entropy(asked.float(), belongs_B)
        if self.captions:
            loss = loss + self.captions * _told(model, item.batch, head, views, keep_BW)
        return loss


def _told(
    model: Model, batch: Batch, head: QueryRetrievalHead, views: Sequence[Tensor], keep_BW: Tensor
) -> Tensor:
    """Cross-entropy of captions' words, seen the picture's queries and the words before."""
    ids_BT, _ = words_of(batch)
    assert head.config.caption_start is not None
    started_BT = ids_BT.clone()
    started_BT[:, 0] = head.config.caption_start
    started_BWD = model.read(replace(batch, ids_BT=started_BT), {}).hidden_BTD
    told_BWT = head.tell(views, started_BWD, keep_BW, model.language.logits)
    targets_BW = ids_BT[:, 1:].masked_fill(~keep_BW[:, 1:], IGNORED)
    return F.cross_entropy(
        told_BWT[:, :-1].float().flatten(0, 1),
        targets_BW.flatten(),
        ignore_index=IGNORED,
        label_smoothing=SMOOTHING,
    )


def represented(model: Model, item: TrainBatch) -> Tensor:
    """`Represented` with the paper's shares."""
    return Represented()(model, item)


def check_pairs(count: int) -> None:
    """Raises `BeholderError` for fewer than two."""
    if count < 2:
        raise BeholderError(
            "matching needs a wrong pair for every right one; make batches of two pairs or more"
        )


def pairings(scores_BB: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers of pictures and of texts (3 B) that are read together, and which belong: the right pairs, a wrong text for every
    picture, a wrong picture for every text.
    """
    texts_B, pictures_B = wrong_pairs(scores_BB, generator)
    own_B = torch.arange(len(scores_BB), device=texts_B.device)
    belongs_B = (torch.arange(3 * len(own_B), device=own_B.device) < len(own_B)).long()
    return torch.cat((own_B, own_B, pictures_B)), torch.cat((own_B, texts_B, own_B)), belongs_B


@torch.no_grad()
def wrong_pairs(scores_BB: Tensor, generator: torch.Generator | int) -> tuple[Tensor, Tensor]:
    """A wrong text for every picture and a wrong picture for every text, numbers (B) each: the higher the softmax of a pair's
    score, the more often (hard negatives of ALBEF, 2107.07651, section 3.2); any as often where scores have no values.
    """
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    if scores_BB.device.type == "meta":
        scores_BB = torch.zeros(scores_BB.shape)
    own_BB = torch.eye(len(scores_BB), dtype=torch.bool)
    drawn = []
    for sided_BB in (scores_BB, scores_BB.T):
        chances_BB = (sided_BB.float().cpu().softmax(1) + RARE).masked_fill(own_BB, 0.0)
        drawn.append(torch.multinomial(chances_BB, 1, generator=generator)[:, 0].to(scores_BB.device))
    return drawn[0], drawn[1]


def taken(branches: Mapping[str, BranchOutput], rows: Sequence[int]) -> dict[str, BranchOutput]:
    """The features of these rows' pictures, in their order."""
    found = {}
    for name, branch in branches.items():
        tokens, pooled = branch.packed.split(), branch.packed.pooled_VD
        plans = branch.plans or ((),) * len(tokens)
        counts = [sum(len(plan.views) for plan in row) for row in branch.plans] or [1] * len(tokens)
        firsts = [sum(counts[:row]) for row in range(len(counts))]
        views = [view for row in rows for view in range(firsts[row], firsts[row] + counts[row])]
        packed = Packed(
            torch.cat([tokens[view] for view in views]),
            tuple(branch.packed.grids[view] for view in views),
            pooled_VD=None if pooled is None else pooled[views],
        )
        found[name] = BranchOutput(packed, tuple(plans[row] for row in rows) if branch.plans else ())
    return found


def texts_of(batch: Batch, rows_B: Tensor) -> dict[str, Any]:
    """The fields of a batch that hold the texts of these rows."""
    ids_BT, lengths = words_of(batch)
    return {"ids_BT": ids_BT[rows_B], "lengths": tuple(lengths[row] for row in rows_B.tolist())}


def matching_loss(model: Model, scores_B2: Tensor, belongs_B: Tensor) -> Tensor:
    """Cross-entropy of the head `Matching`. Its second score is that picture and text belong (BLIP, InternVL), but where the
    pooled vector is read, whose first one is (VisualBERT, as BERT's next sentences).
    """
    config = next((config for config in model.card.heads if isinstance(config, Matching)), None)
    right_B = 1 - belongs_B if config is not None and config.of == "pooled" else belongs_B
    return F.cross_entropy(scores_B2.float(), right_B)


def matching_scores(model: Model, batch: Batch, branches: Mapping[str, BranchOutput]) -> Tensor:
    """What the head `Matching` says of each row (B, 2). Raises `BeholderError` for a card without."""
    given = model.apply_heads(batch, branches, model.read(batch, branches), outputs=("matching",))
    if "matching" not in given:
        raise BeholderError(f"{model.card.name} has no head Matching; choose another objective")
    scores_B2: Tensor = given["matching"]
    return scores_B2


@dataclass(frozen=True)
class MaskedAndMatched:
    """Masked words with the picture in view, and whether a text belongs to the picture, where `wrong` of all texts are another
    row's (ViLT, 2102.03334, section 3.2), for a card with `MaskedToken` and `Matching`. VisualBERT (1908.03557, section 3.3)
    asks the same of a second caption behind a right one.
    """

    words: MaskedWords
    wrong: float = 0.5

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        ids_BT, _ = words_of(item.batch)
        check_pairs(len(ids_BT))
        generator = generator_of(item.batch)
        own_B = torch.arange(len(ids_BT))
        others_B = (own_B + torch.randint(1, len(own_B), own_B.shape, generator=generator)) % len(own_B)
        wrong_B = torch.rand(own_B.shape, generator=generator) < self.wrong
        read_B = torch.where(wrong_B, others_B, own_B).to(ids_BT.device)
        scores_B2 = matching_scores(
            model, replace(item.batch, **texts_of(item.batch, read_B)), model.encode(item.batch)
        )
        belongs_B = (~wrong_B).long().to(ids_BT.device)
        return self.words(model, item) + matching_loss(model, scores_B2, belongs_B)
