"""The one model: building, gradients, positions of pictures, slots."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Features, Tag
from beholder.model import Batch, Model, build, merge_layer_parts, token_spans
from beholder.planning import branch_plan
from tests.toys import ALL, DECODER, DUAL, SEES, TEXT, TILES

SIZES = {"toy-tiles": ((40, 56), (56, 20))}


def batch_of(card):
    """Two rows with words after a picture each, where the card reads pictures."""
    rows, plans, views = [], [], []
    for size in SIZES.get(card.name, ((28, 28), (28, 28))):
        ids = []
        if card.branches:
            plan = branch_plan(card, card.branch(), size)
            plans.append((plan,))
            views += [torch.randn(3, *view.size) for view in plan.views]
            for piece in plan.pieces if card is not DUAL else ():
                ids += (
                    [999] * piece.num_tokens
                    if isinstance(piece, Features)
                    else [8] * (1 + len(piece.text) % 3)
                )
        rows.append([*ids, 17, 20 + len(rows), 256])
    lengths = tuple(map(len, rows))
    ids = torch.tensor([row + [0] * (max(lengths) - len(row)) for row in rows])
    return Batch(ids, lengths, {"image": views} if views else {}, tuple(plans))


@pytest.mark.parametrize("card", ALL, ids=lambda card: card.name)
def test_every_trainable_parameter_gets_a_gradient(card):
    model = build(card)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    output = model(batch_of(card))
    heads = output.heads
    loss = heads["text"].pow(2).sum() if "text" in heads else heads["similarity"].scores_VB.pow(2).sum()
    loss.backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == model.unused_parameters()
    nothing = {n for n, p in model.named_parameters() if p.grad is not None and not p.grad.any()}
    assert not nothing


def test_layers_after_the_taken_one_are_named_as_unused():
    model = build(SEES.but(**{"vision.take.layers": (-2,), "vision.take.norm": False}))
    assert {name.split(".")[3] for name in model.unused_parameters()} == {"blocks", "post_norm"}
    model(batch_of(SEES)).heads["text"].sum().backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == model.unused_parameters()


@pytest.mark.parametrize("card", ALL, ids=lambda card: card.name)
def test_meta_allocates_nothing(card):
    model = build(card, device="meta")
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    names = {name: tensor.shape for name, tensor in build(card).state_dict().items()}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == names


@pytest.mark.parametrize("card", ALL, ids=lambda card: card.name)
def test_tiny_builds_and_has_the_same_parts(card):
    small, full = build(card, "tiny"), build(card, device="meta")
    assert {name.split(".")[0] for name in small.state_dict()} == {
        name.split(".")[0] for name in full.state_dict()
    }
    assert sum(p.numel() for p in small.parameters()) < 200_000


def test_a_seed_decides_the_weights_and_the_global_state_is_left_alone():
    torch.manual_seed(5)
    want = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = build(SEES, seed=1), build(SEES, seed=1), build(SEES, seed=2)
    assert torch.equal(torch.rand(1), want)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not one.training


@pytest.mark.parametrize("card", [SEES, TILES], ids=lambda card: card.name)
def test_token_spans_are_where_the_features_are(card):
    batch = batch_of(card)
    spans = token_spans(batch, card)
    covered = torch.zeros_like(batch.ids_BT, dtype=torch.bool)
    for span in spans:
        assert not covered[span.row, span.start : span.stop].any()
        covered[span.row, span.start : span.stop] = True
        assert (span.branch, span.picture) == ("image", 0)
    assert torch.equal(covered, batch.ids_BT == 999)
    tags = sum(isinstance(piece, Tag) for row in batch.plans for plan in row for piece in plan.pieces)
    assert (len(spans) > 2) == (tags > 0)
    assert token_spans(batch_of(TEXT), TEXT) == ()


@torch.no_grad()
def test_rows_of_a_batch_do_not_depend_on_each_other():
    model, batch = build(TILES, seed=2), batch_of(TILES)
    together = model(batch).heads["text"]
    first = 0
    for row, plans in enumerate(batch.plans):
        count = sum(len(plan.views) for plan in plans)
        length = batch.lengths[row]
        views = batch.views["image"][first : first + count]
        first += count
        alone = model(Batch(batch.ids_BT[row : row + 1, :length], views={"image": views}, plans=(plans,)))
        assert torch.allclose(alone.heads["text"][0], together[row, :length], atol=1e-5)


def test_pictures_change_the_answer():
    model, batch = build(SEES), batch_of(SEES)
    other = Batch(
        batch.ids_BT, batch.lengths, {"image": [-view for view in batch.views["image"]]}, batch.plans
    )
    assert not torch.allclose(model(batch).heads["text"], model(other).heads["text"], atol=1e-3)


def test_parts_that_are_missing():
    model = build(TEXT)
    with pytest.raises(UnknownName, match="branch of toy-text"):
        model.branch("image")
    with pytest.raises(BeholderError, match="pictures has no language part"):
        _ = build(SEES.but(name="pictures", languages=(), fusion=(), heads=())).language
    with pytest.raises(UnknownName, match="tiny"):
        build(TEXT, "tinny")


def test_two_fusions_cannot_share_a_slot():
    one, two = nn.Identity(), nn.Identity()
    assert merge_layer_parts([{0: {"before": one}}, {0: {"after": two}, 3: {"before": two}}], 4) == {
        0: {"before": one, "after": two},
        3: {"before": two},
    }
    with pytest.raises(BeholderError, match="slot 'before' of layer 0"):
        merge_layer_parts([{0: {"before": one}}, {0: {"before": two}}], 4)
    with pytest.raises(BeholderError, match="layer 4 of a language part of 4 layers"):
        merge_layer_parts([{4: {"before": one}}], 4)
    with pytest.raises(UnknownName, match="'befor'; nearest: before"):
        merge_layer_parts([{0: {"befor": one}}], 4)


@pytest.mark.parametrize("wrong", [DECODER.vocab_size, -1])
def test_an_id_that_is_no_word_is_refused_but_in_padding(wrong):
    model, batch = build(SEES), batch_of(SEES)
    model(batch)
    ids = batch.ids_BT.clone()
    ids[1, -1] = wrong
    with pytest.raises(BeholderError, match=f"row 1 has the id {wrong} at position {ids.shape[1] - 1}"):
        model(dataclasses.replace(batch, ids_BT=ids))
    shorter = tuple(n - 1 for n in batch.lengths)
    model(dataclasses.replace(batch, ids_BT=ids, lengths=shorter))


def test_views_and_plans_must_agree():
    model, batch = build(SEES), batch_of(SEES)
    views = batch.views["image"]
    for given in (views[:1], [*views, views[0]]):
        with pytest.raises(BeholderError, match=f"{len(given)} views were encoded but the plans have 2"):
            model(dataclasses.replace(batch, views={"image": given}))
    with pytest.raises(BeholderError, match="0 rows have plans of pictures, 2 have ids"):
        model(dataclasses.replace(batch, plans=()))


def test_moving_a_model():
    model = build(SEES).to(torch.float64)
    assert isinstance(model, Model)
    assert (model.dtype, model.device.type) == (torch.float64, "cpu")
    assert model(batch_of(SEES)).heads["text"].dtype == torch.float64
