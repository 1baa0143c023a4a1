"""Masks of an answer's tokens: which states prompt them, over which pixels, with which phrases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from beholder.cards import card
from beholder.media.geometry import Fixed
from beholder.media.longest import Longest
from beholder.media.plan import Box, Grid, PicturePlan, View, in_order
from beholder.model import build
from beholder.parts.contracts import BranchOutput, HeadInputs, Packed
from beholder.parts.heads.mask_prompts import MaskPrompts
from beholder.parts.heads.masks import PromptedMasks
from beholder.parts.heads.spoken_boxes import SpokenBoxes
from beholder.parts.language.sizes import LLAMA_2_7B
from beholder.pipeline import Pipeline
from beholder.prompts.messages import Clip, user
from beholder.segments import Segment, over_original, phrase_in, read_batch
from tests.prompts.test_regions import tokenizer

CONTROLS = (
    *("<im_start>", "<im_end>", "<bbox>", "[SEG]", "<p>", "</p>"),
    *("<image_patch>", "<img_beg>", "</img_end>", "<vid_beg>", "</vid_end>", "[LOC]", "[tag]", "[/tag]"),
)


@pytest.fixture
def glamm() -> Iterator[Pipeline]:
    chosen = card("glamm-7b").tiny()
    words = tokenizer(*CONTROLS)
    regions, splice = chosen.fusion
    text, masks = chosen.heads
    chosen = chosen.but(
        fusion=(regions.but(token_ids=(words.token_id("<bbox>"),)), splice),
        heads=(text, masks.but(token_ids=(words.token_id("[SEG]"),))),
        **{"language.vocab_size": 512, "language.context": 800},
    )
    yield Pipeline(build(chosen), words)


@pytest.fixture
def u_llava() -> Iterator[Pipeline]:
    """Its boxes are always left 0.25, top 0.5, right 0.75 and bottom 1 of the square that the picture was padded to."""
    chosen, words = card("u-llava-7b").tiny(), tokenizer(*CONTROLS)
    text, masks, boxes = chosen.heads
    chosen = chosen.but(
        fusion=(chosen.fusion[0].but(token_id=words.token_id("<image_patch>")),),
        heads=(
            text,
            masks.but(token_ids=(words.token_id("[SEG]"),)),
            boxes.but(token_ids=(words.token_id("[LOC]"),)),
        ),
        **{"language.vocab_size": 512, "language.context": 800},
    )
    pipeline = Pipeline(build(chosen), words)
    last = pipeline.model.heads[2].decoder.layers[-1]
    torch.nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([0.25, 0.5, 0.75, 1.0])
    yield pipeline


def says(pipeline: Pipeline, monkeypatch: Any, *pieces: str) -> list[int]:
    """Make the system answer with these words and tokens."""
    words = pipeline.tokenizer
    ids = [
        i for piece in pieces for i in ([words.token_id(piece)] if piece in CONTROLS else words.encode(piece))
    ]
    steps = iter([*ids, 256])
    logits = type(pipeline.model.language).logits

    def forced(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        wanted = next(steps, None)
        if wanted is None:
            return logits(self, hidden)
        return torch.nn.functional.one_hot(torch.tensor([[wanted]]), 512)[:, 0].float()

    monkeypatch.setattr(type(pipeline.model.language), "logits", forced)
    return ids


def test_every_phrase_of_an_answer_has_its_mask(glamm: Pipeline, monkeypatch: Any) -> None:
    """Several <p>phrase</p>[SEG] pairs in one reply, each decoded to a mask of the original's size."""
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    says(
        glamm,
        monkeypatch,
        "A",
        "<p>",
        " a cat ",
        "</p>",
        "[SEG]",
        " by",
        "<p>",
        "two cups",
        "</p>",
        "[SEG]",
        "[SEG]",
    )
    reply = glamm.ask(picture, "What is there?", regions=[(4, 4, 40, 30)])
    assert [segment.label for segment in reply.masks] == ["a cat", "two cups", "two cups"]
    assert all(segment.mask.shape == (60, 90) and segment.mask.dtype == bool for segment in reply.masks)
    assert {segment.picture for segment in reply.masks} == {0}


