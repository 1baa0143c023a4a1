"""Losses over boxes and masks, against their formulas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from beholder.cards.schema import Card
from beholder.data.samples import Conversation
from beholder.errors import BeholderError
from beholder.media.plan import Box, Grid, View
from beholder.media.regions import Region
from beholder.model import Batch
from beholder.parts.blocks.boxes import iou
from beholder.parts.connectors.still import MOVES
from beholder.parts.contracts import Packed
from beholder.parts.fusion.regions import map_of
from beholder.parts.heads.box_regression import BoxRegression
from beholder.parts.heads.spoken_boxes import SpokenBoxes
from beholder.parts.vision.omg_seg import QUERIES
from beholder.prompts.chat import ChatFormat
from beholder.prompts.coordinates import Coordinates
from beholder.prompts.messages import Message, Picture, Regions, assistant, user
from beholder.train.collate import Answers, Collator, TrainBatch
from beholder.train.objectives import Answered, Sum, boxes, masks, named
from beholder.train.objectives.reading import read
from beholder.train.objectives.regions import (
    box_loss,
    giou,
    learners,
    mask_loss,
    object_round_trip,
    pixel_losses,
)
from tests.test_cards import Tiny
from tests.toys import CHAT, SEES, VIT, byte_tokenizer
from tests.train.learning import learn, stirred, untouched

PHOTO = (
    Path(__file__).resolve().parents[2] / "docs" / "samples" / "cat.jpg"
)  # of 230 x 150 pixels as Tiny cuts it
SIZE = (150, 230)


def painted(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def pointing(name: str, regions: tuple[Region, ...], tokens: int | None = None) -> tuple[Card, TrainBatch]:
    """A tiny card's batch of one row, whose tokens that point are foretold as answers."""
    tiny = Tiny(name, PHOTO)
    batch = tiny.batch()
    ids = batch.ids_BT[0].tolist()
    pointers = {token for head in tiny.card.heads for token in head.hidden_of}
    places = [place for place, token in enumerate(ids) if token in pointers][:tokens]
    answers = Answers.of([(0, place - 1, ids[place], 1 / len(places)) for place in places])
    return tiny.card, TrainBatch(batch, answers, ((),), (regions,))


BOX = Region(box=Box(23, 30, 115, 120))
MASK = Region(mask=painted(40, 20, 120, 90))


def test_overlap_of_boxes_is_generalised() -> None:
    """1902.09630: apart, within each other, the same."""
    given = torch.tensor([[0.0, 0, 1, 1], [0, 0, 4, 4], [0, 0, 2, 2], [3, 3, 3, 3]])
    wanted = torch.tensor([[2.0, 0, 3, 1], [1, 1, 3, 3], [0, 0, 2, 2], [3, 3, 4, 4]])
    assert torch.allclose(giou(given, wanted), torch.tensor([-1 / 3, 1 / 4, 1.0, 0.0]), atol=1e-6)
    assert torch.allclose(
        giou(given[:3], wanted[:3]) > torch.diag(iou(given, wanted))[:3], torch.tensor([False] * 3)
    )


def test_boxes_are_moved_and_fitted() -> None:
    """Sides' distances and 1 - generalised overlap; a box that is inside out has the first alone."""
    given = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.6, 0.2, 0.4, 0.8]], requires_grad=True)
    wanted = torch.tensor([[0.2, 0.1, 0.6, 0.5], [0.3, 0.2, 0.5, 0.8]])
    overlap = 0.3 * 0.4 / (2 * 0.16 - 0.12)
    around = 0.5 * 0.4
    first = 0.2 + 1 - (overlap - (around - (2 * 0.16 - 0.12)) / around)
    assert float(box_loss(given, wanted).detach()) == pytest.approx((first + 0.4) / 2, abs=1e-5)
    box_loss(given, wanted).backward()
    assert given.grad.isfinite().all()


def test_pixels_and_dice_of_a_mask() -> None:
    """2 of binary cross-entropy, the mean over pixels, and half of 1 - 2 |A B| / (|A| + |B|)."""
    logits, wanted = torch.randn(5, 7), (torch.rand(5, 7) > 0.5).float()
    chances = 1 / (1 + torch.exp(-logits))
    cross = -(wanted * chances.log() + (1 - wanted) * (1 - chances).log()).mean()
    dice = 1 - (2 * (chances * wanted).sum() + 1e-3) / (chances.sum() + wanted.sum() + 1e-3)
    assert torch.allclose(pixel_losses(logits, wanted), 2 * cross + 0.5 * dice, atol=1e-6)


