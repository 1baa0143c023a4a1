"""Weights of their own for pictures: who goes through which, positions, generation, and whole models by their equations."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.cards import card
from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.geometry import Fixed
from beholder.media.plan import Box, PicturePlan, View, in_order
from beholder.model import Batch, build
from beholder.parts.connectors.glu import Glu
from beholder.parts.connectors.projections import Linear
from beholder.parts.fusion.experts import VisualExpert
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.state import State
from beholder.planning import placed
from beholder.weights.layout import Binding, to_published
from beholder.weights.layouts import common
from beholder.weights.layouts import visual_experts as layouts
from beholder.weights.readers.reading import CONNECTOR, LANGUAGE, VISION
from beholder.weights.readers.systems import read_system
from tests.toys import DECODER, VIT

COGVLM = VisualExpert(last_is_text=True, one_position=True)
OWL = VisualExpert(norms=True, queries=False, out=False, mlp=False)
EVE = VisualExpert(norms=True)
KINDS = pytest.mark.parametrize("expert", [COGVLM, OWL, EVE], ids=["cogvlm", "mplug-owl2", "eve-2"])


def sees(expert: VisualExpert, connector=Linear()) -> Card:
    return Card(
        name="sees",
        vision=VIT,
        connector=connector,
        images=Fixed(size=(28, 28)),
        fusion=(Splice(token_id=5), expert),
        language=DECODER,
        heads=(NextToken(),),
    )


def made(chosen: Card):
    model = build(chosen, seed=1)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def pictures(count: int, seed: int = 0) -> list[Tensor]:
    return list(torch.randn(count, 3, 28, 28, generator=torch.Generator().manual_seed(seed)))


def batch(chosen: Card, rows: list[list[int]], views: list[Tensor]) -> Batch:
    """Rows with a run of placeholders for each picture."""
    branch = chosen.branch()
    out = branch.connector.grid(branch.encoders[0].grid((28, 28)))
    view = View((28, 28), (), Box(0, 0, 28, 28))
    plan = PicturePlan("image", (28, 28), (view,), (out,), (in_order((out,)),))
    width = max(map(len, rows))
    plans = tuple((plan,) * (row.count(5) // out.num_tokens) for row in rows)
    padded = [row + [0] * (width - len(row)) for row in rows]
    return Batch(torch.tensor(padded), tuple(map(len, rows)), {"image": views} if views else {}, plans)


@torch.no_grad()
def logits(model, rows, views, state=None):
    return model(batch(model.card, rows, views), state).heads["text"]


ROW = [7, 5, 5, 5, 5, 9, 8]


@KINDS
def test_text_alone_equals_the_base_language_model_bit_for_bit(expert):
    model = made(sees(expert))
    alone = build(Card(name="alone", language=DECODER, heads=(NextToken(),)))
    alone.load_state_dict({k: v for k, v in model.state_dict().items() if k.startswith("languages.")})
    ids = [[7, 9, 8, 11], [12, 13, 14, 15]]
    with torch.no_grad():
        want = alone(Batch(torch.tensor(ids))).heads["text"]
    assert torch.equal(logits(model, ids, []), want)
    assert not torch.allclose(
        logits(model, [ROW], pictures(1))[0, -1],
        logits(made(sees(EVE)), [ROW], [-p for p in pictures(1)])[0, -1],
    )


@KINDS
def test_each_token_goes_through_the_weights_of_its_kind_alone(expert):
    """In every slot: the words' weights move words, the pictures' weights pictures."""
    model = made(sees(expert))
    inputs = drafted(model, [ROW])
    chosen = inputs.routes_BT[0] == 1
    assert chosen.tolist() == [False, True, True, True, not expert.last_is_text, False, False]
    block, parts = model.language.blocks[0], model.layer_parts[0]
    bases = {
        "norm1": block.norm1,
        "norm2": block.norm2,
        "qkv": block.attn.project,
        "out": block.attn.project_out,
        "mlp": block.mlp,
    }
    x_BTD = torch.randn(1, 7, 32)
    assert parts
    for slot, part in parts.items():

        def given(part=part, slot=slot):
            with torch.no_grad():
                y = part(x_BTD, bases[slot], inputs)
            return torch.cat(y, -1)[0] if slot == "qkv" else y[0]

        before = given()
        changed = {"words": block, "pictures": part}
        moved = {}
        for name, module in changed.items():
            saved = {k: v.clone() for k, v in module.state_dict().items()}
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.add_(0.3)
            moved[name] = (given() - before).abs().amax(-1) > 1e-4
            module.load_state_dict(saved)
        assert torch.equal(moved["pictures"], chosen), slot
        shares = slot == "qkv" and not expert.queries
        assert torch.equal(moved["words"], torch.ones_like(chosen) if shares else ~chosen), slot


def drafted(model, rows, views=None):
    """The inputs that the language part gets."""
    asked = batch(
        model.card, rows, pictures(sum(row.count(5) // 4 for row in rows)) if views is None else views
    )
    inputs = model._draft(asked, None)
    with torch.no_grad():
        branches = model.encode(asked)
        for fusion in model.fusion:
            inputs = fusion.prepare(inputs, branches)
    return inputs


def test_the_features_between_first_and_last_share_one_position():
    """CogVLM's build_position_ids: a word each for the ends, one position for all between them."""
    model = made(sees(COGVLM, Glu(hidden=48)))
    row = [7, *[5] * 6, 9, *[5] * 6, 8]
    inputs = drafted(model, [row, [*row[:8], 3]], pictures(3))
    assert inputs.positions[0].tolist() == [0, 1, 2, 2, 2, 2, 3, 4, 5, 6, 6, 6, 6, 7, 8]
    assert inputs.positions[1, :9].tolist() == [0, 1, 2, 2, 2, 2, 3, 4, 5]
    assert inputs.routes_BT[0].tolist() == [0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert drafted(made(sees(EVE)), [ROW]).positions[0].tolist() == list(range(7))


@KINDS
def test_rows_together_equal_each_alone(expert):
    model = made(sees(expert))
    rows, views = [ROW, [7, 8, 9], [6, *[5] * 4, 9, *[5] * 4, 8, 11]], pictures(3)
    together = logits(model, rows, views)
    taken = 0
    for number, row in enumerate(rows):
        own = views[taken : taken + row.count(5) // 4]
        taken += len(own)
        assert torch.allclose(logits(model, [row], own)[0], together[number, : len(row)], atol=1e-5)


@KINDS
@torch.no_grad()
def test_generation_behind_a_picture_uses_the_words_weights_and_goes_on_from_its_position(expert):
    model = made(sees(expert))
    rows, views = [list(ROW), [5, 5, 5, 5, 6]], pictures(2)
    state = State(2)
    asked = batch(model.card, rows, views)
    model(asked, state)
    for token in (11, 12, 13):
        step = model(Batch(torch.tensor([[token], [token + 1]])), state).heads["text"]
        rows = [rows[0] + [token], rows[1] + [token + 1]]
        whole = logits(model, rows, views)
        for number, row in enumerate(rows):
            assert torch.allclose(step[number, 0], whole[number, len(row) - 1], atol=1e-5)
    saved = state.fork(2).snapshot()
    again = model(Batch(torch.tensor([[20]] * 4)), saved).heads["text"]
    assert torch.allclose(again[0], again[1]) and torch.allclose(again[2], again[3])
    for number, row in enumerate(rows):
        want = logits(model, [[*row, 20]], views[number : number + 1])[0, -1]
        assert torch.allclose(again[2 * number, 0], want, atol=1e-5)
    for parameter in model.fusion.parameters():
        nn.init.zeros_(parameter)
    after = model(Batch(torch.tensor([[20]] * 2)), state).heads["text"]
    assert torch.allclose(after[0], again[0], atol=1e-5)


def test_packed_questions_behind_one_picture_keep_their_routes():
    """Siblings behind a prefix with the picture: each equals a row of its own."""
    from beholder.parts.blocks.masks import Visibility

    model = made(sees(COGVLM))
    prefix, questions = [7, 5, 5, 5, 5], [[9, 8], [11, 12, 13]]
    ids = [*prefix, *questions[0], *questions[1]]
    segments = torch.tensor([[0] * 5 + [1] * 2 + [2] * 3])
    blocks = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 5, 6, 7]])
    asked = dataclasses.replace(
        batch(model.card, [ids], pictures(1)), visibility=Visibility(segments, blocks, (-1, 0, 0))
    )
    with torch.no_grad():
        packed = model(asked).heads["text"][0]
    first = logits(model, [[*prefix, *questions[0]]], pictures(1))[0]
    second = logits(model, [[*prefix, *questions[1]]], pictures(1))[0]
    assert torch.allclose(packed[:7], first, atol=1e-5)
    assert torch.allclose(packed[7:], second[5:], atol=1e-5)


