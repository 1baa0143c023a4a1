"""Layers that attend to features: gates, who sees which picture, generation, rows of unequal numbers of pictures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from beholder.cards import card
from beholder.cards.schema import Card
from beholder.data.samples import Sample, Turn
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import Fixed
from beholder.media.plan import Box, Features, Grid, Media, PicturePlan, Tag, View, in_order
from beholder.media.tiles import Tiles
from beholder.model import Batch, build
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.resampler import Resampler
from beholder.parts.contracts import Packed
from beholder.parts.fusion.cross_attention import GatedCross, Layers, features_seen
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.state import State
from beholder.pipeline import Pipeline
from beholder.planning import branch_plan, placed
from beholder.prompts.messages import Picture, user
from beholder.train.collate import Collator
from beholder.weights.layout import Binding, to_own
from beholder.weights.layouts import cross_attention as layouts
from beholder.weights.lazy import lazy
from tests.toys import CHAT, DECODER, VIT, byte_tokenizer

CROSS = GatedCross(
    attention=CrossAttention(num_heads=4, memory_dim=32),
    mlp=FeedForward(48, bias=False),
    norm=Norm(),
    token_id=5,
    start=0.7,
)
SEES = Card(
    name="sees",
    vision=VIT,
    connector=Resampler(latents=3, depth=1, attention=Attention(2, head_dim=8), expand=2),
    images=Fixed(size=(28, 28)),
    fusion=(CROSS,),
    language=DECODER,
    heads=(NextToken(),),
)


def made(chosen: Card):
    model = build(chosen, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def pictures(count: int, seed: int = 0) -> list[torch.Tensor]:
    return list(torch.randn(count, 3, 28, 28, generator=torch.Generator().manual_seed(seed)))


def plans(chosen: Card, count: int) -> tuple[PicturePlan, ...]:
    """Of so many pictures of one view."""
    branch = chosen.branch()
    grid = branch.encoders[0].grid((28, 28))
    out = (grid if branch.connector is None else branch.connector.grid(grid),)
    view = View((28, 28), (), Box(0, 0, 28, 28))
    return (placed(chosen, PicturePlan("image", (28, 28), (view,), out, (in_order(out),))),) * count


def batch(chosen: Card, ids: list[list[int]], views: list[torch.Tensor]) -> Batch:
    lengths = tuple(map(len, ids))
    padded = [row + [0] * (max(lengths) - len(row)) for row in ids]
    counts = [sum(token == 5 for token in row) for row in ids]
    given = {"image": views} if views else {}
    return Batch(torch.tensor(padded), lengths, given, tuple(plans(chosen, count) for count in counts))


@torch.no_grad()
def logits(model, ids, views, state=None):
    return model(batch(model.card, ids, views), state).heads["text"]


def test_zero_gates_leave_the_language_model_unchanged_bit_for_bit():
    model = made(SEES)
    for name, parameter in model.named_parameters():
        if "gate" in name and name.startswith("fusion"):
            nn.init.zeros_(parameter)
    alone = made(Card(name="alone", language=DECODER, heads=(NextToken(),)))
    alone.load_state_dict({k: v for k, v in model.state_dict().items() if k.startswith("languages.")})
    ids = torch.tensor([[7, 5, 9, 8, 5, 11]])
    with torch.no_grad():
        words = alone(Batch(ids)).heads["text"]
    assert torch.equal(logits(model, ids.tolist(), pictures(2)), words)
    for name, parameter in model.named_parameters():
        if name.endswith("gate1"):
            nn.init.constant_(parameter, 0.1)
    assert not torch.equal(logits(model, ids.tolist(), pictures(2)), words)


@pytest.mark.parametrize(
    ("sees", "moved"),
    [
        # 7 <1> 9 <2> <3> 11 12: the first position that moves with each picture, and the first that no longer does
        ("latest", ((1, 3), (3, 4), (4, 7))),
        ("run", ((1, 3), (3, 7), (4, 7))),
        ("before", ((1, 7), (3, 7), (4, 7))),
    ],
)
def test_a_token_sees_only_the_pictures_its_rule_allows(sees, moved):
    """One language layer, so that nothing travels between tokens behind the layer that looks."""
    one = SEES.but(**{"fusion": (CROSS.but(sees=sees, slot="after"),), "language.num_layers": 1})
    model = made(one)
    ids, views = [[7, 5, 9, 5, 5, 11, 12]], pictures(3)
    before = logits(model, ids, views)
    for number, (start, stop) in enumerate(moved):
        other = [*views]
        other[number] = pictures(1, seed=9)[0]
        changed = (logits(model, ids, other) - before).abs().amax(-1)[0] > 1e-6
        assert changed.tolist() == [start <= place < stop for place in range(7)]


@pytest.mark.parametrize("blind", ["mlp", "all", "nothing"])
def test_tokens_before_all_pictures(blind):
    one = SEES.but(**{"fusion": (CROSS.but(blind=blind, slot="after"),), "language.num_layers": 1})
    model = made(one)
    layer = model.fusion[0].layers[0]
    ids = [[7, 9, 5, 11]]
    first, other = (logits(model, ids, pictures(1, seed))[:, :2] for seed in (0, 3))
    assert torch.equal(first, other) == (blind != "all")
    alone = logits(model, [[7, 9]], [])
    nn.init.zeros_(layer.gate2)
    plain = logits(model, [[7, 9]], [])
    assert torch.equal(alone, plain) == (blind != "mlp")
    if blind != "all":
        assert torch.allclose(first, alone, atol=1e-6)


@pytest.mark.parametrize("sees", ["latest", "run", "before"])
@torch.no_grad()
def test_generation_with_kept_keys_equals_recomputing(sees):
    model = made(SEES.but(fusion=(CROSS.but(sees=sees),)))
    ids, views = [[7, 5, 9, 5, 5, 11], [5, 8]], pictures(4)
    state = State(2)
    logits(model, ids, views, state)
    keys = {key: layer.values["keys"] for key, layer in state.layers.items() if key[0] == "cross"}
    assert len(keys) == DECODER.num_layers
    for new in (13, 17, 19):
        ids = [[*row, new] for row in ids]
        step = model(Batch(torch.tensor([[new], [new]])), state).heads["text"]
        whole = logits(model, ids, views)
        for row in range(2):
            assert torch.allclose(step[row, 0], whole[row, len(ids[row]) - 1], atol=1e-5)
    assert all(state.layers[key].values["keys"] is kept for key, kept in keys.items())


@pytest.mark.parametrize("sees", ["latest", "run", "before"])
@torch.no_grad()
def test_a_picture_may_come_later(sees):
    model = made(SEES.but(fusion=(CROSS.but(sees=sees),)))
    ids, views = [7, 5, 9, 11, 5, 12], pictures(2)
    state = State(1)
    first = logits(model, [ids[:3]], views[:1], state)
    rest = logits(model, [ids[3:]], views[1:], state)
    assert torch.allclose(torch.cat((first, rest), 1), logits(model, [ids], views), atol=1e-5)


@pytest.mark.parametrize("blind", ["mlp", "all", "nothing"])
@torch.no_grad()
def test_rows_with_unequal_numbers_of_pictures_equal_each_alone(blind):
    model = made(SEES.but(fusion=(CROSS.but(blind=blind),)))
    rows = [[7, 5, 9, 5, 11], [8, 12], [5, 5, 5, 13, 14, 15]]
    views, used = pictures(5), 0
    together = logits(model, rows, views)
    for row, (ids, count) in enumerate(zip(rows, (2, 0, 3), strict=True)):
        alone = logits(model, [ids], views[used : used + count])
        used += count
        assert torch.allclose(together[row, : len(ids)], alone[0], atol=1e-5)


TILED = SEES.but(
    connector=None,
    images=Tiles(tile=28, most=4, tag="<{n}>", whole="<w>"),
    fusion=(CROSS.but(sees="tiles", slot="after"),),
    **{"language.num_layers": 1},
)


def tiled_batch(chosen: Card, views: list[torch.Tensor]) -> tuple[Batch, list[str]]:
    """A picture of two tiles and a text, each tag one token; and what stands at each position."""
    plan = branch_plan(chosen, chosen.branch(), (30, 60))
    ids, names = [7], ["before"]
    for piece in plan.pieces:
        count = piece.num_tokens if isinstance(piece, Features) else 1
        ids += [5 if isinstance(piece, Features) else 21] * count
        names += [piece.text if isinstance(piece, Tag) else type(piece).__name__] * count
    return Batch(torch.tensor([[*ids, 9, 11]]), views={"image": views}, plans=((plan,),)), [
        *names,
        "behind",
        "behind",
    ]


@torch.no_grad()
def test_tags_see_their_own_tile_and_the_text_behind_sees_all():
    model, views = made(TILED), pictures(3)
    before, names = tiled_batch(TILED, views)
    assert names == ["before", "Media", "<1>", "Media", "<2>", "Media", "<w>", "Media", "behind", "behind"]
    first = model(before).heads["text"][0]
    for tile in range(3):
        other = [*views]
        other[tile] = pictures(1, seed=8)[0]
        moved = (model(tiled_batch(TILED, other)[0]).heads["text"][0] - first).abs().amax(-1) > 1e-6
        own = {1 + 2 * tile, 2 + 2 * tile}
        assert moved.tolist() == [place in own or place >= 7 for place in range(10)]


@torch.no_grad()
def test_the_thumbnail_is_spliced_and_tiles_are_attended_to():
    """With gates closed only the thumbnail reaches the text; with gates open both do."""
    hybrid = TILED.but(fusion=(CROSS.but(sees="tiles", role="tile"), Splice(token_id=5)))
    model, views = made(hybrid), pictures(3)
    _, names = tiled_batch(hybrid, views)
    assert names[5:] == ["<w>", *["Features"] * 4, "Media", "behind", "behind"]

    def last(changed: int | None = None) -> torch.Tensor:
        given = [pictures(1, seed=8)[0] if number == changed else view for number, view in enumerate(views)]
        return model(tiled_batch(hybrid, given)[0]).heads["text"][0, -1]

    usual = last()
    assert all(not torch.allclose(last(view), usual, atol=1e-5) for view in range(3))
    for layer in model.fusion[0].layers:
        layer.gate1.zero_()
        layer.gate2.zero_()
    closed = last()
    assert torch.equal(last(0), closed) and torch.equal(last(1), closed)
    assert not torch.allclose(last(2), closed, atol=1e-5)


@torch.no_grad()
def test_pictures_have_learned_tokens_that_see_them():
    """Two tokens a picture, whose vectors replace the word's, and whose text is what follows them."""
    model = made(SEES.but(fusion=(CROSS.but(placeholders=2, learned=True),)))
    plan = plans(model.card, 1)
    ids = [[7, 5, 5, 9, 5, 5, 11]]
    views = pictures(2)
    given = Batch(torch.tensor(ids), views={"image": views}, plans=(plan * 2,))
    first = model(given).heads["text"]
    nn.init.normal_(model.languages["main"].embedding.weight[5])
    assert torch.equal(model(given).heads["text"], first)
    other = dataclasses.replace(given, views={"image": [views[0], pictures(1, seed=9)[0]]})
    moved = (model(other).heads["text"] - first).abs().amax(-1)[0] > 1e-6
    assert moved.tolist() == [False] * 4 + [True] * 3
    nn.init.normal_(model.fusion[0].words[1])
    moved = (model(given).heads["text"] - first).abs().amax(-1)[0] > 1e-6
    assert moved.tolist() == [False] * 2 + [True] * 5
    with pytest.raises(BeholderError, match="3 <image> placeholders but its 1 pictures give 2 tokens"):
        model(Batch(torch.tensor([[5, 5, 5]]), views={"image": views[:1]}, plans=(plan,)))


