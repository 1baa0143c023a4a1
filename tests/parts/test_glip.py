"""GLIP by its published names against its equations, written out for one picture and one cell at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.cards import card
from beholder.detect import detect, word_groups
from beholder.errors import BeholderError
from beholder.media.pixels import load_views
from beholder.media.plan import Box, View
from beholder.model import Batch, Model, build
from beholder.parts.blocks.assignment import atss, centred
from beholder.parts.blocks.boxes import anchors, iou
from beholder.parts.blocks.dynamic_head import DeformConv
from beholder.parts.heads.grounding import CrossBothWays, DeepFusion, Grounded
from beholder.pipeline import Pipeline
from beholder.prompts.chat import complete, render
from beholder.weights.layout import to_own, to_published
from beholder.weights.layouts.detectors import glip
from beholder.weights.lazy import lazy
from tests import toys

WORDS = [7, 8, 9, 11, 13]
LAYERS, HEADS = 2, 2


@pytest.fixture(scope="module")
def model() -> Model:
    """Tiny, with weights large enough that every part of it matters."""
    tiny = build(card("glip-t").tiny())
    draws = torch.Generator().manual_seed(3)
    for name, parameter in tiny.named_parameters():
        if name.startswith("heads.") or ".lateral" in name or ".smooth" in name or ".norms" in name:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=draws)
    return tiny


@pytest.fixture(scope="module")
def view() -> Tensor:
    return torch.randn(3, 32, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def published(model: Model) -> dict[str, Tensor]:
    """The weights by their published names."""
    return {name: tensor.load() for name, tensor in to_published(model.state_dict(), glip(LAYERS)).items()}


def batch(view: Tensor, words: list[int]) -> Batch:
    return Batch(torch.tensor([words]), views={"image": [view]}, plans=((),))


Weights = Mapping[str, Tensor]


def affine(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].flatten(1).T + w[f"{name}.bias"]


def norm(w: Weights, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def conv(w: Weights, name: str, x_Chw: Tensor, stride: int = 1) -> Tensor:
    weight = w[f"{name}.weight"]
    return F.conv2d(x_Chw[None], weight, w[f"{name}.bias"], stride, weight.shape[-1] // 2)[0]


def pyramid(w: Weights, stages: list[Tensor]) -> list[Tensor]:
    """Levels of the last three stages' maps (h, w, C): sums from the top down, then convolutions."""
    maps = [norm(w, f"backbone.body.norm{n + 1}", x).permute(2, 0, 1) for n, x in enumerate(stages)]
    sides = [conv(w, f"backbone.fpn.fpn_inner{n + 2}", x) for n, x in enumerate(maps)]
    sums = [sides[2]]
    for side in (sides[1], sides[0]):
        rows = torch.arange(side.shape[1]) * sums[0].shape[1] // side.shape[1]
        columns = torch.arange(side.shape[2]) * sums[0].shape[2] // side.shape[2]
        sums.insert(0, side + sums[0][:, rows][:, :, columns])
    levels = [conv(w, f"backbone.fpn.fpn_layer{n + 2}", x) for n, x in enumerate(sums)]
    levels.append(conv(w, "backbone.fpn.top_blocks.p6", levels[-1], 2))
    levels.append(conv(w, "backbone.fpn.top_blocks.p7", levels[-1].relu(), 2))
    return levels


