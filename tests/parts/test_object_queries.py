"""OMG-LLaVA's parts against plain formulas: the pixel decoder, masked attention, the perception prior, objects and regions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from beholder.cards import card
from beholder.media.plan import Box, Grid, PicturePlan, View, in_order
from beholder.media.regions import Region
from beholder.model import Batch, Model, build
from beholder.parts.blocks.masks import PADDING
from beholder.parts.blocks.query_decoder import PixelDecoder, PixelMaps, QueryDecoder, looked_at, middles
from beholder.parts.connectors.object_queries import perceived
from beholder.parts.connectors.still import MOVES
from beholder.parts.contracts import BranchOutput, HeadInputs, Packed
from beholder.parts.fusion.region_queries import RegionQuery
from beholder.parts.heads.mask_memory import sines
from beholder.parts.heads.query_masks import QueryMasks, pixel_maps
from beholder.parts.language.sizes import LLAMA_2_7B
from beholder.parts.vision.omg_seg import FINE, MASKS, QUERIES, SCORES

TINY = QueryDecoder().tiny()


@pytest.fixture(scope="module")
def omg() -> Model:
    model = build(card("omg-llava-7b").tiny(), seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def seen(model: Model) -> BranchOutput:
    side = model.card.branch().encoders[0].image_size
    view = View((side, side), (), Box(0, 0, side, side))
    branch = model.card.branch()
    grids = branch.grids((view,), (branch.view_grid(view),))
    plan = PicturePlan("image", (side, side), (view,), grids, (in_order(grids),))
    torch.manual_seed(0)
    views = [torch.randn(3, side, side)]
    with torch.no_grad():
        return model.encode(Batch(views={"image": views}, plans=((plan,),)))["image"]


def test_cells_of_all_levels_read_each_other_near_their_places() -> None:
    """One layer of the pixel decoder, cell by cell: four directions' points on every level, weighed by a softmax over all."""
    decoder = PixelDecoder(TINY, (6, 8, 10, 12)).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        maps = [torch.randn(1, width, side, side) for width, side in ((6, 16), (8, 8), (10, 4), (12, 2))]
        got = decoder(maps)
        levels = [
            norm(conv(x)) for conv, norm, x in zip(decoder.inputs, decoder.norms, maps[:0:-1], strict=True)
        ]
        (layer,) = decoder.blocks
        attn, heads, points = layer.attn, TINY.heads, TINY.points
        values = [attn.values(x[0].permute(1, 2, 0)) for x in levels]
        start = 0
        for number, x in enumerate(levels):
            side = x.shape[-1]
            cells = x[0].flatten(1).T
            placed = cells + sines(side, side, TINY.dim) + decoder.level[number]
            for index in range(0, side * side, 3):
                offsets = attn.offsets(placed[index]).view(heads, 3, points, 2)
                shares = attn.weights(placed[index]).view(heads, -1).softmax(-1).view(heads, 3, points)
                read = torch.zeros(heads, TINY.dim // heads)
                for h in range(heads):
                    for level, value in enumerate(values):
                        n = value.shape[0]
                        for p in range(points):
                            px = (index % side + 0.5) / side * n + float(offsets[h, level, p, 0]) - 0.5
                            py = (index // side + 0.5) / side * n + float(offsets[h, level, p, 1]) - 0.5
                            c, r = math.floor(px), math.floor(py)
                            for dr in (0, 1):
                                for dc in (0, 1):
                                    if 0 <= r + dr < n and 0 <= c + dc < n:
                                        share = (1 - abs(px - c - dc)) * (1 - abs(py - r - dr))
                                        own = value[r + dr, c + dc].view(heads, -1)[h]
                                        read[h] += shares[h, level, p] * share * own
                y = layer.norm1(cells[index] + attn.out(read.flatten()))
                y = layer.norm2(y + layer.mlp(y))
                assert torch.allclose(got.levels[number][0].flatten(1)[:, index], y, atol=1e-4)
            start += side * side
        fine = decoder.lateral_norm(decoder.lateral(maps[0]))
        fine = fine + F.interpolate(got.levels[-1], (16, 16), mode="bilinear")
        fine = decoder.fine(decoder.smooth_norm(decoder.smooth(fine)).relu())
        assert torch.allclose(got.fine, fine, atol=1e-5)
    assert middles(2, 4)[5].tolist() == [0.375, 0.75]


def test_queries_look_where_their_masks_are() -> None:
    """A level's cells outside a query's mask change nothing of what it reads; a query without any sees all."""
    decoder = TINY.but(layers=1).build().eval()
    torch.manual_seed(0)
    maps = PixelMaps(torch.randn(1, 16, 8, 8), [torch.randn(1, 16, side, side) for side in (2, 4, 8)])
    queries, own = torch.randn(1, 5, 16), torch.randn(1, 5, 16)
    with torch.no_grad():
        inside = looked_at(decoder.masks(queries, maps).sigmoid(), (2, 2))[0]
        before = decoder.layers[0].norm1  # of what each query reads
        read: list[torch.Tensor] = []
        before.register_forward_hook(lambda _, __, out: read.append(out))
        decoder(queries, own, maps)
        for cell in range(4):
            other = maps.levels[0].clone()
            other[0, :, cell // 2, cell % 2] += 1
            decoder(queries, own, PixelMaps(maps.fine, [other, *maps.levels[1:]]))
            changed = (read[-1] - read[0]).abs().amax(-1)[0] > 1e-6
            assert torch.equal(changed, inside[:, cell])
    assert not inside.all() and inside.any(-1).all()
    none = torch.zeros(1, 1, 8, 8)
    assert looked_at(none, (2, 2)).all()
    half = none.clone()
    half[..., :4] = 1
    assert looked_at(half, (2, 2))[0, 0].tolist() == [True, False, True, False]


def test_pixels_know_their_objects() -> None:
    """The perception prior, cell by cell: queries weighed by the softmax of (s / 2 + 1 / 2) p, with s the score of the object
    and p of the cell's being in its mask.
    """
    torch.manual_seed(3)
    masks, scores, queries = torch.randn(64, 3), torch.rand(3), torch.randn(3, 4)
    taps = {
        MASKS: Packed(masks, (Grid(1, 8, 8),)),
        SCORES: Packed(scores[:, None], (Grid(1, 1, 3),)),
    }
    prior, likeliest = perceived(Packed(torch.zeros(0, 1), (), taps), 0, queries, Grid(1, 2, 2))
    large = F.interpolate(masks.T.view(1, 3, 8, 8), (32, 32), mode="bilinear")[0]
    winners = set()
    for cell in range(4):
        r, c = (
            16 * (cell // 2) + 7,
            16 * (cell % 2) + 7,
        )  # bilinear reading of the four pixels around the middle
        weights = torch.stack(
            [(scores[q] / 2 + 0.5) * large[q, r : r + 2, c : c + 2].sigmoid().mean() for q in range(3)]
        )
        winners.add(int(weights.argmax()))
        assert torch.allclose(prior[cell], weights.softmax(0) @ queries, atol=1e-5)
    assert likeliest.nonzero().flatten().tolist() == sorted(winners)


def test_one_token_for_each_object_that_is_seen(omg: Model) -> None:
    """Pixels, a separator, and the queries, of which those that are the likeliest nowhere are seen by nobody."""
    output = seen(omg)
    connector, packed = omg.branch("image").connector, output.encoded[0]
    pixels, row = output.packed.grids
    assert row.num_tokens == 1 + 6
    tokens, stays = output.packed.tokens_ND, output.packed.taps[MOVES].tokens_ND[:, 0]
    queries = packed.taps[QUERIES].tokens_ND
    with torch.no_grad():
        x = connector.widen(queries)
        first, second = connector.objects.layers
        assert torch.allclose(tokens[pixels.num_tokens + 1 :], second(F.gelu(first(x))), atol=1e-5)
        assert torch.equal(tokens[pixels.num_tokens], connector.separator[0])
        _, likeliest = perceived(packed, 0, queries, pixels)
    assert stays[: pixels.num_tokens + 1].all() and torch.equal(stays[pixels.num_tokens + 1 :] > 0, likeliest)
    ids = torch.tensor([[7, *[5] * len(tokens), 8]])
    batch = Batch(ids, views={"image": []}, plans=output.plans)
    draft = omg._draft(batch, None)
    for fusion in omg.fusion:
        draft = fusion.prepare(draft, {"image": output})
    gone = draft.visibility.segments_BT[0] == PADDING
    assert torch.equal(gone[1:-1], stays == 0) and not gone[0] and not gone[-1]


def test_a_region_is_a_query_that_looks_inside_it() -> None:
    """Levels outside the region change nothing of its token; a query has the waves of a small box around its middle."""
    encoder = RegionQuery(QueryDecoder(), width=24).tiny().build(8).eval()
    side, torch_seed = 64, torch.manual_seed(5)
    view = View((side, side), (), Box(0, 0, side, side))
    plan = PicturePlan("image", (side, side), (view,), (Grid(1, 2, 2),), ())
    shapes = {FINE: 16, 2: 2, 3: 4, 4: 8}
    taps = {number: Packed(torch.randn(n * n, 16), (Grid(1, n, n),)) for number, n in shapes.items()}
    region = Region(box=Box(0, 0, 31, 21))
    with torch.no_grad():

        def token(taps: dict[int, Packed]) -> torch.Tensor:
            first = Packed(torch.zeros(4, 3), (Grid(1, 2, 2),), taps)
            return encoder(BranchOutput(first, ((plan,),), (first,)), 0, plan, region)

        before = token(taps)
        assert before.shape == (1, 8) and torch_seed is not None
        for cell, matters in ((0, True), (3, False)):
            level = taps[2].tokens_ND.clone()
            level[cell] += 1
            changed = token({**taps, 2: Packed(level, taps[2].grids)})
            assert torch.allclose(before, changed, atol=1e-6) != matters
        _, own = encoder.query(plan, region)
        waves = []
        for number in (10.5 / 64, 15.5 / 64, 6 / 64, 6 / 64):
            for step in range(4):
                angle = number * 2 * math.pi / 10000 ** (2 * step / 8)
                waves += [math.sin(angle), math.cos(angle)]
        assert torch.allclose(own, encoder.place(torch.tensor(waves)), atol=1e-4)


def test_states_are_queries_of_the_mask_decoder(omg: Model) -> None:
    """[SEG] states, through the MLP, are a query and its place; each prompt by itself."""
    output = seen(omg)
    head = QueryMasks(token_ids=(20,)).tiny().build(LLAMA_2_7B.tiny()).eval()
    hidden = torch.randn(1, 4, 32)
    inputs = HeadInputs(hidden, ids_BT=torch.tensor([[20, 7, 20, 8]]), branches={"image": output})
    with torch.no_grad():
        masks = head(inputs)
        first, second = head.project.layers
        query, own = second(F.gelu(first(hidden[0, 2]))).chunk(2)
        want = head.decoder(query[None, None], own[None, None], pixel_maps(output, 0, 1)).masks
        assert torch.allclose(masks.logits[1], want[0], atol=1e-5) and masks.owners.tolist() == [
            [0, 0],
            [0, 0],
        ]
        other = hidden.clone()
        other[0, 0] += 1
        again = head(replace(inputs, hidden_BTD=other))
        assert torch.allclose(again.logits[1], masks.logits[1], atol=1e-6)
        assert not torch.allclose(again.logits[0], masks.logits[0])


def test_classes_are_told_from_what_is_inside_the_masks() -> None:
    """Official `mask_pool`: the mean of the finest map over cells above 0, mapped and added to each query."""
    encoder = card("omg-llava-7b").tiny().branch().encoders[0].build()
    fine, masks = torch.randn(1, 16, 3, 4), torch.randn(1, 6, 3, 4)
    masks[0, 5] = -1  # covers nothing
    got = encoder.inside(fine, masks)
    for query in range(5):
        mean = fine[0].flatten(1)[:, (masks[0, query] > 0).flatten()].mean(1)
        assert torch.allclose(got[0, query], encoder.pool(encoder.pool_norm(mean)), atol=1e-5)
    assert torch.allclose(got[0, 5], encoder.pool(encoder.pool_norm(torch.zeros(16))), atol=1e-5)
