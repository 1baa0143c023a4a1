"""One suite over every card; a new card needs no test code."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from beholder.cards import FAMILIES, card, card_names, family_cards
from beholder.cards.schema import Card
from beholder.catalogue import system
from beholder.config import from_data
from beholder.errors import BeholderError, UnknownName
from beholder.hearing import sound_branch, sound_plans
from beholder.media.decode import decode
from beholder.media.pixels import load_views
from beholder.media.plan import Box, PicturePlan, Tag
from beholder.media.regions import Region
from beholder.media.stretches import load_sound
from beholder.model import Batch, Model, Output, build
from beholder.parts.contracts import AudioConfig
from beholder.parts.language.state import State
from beholder.planning import branch_plan, image_branches, placeholders, prompt_plan
from beholder.train.stages import prepare_stage

NAMES = card_names()
PUBLISHED = json.loads((Path(__file__).parent / "published_parameters.json").read_text(encoding="utf-8"))
WORDS = [7, 8, 9, 11, 13, 17]


def test_index_names_every_card() -> None:
    for family, names in FAMILIES.items():
        assert set(family_cards(family)) == set(names)
    assert len(set(NAMES)) == len(NAMES)


def test_unknown_card_suggests_three() -> None:
    with pytest.raises(UnknownName, match="llava-1.5-7b") as caught:
        card("llava-1.5-7")
    assert len(caught.value.suggestions) == 3


@pytest.mark.parametrize("card_name", NAMES)
def test_data_gives_the_card_back(card_name: str) -> None:
    chosen = card(card_name)
    assert from_data(json.loads(json.dumps(chosen.to_data()))) == chosen


@pytest.mark.parametrize("card_name", NAMES)
def test_system_is_in_the_catalogue(card_name: str) -> None:
    chosen = card(card_name)
    own = card_name in ("mini", "mini-search")
    assert chosen.system == "" if own else system(chosen.system).id == chosen.system


@pytest.mark.evidence("builds")
@pytest.mark.parametrize("card_name", NAMES)
def test_builds_at_full_size(card_name: str) -> None:
    """On the meta device; the count of parameters is the published one where that is known."""
    model = build(card(card_name), device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())
    published = PUBLISHED.get(card_name)
    if published is not None:
        part = model.get_submodule(published["part"]) if published["part"] else model
        count = sum(parameter.numel() for parameter in part.parameters())
        low, high = published.get("interval", (published.get("exact"),) * 2)
        assert low <= count <= high, f"{count:,} parameters; {published['source']}"


class Tiny:
    """A tiny model of a card with one photo, its plan, and a prompt that holds it."""

    def __init__(self, name: str, photo: Path) -> None:
        self.card = card(name).tiny()
        self.model = build(self.card)
        self.plans: tuple[PicturePlan, ...] = ()
        self.views: dict[str, list[Tensor]] = {}
        if image_branches(self.card):
            pixels = decode(photo)[:150, :230]
            plan = prompt_plan(self.card, pixels.shape[:2])
            branch = image_branches(self.card)[0]
            self.plans = (plan,)
            self.views = {branch.name: load_views(pixels, plan.views, branch.geometry)}
            for other in image_branches(self.card)[1:]:
                further = branch_plan(self.card, other, pixels.shape[:2])
                self.plans = (*self.plans, further)
                self.views[other.name] = load_views(pixels, further.views, other.geometry)
        self.columns: dict[str, list[int]] = {}
        self._hear()
        for branch in self.card.branches:  # of other senses than sight
            encoder = branch.encoders[0]
            if branch.name not in self.views and isinstance(encoder, AudioConfig):
                self.views[branch.name] = [torch.randn(encoder.channels, *encoder.size)]
        self.regions: tuple[Region, ...] = ()
        self.ids = None
        if self.card.languages:
            heads = [token_id for head in self.card.heads for token_id in head.hidden_of]
            self.ids = [*WORDS[:3], *self._picture_ids(), *self._region_ids(), *heads, *WORDS[3:]]
            if getattr(self.card.main, "pool", None) == "end":
                self.ids.append(self.card.main.end_id)

    def _hear(self) -> None:
        """A sound, where sounds stand in the prompt."""
        branch = sound_branch(self.card)
        if branch is None or branch.front is None or branch.name not in dict(placeholders(self.card)):
            return
        samples = np.random.default_rng(0).standard_normal((branch.front.longest or 4000) * 3 // 4) * 0.1
        (plan,) = sound_plans(self.card, [samples])
        self.plans = (*self.plans, plan)
        self.views[branch.name] = load_sound(samples, plan, branch.front, branch.stretches)
        if not branch.stretches.padded:
            self.columns[branch.name] = [view.filled for view in plan.views]

    def _picture_ids(self) -> list[int]:
        places = placeholders(self.card)
        if not places:
            return []
        ids: list[int] = []
        for plan in self.plans:
            placeholder = dict(places).get(plan.branch, places[0][1])
            for piece in plan.pieces:
                ids += [21] if isinstance(piece, Tag) else [placeholder] * piece.num_tokens
        return ids

    def _region_ids(self) -> list[int]:
        """Of one region, for systems that have a place for its features."""
        ids: list[int] = []
        for fusion in self.card.fusion:
            if fusion.region_branch is not None:
                self.regions = (Region(box=Box(60, 40, 200, 140)),)
                ids += fusion.region_ids(self.regions[0], self.plans[0])
        return ids

    def batch(self) -> Batch:
        ids = None if self.ids is None else torch.tensor([self.ids])
        main = self.card.main
        answer = torch.tensor([WORDS]) if main is not None and main.reads_apart else None
        connectors = [branch.connector for branch in self.card.branches if branch.connector is not None]
        asked = torch.tensor([WORDS]) if any(each.reads_words for each in connectors) else None
        words = None if asked is None else (asked, torch.ones_like(asked))
        return Batch(
            ids,
            views=self.views,
            plans=(self.plans,),
            columns=self.columns,
            target_BT=answer,
            words=words,
            regions=(self.regions,),
        )

    def loss(self, model: Model) -> Tensor:
        """A number that depends on everything the card's heads give."""
        output = model(self.batch())
        if not output.heads:
            return sum(branch.packed.tokens_ND.square().mean() for branch in output.branches.values())
        given = [
            value
            for head in output.heads.values()
            for value in (head if isinstance(head, tuple) else (head,))
        ]
        weights = torch.Generator().manual_seed(0)
        return sum((value * torch.randn(value.shape, generator=weights)).sum() for value in given)