@torch.no_grad()
def test_layers_read_levels_in_order():
    """Four layers and two levels: the first two read the first, the others the second."""
    cross = CROSS.but(levels=2, **{"attention.memory_dim": 32})
    model = made(
        SEES.but(
            connector=None,
            fusion=(cross,),
            **{"vision.take.layers": (1, 2), "vision.take.norm": False, "language.num_layers": 4},
        )
    )
    tokens = torch.randn(1, 3, 64)
    assert [layer.level for layer in model.fusion[0].layers] == [0, 0, 1, 1]
    for layer in model.fusion[0].layers:
        own, other = tokens.clone(), tokens.clone()
        own[..., 32 * layer.level : 32 * layer.level + 32] += 1
        other[..., 32 - 32 * layer.level : 64 - 32 * layer.level] += 1
        keys = [layer._keys(given)[0] for given in (tokens, own, other)]
        assert torch.equal(keys[0], keys[2]) and not torch.equal(keys[0], keys[1])
    assert logits(model, [[7, 5, 9]], pictures(1)).shape[1] == 3


def test_a_wrong_count_of_placeholders_raises():
    model = made(SEES)
    wrong = dataclasses.replace(batch(SEES, [[7, 5]], pictures(1)), ids_BT=torch.tensor([[5, 5]]))
    with pytest.raises(
        BeholderError, match="row 0 has 2 <image> placeholders but its 1 pictures give 1 tokens"
    ):
        model(wrong)
    with pytest.raises(UnknownName, match="sees"):
        CROSS.but(sees="later")
    with pytest.raises(BeholderError, match="there are none"):
        build(SEES.but(fusion=(CROSS.but(layers=Layers(first=9)),)))


