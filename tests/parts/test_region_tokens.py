"""Features of regions against small references, and where they stand in a prompt."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.media.plan import Box, Grid, PicturePlan, View, in_order
from beholder.media.regions import Region
from beholder.model import build
from beholder.parts.blocks.masks import Visibility
from beholder.parts.contracts import BranchOutput, LanguageInputs, Packed
from beholder.parts.fusion.region_levels import Mix, RoiLevels
from beholder.parts.fusion.region_points import SampledPoints, farthest
from beholder.parts.fusion.regions import MaskPooled, RegionTokens, TokensInside
from beholder.parts.fusion.splice import Splice
from beholder.parts.language.sizes import LLAMA_2_7B
from beholder.pipeline import Pipeline
from beholder.prompts.messages import Picture, Regions, user
from tests.prompts.test_regions import tokenizer

SIDE = 32


def planned(height: int = SIDE, width: int = SIDE, grid: Grid = Grid(1, 4, 4)) -> PicturePlan:
    """A picture shown as it is."""
    view = View((height, width), (), Box(0, 0, width, height))
    return PicturePlan("image", (height, width), (view,), (grid,), (in_order((grid,)),))


def packed(channels: int, side: int, seed: int = 0) -> Packed:
    tokens = torch.randn(side * side, channels, generator=torch.Generator().manual_seed(seed))
    return Packed(tokens, (Grid(1, side, side),))


def blob(seed: int = 0) -> np.ndarray:
    """A mask that is no box."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y - 12) ** 2 + 2 * (x - 18) ** 2 + 3 * seed < 60


def test_regions_are_seen_where_views_show_them() -> None:
    region = Region(box=Box(4, 8, 15, 23))
    (view,) = planned().views
    assert region.seen(view).nonzero()[0].min() == 8 and region.seen(view).nonzero()[1].min() == 4
    padded = View((10, 20), ((10, 20),), Box(0, -5, 20, 15))  # five rows of padding above and below
    seen = Region(mask=np.ones((10, 20), bool)).seen(padded)
    assert seen.shape == (20, 20) and seen[5:15].all() and not seen[:5].any() and not seen[15:].any()
    spot = Region(points=((10.0, 20.0),)).seen(view, 5)
    assert spot.sum() == 11 * 11 and spot[20, 10]
    assert Region(mask=blob()).bounds() == Box(13, 5, 24, 20)
    with pytest.raises(BeholderError, match="20x10"):
        Region(mask=np.ones((10, 20), bool)).seen(view)
    with pytest.raises(BeholderError, match="neither"):
        Region()