@pytest.fixture(scope="module")
def photo() -> Path:
    return Path(__file__).resolve().parent.parent / "docs" / "samples" / "cat.jpg"


@pytest.mark.evidence("runs")
@pytest.mark.parametrize("card_name", NAMES)
def test_every_parameter_gets_a_gradient(card_name: str, photo: Path) -> None:
    tiny = Tiny(card_name, photo)
    tiny.model.train()
    for parameter in tiny.model.parameters():
        if not parameter.any():  # what starts at 0 lets no gradient through to what stands before it (LoRA)
            torch.nn.init.normal_(parameter, std=0.02)
    tiny.loss(tiny.model).backward()
    unused = tiny.model.unused_parameters()
    without = {name for name, parameter in tiny.model.named_parameters() if parameter.grad is None}
    assert without <= unused, sorted(without - unused)
    zero = {n for n, p in tiny.model.named_parameters() if p.grad is not None and not p.grad.abs().sum()}
    assert not zero, sorted(zero)


@pytest.mark.evidence("runs")
@pytest.mark.parametrize("card_name", NAMES)
def test_cached_equals_uncached(card_name: str, photo: Path) -> None:
    tiny = Tiny(card_name, photo)
    if "text" not in {head.output for head in tiny.card.heads}:
        with torch.inference_mode():
            first, again = tiny.model(tiny.batch()), tiny.model(tiny.batch())
        assert first.heads.keys() == again.heads.keys()
        for name, value in first.heads.items():
            given, repeated = (v if isinstance(v, tuple) else (v,) for v in (value, again.heads[name]))
            assert all(torch.equal(a, b) for a, b in zip(given, repeated, strict=True)), name
        return
    main = tiny.card.main
    state, ids = State(1), list((WORDS if main and main.reads_apart else tiny.ids) or ())
    with torch.inference_mode():
        logits = tiny.model(tiny.batch(), state).heads["text"][0, -1]
        for _ in range(4):
            ids.append(int(logits.argmax()))
            logits = tiny.model(Batch(torch.tensor([ids[-1:]])), state).heads["text"][0, -1]
            field = "target_BT" if main and main.reads_apart else "ids_BT"
            prompts = (len(tiny.ids or ()),)
            whole = dataclasses.replace(tiny.batch(), **{field: torch.tensor([ids])}, prompts=prompts)
            uncached = tiny.model(whole).heads["text"][0, -1]
            assert torch.allclose(logits, uncached, atol=1e-4)


