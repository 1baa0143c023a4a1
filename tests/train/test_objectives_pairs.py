"""Losses over pairs, against their formulas written out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.model import Batch, build
from beholder.train.collate import Answers, TrainBatch
from beholder.train.objectives import (
    Contrast,
    MaskedAndMatched,
    MaskedWords,
    MomentumPairs,
    Represented,
    Sigmoids,
    TextContrast,
    bound,
    named,
)
from beholder.train.objectives import (
    pairs as module,
)
from beholder.train.objectives.pairs import pairings, text_keys, wrong_pairs
from beholder.train.objectives.reading import generator_of
from beholder.train.pairs import PairCollator
from tests.toys import DUAL, SEES, byte_tokenizer
from tests.train.learning import learn, stirred, titled, untouched

TITLES = ("a cat", "two", "the sea", "red")
SIGLIP = DUAL.but(name="toy-siglip", heads=(DUAL.heads[0].but(scale=math.log(10), bias=-10.0),))


def pairs(chosen=DUAL, titles=TITLES):
    return PairCollator(chosen, byte_tokenizer())(titled(titles))


def unit(model, batch: Batch) -> tuple[Tensor, Tensor]:
    given = model(batch).heads["similarity"]
    return given.images_VD, given.texts_BD


@torch.no_grad()
def test_contrast_finds_each_others_partner() -> None:
    """Cosines times the learned scale, cross-entropy of the diagonal along rows and along columns."""
    model, item = stirred(DUAL), pairs()
    images, texts = unit(model, item.batch)
    scale = model.heads[0].scale.exp()
    losses = []
    for i in range(4):
        to_texts = [scale * images[i] @ texts[j] for j in range(4)]
        to_images = [scale * images[j] @ texts[i] for j in range(4)]
        losses += [torch.stack(row).logsumexp(0) - row[i] for row in (to_texts, to_images)]
    assert torch.allclose(Contrast()(model, item), torch.stack(losses).mean(), atol=1e-5)


def test_contrast_is_learned_with_its_temperature() -> None:
    model = stirred(DUAL)
    before = float(model.heads[0].scale.detach())
    learn(model, Contrast(), pairs())
    assert not untouched(model) and float(model.heads[0].scale.detach()) != before


@torch.no_grad()
@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_sigmoids_say_of_every_pair_whether_it_belongs(chunk: int) -> None:
    """log(1 + exp(-z (t x y + b))) over all pairs, by the number of pictures; a text twice belongs to both pictures."""
    model, item = stirred(SIGLIP), pairs(SIGLIP, ("a cat", "two", "a cat", "red"))
    images, texts = unit(model, item.batch)
    head, total = model.heads[0], 0.0
    for i in range(4):
        for j in range(4):
            right = 1.0 if i == j or {i, j} == {0, 2} else -1.0
            score = head.scale.exp() * (images[i] @ texts[j]) + head.bias
            total += torch.log1p(torch.exp(-right * score)) / 4
    assert torch.allclose(Sigmoids(chunk)(model, item), total, atol=1e-4)
    assert len(set(text_keys(item.batch).tolist())) == 3


def test_sigmoids_in_pieces_have_the_same_gradients_and_are_learned() -> None:
    model, item = stirred(SIGLIP), pairs(SIGLIP)
    whole, pieces = (
        torch.autograd.grad(Sigmoids(chunk)(model, item), list(model.parameters()), allow_unused=True)
        for chunk in (0, 3)
    )
    for one, other in zip(whole, pieces, strict=True):
        assert (one is None) == (other is None) and (one is None or torch.allclose(one, other, atol=1e-6))
    learn(model, Sigmoids(chunk=2), item)
    assert not untouched(model)


def test_pieces_keep_no_table_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the forward pass keeps grows with the batch, not with its square, and no more than 16 texts are compared at once."""
    head, widths = build(SIGLIP).heads[0], []
    compare = head.compare
    monkeypatch.setattr(head, "compare", lambda x, y: widths.append(len(y)) or compare(x, y))

    def saved(count: int, chunk: int) -> int:
        sides = [F.normalize(torch.randn(count, 8), dim=-1).requires_grad_() for _ in range(2)]
        monkeypatch.setattr(module, "vectors", lambda *_: (head, *sides))
        item = TrainBatch(Batch(torch.arange(count)[:, None]), Answers.of([]), ())
        sizes: dict[int, int] = {}  # of each storage that is kept

        def keep(x: Tensor) -> Tensor:
            sizes[x.untyped_storage().data_ptr()] = x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss = Sigmoids(chunk)(build(SIGLIP), item)
        loss.backward()
        return sum(sizes.values())

    assert saved(256, 16) <= 2 * saved(128, 16) and max(widths) == 16
    assert saved(256, 0) > 3.5 * saved(128, 0) > 128 * 128