def fuse(w: Weights, name: str, cells: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Cells (N, C) and words (T, D), head by head."""
    cells, words = norm(w, f"{name}.layer_norm_v", cells), norm(w, f"{name}.layer_norm_l", words)
    keys, values = {}, {}
    for side, x in (("v", cells), ("l", words)):
        keys[side] = affine(w, f"{name}.attn.{side}_proj", x).chunk(HEADS, -1)
        values[side] = affine(w, f"{name}.attn.values_{side}_proj", x).chunk(HEADS, -1)
    read: dict[str, list[Tensor]] = {"v": [], "l": []}
    for head in range(HEADS):
        scores = keys["v"][head] @ keys["l"][head].T / math.sqrt(keys["v"][head].shape[-1])
        read["v"].append(scores.softmax(1) @ values["l"][head])
        read["l"].append(scores.T.softmax(1) @ values["v"][head])
    out = {s: affine(w, f"{name}.attn.out_{s}_proj", torch.cat(read[s], -1)) for s in ("v", "l")}
    return cells + w[f"{name}.gamma_v"] * out["v"], words + w[f"{name}.gamma_l"] * out["l"]


def bert(w: Weights, name: str, x: Tensor, heads: int) -> Tensor:
    """A layer of BERT over words (T, D)."""
    q, k, v = (
        affine(w, f"{name}.attention.self.{part}", x).chunk(heads, -1) for part in ("query", "key", "value")
    )
    mixed = [(a @ b.T / math.sqrt(a.shape[-1])).softmax(-1) @ c for a, b, c in zip(q, k, v, strict=True)]
    x = norm(
        w,
        f"{name}.attention.output.LayerNorm",
        x + affine(w, f"{name}.attention.output.dense", torch.cat(mixed, -1)),
        1e-12,
    )
    hidden = F.gelu(affine(w, f"{name}.intermediate.dense", x))
    return norm(w, f"{name}.output.LayerNorm", x + affine(w, f"{name}.output.dense", hidden), 1e-12)


def at(x_Chw: Tensor, y: float, x: float) -> Tensor:
    """The value between four cells, 0 outside the map."""
    total = torch.zeros(x_Chw.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < x_Chw.shape[1] and 0 <= column < x_Chw.shape[2]:
                total = total + x_Chw[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def deformed(
    weight: Tensor, bias: Tensor, x_Chw: Tensor, moves: Tensor, shares: Tensor, stride: int
) -> Tensor:
    """A 3x3 convolution cell by cell. moves: numbers in order, 18 for each cell of the output, as shares has 9."""
    rows, columns = (-(-side // stride) for side in x_Chw.shape[1:])
    moves = moves.flatten()[: 18 * rows * columns].view(9, 2, rows, columns)
    shares = shares.flatten()[: 9 * rows * columns].view(9, rows, columns)
    out = torch.zeros(len(weight), rows, columns)
    for row in range(rows):
        for column in range(columns):
            for place in range(9):
                down, across = (float(move) for move in moves[place, :, row, column])
                y, x = row * stride + place // 3 - 1 + down, column * stride + place % 3 - 1 + across
                out[:, row, column] += (
                    weight[:, :, place // 3, place % 3] @ at(x_Chw, y, x) * shares[place, row, column]
                )
    return out + bias[:, None, None]


def dynamic(w: Weights, name: str, levels: list[Tensor]) -> list[Tensor]:
    refined = []
    for number, here in enumerate(levels):
        offsets = conv(w, f"{name}.offset", here)
        moves, shares = offsets[:18], offsets[18:].sigmoid()
        given = []
        for which, level, stride in ((1, number, 1), (2, number - 1, 2), (0, number + 1, 1)):
            if 0 <= level < len(levels):
                weight, bias = (w[f"{name}.DyConv.{which}.conv.{leaf}"] for leaf in ("weight", "bias"))
                y = deformed(weight, bias, levels[level], moves, shares, stride)
                y = F.group_norm(
                    y[None], 16, *(w[f"{name}.DyConv.{which}.bn.{leaf}"] for leaf in ("weight", "bias"))
                )
                given.append(F.interpolate(y, here.shape[1:], mode="bilinear", align_corners=True)[0])
        hard = lambda x: ((x + 3).clamp(0, 6)) / 6  # noqa: E731
        scaled = [x * hard(affine(w, f"{name}.AttnConv.1", x.mean((1, 2))).relu()) for x in given]
        mean = torch.stack(scaled).mean(0)
        lines = hard(affine(w, f"{name}.relu.fc.2", affine(w, f"{name}.relu.fc.0", mean.mean((1, 2))).relu()))
        a1, b1, a2, b2 = (lines - 0.5)[:, None, None].chunk(4)
        refined.append(torch.maximum(mean * (2 * a1 + 1) + b1, mean * 2 * a2 + b2))
    return refined


def reference(w: Weights, levels: list[Tensor], words: Tensor, heads: int) -> Grounded:
    for layer in range(LAYERS):
        name = f"rpn.head.dyhead_tower.{3 * layer}"
        cells, words = fuse(w, f"{name}.b_attn", torch.cat([x.flatten(1).T for x in levels]), words)
        words = bert(w, f"rpn.head.dyhead_tower.{3 * layer + 1}", words, heads)
        parts = cells.split([x[0].numel() for x in levels])
        levels = [part.T.view(x.shape) for part, x in zip(parts, levels, strict=True)]
        levels = dynamic(w, f"rpn.head.dyhead_tower.{3 * layer + 2}", levels)
    words = F.normalize(words, dim=-1)
    phrases = affine(w, "rpn.head.dot_product_projection_text", words / 2)
    bias = words @ w["rpn.head.bias_lang"] + w["rpn.head.bias0"]
    boxes, logits, middles, numbers = [], [], [], []
    for number, level in enumerate(levels):
        stride = 4 * 2**number
        for row in range(level.shape[1]):
            for column in range(level.shape[2]):
                x = level[:, row, column]
                dx, dy, dw, dh = (
                    affine(w, "rpn.head.bbox_pred", x) * w[f"rpn.head.scales.{number}.scale"]
                ).tolist()
                side = (
                    8 * stride
                )  # inclusive pixels, as in the released code: an anchor ends side - 1 after it begins
                cx, cy = ((at_ * stride + (stride - 1) / 2) for at_ in (column, row))
                cx, cy = cx + dx / 10 * side, cy + dy / 10 * side
                wide, high = side * math.exp(dw / 5) - 1, side * math.exp(dh / 5) - 1
                boxes.append([cx - wide / 2, cy - high / 2, cx + wide / 2 + 1, cy + high / 2 + 1])
                logits.append(phrases @ x / w["rpn.head.log_scale"].exp() + bias)
                middles.append(affine(w, "rpn.head.centerness", x))
                numbers.append(number)
    return Grounded(torch.tensor(boxes), torch.stack(logits), torch.cat(middles), torch.tensor(numbers))


@torch.inference_mode()
def test_pyramid_equals_its_sums(model: Model, published: Weights, view: Tensor) -> None:
    encoder = model.branches["image"].vision
    packed = encoder([view])
    stages = [tap[0] for tap in encoder.backbone.maps(view.flip(0)[None]).taps[-3:]]
    for number, level in enumerate(pyramid(published, stages), start=1):
        assert packed.taps[number].grids == ((1, *level.shape[1:]),)
        assert torch.allclose(packed.taps[number].tokens_ND, level.flatten(1).T, atol=1e-5)
    assert torch.equal(packed.tokens_ND, torch.cat([packed.taps[n].tokens_ND for n in range(1, 6)]))


@torch.inference_mode()
def test_detector_equals_the_equations_by_published_names(
    model: Model, published: Weights, view: Tensor
) -> None:
    """And two pictures with their own texts, of other lengths, equal each alone."""
    output = model(batch(view, WORDS))
    levels = [level[0] for level in model.branches["image"].vision.levels(view[None])]
    words = output.language.hidden_BTD[0]
    wanted = reference(published, levels, words, model.card.main.attention.num_heads)
    found = output.heads["boxes"]
    size = torch.tensor([64, 32, 64, 32])
    assert torch.allclose(found.boxes_N4 * size, wanted.boxes_N4, atol=1e-2, rtol=1e-4)
    assert float(wanted.logits_NT.std()) > 0.1 < float(wanted.centred_N.std())
    assert torch.allclose(found.logits_NT, wanted.logits_NT, atol=1e-4)
    assert torch.allclose(found.centred_N, wanted.centred_N, atol=1e-4)
    assert torch.equal(found.level_N, wanted.level_N)
    other = view.flip(-1)[:, :, :48]
    rows = torch.tensor([WORDS, [*WORDS[:3], 0, 0]])
    both = model(Batch(rows, (5, 3), {"image": [view, other]}, ((), ()))).heads["boxes"]
    alone = model(batch(other, WORDS[:3])).heads["boxes"]
    count = len(found.level_N)
    assert torch.allclose(both.logits_NT[:count], found.logits_NT, atol=1e-4)
    assert torch.allclose(both.logits_NT[count:, :3], alone.logits_NT, atol=1e-4)
    assert torch.allclose(both.boxes_N4[count:], alone.boxes_N4, atol=1e-4)


def test_published_names_give_the_weights_back(model: Model, published: dict[str, Tensor]) -> None:
    named = {
        *(
            "backbone.body.layers.0.blocks.1.attn.qkv.weight",
            "backbone.body.layers.2.downsample.reduction.weight",
        ),
        *(
            "backbone.body.patch_embed.proj.weight",
            "backbone.fpn.top_blocks.p7.bias",
            "rpn.head.scales.4.scale",
        ),
        *(
            "language_backbone.body.model.encoder.layer.1.output.dense.bias",
            "rpn.head.dyhead_tower.5.relu.fc.2.bias",
        ),
    }
    assert named <= set(published)
    assert published["rpn.head.bbox_pred.weight"].shape == (4, 32, 1, 1)
    assert published["rpn.head.bias0"].shape == published["rpn.head.log_scale"].shape == (1,)
    extra = {
        "rpn.head.cls_logits.weight": torch.zeros(80, 32, 1, 1),
        "backbone.body.norm0.weight": torch.zeros(8),
    }
    own = model.state_dict()
    given = {name: lazy(name, tensor) for name, tensor in (published | extra).items()}
    again = to_own(given, glip(LAYERS), {name: tuple(tensor.shape) for name, tensor in own.items()})
    assert again.keys() == own.keys()
    assert all(torch.equal(again[name].load(), own[name]) for name in own)


@torch.inference_mode()
def test_fusion_changes_both_sides_and_its_scales_switch_it_off() -> None:
    torch.manual_seed(0)
    fusion = CrossBothWays(24, 32, DeepFusion().tiny())
    cells, words = torch.randn(1, 40, 24), torch.randn(1, 6, 32)
    keep = torch.tensor([[True] * 5 + [False]])
    first = fusion(cells, words, keep)
    other_words, other_cells, padding = words.clone(), cells.clone(), words.clone()
    other_words[:, 2] += 1
    other_cells[:, 7] += torch.randn(24)
    padding[:, 5] += torch.randn(32)
    assert (fusion(cells, other_words, keep)[0] != first[0]).any(-1).all()
    assert (fusion(other_cells, words, keep)[1] != first[1]).any(-1).all()
    assert torch.equal(fusion(cells, padding, keep)[0], first[0])
    fusion.image_scale.zero_()
    fusion.text_scale.zero_()
    off = fusion(cells, words, keep)
    assert torch.equal(off[0], fusion.image_norm(cells)) and torch.equal(off[1], fusion.text_norm(words))


@torch.inference_mode()
@pytest.mark.parametrize("stride", [1, 2])
def test_unmoved_places_are_a_plain_convolution_and_whole_moves_shift_it(stride: int) -> None:
    torch.manual_seed(0)
    layer = DeformConv(16, stride)
    x = torch.randn(2, 16, 8, 12)
    moves, weights = (
        torch.zeros(2, 18, 8 // stride, 12 // stride),
        torch.ones(2, 9, 8 // stride, 12 // stride),
    )
    assert torch.allclose(layer(x, moves, weights), layer.norm(layer.conv(x)), atol=1e-5)
    moves[:, 1::2] = 1.0  # one column to the right
    read = F.conv2d(F.pad(x, (1, 2, 1, 1))[..., 1:], layer.conv.weight, layer.conv.bias, stride)
    assert torch.allclose(layer(x, moves, weights), layer.norm(read), atol=1e-5)


def test_anchors_are_assigned_as_the_plain_loops_say() -> None:
    given = torch.cat([anchors(8, 12, 8, (64.0,), (1.0,)), anchors(4, 6, 16, (128.0,), (1.0,))])
    boxes = torch.tensor([[3.0, 4, 60, 50], [40, 10, 90, 62], [0, 0, 96, 64], [70, 40, 75, 44]])
    found = atss(given, (96, 24), boxes, 9)
    best: dict[int, tuple[float, int]] = {}
    overlaps = iou(given, boxes)
    for number, box in enumerate(boxes.tolist()):
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        chosen: list[int] = []
        for start, stop in ((0, 96), (96, 120)):
            middles = [((a[0] + a[2]) / 2, (a[1] + a[3]) / 2) for a in given[start:stop].tolist()]
            order = sorted(range(stop - start), key=lambda n: math.dist(middles[n], centre))
            chosen += [start + n for n in order[:9]]
        values = [float(overlaps[n, number]) for n in chosen]
        mean = sum(values) / len(values)
        least = mean + math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
        for anchor, value in zip(chosen, values, strict=True):
            left, top, right, bottom = given[anchor].tolist()
            x, y = (left + right) / 2, (top + bottom) / 2
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if value >= least and inside and value > best.get(anchor, (-1.0, 0))[0]:
                best[anchor] = (value, number)
    assert {n: int(owner) for n, owner in enumerate(found) if owner >= 0} == {
        n: b for n, (_, b) in best.items()
    }
    assert set(found.tolist()) >= {-1, 0, 1, 2}
    assert (atss(given, (96, 24), boxes[:0], 9) == -1).all()


def test_centred_cells_of_a_box() -> None:
    """1 in the middle, 0 outside, and the square root of two proportions between (1904.01355, equation 3)."""
    cells = torch.tensor([[4.0, 4, 6, 6], [1, 4, 3, 6], [20, 4, 22, 6]])
    box = torch.tensor([[0.0, 0, 10, 10]]).expand(3, 4)
    assert centred(cells, box).tolist() == pytest.approx([1.0, math.sqrt(2 / 8), 0.0])


def test_targets_are_learnt_where_boxes_are(model: Model) -> None:
    head = model.heads[0]
    sizes = [(8, 16), (4, 8), (2, 4), (1, 2), (1, 1)]
    owner, middle = head.targets(sizes, torch.tensor([[2.0, 3, 30, 28], [34.0, 4, 62, 30]]))
    assert set(owner.tolist()) == {-1, 0, 1}
    assert ((middle > 0) == (owner >= 0)).all() and float(middle.max()) <= 1


def test_scores_are_means_of_words_with_how_centred_cells_are(model: Model) -> None:
    """A phrase's score is that of its words; each box appears for each phrase that names it; the best of close ones stays."""
    boxes = torch.tensor(
        [[0.1, 0.1, 0.4, 0.6], [0.1, 0.12, 0.4, 0.6], [0.6, 0.2, 0.9, 0.9], [0.0, 0.0, 0.2, 0.2]]
    )
    words = torch.tensor([[0.9, 0.7, 0.01], [0.8, 0.6, 0.01], [0.02, 0.02, 0.5], [0.04, 0.05, 0.04]])
    middles = torch.tensor([0.5, 0.9, 0.8, 0.9])
    found = Grounded(boxes, words.logit(), middles.logit(), torch.tensor([0, 1, 0, 0]))
    view = View((50, 100), ((32, 64),), Box(0, 0, 64, 32))
    likely = model.heads[0].likely(found, slice(0, 4), view, [(0, 1), (2,)])
    assert likely.labels_M.tolist() == [0, 1]
    assert likely.scores_M.tolist() == pytest.approx([math.sqrt(0.7 * 0.9), math.sqrt(0.5 * 0.8)], abs=1e-5)
    assert torch.allclose(likely.boxes_M4, boxes[[1, 2]], atol=1e-6)


@pytest.fixture
def pipeline(model: Model) -> Pipeline:
    return Pipeline(model, toys.byte_tokenizer(), chat=toys.CHAT)


def test_phrases_stand_for_their_words_in_one_prompt(pipeline: Pipeline) -> None:
    """The words of every phrase, whatever is written before the text; full stops belong to none."""
    groups = word_groups(pipeline, ["a cat", "dog"], "a cat. dog.")
    first = groups[0][0]
    assert groups == [tuple(range(first, first + 5)), tuple(range(first + 7, first + 10))]


@torch.inference_mode()
def test_detection_is_grounding_of_the_prompt(pipeline: Pipeline) -> None:
    """All phrases are read as one text with the picture; each is scored by its own words of it."""
    model = copy.deepcopy(pipeline.model)
    model.heads[0].bias.zero_()
    wide = Pipeline(model, pipeline.tokenizer, chat=toys.CHAT)
    pixels = torch.randint(0, 255, (60, 90, 3), dtype=torch.uint8).numpy()
    phrases = ["cat", "a"]
    (found,) = detect(wide, [pixels], phrases, threshold=0.0)
    assert {one.label for one in found} == set(phrases)
    assert all(
        0 <= one.box.left <= one.box.right <= 90 and 0 <= one.box.top <= one.box.bottom <= 60 for one in found
    )
    ids = render(complete("cat. a."), toys.CHAT, wide.tokenizer).ids
    (plan,) = wide.plan(pixels).pictures
    views = load_views(pixels, plan.views, model.card.branch().geometry)
    output = model(Batch(torch.tensor([ids]), views={"image": views}, plans=((plan,),)))
    words = output.heads["boxes"].logits_NT.sigmoid()
    groups = word_groups(wide, phrases, "cat. a.")
    scores = torch.stack([words[:, list(group)].mean(-1) for group in groups], -1)
    scores = (scores * output.heads["boxes"].centred_N.sigmoid()[:, None]).sqrt()
    best = {label: float(scores[:, n].max()) for n, label in enumerate(phrases)}
    for label in phrases:
        assert max(one.score for one in found if one.label == label) == pytest.approx(best[label], abs=1e-5)
    with pytest.raises(BeholderError, match="no word"):
        word_groups(wide, ["a", ""], "a. .")