def test_layers_and_plans():
    assert Layers(every=4).of(10) == (0, 4, 8)
    assert Layers(every=2, first=1).of(6) == (1, 3, 5)
    assert Layers(numbers=(1, 9)).of(10) == (1, 9)
    plan = PicturePlan("image", (1, 1), (), (), (Tag("a"), Features(in_order((Grid(1, 1, 3),)).order)))
    tag, media = CROSS.but(placeholders=2).placed(plan).pieces
    assert isinstance(media, Media) and media.num_tokens == 2 and len(media.order) == 3 and tag == Tag("a")
    assert CROSS.placed(dataclasses.replace(plan, branch="other")).pieces[1] is plan.pieces[1]
    assert CROSS.but(token_id=None).placeholder() is None


def flamingo_weights(layers: int, dim: int, vision: int) -> dict[str, torch.Tensor]:
    """A resampler and a gated layer with the names of OpenFlamingo."""
    generator = torch.Generator().manual_seed(4)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    weights = {"perceiver.latents": draw(3, vision), "perceiver.frame_embs": draw(2, vision)}
    weights |= {f"perceiver.norm.{leaf}": draw(vision) for leaf in ("weight", "bias")}
    for number in range(layers):
        at = f"perceiver.layers.{number}."
        for norm in ("0.norm_media", "0.norm_latents", "1.0"):
            weights |= {f"{at}{norm}.{leaf}": draw(vision) for leaf in ("weight", "bias")}
        weights |= {f"{at}0.to_q.weight": draw(16, vision), f"{at}0.to_kv.weight": draw(32, vision)}
        weights |= {f"{at}0.to_out.weight": draw(vision, 16)}
        weights |= {f"{at}1.1.weight": draw(2 * vision, vision), f"{at}1.3.weight": draw(vision, 2 * vision)}
    at = "cross."
    for norm in ("attn.norm", "ff.0"):
        weights |= {f"{at}{norm}.{leaf}": draw(dim) for leaf in ("weight", "bias")}
    weights |= {f"{at}attn_gate": draw(1), f"{at}ff_gate": draw(1)}
    weights |= {f"{at}attn.to_q.weight": draw(16, dim), f"{at}attn.to_kv.weight": draw(32, vision)}
    weights |= {f"{at}attn.to_out.weight": draw(dim, 16)}
    return weights | {f"{at}ff.1.weight": draw(48, dim), f"{at}ff.3.weight": draw(dim, 48)}