def test_each_task_token_asks_its_own_expert(u_llava: Pipeline, monkeypatch: Any) -> None:
    """[SEG] asks for a mask, [LOC] for a box, each named by the tag behind it; neither is shown or asks the other."""
    picture = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
    says(
        u_llava, monkeypatch, "Mask: ", "[SEG]", "; Location: ", "[LOC]", "; ", "[tag]", "cat", "[/tag]", "."
    )
    reply = u_llava.ask(picture, "Where is the cat?")
    assert reply == "Mask: ; Location: ; cat."
    assert [found.label for found in reply.boxes] == ["cat"]
    assert reply.boxes[0].box == pytest.approx((25, 30, 75, 60))
    assert [(segment.label, segment.mask.shape) for segment in reply.masks] == [("cat", (60, 100))]
    says(
        u_llava,
        monkeypatch,
        "At ",
        "[LOC]",
        "[tag]",
        "a cup",
        "[/tag]",
        " and ",
        "[LOC]",
        "[tag]",
        "a dog",
        "[/tag]",
    )
    reply = u_llava.ask(picture, "Where?")
    assert [found.label for found in reply.boxes] == ["a cup", "a dog"] and reply.masks == ()
    says(u_llava, monkeypatch, "[SEG]")
    reply = u_llava.ask(picture, "Which pixels?")
    assert reply.boxes == () and [segment.label for segment in reply.masks] == [""]
    says(u_llava, monkeypatch, "a cat")
    reply = u_llava.ask(picture, "What?")
    assert reply.boxes == () and reply.masks == ()


def test_a_clip_is_seen_by_words_and_its_neighbour_by_the_mask_decoder(
    u_llava: Pipeline, monkeypatch: Any
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 60, 100, 3), np.uint8)
    views = u_llava.prepare([[user(Clip(frames), "What happens?")]]).batch.views
    assert len(views["image"]) == 4 and "sam" not in views
    assert isinstance(str(u_llava.ask(Clip(frames), "What happens?", max_tokens=2)), str)
    says(u_llava, monkeypatch, "[SEG]")
    reply = u_llava.ask([Clip(frames), frames[0]], "Which pixels of the picture?")
    assert [segment.mask.shape for segment in reply.masks] == [(60, 100)]


def test_boxes_follow_the_state_that_asks_for_them(u_llava: Pipeline) -> None:
    """The state in front of the token through the MLP and the decoder's three matrices; changed elsewhere, nothing changes."""
    config = SpokenBoxes(token_ids=(9,), dim=12)
    head = config.build(LLAMA_2_7B.tiny()).eval()
    hidden, ids = torch.randn(2, 5, 32), torch.tensor([[7, 8, 9, 9, 11], [7, 8, 4, 9, 9]])
    with torch.no_grad():
        found = head(HeadInputs(hidden, ids_BT=ids, lengths=(5, 4)))
        (first, second), (a, b, c) = head.project.layers, head.decoder.layers
        states = torch.stack((hidden[0, 1], hidden[0, 2], hidden[1, 2]))
        want = c(b(a(second(first(states).relu())).relu()).relu())
        assert torch.allclose(found.boxes, want, atol=1e-6) and found.rows.tolist() == [0, 0, 1]
        other = hidden.clone()
        other[0, 3:] += 1
        other[1, 3:] += 1
        assert torch.equal(head(HeadInputs(other, ids_BT=ids, lengths=(5, 4))).boxes, found.boxes)
        at_token = config.but(foretold=False).build(LLAMA_2_7B.tiny()).eval()
        at_token.load_state_dict(head.state_dict())
        shifted = torch.roll(ids, -1, 1)
        assert torch.allclose(
            at_token(HeadInputs(hidden, ids_BT=shifted, lengths=(4, 3))).boxes, want, atol=1e-6
        )
    assert head(HeadInputs(hidden, ids_BT=torch.full((2, 5), 3))) is None


def test_an_answer_without_the_token_has_no_masks(glamm: Pipeline, monkeypatch: Any) -> None:
    encoded = []
    for name in ("image", "sam"):
        encoder = glamm.model.branch(name).vision
        real = encoder.forward
        monkeypatch.setattr(
            encoder, "forward", lambda views, name=name, real=real: encoded.append(name) or real(views)
        )
    says(glamm, monkeypatch, "a cat")
    reply = glamm.ask(np.zeros((60, 90, 3), np.uint8), "What?")
    assert reply.masks == () and encoded == ["image"]