def test_only_decoders_have_layers_to_double():
    from tests.toys import TEXT_TOWER

    with pytest.raises(BeholderError, match="decoder"):
        COGVLM.build(TEXT_TOWER)


def rms(x: Tensor, weight: Tensor | float, eps: float = 1e-5) -> Tensor:
    return x * (x.pow(2).mean(-1, keepdim=True) + eps).rsqrt() * weight


def turned(x_TK: Tensor, positions: Tensor, theta: float) -> Tensor:
    """Rotary positions of one head."""
    half = x_TK.shape[-1] // 2
    angles = positions[:, None] * theta ** (-torch.arange(half) / half)
    a, b = x_TK[:, :half], x_TK[:, half:]
    return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)


def attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, kv_heads: int, positions, theta: float, causal: bool
):
    """Head by head."""
    width, out = q.shape[-1] // heads, []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        shared = head * kv_heads // heads
        keys = slice(shared * width, (shared + 1) * width)
        qh, kh = q[:, own], k[:, keys]
        if positions is not None:
            qh, kh = turned(qh, positions, theta), turned(kh, positions, theta)
        scores = qh @ kh.T / width**0.5
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), float("-inf"))
        out.append(scores.softmax(-1) @ v[:, keys])
    return torch.cat(out, -1)


def cogvlm_by_its_equations(
    w: dict[str, Tensor], pixels: Tensor, ids: list[int], settings: dict, details: Tensor | None = None
) -> Tensor:
    """2311.03079, section 2, and the released code's published names; one picture behind the first word. details: what
    CogAgent's cross-attention reads (2312.08914, section 2.2), places added.
    """
    eyes = settings["vision_config"]

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))

    def layer_norm(x: Tensor, name: str, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], eps)

    v = "model.vision."
    patches = F.conv2d(
        pixels[None], w[v + "patch_embedding.proj.weight"], w[v + "patch_embedding.proj.bias"], 14
    )
    x = torch.cat((w[v + "patch_embedding.cls_embedding"], patches[0].flatten(1).T))
    x = x + w[v + "patch_embedding.position_embedding.weight"]
    for number in range(eyes["num_hidden_layers"]):
        name = f"{v}transformer.layers.{number}."
        q, k, value = linear(x, name + "attention.query_key_value").chunk(3, -1)
        y = attention(q, k, value, eyes["num_heads"], eyes["num_heads"], None, 0.0, False)
        x = x + layer_norm(linear(y, name + "attention.dense"), name + "input_layernorm", 1e-6)
        y = linear(F.gelu(linear(x, name + "mlp.fc1")), name + "mlp.fc2")
        x = x + layer_norm(y, name + "post_attention_layernorm", 1e-6)
    x = x[1:]
    if v + "pos_embed" in w:
        x = x + w[v + "pos_embed"]
    if v + "conv.weight" in w:
        side = int(len(x) ** 0.5)
        x = F.conv2d(x.T.view(1, -1, side, side), w[v + "conv.weight"], w[v + "conv.bias"], 2)[0].flatten(1).T
    g = v + "linear_proj."
    x = F.gelu(layer_norm(linear(x, g + "linear_proj"), g + "norm1", 1e-5))
    x = linear(F.silu(linear(x, g + "gate_proj")) * linear(x, g + "dense_h_to_4h"), g + "dense_4h_to_h")
    x = torch.cat((w[v + "boi"][0], x, w[v + "eoi"][0]))
    count = len(x)
    words = w["model.embed_tokens.weight"][ids]
    x = torch.cat((words[:1], x, words[1:]))
    is_picture = torch.zeros(len(x), dtype=torch.bool)
    is_picture[1:count] = True  # the last of them counts as a word
    positions = torch.tensor([0, 1, *[2] * (count - 2), *range(3, 3 + len(ids))])
    heads, kv = (
        settings["num_attention_heads"],
        settings.get("num_multi_query_heads", settings["num_attention_heads"]),
    )
    theta = 500000.0 if "num_multi_query_heads" in settings else 10000.0
    width = x.shape[-1] // heads

    def routed(x: Tensor, vision: str, language: str) -> Tensor:
        return torch.where(is_picture[:, None], linear(x, vision), linear(x, language))

    for number in range(settings["num_hidden_layers"]):
        name = f"model.layers.{number}."
        attn = name + "self_attn."
        y = rms(x, w[name + "input_layernorm.weight"])
        y = routed(y, attn + "vision_expert_query_key_value", attn + "language_expert_query_key_value")
        q, k, value = y.split([heads * width, kv * width, kv * width], -1)
        y = attention(q, k, value, heads, kv, positions, theta, True)
        x = x + routed(y, attn + "vision_expert_dense", attn + "language_expert_dense")
        if details is not None:
            y = rms(x, w[name + "post_cross_attention_layernorm.weight"])
            k, value = linear(details, name + "cross_attn.key_value").chunk(2, -1)
            y = attention(linear(y, name + "cross_attn.query"), k, value, heads, heads, None, 0.0, False)
            x = x + linear(y, name + "cross_attn.dense")
        y = rms(x, w[name + "post_attention_layernorm.weight"])
        gated = [
            linear(F.silu(linear(y, m + "gate_proj")) * linear(y, m + "up_proj"), m + "down_proj")
            for m in (name + "mlp.vision_mlp.", name + "mlp.language_mlp.")
        ]
        x = x + torch.where(is_picture[:, None], *gated)
    return linear(rms(x, w["model.norm.weight"]), "lm_head")