def normed(x, weights, name):
    return nn.functional.layer_norm(x, x.shape[-1:], weights[name + ".weight"], weights[name + ".bias"])


def attended(q, kv, mask=None):
    """Two heads of 8, from the equation."""
    k, v = kv.chunk(2, -1)
    q, k, v = (x.view(len(x), 2, 8).transpose(0, 1) for x in (q, k, v))
    scores = q @ k.transpose(1, 2) / 8**0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(-1).nan_to_num(0.0)
    return (weights @ v).transpose(0, 1).reshape(-1, 16)


def loaded(module, weights, prefix, layout):
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    mine = {key: lazy(key, value) for key, value in weights.items() if key.startswith(prefix)}
    own = to_own(mine, (Binding(prefix, "", layout),), shapes)
    module.load_state_dict({name: tensor.load() for name, tensor in own.items()})
    return module.eval()


@torch.no_grad()
def test_the_resampler_equals_the_equations():
    """Published names; two clips of one and of two frames."""
    weights = flamingo_weights(2, 32, 24)
    config = Resampler(latents=3, depth=2, attention=Attention(2, head_dim=8), expand=2, frames=2)
    module = loaded(config.build(24, 32), weights, "perceiver.", layouts.FLAMINGO_RESAMPLER)
    clips = [torch.randn(4, 24), torch.randn(8, 24)]
    given = module(Packed(torch.cat(clips), (Grid(1, 2, 2), Grid(2, 2, 2))))
    assert given.grids == (Grid(1, 1, 3),) * 2
    for frames, (clip, ours) in enumerate(zip(clips, given.split(), strict=True), 1):
        x = clip + weights["perceiver.frame_embs"][:frames].repeat_interleave(4, 0)
        latents = weights["perceiver.latents"]
        for number in range(2):
            at = f"perceiver.layers.{number}."
            own = normed(latents, weights, at + "0.norm_latents")
            both = torch.cat((normed(x, weights, at + "0.norm_media"), own))
            q, kv = own @ weights[at + "0.to_q.weight"].T, both @ weights[at + "0.to_kv.weight"].T
            latents = latents + attended(q, kv) @ weights[at + "0.to_out.weight"].T
            inner = normed(latents, weights, at + "1.0") @ weights[at + "1.1.weight"].T
            latents = latents + nn.functional.gelu(inner) @ weights[at + "1.3.weight"].T
        assert torch.allclose(ours, normed(latents, weights, "perceiver.norm"), atol=1e-5)
    with pytest.raises(BeholderError, match="3 frames; this resampler knows 2"):
        module(Packed(torch.randn(12, 24), (Grid(3, 2, 2),)))


