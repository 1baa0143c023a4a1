"""AIMv2's pre-training: prefixes of random length in the encoder, and one causal decoder that foretells patches and words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.media.pixels import load_views
from beholder.model import Batch, Model, build
from beholder.parts.heads.next_patch import NextPatch, NextPatchHead, normed_patches
from beholder.parts.vision import vit as vision
from beholder.parts.vision.positions import GridTable
from beholder.planning import prompt_plan
from beholder.train.objectives import Answered, Sum, pixels_and_text
from beholder.train.objectives.pictures import next_patch
from tests.toys import TEXT, VIT

SEEN = VIT.but(prefix=True, image_size=42, positions=GridTable("bicubic"))
CARD = card("aimv2-l-14-pretraining").tiny()


def changed_tokens(
    model: torch.nn.Module, views: list[torch.Tensor], view: int, patch: int
) -> list[list[int]]:
    """Which tokens of each view differ once a patch is another."""
    rows, columns = divmod(patch, views[view].shape[-1] // 14)
    others = [each.clone() for each in views]
    others[view][:, 14 * rows : 14 * rows + 14, 14 * columns : 14 * columns + 14] += 1.0
    with torch.no_grad():
        torch.manual_seed(5)
        before = model(views).split()
        torch.manual_seed(5)
        after = model(others).split()
    return [
        (a - b).abs().amax(-1).gt(1e-6).nonzero().flatten().tolist()
        for a, b in zip(before, after, strict=True)
    ]


@pytest.mark.parametrize("sizes", [((42, 42),), ((42, 42), (42, 42)), ((42, 42), (28, 42))])
def test_a_prefix_sees_both_ways_and_the_rest_what_is_before(
    sizes: tuple[tuple[int, int], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequences as rows, and of unequal sizes in one row."""
    monkeypatch.setattr(vision.torch, "randint", lambda high, size: torch.tensor(3))
    model, views = SEEN.build(), [torch.randn(3, *size) for size in sizes]
    for number, (height, width) in enumerate(sizes):
        count = height * width // 14**2
        for patch, first in ((0, 0), (3, 0), (4, 4), (count - 1, count - 1)):
            for other, tokens in enumerate(changed_tokens(model.train(), views, number, patch)):
                assert tokens == (list(range(first, count)) if other == number else [])
        assert changed_tokens(model.eval(), views, number, count - 1)[number] == list(range(count))


def test_prefixes_are_of_every_length_but_all() -> None:
    torch.manual_seed(0)
    drawn = {int((vision.prefixes([5], rows=True).blocks_BT == 0).sum()) for _ in range(200)}
    assert drawn == {1, 2, 3, 4}
    assert (vision.prefixes([1], rows=True).blocks_BT == 0).all()


def test_patches_are_normed_each_by_itself() -> None:
    view = torch.randn(3, 30, 28) * 5 + 2
    patches_NP = normed_patches(view, 14)
    assert patches_NP.shape == (4, 3 * 14**2)
    values = view[:, 14:28, :14].numpy().astype(np.float64)
    wanted = (values - values.mean()) / np.sqrt(values.var() + 1e-6)
    assert np.allclose(patches_NP[2].numpy(), wanted.reshape(-1), atol=1e-4)


def test_the_loss_leaves_the_first_patch_out() -> None:
    head = NextPatch(patch=14).build(TEXT.main)
    assert isinstance(head, NextPatchHead)
    views = [torch.randn(3, 28, 28), torch.randn(3, 14, 42)]
    targets = [normed_patches(view, 14) for view in views]
    perfect = torch.cat([torch.cat((target[1:], target[:1] * 9)) for target in targets])
    assert head.loss(perfect, views) < 1e-10
    noise = torch.randn_like(perfect)
    errors = [((n[:-1] - t[1:]) ** 2) for n, t in zip(noise.split([4, 3]), targets, strict=True)]
    assert torch.allclose(head.loss(noise, views), torch.cat(errors).mean(), atol=1e-5)
    with pytest.raises(BeholderError, match="needs a language part"):
        NextPatch(patch=14).build(None)


def example(model: Model) -> Any:
    """A picture and its caption."""
    branch = model.card.branch()
    pixels = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    plan = prompt_plan(model.card, (40, 40))
    views = load_views(pixels, plan.views, branch.geometry)
    words = [7, 8, 9, 11]
    ids = torch.tensor([[model.card.fusion[0].token_id] * plan.num_tokens + words])
    first = plan.num_tokens - 1
    answers = SimpleNamespace(
        rows_A=torch.zeros(4, dtype=torch.long),
        places_A=torch.arange(first, first + 4),
        targets_A=torch.tensor(words),
        weights_A=torch.ones(4),
    )
    return SimpleNamespace(batch=Batch(ids, views={"image": views}, plans=((plan,),)), answers=answers)


@torch.no_grad()
def test_a_patch_is_foretold_from_those_before_it_and_words_from_all() -> None:
    model = build(CARD, seed=1)
    item = example(model)
    branches = model.encode(item.batch)
    packed = branches["image"].packed
    hidden = model.read(item.batch, branches)
    before = model.apply_heads(item.batch, branches, hidden)
    assert before["patches"].shape == (4, 3 * 14**2)
    features = packed.tokens_ND.clone()
    features[2] += 1.0
    changed = {
        "image": type(branches["image"])(type(packed)(features, packed.grids), branches["image"].plans)
    }
    after = model.apply_heads(item.batch, changed, model.read(item.batch, changed))
    moved = (before["patches"] - after["patches"]).abs().amax(-1) > 1e-7
    assert moved.tolist() == [False, False, True, True]
    assert ((before["text"] - after["text"]).abs().amax(-1) > 1e-7)[0].tolist() == [False] * 2 + [True] * 6


def test_both_losses_fall_together() -> None:
    model = build(CARD, seed=1).train()
    item, objective = example(model), pixels_and_text
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        parts = [Sum((Answered(), next_patch), (1.0, share))(model, item).item() for share in (0.0, 1.0)]
        loss = objective(model, item)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append((parts[0], parts[1] - parts[0]))
    (text, pixels), (last_text, last_pixels) = losses[0], losses[-1]
    assert last_text < text / 2 and last_pixels < pixels
    with pytest.raises(BeholderError, match="no head NextPatch"):
        objective(build(CARD.but(heads=CARD.heads[:1])), item)