SETTINGS = {
    "architectures": ["CogVLMForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 60,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64,
    "template_version": "chat",
    "vision_config": {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_heads": 3,
        "intermediate_size": 20,
        "image_size": 56,
        "patch_size": 14,
        "num_positions": 17,
        "in_channels": 3,
        "dropout_prob": 0.0,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
    },
}


def released(settings: dict, pixels: Tensor, ids: list[int]) -> tuple[dict[str, Tensor], Tensor]:
    """A model of these settings under the publisher's names, and its logits for a picture behind the first word."""
    reading = read_system(settings, name="small")
    model = made(reading.card)
    state = model.state_dict()
    published = {key: tensor.load() for key, tensor in to_published(state, reading.namings[0]).items()}
    branch = reading.card.branch()
    size = (pixels.shape[1], pixels.shape[2])
    out = branch.connector.grid(branch.encoders[0].grid(size))
    plan = PicturePlan("image", size, branch.geometry.views(size), (out,), (in_order((out,)),))
    row = torch.tensor([[ids[0], *[reading.card.fusion[0].token_id] * out.num_tokens, *ids[1:]]])
    with torch.no_grad():
        return published, model(Batch(row, views={"image": [pixels]}, plans=((plan,),))).heads["text"][0]


@pytest.mark.parametrize("more", [{}, {"num_multi_query_heads": 2}], ids=["cogvlm", "cogvlm2"])
def test_published_names_give_what_the_equations_give(more):
    settings, pixels, ids = SETTINGS | more, torch.randn(3, 56, 56), [1, 8, 9, 33]
    published, got = released(settings, pixels, ids)
    want = cogvlm_by_its_equations(published, pixels, ids, settings)
    assert (got - want).abs().max() / want.std() < 1e-5


def abstracted(w: dict[str, Tensor], features: Tensor, heads: int, depth: int) -> Tensor:
    """2311.04257 with the released visual_encoder.py: waves of 2111.06377 for places, norms on the residual path."""
    dim, queries = features.shape[-1], w["query_embeds"][0]
    side = int((len(features) - 1) ** 0.5)

    def waves(place: int, width: int) -> Tensor:
        angles = place / 10000 ** (torch.arange(width // 2).double() / (width / 2))
        return torch.cat((angles.sin(), angles.cos())).float()

    def map_of(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[name + ".weight"], w[name + ".bias"])

    def normed(x: Tensor, name: str, eps: float = 1e-5) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], eps)

    q_places = torch.stack([waves(place, dim) for place in range(len(queries))])
    k_places = [torch.zeros(dim)]
    k_places += [
        torch.cat((waves(column, dim // 2), waves(row, dim // 2)))
        for row in range(side)
        for column in range(side)
    ]
    places = torch.cat((q_places, torch.stack(k_places)))
    x = queries
    for number in range(depth):
        name = f"encoder.layers.{number}.crossattention."
        x = normed(x, name + "norm1")
        seen = torch.cat((x, normed(features, name + "normk")))
        q = map_of(x + q_places, name + "attention.query")
        k, v = map_of(seen + places, name + "attention.key"), map_of(seen, name + "attention.value")
        x = x + map_of(attention(q, k, v, heads, heads, None, 0.0, False), name + "output.out_proj")
        y, m = normed(x, name + "output.norm2"), name + "output.mlp."
        y = normed(F.silu(map_of(y, m + "w1")) * map_of(y, m + "w3"), m + "ffn_ln", 1e-6)
        x = x + map_of(y, m + "w2")
    return torch.cat((map_of(x, "visual_fc"), w["vit_eos"][0]))


def test_cogagent_reads_details_in_every_layer():
    """The encoder of details is EVA-02-CLIP-L, compared elsewhere; its features are taken as they come."""
    small = card("cogagent-chat").tiny()
    cross = small.main.cross.but(num_heads=4, head_dim=4)
    model = made(small.but(**{"language.cross": cross}))
    naming = (
        Binding("model.vision.", VISION, layouts.COGVLM_VISION),
        Binding("model.vision.", CONNECTOR, layouts.COGVLM_GLU),
        Binding("model.layers.", "fusion.1.layers.", layouts.COGVLM_EXPERTS),
        Binding("model.", LANGUAGE, layouts.COGAGENT_WORDS),
        Binding("lm_head.", LANGUAGE + "head.", common.WEIGHT),
    )
    others = {name: values for name, values in model.state_dict().items() if "details" not in name}
    published = {key: tensor.load() for key, tensor in to_published(others, naming).items()}
    near, far = torch.randn(3, 28, 28), torch.randn(3, 28, 28)
    plans = []
    for branch in small.branches:
        out = branch.connector.grid(branch.encoders[0].grid((28, 28)))
        plan = PicturePlan(
            branch.name, (28, 28), (View((28, 28), (), Box(0, 0, 28, 28)),), (out,), (in_order((out,)),)
        )
        plans.append(placed(small, plan))
    ids = [1, 8, 9, 33]
    row = torch.tensor([[ids[0], *[5] * plans[0].num_tokens, *ids[1:]]])
    asked = Batch(row, views={"image": [near], "details": [far]}, plans=(tuple(plans),))
    with torch.no_grad():
        got = model(asked).heads["text"][0]
        details = model.branch("details")([far]).tokens_ND
        encoded = model.branch("details").encode([far])[0].tokens_ND
    assert torch.equal(details, encoded + model.branch("details").connector.positions)
    settings = {
        "num_attention_heads": small.main.attention.num_heads,
        "num_hidden_layers": small.main.num_layers,
        "vision_config": {
            "num_hidden_layers": 2,
            "num_heads": small.branch().encoders[0].attention.num_heads,
        },
    }
    want = cogvlm_by_its_equations(published, near, ids, settings, details)
    assert (got - want).abs().max() / want.std() < 1e-5
    with pytest.raises(BeholderError, match="memory"):
        model(Batch(torch.tensor([[7, 8]])))


def under(w: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): values for key, values in w.items() if key.startswith(prefix)}


def owl_by_its_equations(w: dict[str, Tensor], features: Tensor, ids: list[int], settings: dict) -> Tensor:
    """2311.04257, section 3.2; features are those behind the encoder's last norm."""
    heads = settings["num_attention_heads"]
    own = settings["visual_config"]["visual_abstractor"]
    tokens = abstracted(
        under(w, "model.visual_abstractor."), features, own["num_attention_heads"], own["num_hidden_layers"]
    )
    words = w["model.embed_tokens.weight"][ids]
    x = torch.cat((words[:1], tokens, words[1:]))
    way = torch.tensor([0, *[1] * len(tokens), *[0] * (len(ids) - 1)])
    positions = torch.arange(len(x))

    def ways(name: str) -> Tensor:
        """Each token's own weight."""
        return torch.stack([w[f"{name}.multiway.{number}.weight"] for number in (0, 1)])[way]

    for number in range(settings["num_hidden_layers"]):
        name = f"model.layers.{number}."
        y = rms(x, 1.0) * ways(name + "input_layernorm")
        q = y @ w[name + "self_attn.q_proj.weight"].T
        k, v = (torch.einsum("nd,nod->no", y, ways(f"{name}self_attn.{part}_proj")) for part in "kv")
        y = attention(q, k, v, heads, heads, positions, 10000.0, True)
        x = x + y @ w[name + "self_attn.o_proj.weight"].T
        y = rms(x, 1.0) * ways(name + "post_attention_layernorm")
        gate, up, down = (w[f"{name}mlp.{part}_proj.weight"] for part in ("gate", "up", "down"))
        x = x + (F.silu(y @ gate.T) * (y @ up.T)) @ down.T
    return rms(x, w["model.norm.weight"]) @ w["lm_head.weight"].T


OWL_SETTINGS = {
    "model_type": "mplug_owl2",
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 60,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64,
    "visual_config": {
        "visual_model": {
            "hidden_size": 24,
            "num_hidden_layers": 1,
            "num_attention_heads": 3,
            "intermediate_size": 20,
            "image_size": 56,
        },
        "visual_abstractor": {
            "num_learnable_queries": 5,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 20,
        },
    },
}


def test_mplug_owl2_and_its_abstractor_equal_their_equations():
    """The encoder is CLIP's, compared elsewhere; its features are taken as they come."""
    pixels, ids = torch.randn(3, 56, 56), [1, 8, 9, 33]
    published, got = released(OWL_SETTINGS, pixels, ids)
    model = made(read_system(OWL_SETTINGS, name="small").card)
    with torch.no_grad():
        features = model.branch("image").encode([pixels])[0].tokens_ND
    assert features.shape == (17, 24)
    want = owl_by_its_equations(published, features, ids, OWL_SETTINGS)
    assert (got - want).abs().max() / want.std() < 1e-5


def test_counts_of_released_models():
    """Numbers of parameters: 17.6 and 19.5 thousand million, 6.5 of them the visual expert's (2311.03079); 8.2 (2311.04257)."""
    for name, whole in (
        ("cogvlm-chat", 17_639_685_376),
        ("cogvlm2-llama3-chat-19b", 19_528_863_232),
        ("mplug-owl2-7b", 8_197_859_328),
    ):
        model = build(card(name), device="meta")
        assert sum(parameter.numel() for parameter in model.parameters()) == whole
    assert (
        round(sum(p.numel() for p in build(card("cogvlm-chat"), device="meta").fusion.parameters()) / 1e9, 1)
        == 6.5
    )


def test_cogagent_files_are_read():
    """Sizes of THUDM/cogagent-chat-hf give the card's parts."""
    settings = {
        **SETTINGS,
        "architectures": ["CogAgentForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
        "cross_image_size": 1120,
        "cross_hidden_size": 1024,
        "cross_compute_hidden_size": 1024,
        "vision_config": {
            **SETTINGS["vision_config"],
            "hidden_size": 1792,
            "num_hidden_layers": 63,
            "num_heads": 16,
            "intermediate_size": 15360,
            "image_size": 224,
        },
    }
    reading = read_system(settings, name="cogagent")
    known = card("cogagent-chat")
    main = known.main.but(**{"attention.num_kv_heads": 32})
    assert reading.card.fusion == known.fusion and reading.card.main == main
    assert reading.card.branch("details") == known.branch("details")
    assert reading.card.branch("image") == known.branch("image")
    model = build(known, device="meta")
    own = {name: tuple(values.shape) for name, values in model.state_dict().items()}
    assert to_published(model.state_dict(), reading.namings[0]).keys() >= {
        "model.cross_vision.pos_embed",
        "model.cross_vision.vit.model.blocks.23.attn.q_proj.weight",
        "model.layers.31.cross_attn.key_value.weight",
        "model.vision.pos_embed",
    }
    assert own["languages.main.blocks.0.cross.k.weight"] == (1024, 1024)
    assert sum(values.numel() for values in model.parameters()) == 18_290_246_080
    with pytest.raises(BeholderError, match="cross_hidden_size 512"):
        read_system(settings | {"cross_hidden_size": 512}, name="x")
