"""The losses of pairs of pictures and texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from beholder.cards import card
from beholder.data.samples import Sample, Turn
from beholder.errors import BeholderError
from beholder.model import Model, build
from beholder.train.collate import TrainBatch
from beholder.train.objectives.pairs import wrong_pairs
from beholder.train.objectives.reading import generator_of
from beholder.train.pairs import PairCollator, represented
from tests.toys import byte_tokenizer

TITLES = ("a cat", "two", "the sea")


def made(name: str = "blip-2-pretrain-vit-l") -> Model:
    model = build(card(name).tiny(), seed=2)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def pairs(model: Model, titles: tuple[str, ...] = TITLES) -> TrainBatch:
    rng = np.random.default_rng(0)
    samples = [
        Sample(rng.integers(0, 256, (40, 56, 3), np.uint8), (Turn("", title, "title"),), str(row))
        for row, title in enumerate(titles)
    ]
    return PairCollator(model.card, byte_tokenizer())(samples)


def test_the_first_stage_adds_contrast_matching_and_captions() -> None:
    """2301.12597, section 3.2, written out: cosines over 0.07 both ways, right and wrong pairs, words after [DEC]."""
    model = made()
    item = pairs(model)
    with torch.inference_mode():
        given = represented(model, item)
        output = model(item.batch).heads["similarity"]
        ids, lengths, scores = item.batch.ids_BT, item.batch.lengths, output.scores_VB
        own = torch.arange(3)
        contrast = sum(F.cross_entropy(s, own, label_smoothing=0.1) for s in (scores, scores.T)) / 2
        texts, pictures = wrong_pairs(scores, generator_of(item.batch))
        views, rows = item.batch.views["image"], []
        for view, text in (
            [(i, i) for i in range(3)]
            + [(i, int(t)) for i, t in enumerate(texts)]
            + [(int(p), i) for i, p in enumerate(pictures)]
        ):
            one = type(item.batch)(ids[text : text + 1, : lengths[text]], views={"image": [views[view]]})
            rows.append(model(one).heads["similarity"].matching_B2)
        matching = F.cross_entropy(torch.cat(rows), torch.tensor([1] * 3 + [0] * 6))
        told, targets = [], []
        for row in range(3):
            started = ids[row : row + 1, : lengths[row]].clone()
            started[0, 0] = 1
            one = type(item.batch)(started, views={"image": [views[row]]})
            told.append(model(one).heads["similarity"].captions_BWT[0, :-1])
            targets.append(ids[row, 1 : lengths[row]])
        captions = F.cross_entropy(torch.cat(told), torch.cat(targets), label_smoothing=0.1)
    assert len(set(lengths)) == 3
    assert torch.allclose(given, contrast + matching + captions, atol=1e-4)
    assert torch.allclose(given, represented(model, item), atol=1e-5)  # the same wrong pairs once more


def test_wrong_pairs_are_never_right_and_alike_ones_come_more_often() -> None:
    scores = torch.tensor([[9.0, 3.0, 0.0], [3.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
    drawn = torch.stack([wrong_pairs(scores, seed)[0] for seed in range(300)])
    assert not (drawn == torch.arange(3)).any()
    assert (drawn[:, 0] == 1).float().mean() > 0.8
    assert 0.3 < (drawn[:, 2] == 1).float().mean() < 0.7


def test_the_first_stage_learns_which_belong_together() -> None:
    model = made()
    item = pairs(model)
    steps = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = represented(model, item)
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    scores = model(item.batch).heads["similarity"].scores_VB
    assert scores.argmax(1).tolist() == [0, 1, 2]
    gradients = {name for name, value in model.heads.named_parameters() if value.grad is None}
    assert not gradients


def test_other_cards_and_lonely_pairs_are_refused() -> None:
    retrieval = made("blip-2-itm-vit-l")
    with pytest.raises(BeholderError, match="temperature and caption_start"):
        represented(retrieval, pairs(retrieval))
    model = made()
    with pytest.raises(BeholderError, match="two pairs or more"):
        represented(model, pairs(model, ("a cat",)))