def test_what_a_view_adds_around_a_picture_does_not_count() -> None:
    """A picture of 40 x 20 pixels in the middle of a square view: rows outside it may hold anything."""
    view = View((20, 40), ((32, 64),), Box(0, -16, 64, 48))
    mask = np.zeros((20, 40), dtype=bool)
    mask[:, 10:30] = True
    logits = torch.full((16, 16), -9.0)
    logits[4:12, 4:12] = 9.0
    good = mask_loss(logits, Region(mask=mask), view)
    logits[:3] = logits[13:] = 9.0
    assert torch.allclose(mask_loss(logits, Region(mask=mask), view), good, atol=1e-5) and float(good) < 0.3
    assert float(mask_loss(-logits, Region(mask=mask), view)) > 5


def test_cells_near_a_box_learn_it() -> None:
    """SimOTA: the nine cells around the middle, of which those that overlap most, as many as their overlaps add up to."""
    view = View((80, 80), (), Box(0, 0, 80, 80))
    wanted = torch.tensor([28.0, 28, 52, 52])
    cells = torch.tensor([[x * 10.0, y * 10.0] for y in range(8) for x in range(8)])
    boxes_N4 = torch.cat((cells - 100, cells - 90), -1)  # nowhere near
    for cell, shift in ((27, 0.0), (28, 1.0), (35, 3.0), (0, 0.0)):
        boxes_N4[cell] = wanted + shift
    overlaps = iou(boxes_N4, wanted[None])[:, 0]
    near = [
        y * 8 + x
        for y in range(8)
        for x in range(8)
        if abs(x * 10 + 5 - 40) < 15 and abs(y * 10 + 5 - 40) < 15
    ]
    assert len(near) == 4 or len(near) == 9
    count = int(overlaps[near].sum())
    learned = learners(boxes_N4, wanted, (8, 8), view).nonzero().flatten().tolist()
    assert count == 2 and learned == [27, 28]
    far = learners(boxes_N4, torch.tensor([500.0, 500, 510, 510]), (8, 8), view)
    assert not far.any()


def test_boxes_of_states_are_shares_of_the_picture() -> None:
    other = Region(box=Box(0, 15, 46, 150))
    chosen, item = pointing("texthawk-7b", (BOX, other))
    model = stirred(chosen)
    with torch.no_grad():
        given = model(item.batch).heads["box vectors"]
        wanted = torch.tensor([[23 / 230, 30 / 150, 115 / 230, 120 / 150], [0, 15 / 150, 46 / 230, 1.0]])
        assert torch.allclose(boxes(read(model, item)), box_loss(given, wanted), atol=1e-6)
    learn(model, Sum((boxes,)), item, steps=20)
    assert not {name for name in untouched(model) if name.startswith("heads.1")}


def test_boxes_of_proposals() -> None:
    """0.025 of 5 (1 - overlap^2) over learning cells and the certainty of all cells, by the number of learning cells."""
    chosen, item = pointing("covlm-1.4b", (BOX, Region(box=Box(100, 20, 220, 140))))
    model = stirred(chosen).eval()
    with torch.no_grad():
        reading = read(model, item)
        given = reading.given("proposals")
        plan = reading.branches["image"].plans[0][0]
        view, grid = plan.views[0], plan.grids[0]
        total, count = 0.0, 0
        for number, region in enumerate(item.regions[0]):
            corners = [*view.from_original(*region.box[:2]), *view.from_original(*region.box[2:])]
            chosen_N = learners(given.boxes[number], torch.tensor(corners), (grid.height, grid.width), view)
            overlap = iou(given.boxes[number], torch.tensor([corners]))[:, 0]
            total += 5 * (1 - overlap[chosen_N] ** 2).sum()
            total += F.binary_cross_entropy(given.logits[number].sigmoid(), chosen_N.float(), reduction="sum")
            count += int(chosen_N.sum())
        assert torch.allclose(boxes(reading), 0.025 * total / count, atol=1e-5) and count
    learn(model, Sum((boxes,)), item, steps=20, lr=1e-2)
    assert {name for name in untouched(model) if name.startswith("heads.1")} == {
        name for name, _ in model.named_parameters() if name.startswith("heads.1.classes.")
    }