@torch.no_grad()
def test_captions_of_one_picture_find_each_other() -> None:
    """Rows 0 and 1, 2 and 3 are pairs; cosines of pooled vectors over 0.05, first among seconds."""
    model = stirred(DUAL)
    collate = PairCollator(DUAL, byte_tokenizer(), texts=2)
    item = collate(titled(("a cat|my cat", "two|both", "sea|lake")))
    assert not item.batch.views and len(item.batch.ids_BT) == 6
    vectors = F.normalize(model(item.batch).language.pooled_BD, dim=-1)
    scores = vectors[::2] @ vectors[1::2].T / 0.05
    want = sum(scores[i].logsumexp(0) - scores[i, i] for i in range(3)) / 3
    assert torch.allclose(TextContrast()(model, item), want, atol=1e-5)
    with pytest.raises(BeholderError, match="3 texts; pairs need an even number"):
        TextContrast()(model, PairCollator(DUAL, byte_tokenizer(), texts=1)(titled(("a", "b", "c"))))
    with pytest.raises(BeholderError, match="sample 0 has 1 turns"):
        collate(titled(("a", "b")))


def test_captions_are_told_apart() -> None:
    model = stirred(DUAL)
    item = PairCollator(DUAL, byte_tokenizer(), texts=2)(titled(("a cat|my cat", "two|both", "sea|lake")))
    learn(model, TextContrast(), item)
    assert all(name.startswith(("branches.", "heads.")) for name in untouched(model))


BOUND = card("imagebind-huge").tiny()


def sensed(count: int = 3) -> Batch:
    encoders = {branch.name: branch.encoders[0] for branch in BOUND.branches}
    generator = torch.Generator().manual_seed(0)
    shapes = {name: (encoders[name].channels, *encoders[name].size) for name in ("image", "depth")}
    return Batch(
        views={
            name: [torch.randn(shape, generator=generator) for _ in range(count)]
            for name, shape in shapes.items()
        }
    )


def test_senses_are_bound_to_pictures() -> None:
    """exp(scale cos) of a thing's own picture among all, and of a picture's own thing: both terms are added."""
    model, item = stirred(BOUND), TrainBatch(sensed(), Answers.of([]), ())
    with torch.no_grad():
        branches = model(item.batch).branches
        pictures, depths = (branches[name].packed.tokens_ND for name in ("image", "depth"))
        scores = depths @ F.normalize(pictures, dim=-1).T
        want = sum(
            2 * -torch.log(scores[i, i].exp())
            + torch.log(scores[i].exp().sum())
            + torch.log(scores[:, i].exp().sum())
            for i in range(3)
        )
        assert torch.allclose(bound(model, item), want / 3, atol=1e-4)
    bound(model, item).backward()
    assert not {name for name in untouched(model) if name.startswith(("branches.image", "branches.depth"))}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("branches.depth"))
    learn(model, bound, item, lr=1e-2)
    with pytest.raises(BeholderError, match="no pictures with something else"):
        bound(model, replace(item, batch=Batch(views={"image": item.batch.views["image"]})))