def test_masks_pool_levels() -> None:
    """Against sums over the cells that a mask touches (Osprey's MaskPooling)."""
    config = MaskPooled(levels=((1, 6), (2, 10)), width=12, side=8)
    encoder = config.build(16)
    taps = {1: packed(6, 8, 1), 2: packed(10, 4, 2)}
    mask = blob()
    output = BranchOutput(
        packed(3, 4), ((planned(),),), (Packed(torch.zeros(16, 3), (Grid(1, 4, 4),), taps),)
    )
    with torch.no_grad():
        what, where = encoder(output, 0, planned(), Region(mask=mask))
        total = torch.zeros(12)
        for linear, side, tap in zip(encoder.levels, (8, 4), taps.values(), strict=True):
            step = SIDE // side
            lit = [
                (row, column)
                for row in range(side)
                for column in range(side)
                # bilinear reading at a cell's middle touches the four pixels around it
                if mask[row * step + step // 2 - 1 :, column * step + step // 2 - 1 :][:2, :2].any()
            ]
            total += linear(torch.stack([tap.tokens_ND[row * side + column] for row, column in lit]).mean(0))
        assert torch.allclose(what, encoder.linear(total), atol=1e-5)
        read = (
            torch.from_numpy(mask.astype(np.float32))
            .unfold(0, 4, 4)
            .unfold(1, 4, 4)[:, :, 1:3, 1:3]
            .mean((2, 3))
        )
        x = read.flatten()
        for number, layer in enumerate(encoder.place.layers):
            x = layer(x.relu() if number else x)
        assert torch.allclose(where, x, atol=1e-5)


def test_points_are_far_apart() -> None:
    """Each point maximises the least distance to those before it, by brute force."""
    places = torch.rand(40, 2, generator=torch.Generator().manual_seed(3))
    chosen = farthest(places, 7).tolist()
    assert chosen[0] == 0 and len(set(chosen)) == 7
    for count in range(1, 7):
        least = [min(float((p - places[q]).norm()) for q in chosen[:count]) for p in places]
        assert chosen[count] == int(np.argmax(least))


@pytest.mark.parametrize("swapped", [False, True])
def test_the_sampler_equals_a_reference(swapped: bool) -> None:
    """Point by point in plain loops: gather neighbours, differences to the anchor, join, the largest."""
    config = SampledPoints(dim=5, points=20, kept=(8, 3), neighbours=(4, 2), swapped=swapped)
    encoder = config.build(7).eval()
    features, mask = packed(5, 4), np.zeros((97, 89), bool)
    mask[tuple(np.random.default_rng(0).integers(0, 89, (2, 31)))] = (
        True  # no two of them equally far from a third
    )
    cells = np.argwhere(mask)
    picked = cells[[i * len(cells) // 20 for i in range(20)]]
    map_Chw = features.tokens_ND.view(4, 4, 5).permute(2, 0, 1)
    points, values = [], []
    for row, column in picked:
        down, across = row / 97 * 3, column / 89 * 3
        if swapped:
            down, across = across, down
        r, c = min(int(down), 2), min(int(across), 2)
        fr, fc = down - r, across - c
        corner = map_Chw[:, r : r + 2, c : c + 2]
        top, bottom = (corner[:, i, 0] * (1 - fc) + corner[:, i, 1] * fc for i in (0, 1))
        values.append(top * (1 - fr) + bottom * fr)
        points.append(torch.tensor([column / 89, row / 97], dtype=torch.float32))
    with torch.no_grad():
        for block, kept, around in zip(encoder.blocks, config.kept, config.neighbours, strict=True):
            new_points, new_values = [], []
            for index in farthest(torch.stack(points), kept).tolist():
                order = sorted(
                    range(len(points)), key=lambda j: float((points[j] - points[index]).square().sum())
                )
                anchor = torch.cat((values[index], points[index]))
                joined = [
                    torch.cat((block.difference(torch.cat((values[j], points[j])) - anchor), anchor))
                    for j in order[:around]
                ]
                rows = torch.stack([block.norm(block.join(each).relu()) for each in joined])
                new_points.append(points[index])
                new_values.append(rows.max(0).values)
            points, values = new_points, new_values
        want = encoder.linear(encoder.flatten(torch.cat(values)))
        output = BranchOutput(features, ((planned(),),), (features,))
        (got,) = encoder(output, 0, planned(97, 89), Region(mask=mask))
    assert torch.allclose(got, want, atol=1e-4)


def test_boxes_are_read_from_every_level() -> None:
    """Without mixing: the sum over levels of a convolution of what bilinear reading finds in the box."""
    config = RoiLevels(dim=4, levels=(0, 1), mixes=0, side=2, reach=8, patch=2)
    encoder = config.build(6)
    taps = {0: packed(4, 4, 5), 1: packed(4, 4, 6)}
    first = Packed(torch.zeros(16, 4), (Grid(1, 4, 4),), taps)
    box = Box(8, 4, 24, 28)
    with torch.no_grad():
        (got,) = encoder(BranchOutput(first, ((planned(),),), (first,)), 0, planned(), Region(box=box))
        shares = torch.tensor([8, 4, 24, 28]) / SIDE
        total = torch.zeros(4, 2, 2)
        for level, scale, conv_in, conv in zip((0, 1), (2, 1), encoder.inputs, encoder.convs, strict=True):
            map_1Chw = taps[level].tokens_ND.view(4, 4, 4).permute(2, 0, 1)[None]
            size = 4 * scale
            map_1Chw = F.interpolate(map_1Chw, (size, size), mode="bilinear", align_corners=True)
            line = torch.linspace(-1, 1, size)
            ways = torch.stack((line.expand(size, size), line[:, None].expand(size, size)))[None]
            map_Chw = conv_in(torch.cat((map_1Chw, ways), 1))[0]
            cells = shares * size
            read = torch.zeros(4, 2, 2)
            for i in range(4):
                for j in range(4):
                    x = cells[0] + (cells[2] - cells[0]) * (j + 0.5) / 4 - 0.5
                    y = cells[1] + (cells[3] - cells[1]) * (i + 0.5) / 4 - 0.5
                    c, r = int(x.floor()), int(y.floor())
                    c1, r1 = min(c + 1, size - 1), min(r + 1, size - 1)
                    fx, fy = x - c, y - r
                    value = (map_Chw[:, r, c] * (1 - fx) + map_Chw[:, r, c1] * fx) * (1 - fy)
                    value = value + (map_Chw[:, r1, c] * (1 - fx) + map_Chw[:, r1, c1] * fx) * fy
                    read[:, i // 2, j // 2] += value / 4
            total += conv(read[None])[0]
        want = encoder.linear(encoder.flatten(total.relu().flatten()) + encoder.place(shares))
    assert torch.allclose(got, want, atol=1e-4)


def test_levels_are_mixed_with_their_neighbours() -> None:
    """With a convolution that changes nothing, the channels of the levels above and below stand behind the own half."""
    mix = Mix(8)
    torch.nn.init.dirac_(mix.conv.weight)
    mix.norm = torch.nn.Identity()
    maps = [torch.rand(1, 8, side, side) for side in (8, 4, 2)]
    with torch.no_grad():
        fine, middle, coarse = mix(list(maps))
    assert torch.allclose(middle[:, :4], maps[1][:, :4])
    assert torch.allclose(
        middle[:, 4:6], F.interpolate(maps[2][:, 6:], (4, 4), mode="bilinear", align_corners=True)
    )
    assert torch.allclose(
        middle[:, 6:], F.interpolate(maps[0][:, 4:6], (4, 4), mode="bilinear", align_corners=True)
    )
    assert torch.allclose(fine[:, 6:], maps[0][:, 4:6]) and torch.allclose(coarse[:, 4:6], maps[2][:, 6:])


def test_tokens_inside_a_mask_stand_once_more() -> None:
    config = TokensInside()
    tokens = packed(6, 4)
    output = BranchOutput(tokens, ((planned(),),), (tokens,))
    region = Region(box=Box(8, 8, 23, 15))
    with torch.no_grad():
        got = config.build(6)(output, 0, planned(), region)
    assert config.repeats(region, planned()) == 2 == len(got)  # cells (1, 1) and (1, 2) of 8 pixels
    assert torch.equal(got, tokens.tokens_ND[[5, 6]])
    small = Region(box=Box(17, 9, 17, 9))
    assert config.repeats(small, planned()) == 1


def draft(ids: list[int], regions: tuple[Region, ...]) -> LanguageInputs:
    table = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    ids_BT = torch.tensor([ids])
    sight = Visibility.causal_rows((len(ids),), len(ids))
    return LanguageInputs(ids_BT, table[ids_BT], sight.blocks_BT, sight, regions=(regions,))


def test_features_take_the_place_of_control_tokens() -> None:
    language = LLAMA_2_7B.tiny()
    config = RegionTokens(MaskPooled(levels=((1, 6),), width=12, side=8), token_ids=(30, 31))
    fusion = config.build(language)
    first = Packed(torch.zeros(16, 3), (Grid(1, 4, 4),), {1: packed(6, 4)})
    output = {"image": BranchOutput(first, ((planned(),),), (first,))}
    regions = (Region(mask=blob()), Region(box=Box(0, 0, 9, 9)))
    before = draft([4, 30, 31, 9, 30, 31], regions)
    with torch.no_grad():
        after = fusion.prepare(before, output)
        want = torch.cat([fusion.encoder(output["image"], 0, planned(), region) for region in regions])
    assert torch.equal(after.embeddings_BTD[0, [1, 2, 4, 5]], want)
    assert torch.equal(after.embeddings_BTD[0, [0, 3]], before.embeddings_BTD[0, [0, 3]])
    for ids in ([4, 30, 31], [30, 31, 30, 31, 30]):
        with pytest.raises(BeholderError, match="2 regions give 4"):
            fusion.prepare(draft(ids, regions), output)


def test_places_behind_a_token_are_not_the_pictures() -> None:
    """Sa2VA: the same token stands for the picture's features and, behind <vp>, for the region's."""
    language = LLAMA_2_7B.tiny()
    first = RegionTokens(TokensInside(), token_ids=(5,), behind=40).build(language)
    second = Splice(token_id=5).build(language)
    tokens = packed(32, 4)
    output = {"image": BranchOutput(tokens, ((planned(),),), (tokens,))}
    regions = (Region(box=Box(8, 8, 23, 15)),)
    before = draft([7, *[5] * 16, 40, 5, 5, 41], regions)
    after = second.prepare(first.prepare(before, output), output)
    assert torch.equal(after.embeddings_BTD[0, 1:17], tokens.tokens_ND)
    assert torch.equal(after.embeddings_BTD[0, 18:20], tokens.tokens_ND[[5, 6]])
    assert torch.equal(after.embeddings_BTD[0, [0, 17, 20]], before.embeddings_BTD[0, [0, 17, 20]])


def test_a_region_is_words_and_a_feature() -> None:
    """Ferret's prompt: coordinates and <region_fea>; masks in one box have the same words and other features."""
    chosen = card("ferret-7b").tiny()
    words = tokenizer("<region_fea>")
    fusion = chosen.fusion[0].but(token_ids=(words.token_id("<region_fea>"),))
    chosen = chosen.but(
        fusion=(fusion, *chosen.fusion[1:]), **{"language.vocab_size": 512, "language.context": 600}
    )
    pipeline = Pipeline(build(chosen), words)
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    whole = np.zeros((SIDE, SIDE), bool)
    whole[5:20, 13:24] = True
    prepared = [
        pipeline.prepare([[user(Picture(picture), "What is ", Regions(masks=(mask,)), "?")]])
        for mask in (blob(), whole)
    ]
    ids = [each.batch.ids_BT for each in prepared]
    assert torch.equal(*ids)
    said = words.decode([i for i in ids[0][0].tolist() if i >= 0], skip_special=False)
    assert "What is [406, 156, 750, 625] <region_fea>?" in said
    (at,) = (ids[0][0] == words.token_id("<region_fea>")).nonzero().flatten().tolist()
    with torch.no_grad():
        drafts = [pipeline.model._draft(each.batch, None) for each in prepared]
        made = [
            pipeline.model.fusion[0].prepare(begun, pipeline.model.encode(each.batch)).embeddings_BTD[0]
            for begun, each in zip(drafts, prepared, strict=True)
        ]
    differs = (made[0] != made[1]).any(-1).nonzero().flatten().tolist()
    assert differs == [at]
    reply = pipeline.ask(picture, "What?", regions=[(4, 4, 20, 20), (10, 12), blob()], max_tokens=2)
    assert reply.usage.new == 2
    assert dataclasses.asdict(prepared[0].batch)["regions"]