def test_masks_and_boxes_of_one_answer() -> None:
    """u-LLaVA: [SEG] and [LOC] have a region each, in the order of the tokens."""
    chosen, item = pointing("u-llava-7b", (MASK, BOX))
    model = stirred(chosen)
    with torch.no_grad():
        reading = read(model, item)
        view = reading.branches["image"].plans[0][0].views[0]
        corners = [*view.from_original(23, 30), *view.from_original(115, 120)]
        shares = torch.tensor([[side / 28 for side in corners]])
        assert view.size == (28, 28)
        assert torch.allclose(
            boxes(reading), box_loss(model(item.batch).heads["spoken boxes"].boxes, shares), atol=1e-5
        )
        sam = reading.branches["sam"].plans[0][0].views[0]
        logits = model(item.batch).heads["masks"].logits[0, 0]
        assert torch.allclose(masks(reading), mask_loss(logits, MASK, sam), atol=1e-5)
        parts = Answered()(reading) + masks(reading) + boxes(reading)
        assert torch.allclose(named("next-token, masks, boxes")(model, item), parts, atol=1e-5)
    learn(model, named("next-token, masks, boxes"), item, steps=10, lr=5e-3)


@pytest.mark.parametrize("name", ["glamm-7b", "sa2va-1b", "omg-llava-7b"])
def test_masks_are_learned(name: str) -> None:
    """Everything in the head learns but what tells how good masks are, whether a thing is seen, and several masks' MLPs."""
    chosen, item = pointing(name, (MASK,))
    model = stirred(chosen)
    learn(model, Sum((masks,)), item, steps=12, lr=5e-3)
    left = {n.removeprefix("heads.1.") for n in untouched(model) if n.startswith("heads.1.")}
    mine = (
        "decoder.layers.0.look",  # at a map of one cell
        "decoder.scores",
        "decoder.seen",
        "decoder.hyper",
        "decoder.score",
        "decoder.object",
        "prompts.",
        "memory",
        "no_memory",
        "empty",
    )
    assert all(n.startswith(mine) for n in left), left


@torch.no_grad()
def test_objects_come_back_from_words() -> None:
    """The mean of (P_text(P_vision(q)) - q)^2 over queries that are read, times ten, beside the answers."""
    chosen, item = pointing("omg-llava-7b", (MASK,))
    model = stirred(chosen)
    reading = read(model, item)
    branch, connector = reading.branches["image"], model.branch("image").connector
    stays = branch.packed.taps[MOVES].split()[1][1:, 0] > 0
    queries = map_of(branch.encoded[0].taps[QUERIES], 0)[:, 0].T[stays]
    row = Grid(1, 1, len(queries))
    there = connector.objects(Packed(connector.widen(queries), (row,))).tokens_ND
    want = (model.heads[1].project(there) - queries).square().mean()
    assert len(queries) > 0 and torch.allclose(object_round_trip(reading), want, atol=1e-5)
    whole = named("next-token, objects")(model, item)
    assert torch.allclose(whole, Answered()(reading) + 10 * want, atol=1e-4)


def test_objects_are_learned() -> None:
    chosen, item = pointing("omg-llava-7b", (MASK,))
    model = stirred(chosen)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("branches.image.connector", "heads.1.project")))
    learn(model, named("next-token, objects"), item, steps=6, lr=1e-2)
    assert not {name for name in untouched(model) if model.get_parameter(name).requires_grad}


POINTS = SEES.but(
    name="toy-points",
    vision=VIT,
    heads=(*SEES.heads, BoxRegression(token_id=260), SpokenBoxes(token_ids=(259,), dim=16)),
    prompt=CHAT.but(boxes=Coordinates(box="", pointers=("[SEG]", "[LOC]"))),
)
CONTROLS = ("</s>", "<s>", "<image>", "[LOC]", "[SEG]")


def test_answers_that_point_are_made_of_conversations() -> None:
    """[SEG] and [LOC] stand in the answer as control tokens that are learned, with their regions in order."""
    tokenizer = byte_tokenizer(CONTROLS)
    pictures = (np.zeros((*SIZE, 3), np.uint8),)
    told = assistant("A cat ", Regions(masks=(MASK.mask,)), " and [SEG] dog ", Regions(boxes=(BOX.box,)))
    talk = Conversation((user(Picture(), "Where?"), told, user("And?"), assistant("none")), pictures, "talk")
    item = Collator(POINTS, tokenizer)([talk, Conversation((user("hi"), assistant("ho")), (), "words")])
    learned = tokenizer.decode(item.answers.targets_A.tolist(), skip_special=False)
    assert learned == "A cat [SEG] and [SEG] dog [LOC]</s>none</s>ho</s>"
    assert item.answers.targets_A.tolist().count(260) == 1 and item.answers.targets_A.tolist().count(259) == 1
    assert [[r.mask is not None for r in row] for row in item.regions] == [[True, False], []]
    assert not item.batch.regions
    assert (
        item.answers.weights_A[:32].tolist()
        == [pytest.approx(1 / 24)] * 24 + [pytest.approx(1 / 5)] * 5 + [pytest.approx(1 / 3)] * 3
    )
    model = stirred(POINTS)
    with torch.no_grad():
        output = model(item.batch).heads
        view = item.batch.plans[0][0].views[0]
        height, width = view.size
        corners = [*view.from_original(23, 30), *view.from_original(115, 120)]
        shares = [side / full for side, full in zip(corners, (width, height) * 2, strict=True)]
        spoken = box_loss(output["spoken boxes"].boxes, torch.tensor([shares]))
        own = box_loss(output["box vectors"], torch.tensor([[40 / 230, 20 / 150, 120 / 230, 90 / 150]]))
        assert torch.allclose(boxes(read(model, item)), spoken + own, atol=1e-5)