@torch.no_grad()
def test_each_of_the_first_stages_losses_by_itself() -> None:
    chosen = card("blip-2-pretrain-vit-l").tiny()
    model, item = stirred(chosen), PairCollator(chosen, byte_tokenizer())(titled(TITLES))
    parts = [Represented(*(float(i == j) for j in range(3)))(model, item) for i in range(3)]
    assert torch.allclose(sum(parts), Represented()(model, item), atol=1e-4) and min(parts) > 0


BLIP = card("blip-b").tiny()


def blip_pairs():
    return PairCollator(BLIP, byte_tokenizer())(titled(TITLES, (40, 40)))


def test_momentum_contrast_matching_and_captions() -> None:
    """ALBEF's equations 1, 2, 4 and 6 and BLIP's captions, written out, at the second step of a queue of six."""
    model, item = stirred(BLIP), blip_pairs()
    objective = MomentumPairs(size=6, momentum=0.5, alpha=0.4, seed=5)
    with pytest.raises(BeholderError, match="call prepare"):
        objective(model, item)
    objective.prepare(model)
    objective(model, item)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    old = unit(model, item.batch)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02)
    objective.after_step(model)
    with torch.no_grad():
        halfway = build(BLIP)
        halfway.load_state_dict(model.state_dict())
        for name, value in halfway.named_parameters():
            value.copy_((before[name] + dict(model.named_parameters())[name]) / 2)
        generator = torch.Generator().manual_seed(5)
        queues = F.normalize(torch.randn(2, 6, old[0].shape[1], generator=generator), dim=-1)
        queues[0, :4], queues[1, :4] = old
        images, texts = unit(model, item.batch)
        images_m, texts_m = unit(halfway, item.batch)
        scale = model.heads[1].scale.exp()
        want = 0.0
        for own, own_m, others in (
            (images, images_m, torch.cat((texts_m, queues[1]))),
            (texts, texts_m, torch.cat((images_m, queues[0]))),
        ):
            soft = (scale * own_m @ others.T).softmax(1)
            for i in range(4):
                target = 0.4 * soft[i] + 0.6 * F.one_hot(torch.tensor(i), 10)
                want -= (target * (scale * own[i] @ others.T).log_softmax(0)).sum() / 4 / 2
        scores = scale * images @ texts.T
        wrong_texts, wrong_images = wrong_pairs(scores, generator_of(item.batch))
        asked = [(i, i, 1) for i in range(4)] + [(i, int(t), 0) for i, t in enumerate(wrong_texts)]
        asked += [(int(p), i, 0) for i, p in enumerate(wrong_images)]
        matching, told = [], []
        for view, text, belongs in asked:
            length = item.batch.lengths[text]
            one = Batch(
                item.batch.ids_BT[text : text + 1, :length],
                views={"image": [item.batch.views["image"][view]]},
            )
            output = model(one).heads
            matching.append(F.cross_entropy(output["matching"], torch.tensor([belongs])))
            if belongs:
                told.append(
                    F.cross_entropy(
                        output["text"][0, :-1], one.ids_BT[0, 1:], reduction="none", label_smoothing=0.1
                    )
                )
        want += torch.stack(matching).mean() + torch.cat(told).mean()
    assert torch.allclose(objective(model, item), want, atol=1e-4)
    assert objective.step == 1 and int(objective.counts_2[0]) == 4


def test_momentum_pairs_are_learned_and_taken_up_again() -> None:
    """A run that is stopped after 5 of 10 steps goes on as if it had not been."""
    model, objective, item = stirred(BLIP), MomentumPairs(size=8, warmup=3), blip_pairs()
    learn(model, objective, item, steps=12, lr=1e-2)
    assert not untouched(model)
    again, other = build(BLIP), MomentumPairs(size=8, warmup=3)
    again.load_state_dict(model.state_dict())
    other.prepare(again)
    other.load_state_dict({name: value.clone() for name, value in objective.state_dict().items()})
    for _ in range(2):
        losses = [each(model if each is objective else again, item) for each in (objective, other)]
        assert torch.equal(*losses)
        for each, own in ((objective, model), (other, again)):
            each.after_step(own)
    assert other.step == 14
    with torch.no_grad():
        model.heads[1].scale.fill_(9.0)
    objective.after_step(model)
    assert float(model.heads[1].scale.detach()) == pytest.approx(math.log(1000))