def test_masks_follow_the_state_that_prompts_them(glamm: Pipeline) -> None:
    """The state in front of the token, through the MLP, as the decoder's one prompt; changed elsewhere, nothing changes."""
    head, config = glamm.model.heads[1], glamm.card.heads[1]
    side = glamm.card.branch("sam").encoders[0].image_size
    plan = PicturePlan(
        "sam", (side, side), (View((side, side), (), Box(0, 0, side, side)),), (Grid(1, 4, 4),), ()
    )
    packed = Packed(torch.randn(16, 24), (Grid(1, 4, 4),))
    branches = {"sam": BranchOutput(packed, ((plan,),), (packed,))}
    hidden, ids = torch.randn(1, 5, 32), torch.tensor([[7, 8, 9, config.token_ids[0], 11]])
    inputs = HeadInputs(hidden, ids_BT=ids, branches=branches)
    with torch.no_grad():
        masks = head(inputs)
        first, second = head.project.layers
        prompt = second(first(hidden[0, 2]).relu())
        map_1Dhw = packed.tokens_ND.T.view(1, 24, 4, 4)
        none = head.prompts.no_mask[:, :, None, None]
        want = head.decoder(prompt[None, None], map_1Dhw, none, head.prompts.places(4, 4))
        assert torch.allclose(masks.logits, want.logits, atol=1e-5) and len(masks.logits) == 1
        for place, matters in enumerate((False, False, True, False, False)):
            other = hidden.clone()
            other[0, place] += 1
            assert torch.allclose(head(replace(inputs, hidden_BTD=other)).logits, masks.logits) != matters
        own = PromptedMasks(prompts=MaskPrompts(regions=False), branch="sam", token_ids=(20,)).tiny()
        at_token = own.build(LLAMA_2_7B.tiny()).eval()
        at_token.load_state_dict(head.state_dict())
        own_ids = torch.tensor([[7, 8, 20, 9, 11]])
        assert torch.allclose(at_token(replace(inputs, ids_BT=own_ids)).logits, masks.logits, atol=1e-5)


@pytest.mark.parametrize(
    "geometry", [Longest(size=64), Fixed(size=(64, 64)), Fixed(size=(64, 64), fit="pad")]
)
def test_masks_come_back_to_the_originals_pixels(geometry: Any) -> None:
    """What the middle of the upper left quarter of the original shows in the view is where its mask lies."""
    (view,) = geometry.views((48, 80))
    grid = Grid(1, 16, 16)
    plan = PicturePlan("sam", (48, 80), (view,), (grid,), (in_order((grid,)),))
    logits = torch.full((32, 32), -5.0)
    (x0, y0), (x1, y1) = view.from_original(0, 0), view.from_original(40, 24)
    logits[round(y0 / 2) : round(y1 / 2), round(x0 / 2) : round(x1 / 2)] = 5.0
    mask = over_original(logits, plan) > 0
    assert mask.shape == (48, 80)
    assert mask[3:21, 3:37].all() and not mask[28:].any() and not mask[:, 44:].any()


def test_phrases_and_runs() -> None:
    assert phrase_in("a <p>cat</p> <p> red\ncup </p>", ("<p>", "</p>")) == "red\ncup"
    assert phrase_in("a <p>cat</p> <p> red\ncup </p>", ("<p>", "</p>"), number=0) == "cat"
    assert phrase_in("nothing", ("<p>", "</p>")) == ""
    mask = np.array([[0, 1, 1], [1, 1, 0]], bool)
    assert Segment("cup", mask, 0.5).to_data()["counts"] == [1, 4, 1]
    assert Segment("cup", ~mask, 0.5).to_data()["counts"] == [0, 1, 4, 1]


def test_generation_does_not_encode_what_heads_alone_read(glamm: Pipeline) -> None:
    from beholder.model import Batch

    views = {"image": [torch.zeros(3, 4, 4)], "sam": [torch.zeros(3, 4, 4)]}
    assert set(read_batch(glamm.card, Batch(views=views)).views) == {"image"}
