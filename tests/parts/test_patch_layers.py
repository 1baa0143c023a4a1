"""Patch embedding layers without an encoder behind them: EVE's and EVEv2's, by their equations and published names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.cards import card
from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import PicturePlan, in_order
from beholder.model import Batch, build
from beholder.parts.vision.patch_layers import PooledPatches, StackedPatches
from beholder.weights.layout import to_published
from beholder.weights.readers.systems import read_system

EVE = PooledPatches(image_size=28, patch=7, stride=2, dim=32, heads=4)
EVE_2 = StackedPatches(image_size=32, patch=4, stride=2, dim=32, hidden=24)


def shaken(module):
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module.eval()


def normed(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"])


def attends(query: Tensor, seen: list[Tensor], w: dict[str, Tensor], name: str, heads: int) -> Tensor:
    """2406.11832, section 3.1, for one query: scores over the whole width's root."""
    dim = len(query)
    q = w[name + ".q.1.weight"] @ normed(query, w, name + ".q.0")
    both = [w[name + ".kv.1.weight"] @ normed(x, w, name + ".kv.0") for x in seen]
    found = []
    for head in range(heads):
        own = slice(head * dim // heads, (head + 1) * dim // heads)
        scores = torch.stack([q[own] @ kv[:dim][own] / dim**0.5 for kv in both])
        found.append(sum(weight * kv[dim:][own] for weight, kv in zip(scores.softmax(0), both, strict=True)))
    return query + w[name + ".proj.weight"] @ torch.cat(found) + w[name + ".proj.bias"]


def eve_by_its_equations(w: dict[str, Tensor], view: Tensor, patch: int, stride: int, heads: int) -> Tensor:
    map_ = F.conv2d(view[None], w["patch_embedding.weight"], stride=patch)[0]
    rows, columns = map_.shape[1] // stride, map_.shape[2] // stride
    lines = []
    for row in range(rows):
        line = []
        for column in range(columns):
            seen = [
                map_[:, row * stride + y, column * stride + x] for y in range(stride) for x in range(stride)
            ]
            line.append(attends(torch.stack(seen).mean(0), seen, w, "local_attention", heads))
        lines.append(line)
    whole = attends(w["class_embedding"], [x for line in lines for x in line], w, "global_attention", heads)
    return torch.stack([whole, *[x for line in lines for x in (*line, w["split_embedding"])]])


def published(model, namings) -> dict[str, Tensor]:
    return {key: tensor.load() for key, tensor in to_published(model.state_dict(), namings[0]).items()}


def under(w: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): values for key, values in w.items() if key.startswith(prefix)}


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 60,
    "max_position_embeddings": 64,
}


def test_eve_tokens_equal_the_equations():
    settings = {
        **SMALL,
        "model_type": "eve",
        "mm_hidden_size": 48,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_tower": "openai/eve-patch14-anypixel-672",
    }
    reading = read_system(settings, name="eve")
    model = shaken(build(reading.card))
    w = published(model, reading.namings)
    view = torch.randn(3, 84, 56)
    with torch.no_grad():
        encoded = model.branch("image").encode([view])[0]
        got = model.branch("image")([view]).tokens_ND
    eyes = under(w, "model.vision_tower.")
    want = eve_by_its_equations(eyes, view, 14, 2, 8)
    assert encoded.grids[0].num_tokens == 1 + 3 * (2 + 1) == len(want)
    assert (encoded.tokens_ND - want).abs().max() / want.std() < 1e-5
    p = under(w, "model.mm_projector.")
    want = F.gelu(want @ p["0.weight"].T + p["0.bias"]) @ p["2.weight"].T + p["2.bias"]
    assert (got - want).abs().max() / want.std() < 1e-5
    assert reading.card.branch().geometry.size == (672, 672)
    with pytest.raises(UnknownName, match="mm_projector_type"):
        read_system(settings | {"mm_projector_type": "linear"}, name="eve")