def test_a_dual_encoder_has_contrast_alone() -> None:
    model, objective = stirred(DUAL), MomentumPairs(size=4)
    learn(model, objective, pairs())
    moving = {name for name in objective.state_dict() if name.startswith("follower.")}
    assert len(moving) == len(dict(model.named_parameters()))
    for parameter in model.branches.parameters():
        parameter.requires_grad_(False)
    half = MomentumPairs(size=4)
    half.prepare(model)
    assert not [name for name in half.state_dict() if name.startswith("follower.branches")]
    assert next(half.follower.branches.parameters()) is next(model.branches.parameters())


BERT = card("visualbert").tiny()


@torch.no_grad()
def test_masked_words_and_matching() -> None:
    """Half of the texts are of another row; the first score says that they belong, as BERT's next sentences."""
    model = stirred(BERT)
    item = PairCollator(BERT, byte_tokenizer(("[SEP]", "[CLS]", "[PAD]", "[MASK]")))(titled(TITLES, (70, 90)))
    words = MaskedWords(mask_id=259, kept=(256, 257, 258, 259))
    objective = MaskedAndMatched(words, wrong=0.5)
    generator = generator_of(item.batch)
    others = (torch.arange(4) + torch.randint(1, 4, (4,), generator=generator)) % 4
    wrong = (torch.rand(4, generator=generator) < 0.5).tolist()
    losses = []
    for row in range(4):
        text = int(others[row]) if wrong[row] else row
        ids = item.batch.ids_BT[text : text + 1, : item.batch.lengths[text]]
        one = Batch(
            ids, views={"image": [item.batch.views["image"][row]]}, plans=item.batch.plans[row : row + 1]
        )
        losses.append(F.cross_entropy(model(one).heads["matching"], torch.tensor([int(wrong[row])])))
    want = words(model, item) + torch.stack(losses).mean()
    assert torch.allclose(objective(model, item), want, atol=1e-4)


def test_masked_words_and_matching_are_learned() -> None:
    model = stirred(BERT)
    tokenizer = byte_tokenizer(("[SEP]", "[CLS]", "[PAD]", "[MASK]"))
    item = PairCollator(BERT, tokenizer)(titled(TITLES, (70, 90)))
    learn(model, named("masked-words, matching", tokenizer), item, steps=6, lr=1e-2)
    assert not untouched(model)


def test_what_does_not_fit_is_refused() -> None:
    model = stirred(DUAL)
    item = pairs()
    with pytest.raises(BeholderError, match="toy-sees has no head Similarity"):
        Contrast()(stirred(SEES), item)
    with pytest.raises(BeholderError, match="3 views for 4 texts"):
        Contrast()(
            model, replace(item, batch=replace(item.batch, views={"image": item.batch.views["image"][:3]}))
        )
    with pytest.raises(BeholderError, match="two pairs or more"):
        objective = MomentumPairs(size=4)
        blip = stirred(BLIP)
        objective.prepare(blip)
        objective(blip, PairCollator(BLIP, byte_tokenizer())(titled(("one",), (40, 40))))
    with pytest.raises(BeholderError, match="a queue of 0"):
        MomentumPairs(size=0)
    with pytest.raises(BeholderError, match="compares no pictures with texts"):
        PairCollator(SEES, byte_tokenizer())


def test_pairings_are_right_first() -> None:
    shown, read, belongs = pairings(torch.zeros(3, 3), torch.Generator().manual_seed(1))
    assert shown[:6].tolist() == [0, 1, 2, 0, 1, 2] and read.tolist()[6:] == [0, 1, 2]
    assert belongs.tolist() == [1] * 3 + [0] * 6
    assert all(a != b for a, b in zip(shown.tolist()[3:], read.tolist()[3:], strict=True))