@pytest.mark.evidence("runs")
@pytest.mark.parametrize("card_name", NAMES)
def test_runs_with_weights_of_two_bytes(card_name: str, photo: Path) -> None:
    """In bfloat16 and float16: what is float32 in `Tiny.batch` (pixels, sounds, masks) meets such weights, what comes out has
    the direction that float32 gives, and a few tokens are generated behind it.
    """
    tiny = Tiny(card_name, photo)
    generates = "text" in {head.output for head in tiny.card.heads}
    with torch.inference_mode():
        wanted = _floats(tiny.model(tiny.batch(), State(1) if generates else None))
        for kind in (torch.bfloat16, torch.float16):
            tiny.model.to(kind)
            state = State(1) if generates else None
            output = tiny.model(tiny.batch(), state)
            given = _floats(output)
            assert wanted.keys() == given.keys()
            for name, want in wanted.items():
                if want.abs().max() < torch.finfo(kind).smallest_normal:  # of tiny random weights
                    break
                assert given[name].isfinite().eq(want.isfinite()).all(), f"{name} in {kind}"
                finite = want.isfinite()
                like = torch.cosine_similarity(want[finite], given[name][finite].float(), dim=0)
                assert like > 0.97, f"{name} in {kind}: {like:.4f}"
            for _ in range(2 if state else 0):
                word = output.heads["text"][:, -1:].argmax(-1)
                output = tiny.model(Batch(word), state)
                assert output.heads["text"].isfinite().any(), kind


def _floats(output: Output) -> dict[str, Tensor]:
    """The numbers of a forward, flat, by where they come from: branches first, then the language part and the heads."""
    found = {f"branch {name}": branch.packed.tokens_ND for name, branch in output.branches.items()}
    if output.language is not None:
        found["hidden"] = output.language.hidden_BTD
    for name, head in output.heads.items():
        parts = [part for part in (head if isinstance(head, tuple) else (head,)) if part is not None]
        found |= {f"{name} {i}": part for i, part in enumerate(parts) if part.is_floating_point()}
    return {name: value.flatten() for name, value in found.items() if value.numel() > 1}


@pytest.mark.evidence("runs")
@pytest.mark.parametrize("card_name", NAMES)
def test_planned_tokens_are_used_and_a_wrong_count_raises(card_name: str, photo: Path) -> None:
    tiny = Tiny(card_name, photo)
    if not placeholders(tiny.card):
        assert not tiny.plans or tiny.model(tiny.batch()).branches
        return
    token_id = placeholders(tiny.card)[0][1]
    of_regions = tiny._region_ids().count(token_id)
    assert (tiny.ids or []).count(token_id) - of_regions == tiny.plans[0].num_tokens > 0
    tiny.model(tiny.batch())
    tiny.ids = [*(tiny.ids or []), token_id]
    with pytest.raises(
        BeholderError, match=f"{tiny.plans[0].num_tokens + 1} .*{tiny.plans[0].num_tokens} tokens"
    ):
        tiny.model(tiny.batch())


@pytest.mark.evidence("runs")
@pytest.mark.parametrize("card_name", NAMES)
def test_save_and_load_agree(card_name: str, photo: Path, tmp_path: Path) -> None:
    from beholder.pipeline import Pipeline
    from beholder.weights.open import open_beholder

    tiny = Tiny(card_name, photo)
    Pipeline(tiny.model).save(tmp_path / "saved")
    again = open_beholder(tmp_path / "saved").model
    assert again.card == tiny.card
    before, after = tiny.model.state_dict(), again.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    with torch.inference_mode():
        assert torch.allclose(tiny.loss(tiny.model), tiny.loss(again), rtol=1e-5)


@pytest.mark.evidence("runs")
@pytest.mark.parametrize("card_name", [name for name in NAMES if card(name).stages])
def test_stages_freeze_what_they_say(card_name: str) -> None:
    tiny_card = card(card_name).tiny()
    for stage in tiny_card.stages:
        model = build(tiny_card)
        trained = prepare_stage(model, stage).trained
        assert trained
        for name, parameter in model.named_parameters():
            rule = next((rule for rule in stage.rules if rule.matches(name)), None)
            is_adapter = name.endswith((".lora_a", ".lora_b"))
            trains = rule is not None and rule.lr > 0 and (is_adapter or not rule.rank)
            assert parameter.requires_grad == (name in trained) == trains, name


def test_same_seed_same_weights() -> None:
    first, again, other = (build(card("mini").tiny(), seed=seed) for seed in (0, 0, 1))
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_variant_changes_one_part() -> None:
    base = card("llava-1.5-7b")
    variant = base.but(**{"connector.depth": 3, "vision.take.layers": (-1,), "language.num_layers": 2})
    assert variant.branch().connector.depth == 3 and base.branch().connector.depth == 2
    assert variant.branch().encoders[0].take.layers == (-1,)
    assert isinstance(variant, Card) and variant.main.num_layers == 2
    with pytest.raises(UnknownName, match="connectr"):
        base.but(connectr=None)
    assert np.isfinite(base.main.dim)