def test_what_a_format_cannot_point_to_is_refused() -> None:
    tokenizer = byte_tokenizer(CONTROLS)
    pictures = (np.zeros((*SIZE, 3), np.uint8),)
    region = Regions(boxes=(BOX.box,))

    def batch(prompt: ChatFormat, *messages: Message) -> TrainBatch:
        return Collator(POINTS.but(prompt=prompt), tokenizer)([Conversation(messages, pictures, "talk")])

    masks_alone = CHAT.but(boxes=Coordinates(box="", pointers=("[SEG]", "")))
    with pytest.raises(BeholderError, match="point to masks alone"):
        batch(masks_alone, user(Picture(), "Where?"), assistant(region))
    with pytest.raises(BeholderError, match="message 1, part 2: chat format toy has no words for regions"):
        batch(POINTS.prompt, user(Picture(), region), assistant("there"))
    with pytest.raises(BeholderError, match="message 2, part 1: chat format toy has no words for regions"):
        batch(CHAT, user(Picture(), "Where?"), assistant(region))


def test_answers_with_numbers_are_learned_as_they_are_read() -> None:
    """A format that writes boxes as numbers has them in answers as well; they were left out before."""
    tokenizer = byte_tokenizer(CONTROLS)
    chosen = SEES.but(prompt=CHAT.but(boxes=Coordinates(start="[", end="]", decimals=2)))
    talk = (user(Picture(), "Where?"), assistant("Here: ", Regions(boxes=(BOX.box,)), "."))
    item = Collator(chosen, tokenizer)([Conversation(talk, (np.zeros((*SIZE, 3), np.uint8),), "talk")])
    learned = tokenizer.decode(item.answers.targets_A.tolist(), skip_special=False)
    assert learned == "Here: [0.10,0.20,0.50,0.80].</s>"
    marked = chosen.but(prompt=CHAT.but(boxes=Coordinates(start="[", end="]", decimals=2, mark="<f>")))
    again = Collator(marked, tokenizer)([Conversation(talk, (np.zeros((*SIZE, 3), np.uint8),), "talk")])
    assert torch.equal(again.answers.targets_A, item.answers.targets_A) and not again.batch.regions
    (box,) = chosen.prompt.boxes.read(learned, item.batch.plans[0][0].views[0])
    assert np.allclose(box, BOX.box, atol=2)


def test_batches_that_point_to_nothing_have_no_such_loss() -> None:
    chosen, item = pointing("glamm-7b", (MASK,))
    model = stirred(chosen)
    plain = replace(
        item,
        regions=(),
        batch=replace(item.batch, ids_BT=item.batch.ids_BT.masked_fill(item.batch.ids_BT == 20, 9)),
    )
    with torch.no_grad():
        assert float(masks(read(model, plain))) == 0.0
        assert torch.allclose(named("next-token, masks")(model, plain), named("next-token")(model, plain))


def test_every_token_that_points_needs_its_region() -> None:
    chosen, item = pointing("u-llava-7b", (MASK, BOX))
    model = stirred(chosen)
    with pytest.raises(BeholderError, match="row 0 has 2 tokens that point and 1 regions"):
        masks(read(model, replace(item, regions=((MASK,),))))
    with pytest.raises(BeholderError, match="row 0 points to picture 3 of 1"):
        boxes(read(model, replace(item, regions=((MASK, replace(BOX, picture=3)),))))
    with pytest.raises(BeholderError, match="row 0 has no mask of picture 2"):
        masks(read(model, replace(item, regions=((replace(MASK, picture=2), BOX),))))
    sees = stirred(SEES)
    words = TrainBatch(Batch(torch.tensor([[5, 6]])), Answers.of([]), ())
    for term, what in ((masks, "no head of masks"), (boxes, "no head of boxes")):
        with pytest.raises(BeholderError, match=what):
            term(read(sees, words))