@torch.no_grad()
def test_the_gated_layer_equals_the_equations():
    """Published names; two pictures of three tokens, a text with one token before them."""
    weights = flamingo_weights(1, 32, 24)
    config = CROSS.but(attention=CrossAttention(2, head_dim=8, memory_dim=24), token_id=5)
    fusion = config.build(DECODER.but(dim=32, num_layers=1))
    layer = loaded(fusion.layers[0], weights, "cross.", layouts.FLAMINGO_CROSS)
    x, media = torch.randn(5, 32), torch.randn(6, 24)
    ids = torch.tensor([[7, 5, 9, 5, 11]])
    seen = (ids[0] == 5).cumsum(0)
    mask = seen[:, None] == torch.tensor([1, 1, 1, 2, 2, 2])
    q = normed(x, weights, "cross.attn.norm") @ weights["cross.attn.to_q.weight"].T
    y = (
        attended(q, media @ weights["cross.attn.to_kv.weight"].T, mask)
        @ weights["cross.attn.to_out.weight"].T
    )
    want = x + weights["cross.attn_gate"].tanh() * y
    inner = nn.functional.gelu(normed(want, weights, "cross.ff.0") @ weights["cross.ff.1.weight"].T)
    want = want + weights["cross.ff_gate"].tanh() * (inner @ weights["cross.ff.3.weight"].T)
    sees = nn.functional.one_hot(torch.tensor([0, 1, 1, 1, 2, 2, 2]), 3).T[None, :, 1:].bool()
    inputs = made(SEES)._draft(Batch(ids), None)
    inputs = dataclasses.replace(inputs, cross={"image": (media[None], sees, seen[None])})
    assert torch.allclose(layer(x[None], inputs, None)[0], want, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "added"), [("openflamingo-9b", 8), ("idefics-9b", 8), ("openflamingo-3b", 24)]
)
def test_how_many_layers_are_added(name, added):
    chosen = card(name)
    assert len(chosen.fusion[0].layers.of(chosen.main.num_layers)) == added


ASKED = SEES.but(fusion=(CROSS.but(token_id=258),), prompt=CHAT)


def test_questions_about_several_pictures_and_none():
    """Rows of one request, each as by itself; every picture is one token of its prompt."""
    pipeline = Pipeline(made(ASKED), byte_tokenizer())
    photos = [np.random.default_rng(n).integers(0, 256, (40, 56, 3), np.uint8) for n in range(3)]
    asked = [(photos[:2], "Which?"), ([], "Why?"), (photos[2:], "What is it, then?")]
    alone = [pipeline.ask(given or None, text, max_tokens=4) for given, text in asked]
    assert [reply.usage.image for reply in alone] == [2, 0, 1]
    together = pipeline.answer([[user(*map(Picture, given), text)] for given, text in asked], max_tokens=4)
    assert list(map(str, together)) == list(map(str, alone))


def test_training_sees_pictures_where_answering_does():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    sample = Sample(pixels, (Turn("What is it?", "A cat.", "naming"),), "a")
    given = Collator(ASKED, byte_tokenizer())([sample])
    assert int((given.batch.ids_BT == 258).sum()) == 1
    model = made(ASKED)
    model(given.batch).heads["text"].sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name for name, _ in model.named_parameters() if name.startswith("fusion.")} <= trained


def test_the_text_behind_a_clip_sees_all_its_frames():
    """EVLM: frames that follow each other, 16 words each, are seen together; a picture after words is seen alone."""
    fusion = card("evlm").fusion[0].but(token_id=5)
    plan = PicturePlan("image", (1, 1), (), (Grid(1, 1, 2),), (Media(np.arange(2), 16),))
    ids = torch.tensor([[7, *[5] * 32, 8, *[5] * 16, 9]])
    marks = torch.tensor([[0, *[1] * 16, *[2] * 17, *[3] * 17]])
    _, sees, _ = features_seen([torch.zeros(6, 4)], [(plan,) * 3], marks, ids, fusion)
    assert sees[0].int().tolist() == [
        [0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 1],
    ]
