"""Words and regions read together, and the heads over them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from beholder.cards import card
from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.plan import Box, Grid, PicturePlan, View
from beholder.model import Batch, Model, build
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.contracts import BranchOutput, Packed
from beholder.parts.fusion.joint import Joint
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.joint import Answers
from beholder.parts.heads.mixed import Mixed
from beholder.parts.language.sizes import LLAMA_2_7B
from beholder.parts.vision.regions import RegionFeatures
from beholder.parts.vision.vit import Take
from tests import toys

WORDS = [7, 8, 9, 11, 13, 17]


@pytest.fixture(scope="module")
def model() -> Model:
    """VisualBERT over vectors of regions that are given."""
    tiny = card("visualbert").tiny().but(images=None)
    return build(tiny.but(vision=RegionFeatures(24)))


def batch(*rows: tuple[list[int], Tensor]) -> Batch:
    """A row of words and the vectors (N, 24) of its regions, each."""
    width = max(len(words) for words, _ in rows)
    ids_BT = torch.tensor([words + [0] * (width - len(words)) for words, _ in rows])
    plans = tuple((plan(len(regions)),) for _, regions in rows)
    views = [regions.T[:, None] for _, regions in rows]
    return Batch(ids_BT, tuple(len(words) for words, _ in rows), {"image": views}, plans)


def plan(count: int) -> PicturePlan:
    view = View((1, count), (), Box(0, 0, count, 1))
    return PicturePlan("image", (1, count), (view,), (Grid(1, 1, count),), ())


def regions(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 24, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_words_and_regions_see_each_other(model: Model) -> None:
    """Every word depends on every region and every region on every word: nothing is causal."""
    before = model(batch((WORDS, regions(5)))).language.hidden_BTD
    other_word = model(batch(([*WORDS[:-1], 23], regions(5)))).language.hidden_BTD
    moved = regions(5)
    moved[-1] += 1
    other_region = model(batch((WORDS, moved))).language.hidden_BTD
    assert before.shape[1] == len(WORDS) + 5
    for after in (other_word, other_region):
        assert ((after - before).abs().amax(-1) > 1e-6).all()


@torch.inference_mode()
def test_kinds_tell_regions_from_words(model: Model) -> None:
    """All regions get the vector of their kind and words that of theirs, seen by exchanging the kinds' vectors; regions are
    a set, so their order only orders what they give.
    """
    given = regions(5)
    before = model(batch((WORDS, given))).language.hidden_BTD
    fusion = model.fusion[0]
    embeddings = []
    for kind in range(2):
        draft = model._draft(batch((WORDS, given)), None)
        packed = Packed(torch.zeros(5, 32), (Grid(1, 1, 5),))
        fusion.config = fusion.config.but(kind=kind)
        prepared = fusion.prepare(draft, {"image": BranchOutput(packed, ((plan(5),),))})
        marks = prepared.embeddings_BTD[0, len(WORDS) :]
        assert torch.equal(marks, (fusion.segments[kind] + fusion.positions[0]).expand(5, -1))
        assert torch.equal(prepared.own_BT[0], torch.arange(11) >= len(WORDS))
        embeddings.append(marks)
    assert not torch.allclose(*embeddings)
    fusion.config = fusion.config.but(kind=1)
    order = torch.tensor([4, 2, 0, 1, 3])
    after = model(batch((WORDS, given[order]))).language.hidden_BTD
    assert torch.allclose(after[0, : len(WORDS)], before[0, : len(WORDS)], atol=1e-5)
    assert torch.allclose(after[0, len(WORDS) :], before[0, len(WORDS) :][order], atol=1e-5)


@torch.inference_mode()
def test_rows_of_unequal_words_and_regions_equal_each_alone(model: Model) -> None:
    rows = [(WORDS, regions(3)), (WORDS[:2], regions(6, seed=1)), (WORDS[:4], regions(5, seed=2))]
    together = model(batch(*rows))
    for number, row in enumerate(rows):
        alone, length = model(batch(row)), len(row[0]) + len(row[1])
        assert torch.allclose(together.heads["words"][number, :length], alone.heads["words"][0], atol=1e-4)
        assert torch.allclose(together.heads["matching"][number], alone.heads["matching"][0], atol=1e-5)


def test_matching_and_masked_words_learn(model: Model) -> None:
    """Both heads of one forward fit pairs: which words belong to which regions, and the word behind a mask."""
    trained = build(model.card, seed=1).train()
    pairs = [([7, 8, 4, 11], regions(3)), ([9, 13, 4, 17], regions(3, seed=1))]
    rows = [pairs[0], pairs[1], (pairs[0][0], pairs[1][1]), (pairs[1][0], pairs[0][1])]
    labels, words = torch.tensor([0, 0, 1, 1]), torch.tensor([21, 22])
    optimiser = torch.optim.Adam(trained.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        heads = trained(batch(*rows)).heads
        loss = torch.nn.functional.cross_entropy(heads["matching"], labels)
        loss = loss + torch.nn.functional.cross_entropy(heads["words"][:2, 2], words)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < losses[0]
    heads = trained.eval()(batch(*rows)).heads
    assert heads["matching"].argmax(-1).tolist() == labels.tolist()
    assert heads["words"][:2, 2].argmax(-1).tolist() == words.tolist()


@torch.inference_mode()
def test_answers_are_read_before_the_end_token() -> None:
    """VQA reads the last word before the end; NLVR2 the pooled vector."""
    for chosen in (card("visualbert-vqa"), card("visualbert").but(heads=(Answers(2),))):
        tiny = build(chosen.tiny().but(images=None).but(vision=RegionFeatures(24)))
        output = tiny(batch((WORDS, regions(3)), (WORDS[:4], regions(3, seed=1))))
        hidden = output.language.hidden_BTD
        last_words = torch.stack((hidden[0, len(WORDS) - 2], hidden[1, 2]))
        read = last_words if chosen.name.endswith("vqa") else output.language.pooled_BD
        assert torch.allclose(output.heads["answers"], tiny.heads[0].linear(read), atol=1e-6)


@torch.inference_mode()
def test_late_kinds_are_behind_the_norm_of_words() -> None:
    """ViLT: words are normed and get their kind then; features get theirs and are not normed (2102.03334, section 3.1)."""
    tiny = card("visualbert").tiny().but(images=None)
    tiny = tiny.but(vision=RegionFeatures(24), fusion=(Joint(positions=0, late=True),))
    model = build(tiny)
    given = batch((WORDS, regions(3)), (WORDS[:3], regions(5)))
    fusion, text = model.fusion[0], model.language
    prepared = fusion.prepare(model._draft(given, None), model.encode(given))
    normed = text.embedding.place(text.embedding(given.ids_BT), torch.arange(6).expand(2, -1))
    connected = model.branches["image"](given.views["image"]).split()
    seen: list[Tensor] = []
    hook = text.blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    text(prepared)
    hook.remove()
    for row, count in enumerate((6, 3)):
        assert torch.allclose(seen[0][row, :count], normed[row, :count] + fusion.segments[0], atol=1e-6)
        features = seen[0][row, count : count + len(connected[row])]
        assert torch.allclose(features, connected[row] + fusion.segments[1], atol=1e-6)


@torch.inference_mode()
def test_layers_over_both_sides_mix_each_row_by_itself() -> None:
    """FLAVA's: the class token depends on every token of both sides, on no other row, and not on padding."""
    text = toys.TEXT_TOWER.but(causal=False, pool="first")
    head = Mixed(32, 2, 32, 2, Attention(num_heads=4), FeedForward(48), shared=16)
    vision = toys.VIT.but(cls=True, take=Take(taps=(2,), front=True))
    model = build(Card("mixes", vision=vision, language=text, fusion=(Towers(),), heads=(head,)))
    views = list(torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0)))
    ids = torch.tensor([WORDS, [*WORDS[:3], 0, 0, 0]])
    plans = ((), ())
    first = model(Batch(ids, (6, 3), {"image": views}, plans)).heads["mixed"]
    assert first.states_BTD.shape == (2, 1 + 5 + 6, 32) and first.scores_VB.shape == (2, 2)
    padded = ids.clone()
    padded[1, 4] = 9
    assert torch.allclose(
        model(Batch(padded, (6, 3), {"image": views}, plans)).heads["mixed"].pooled_BD, first.pooled_BD
    )
    ids[0, 4] = 23
    word = model(Batch(ids, (6, 3), {"image": views}, plans)).heads["mixed"].pooled_BD
    picture = (
        model(Batch(padded, (6, 3), {"image": [views[0] + 1, views[1]]}, plans)).heads["mixed"].pooled_BD
    )
    for changed in (word, picture):
        assert not torch.allclose(changed[0], first.pooled_BD[0]) and torch.allclose(
            changed[1], first.pooled_BD[1]
        )
    with pytest.raises(BeholderError, match="1 views for 2 texts"):
        model(Batch(ids, (6, 3), {"image": views[:1]}, plans))


def test_what_does_not_fit_is_one_line(model: Model) -> None:
    with pytest.raises(BeholderError, match="causal=False"):
        Joint().build(LLAMA_2_7B)
    with pytest.raises(BeholderError, match="kind 2"):
        Joint(kind=2)
    wrong = batch((WORDS, regions(3)), (WORDS, regions(3)))
    with pytest.raises(BeholderError, match="2 views .* 2 rows"):
        model(Batch(wrong.ids_BT, wrong.lengths, wrong.views, (wrong.plans[0], ())))
    with pytest.raises(BeholderError, match="takes 24"):
        model(batch((WORDS, torch.zeros(3, 25))))
