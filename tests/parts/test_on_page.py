"""Words and patches with places on a page, against loops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from beholder.errors import BeholderError
from beholder.media.plan import Box, Grid, PicturePlan, View, in_order
from beholder.media.regions import Region
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.relative import RelativeBuckets
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.contracts import BranchOutput, LanguageInputs, Packed
from beholder.parts.fusion.on_page import OnPage
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.page_reader import PageReader

WORDS = PageReader(
    vocab_size=16,
    dim=16,
    num_layers=2,
    attention=Attention(2, qkv_bias=True, out_bias=True),
    mlp=FeedForward(24),
    arrangement=Arrangement("post"),
    embedding=TokenEmbedding(positions="learned", segments=2, norm=Norm("layer", 1e-5)),
    final_norm=False,
    context=8,
    causal=False,
    pool=None,
    projection=0,
    edge=3,
    extent=2,
    steps=1001,
    distances=RelativeBuckets(8, 16),
    edges=RelativeBuckets(8, 64),
)
PAGE = OnPage(segments=0, positions=0, late=True, side=2)
BOXES = ((10, 20, 50, 40), (60, 20, 90, 45), (10, 60, 70, 80))  # of a page 200 high and 100 wide, in pixels


def told(boxes: tuple[tuple[int, ...], ...] = BOXES, picture: int = 0) -> tuple[Region, ...]:
    return tuple(Region(Box(*box), picture=picture) for box in boxes)


def page(tokens_ND: torch.Tensor, rows: int = 1) -> dict[str, BranchOutput]:
    view = View((200, 100), (), Box(0, 0, 28, 28))
    grids = (Grid(1, 1, len(tokens_ND) // rows),)
    plan = PicturePlan("image", (200, 100), (view,), grids, (in_order(grids),))
    packed = Packed(tokens_ND, grids * rows)
    return {"image": BranchOutput(packed, ((plan,),) * rows)}


def draft(model: torch.nn.Module, ids: torch.Tensor, **changed: object) -> LanguageInputs:
    rows, width = ids.shape
    lengths = changed.pop("lengths", None) or (width,) * rows
    return LanguageInputs(
        ids,
        model.embed(ids),
        torch.arange(width).expand(rows, -1),
        Visibility.causal_rows(lengths, width),
        None if set(lengths) == {width} else lengths,
        **changed,
    )


def made() -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    model, fusion = WORDS.build().eval(), PAGE.build(WORDS)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model, fusion


def test_every_token_gets_its_place_in_thousandths() -> None:
    model, fusion = made()
    ids = torch.tensor([[1, 2, 3]])
    joined = fusion.prepare(draft(model, ids, regions=(told(),)), page(torch.randn(5, 16)))
    assert [tuple(region.bounds()) for region in joined.regions[0]] == [
        (100, 100, 500, 200),
        (600, 100, 900, 225),
        (100, 300, 700, 400),
        (1, 1, 999, 999),
        (0, 0, 500, 500),
        (500, 0, 1000, 500),
        (0, 500, 500, 1000),
        (500, 500, 1000, 1000),
    ]
    assert joined.positions.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4]]
    untold = fusion.prepare(draft(model, ids), page(torch.randn(5, 16)))
    assert all(region.bounds() == Box(0, 0, 0, 0) for region in untold.regions[0][:3])


@torch.no_grad()
def test_words_know_edges_and_extents_and_scores_three_distances() -> None:
    model, fusion = made()
    ids, tokens_ND = torch.tensor([[1, 2, 3]]), torch.randn(5, 16)
    joined = fusion.prepare(draft(model, ids, regions=(told(),)), page(tokens_ND))
    left, top, right, bottom = 100, 100, 500, 200
    x = model.embed(ids)[0, 0] + model.embedding.positions[0] + model.embedding.segments[0]
    edges = (model.across[left], model.down[top], model.across[right], model.down[bottom])
    x = x + torch.cat((*edges, model.heights[bottom - top], model.widths[right - left]))
    entered = model.enter(joined)[0]
    assert torch.allclose(entered[0], model.joint_norm(model.embedding.norm(x)), atol=1e-5)
    assert torch.allclose(entered[3:], model.joint_norm(tokens_ND), atol=1e-5)
    boxes = [region.bounds() for region in joined.regions[0]]
    scores, numbers = model.scores(joined), [0, 1, 2, 0, 1, 2, 3, 4]
    for i, j in ((0, 1), (0, 7), (6, 2), (4, 4)):
        want = 0.0
        for table, config, distance in (
            (model.numbers, WORDS.distances, numbers[j] - numbers[i]),
            (model.left, WORDS.edges, boxes[j].left - boxes[i].left),
            (model.lower, WORDS.edges, boxes[j].bottom - boxes[i].bottom),
        ):
            want = want + table.weight[config.of(torch.tensor(int(distance)))]
        assert torch.allclose(scores[0, :, i, j], want / 8**0.5, atol=1e-6)


@torch.no_grad()
def test_rows_do_not_depend_on_others_and_places_matter() -> None:
    model, fusion = made()
    pages = torch.randn(10, 16)
    ids = torch.tensor([[1, 2, 3], [4, 5, 0]])
    both = draft(model, ids, lengths=(3, 2), regions=(told(), told(BOXES[:2])))
    hidden = model(fusion.prepare(both, page(pages, 2))).hidden_BTD
    alone = draft(model, ids[1:, :2], regions=(told(BOXES[:2]),))
    single = model(fusion.prepare(alone, page(pages[5:]))).hidden_BTD
    assert torch.allclose(hidden[1, :7], single[0], atol=1e-5)
    moved = draft(model, ids[1:, :2], regions=(told(BOXES[1:]),))
    assert not torch.allclose(model(fusion.prepare(moved, page(pages[5:]))).hidden_BTD, single, atol=1e-2)


def test_what_does_not_fit_is_said() -> None:
    model, fusion = made()
    ids, tokens_ND = torch.tensor([[1, 2, 3]]), torch.randn(5, 16)
    with pytest.raises(BeholderError, match="3 words and 2 regions"):
        fusion.prepare(draft(model, ids, regions=(told(BOXES[:2]),)), page(tokens_ND))
    with pytest.raises(BeholderError, match="picture number 1 of 1"):
        fusion.prepare(draft(model, ids, regions=(told(picture=1),)), page(tokens_ND))
    with pytest.raises(BeholderError, match="picture is missing"):
        fusion.prepare(draft(model, ids, regions=(told(),)), {})
    with pytest.raises(BeholderError, match="2x2 patches"):
        fusion.prepare(draft(model, ids), page(torch.randn(6, 16)))
    joined = fusion.prepare(draft(model, ids, regions=(told(((0, 0, 300, 9),) * 3),)), page(tokens_ND))
    with pytest.raises(BeholderError, match="leaves the page"):
        model(joined)
    with pytest.raises(BeholderError, match="one for each token"):
        model(replace(joined, regions=(joined.regions[0][:-1],)))
    with pytest.raises(BeholderError, match="words of 16"):
        WORDS.but(edge=4).build()
