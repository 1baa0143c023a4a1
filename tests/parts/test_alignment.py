"""EVE's patch aligning layer: its equation, which patches meet which states, and that answers do not need it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.cards import card
from beholder.cards.schema import LanguagePart
from beholder.data.samples import Sample, Turn
from beholder.errors import BeholderError
from beholder.media.native import Native
from beholder.media.pixels import load_views
from beholder.model import Batch, build
from beholder.parts.heads.alignment import TeacherAlignment
from beholder.planning import branch_plan
from beholder.train.collate import Collator
from beholder.train.objectives import aligned, next_token
from tests.toys import CHAT, DECODER, byte_tokenizer

CARD = card("eve-7b-aligning").tiny()


def pictures(chosen, sizes):
    """Pictures of these (height, width), planned and loaded for both branches."""
    generator = torch.Generator().manual_seed(1)
    plans, views = [], {"image": [], "teacher": []}
    for height, width in sizes:
        pixels = (torch.rand(height, width, 3, generator=generator) * 255).to(torch.uint8).numpy()
        for branch in chosen.branches:
            plan = branch_plan(chosen, branch, (height, width))
            plans.append(plan)
            views[branch.name] += load_views(pixels, plan.views, branch.geometry)
    return tuple(plans), views


def batch(plans, views, rows):
    return Batch(torch.tensor(rows), views=views, plans=plans)


@torch.no_grad()
def by_its_equation(head, states: list[Tensor], aims: Tensor) -> Tensor:
    """2406.11832, section 3.2, token by token; states: of each depth (N, D), the last layer's first."""
    width = head.config.dim // head.config.heads
    losses = []
    for number, aim in enumerate(aims):
        told = [level(x[number]) for level, x in zip(head.levels, states, strict=True)]
        found = []
        for h in range(head.config.heads):
            own = slice(h * width, (h + 1) * width)
            scores = torch.stack([told[0][own] @ other[own] for other in told[1:]]) / head.config.dim**0.5
            found.append(sum(w * other[own] for w, other in zip(scores.softmax(0), told[1:], strict=True)))
        given = head.input(states[0][number]) + head.output(torch.cat(found))
        losses.append(1 - given @ aim / given.norm() / aim.norm())
    return torch.stack(losses).mean()


def test_the_loss_equals_its_equation_at_the_patches_that_show_the_picture():
    model = build(CARD)
    plans, views = pictures(CARD, [(28, 28)])
    row = [7, *[5] * plans[0].num_tokens, 9, 11]
    asked = batch((plans,), views, [row])
    with torch.no_grad():
        branches = model.encode(asked)
        output = model(asked)
        language = model.read(asked, branches)
    grid = [
        1 + 1 + r * 3 + c for r in range(2) for c in range(2)
    ]  # behind the word and the whole; rows end with a break
    states = [tap[0, grid] for tap in (language.hidden_BTD, language.taps[1], language.taps[0])]
    want = by_its_equation(model.heads[1], states, branches["teacher"].packed.tokens_ND)
    assert output.heads["alignment"] == pytest.approx(float(want), abs=1e-5)


def test_the_teachers_padding_is_left_out_and_finer_patches_are_averaged():
    """A wide picture in the teacher's square, and twice as many patches each way for the language model."""
    wide = CARD.but(
        branches=(
            CARD.branch("image").but(geometry=Native(cell=28, size=(112, 112), fit="longest")),
            CARD.branch("teacher").but(
                geometry=Native(cell=14, size=(56, 56), fit="longest", square=True),
                encoders=(CARD.branch("teacher").encoders[0].but(image_size=56),),
            ),
        )
    )
    plans, views = pictures(wide, [(30, 80)])
    (view,) = plans[1].views
    assert view.size == (56, 56) and view.resized == (28, 56) and view.crop.top == -14
    assert plans[1].num_tokens == 0 and plans[0].num_tokens == 1 + 4 * 9
    model = build(wide)
    row = [*[5] * plans[0].num_tokens, 9]
    asked = batch((plans,), views, [row])
    with torch.no_grad():
        branches = model.encode(asked)
        output, language = model(asked), model.read(asked, branches)
    aims = branches["teacher"].packed.tokens_ND.view(4, 4, -1)[1:3].flatten(0, 1)
    states = []
    for tap in (language.hidden_BTD, language.taps[1], language.taps[0]):
        map_ = tap[0, 1 : 1 + 4 * 9].view(4, 9, -1)[:, :-1]
        states.append(F.avg_pool2d(map_.permute(2, 0, 1), 2).flatten(1).T)
    want = by_its_equation(model.heads[1], states, aims)
    assert output.heads["alignment"] == pytest.approx(float(want), abs=1e-5)


def test_answers_do_not_change_without_the_teacher():
    model = build(CARD)
    plans, views = pictures(CARD, [(28, 28), (20, 28)])
    rows = [[7, *[5] * plans[0].num_tokens, 9, *[5] * plans[2].num_tokens, 8]]
    plain = build(card("eve-7b").tiny())
    missing = plain.load_state_dict(model.state_dict(), strict=False)
    assert not missing.missing_keys
    assert all(key.startswith(("branches.teacher.", "heads.1.")) for key in missing.unexpected_keys)
    with torch.no_grad():
        whole = model(batch((plans,), views, rows))
        alone = plain(batch((plans[::2],), {"image": views["image"]}, rows))
        without = model(batch((plans[::2],), {"image": views["image"]}, rows))
    assert torch.equal(whole.heads["text"], alone.heads["text"])
    assert torch.equal(without.heads["text"], alone.heads["text"]) and without.heads["alignment"] == 0


def test_training_the_states_brings_them_nearer_to_a_frozen_teacher():
    model = build(CARD)
    model.branch("teacher").requires_grad_(False)
    plans, views = pictures(CARD, [(28, 28)])
    asked = batch((plans,), views, [[7, *[5] * plans[0].num_tokens, 9]])
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(12):
        loss = model(asked).heads["alignment"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is None for p in model.branch("teacher").parameters())


def test_branches_of_other_proportions_are_refused():
    model = build(CARD)
    plans, views = pictures(CARD, [(28, 28)])
    image = CARD.branch("image").but(geometry=Native(cell=14, size=(42, 28), fit="area"))
    other = branch_plan(CARD, image, (28, 28))
    asked = batch(((other, plans[1]),), views | {"image": [torch.randn(3, *other.views[0].size)]}, [[5] * 8])
    asked = batch(asked.plans, asked.views, [[5] * other.num_tokens])
    with torch.no_grad(), pytest.raises(BeholderError, match="proportions"):
        model(asked)
    with pytest.raises(BeholderError, match="language part"):
        TeacherAlignment().build(None)


def test_a_stage_trains_answers_and_states_together():
    """The collator gives the teacher its own views; a card without the head says so."""
    chosen = CARD.but(prompt=CHAT, languages=(LanguagePart(DECODER.but(context=512)),))
    collate = Collator(chosen, byte_tokenizer())
    pixels = np.random.default_rng(0).integers(0, 255, (28, 28, 3), dtype=np.uint8)
    item = collate([Sample(pixels, (Turn("where?", "here", "where"),), "a")])
    assert set(item.batch.views) == {"image", "teacher"} and len(item.batch.plans[0]) == 2
    model = build(chosen)
    both, answers = aligned(model, item), next_token(model, item)
    assert float(both.detach() - answers.detach()) == pytest.approx(
        float(model(item.batch).heads["alignment"].detach()), abs=1e-5
    )
    with pytest.raises(BeholderError, match="TeacherAlignment"):
        aligned(build(chosen.but(heads=(chosen.heads[0],))), item)
