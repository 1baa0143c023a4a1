"""A decoder as an encoder of texts, and LLM2CLIP's adapter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.model import Batch, Model, build
from beholder.parts.blocks.masks import Visibility
from beholder.parts.contracts import LanguageInputs
from beholder.parts.language.two_way import TextAdapter, TwoWayDecoder, TwoWayModel
from beholder.pipeline import Pipeline
from beholder.weights.layout import Binding, to_published
from beholder.weights.layouts.common import CLIP_SCALE
from beholder.weights.layouts.dual import TEXT_ADAPTER
from beholder.weights.layouts.vision import OPEN_CLIP, OPEN_CLIP_PROJECTION
from beholder.weights.load import load_state, state_tensors
from tests.toys import DECODER, byte_tokenizer

CONFIG = TwoWayDecoder(DECODER.but(tied=True), TextAdapter(width=24), skip=2, context=64)
NAMING = (
    Binding("visual.", "branches.image.vision.", OPEN_CLIP),
    Binding("visual.", "branches.image.connector.", OPEN_CLIP_PROJECTION),
    Binding("text.", "languages.main.adapter.", TEXT_ADAPTER),
    Binding("", "heads.0.", CLIP_SCALE),
)


@pytest.fixture(scope="module")
def tower() -> TwoWayModel:
    torch.manual_seed(0)
    model = CONFIG.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@torch.no_grad()
def read(tower: TwoWayModel, ids: Tensor, lengths: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    seen = Visibility.causal_rows(lengths or (ids.shape[1],) * len(ids), ids.shape[1])
    output = tower(LanguageInputs(ids, tower.embed(ids), seen.blocks_BT, seen, lengths))
    assert output.pooled_BD is not None
    return output.hidden_BTD, output.pooled_BD


def layer_by_hand(block: nn.Module, x: Tensor) -> Tensor:
    """A layer of the decoder on one text (T, D), every token seeing all."""

    def rms(x: Tensor, norm: nn.Module) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight

    def turned(x: Tensor) -> Tensor:
        rates = 10000.0 ** (-torch.arange(4) / 4)
        angles = torch.arange(x.shape[1])[:, None] * rates
        cos, sin = angles.cos()[None], angles.sin()[None]
        first, second = x.chunk(2, -1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)

    attn, y = block.attn, rms(x, block.norm1)
    q, k, v = (map_(y).unflatten(-1, (-1, 8)).transpose(0, 1) for map_ in (attn.q, attn.k, attn.v))
    k, v = (part.repeat_interleave(2, 0) for part in (k, v))
    weights = (turned(q) @ turned(k).transpose(-1, -2) / 8**0.5).softmax(-1)
    x = x + attn.out((weights @ v).transpose(0, 1).flatten(1))
    y = rms(x, block.norm2)
    return x + block.mlp.down(nn.functional.silu(block.mlp.gate(y)) * block.mlp.up(y))


@torch.no_grad()
def test_vectors_equal_the_formulas_of_decoder_mean_and_adapter(tower: TwoWayModel) -> None:
    ids = torch.randint(0, 300, (1, 9))
    x = tower.embed(ids)[0]
    for block in tower.decoder.blocks:
        x = layer_by_hand(block, x)
    x = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * tower.decoder.norm.weight
    hidden, pooled = read(tower, ids)
    assert torch.allclose(hidden[0], x, atol=1e-4)
    y = x[2:].mean(0)
    y = y / y.norm()
    for block in tower.adapter.blocks:
        inner = nn.functional.layer_norm(y, (32,), block.norm.weight, block.norm.bias)
        y = y + block.mlp.down(nn.functional.gelu(block.mlp.up(inner)))
    y = tower.adapter.linear(
        nn.functional.layer_norm(y, (32,), tower.adapter.norm.weight, tower.adapter.norm.bias)
    )
    assert torch.allclose(pooled[0], y, atol=1e-4)


@torch.no_grad()
def test_every_token_sees_those_behind_it_and_padding_is_not_seen(tower: TwoWayModel) -> None:
    ids = torch.randint(0, 300, (1, 7))
    hidden, pooled = read(tower, ids)
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % 300
    assert not torch.allclose(read(tower, other)[0][0, 0], hidden[0, 0], atol=1e-4)
    seen = Visibility.causal(1, 7)
    causal = tower.decoder(LanguageInputs(ids, tower.embed(ids), seen.blocks_BT, seen))
    assert not torch.allclose(causal.hidden_BTD[0, 0], hidden[0, 0], atol=1e-4)
    rows = torch.cat(
        (torch.cat((ids, torch.zeros(1, 4, dtype=torch.long)), 1), torch.randint(0, 300, (1, 11)))
    )
    assert torch.allclose(read(tower, rows, (7, 11))[1][0], pooled[0], atol=1e-5)


def test_the_prompt_is_read_and_not_counted(tower: TwoWayModel) -> None:
    with pytest.raises(BeholderError, match="a text of 2 tokens, of which the first 2"):
        read(tower, torch.tensor([[1, 2]]))
    with pytest.raises(BeholderError, match="tied=True"):
        TwoWayDecoder(DECODER)
    bare = TwoWayDecoder(DECODER.but(tied=True)).build().eval()
    hidden, pooled = read(bare, torch.tensor([[1, 2, 3]]))
    assert torch.allclose(pooled, hidden.mean(1), atol=1e-6) and bare.config.feature_dim == 32


def whole() -> Model:
    model = build(card("llm2clip-openai-l-14-336").tiny())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def test_the_published_names_come_back() -> None:
    """Those of the checkpoint that training writes; the language model has a folder of its own."""
    model = whole()
    tensors = {name: t for name, t in state_tensors(model).items() if ".decoder." not in name}
    published = to_published(tensors, NAMING)
    assert {"text.text_adaptor.0.fn.3.weight", "text.text_adaptor.5.bias", "visual.proj"} <= published.keys()
    assert len([name for name in published if name.startswith("text.")]) == 4 * 6 + 4
    again = build(model.card, seed=1)
    again.languages["main"].decoder.load_state_dict(model.languages["main"].decoder.state_dict())
    own = nn.ModuleDict({"branches": again.branches, "heads": again.heads})
    own["languages"] = nn.ModuleDict({"main": nn.ModuleDict({"adapter": again.languages["main"].adapter})})
    load_state(own, published, NAMING)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


def test_texts_and_pictures_meet_in_one_space() -> None:
    import numpy as np

    model = whole()
    pipeline = Pipeline(model, byte_tokenizer(), chat=model.card.prompt.but(start="<s>"))
    texts = ["a cat", "a much longer text about a dog"]
    found = pipeline.embed(images=[np.zeros((30, 40, 3), np.uint8)], texts=texts)
    assert found.images.shape[1] == found.texts.shape[1] == 32 and found.scores.shape == (1, 2)
    assert np.allclose(pipeline.embed(texts=texts[:1]).texts, found.texts[:1], atol=1e-5)
    output = model(Batch(torch.tensor([[1, 2, 3, 4, 5, 6, 7]])))
    assert output.heads["similarity"].texts_BD.norm().item() == pytest.approx(1, abs=1e-5)