def test_eve_2_equals_the_equations_layer_by_layer():
    """2502.06788, section 3: every norm, projection and MLP of a layer twice, one attention over all."""
    settings = {
        **SMALL,
        "model_type": "eve-qwen2",
        "num_key_value_heads": 2,
        "mm_hidden_size": 24,
        "add_moe": True,
        "moe_part": "layernorm-self_attn-mlp",
        "mm_vision_tower": "openai/eve-anyratio-res1600-patch16",
        "vocab_size": 151670,
    }
    reading = read_system(settings, name="eve-2")
    model = shaken(build(reading.card))
    w = published(model, reading.namings)
    view, ids = torch.randn(3, 64, 96), [1, 8, 9, 33]
    e = under(w, "model.vision_tower.patch_embedding.")
    map_ = F.gelu(F.conv2d(view[None], e["0.weight"], e["0.bias"], stride=16))
    map_ = F.conv2d(map_, e["2.weight"], e["2.bias"], stride=2)[0]
    ends = w["model.vision_tower.split_embedding"][:, None, None].expand(-1, map_.shape[1], 1)
    tokens = torch.cat((map_, ends), 2).flatten(1).T
    tokens = torch.cat((w["model.vision_tower.class_embedding"][None], tokens))
    words = w["model.embed_tokens.weight"][ids]
    x = torch.cat((words[:1], tokens, words[1:]))
    way = torch.tensor([0, *[1] * len(tokens), *[0] * (len(ids) - 1)])[:, None].bool()

    def twice(x: Tensor, name: str, act=None) -> Tensor:
        """The map called `name`, or its double at pictures' tokens."""
        head, _, last = name.rpartition(".")
        both = []
        for key in (name, f"{head}.moe_{last}"):
            both.append(x @ w[key + ".weight"].T + w.get(key + ".bias", torch.tensor(0.0)))
        return torch.where(way, both[1], both[0])

    def rms(x: Tensor, name: str) -> Tensor:
        head, _, last = name.rpartition(".")
        scale = [w[key + ".weight"] for key in (name, f"{head}.moe_{last}")]
        return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * torch.where(way, scale[1], scale[0])

    def turned(x: Tensor) -> Tensor:
        angles = torch.arange(len(x))[:, None] * 10000.0 ** (-torch.arange(4) / 4)
        a, b = x[:, :4], x[:, 4:]
        return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)

    for number in range(2):
        name = f"model.layers.{number}."
        y = rms(x, name + "input_layernorm")
        q, k, v = (twice(y, f"{name}self_attn.{part}_proj") for part in "qkv")
        out = []
        for head in range(4):
            own, keys = slice(8 * head, 8 * head + 8), slice(8 * (head // 2), 8 * (head // 2) + 8)
            scores = turned(q[:, own]) @ turned(k[:, keys]).T / 8**0.5
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), float("-inf"))
            out.append(scores.softmax(-1) @ v[:, keys])
        x = x + twice(torch.cat(out, -1), name + "self_attn.o_proj")
        y = rms(x, name + "post_attention_layernorm")
        mlps = []
        for mlp in ("mlp", "moe_mlp"):
            gate, up, down = (w[f"{name}{mlp}.{part}_proj.weight"] for part in ("gate", "up", "down"))
            mlps.append((F.silu(y @ gate.T) * (y @ up.T)) @ down.T)
        x = x + torch.where(way, mlps[1], mlps[0])
    want = (
        x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * w["model.norm.weight"] @ w["lm_head.weight"].T
    )
    out = (model.card.branch().encoders[0].grid((64, 96)),)
    plan = PicturePlan("image", (64, 96), model.card.branch().geometry.views((64, 96)), out, (in_order(out),))
    row = torch.tensor([[1, *[151665] * len(tokens), *ids[1:]]])
    with torch.no_grad():
        got = model(Batch(row, views={"image": [view]}, plans=((plan,),))).heads["text"][0]
    assert (got - want).abs().max() / want.std() < 1e-5
    with pytest.raises(BeholderError, match="moe_part"):
        read_system(settings | {"moe_part": "mlp"}, name="x")


@pytest.mark.parametrize("config", [EVE, EVE_2], ids=["eve", "eve-2"])
def test_views_of_any_sizes_equal_each_alone(config):
    encoder = shaken(config.build())
    views = [torch.randn(3, 28, 56), torch.randn(3, 60, 28), torch.randn(3, 28, 28)]
    with torch.no_grad():
        packed = encoder(views)
        assert packed.grids == tuple(config.grid((view.shape[1], view.shape[2])) for view in views)
        for tokens, view in zip(packed.split(), views, strict=True):
            assert torch.allclose(tokens, encoder([view]).tokens_ND, atol=1e-5)
    with pytest.raises(BeholderError, match="smaller than one token"):
        config.grid((5, 28))


@pytest.mark.parametrize("config", [EVE, EVE_2], ids=["eve", "eve-2"])
def test_a_row_ends_with_the_same_token_and_a_patch_sees_its_window_alone(config):
    encoder, cell = shaken(config.build()), config.cell
    view = torch.randn(3, 2 * cell, 3 * cell)
    other = view.clone()
    other[:, :cell, cell : 2 * cell] += 1.0
    with torch.no_grad():
        first, second = encoder([view]).tokens_ND, encoder([other]).tokens_ND
    assert torch.equal(first[4], first[8]) and torch.equal(first[4], encoder.newline)
    moved = ((first - second).abs().amax(-1) > 1e-6).tolist()
    sees_all = config is EVE
    assert moved == [sees_all, False, True, False, False, False, False, False, False]


def test_counts_of_released_models():
    """Numbers of parameters: EVE adds 30 million to Vicuna-7B; EVEv2 doubles Qwen2.5-7B but for its words."""
    for name, eyes, whole in (
        ("eve-7b", 29_982_720, 6_768_398_336),
        ("eve-7b-hd-v2", 15_478_272, 14_156_712_960),
    ):
        model = build(card(name), device="meta")
        assert sum(p.numel() for p in model.branches.parameters()) == eyes
        assert sum(p.numel() for p in model.parameters()) == whole
