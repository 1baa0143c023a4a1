"""Florence-2's connector, its encoder, and DaViT's attention among channels."""

from __future__ import annotations

import json

import pytest
import torch

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.model import build
from beholder.parts.connectors.placed import Placed, PlacedConnector
from beholder.parts.contracts import Packed
from beholder.parts.vision.davit import ChannelMixer, WindowMixer
from beholder.parts.vision.windows import Heads
from beholder.weights.load import state_tensors
from beholder.weights.readers.systems import read_system


def connector() -> PlacedConnector:
    built = Placed(side=6, frames=3).build(8, 12)
    assert isinstance(built, PlacedConnector)
    return built


def test_the_mean_stands_before_the_places() -> None:
    torch.manual_seed(0)
    module, tokens = connector(), torch.randn(6, 8)
    given = module(Packed(tokens, (Grid(1, 2, 3),)))
    assert given.grids == (Grid(1, 1, 7),)
    waves = torch.tensor([0.0, 1.0]).repeat(4)  # of frame 0: sines and cosines in turn
    placed = torch.stack(
        [
            tokens[row * 3 + column] + torch.cat((module.columns[column], module.rows[row])) + waves
            for row in range(2)
            for column in range(3)
        ]
    )
    want = module.norm(torch.cat((placed.mean(0, keepdim=True), placed)) @ module.linear.linear.weight.T)
    assert torch.allclose(given.tokens_ND, want, atol=1e-6)


def test_frames_are_averaged_at_each_place() -> None:
    module = connector()
    given = module(Packed(torch.randn(12, 8), (Grid(3, 2, 2),)))
    assert given.grids == (Grid(1, 1, 7),)  # three means and four places
    with pytest.raises(BeholderError, match="knows 3 frames of 6x6"):
        module(Packed(torch.randn(7, 8), (Grid(1, 1, 7),)))


def test_channels_see_only_their_group() -> None:
    torch.manual_seed(0)
    mixer = ChannelMixer(Heads(8, 2, bias=True))
    mixer.heads.out = torch.nn.Identity()
    with torch.no_grad():
        for name in ("q", "k", "v"):
            getattr(mixer.heads, name).weight.copy_(torch.eye(8))
    x = torch.randn(1, 3, 3, 8)
    changed = x.clone()
    changed[..., 7] += 1.0
    first, second = mixer(x), mixer(changed)
    assert torch.allclose(first[..., :4], second[..., :4])
    assert not torch.allclose(first[..., 4:7], second[..., 4:7])
    moved = mixer(x.flip(1))  # the whole map is seen, wherever its cells lie
    assert torch.allclose(moved.flip(1), first, atol=1e-6)


def test_cells_see_only_their_window() -> None:
    torch.manual_seed(0)
    mixer = WindowMixer(Heads(8, 2, bias=True), 2)
    x = torch.randn(1, 4, 6, 8)
    changed = x.clone()
    changed[0, 1, 2] += 1.0
    moved = (mixer(x) - mixer(changed))[0].abs().amax(-1) > 1e-6
    want = torch.zeros(4, 6, dtype=torch.bool)
    want[0:2, 2:4] = True
    assert torch.equal(moved, want)


def test_pictures_and_words_see_each_other_in_the_encoder() -> None:
    model = build(card("florence-2-base").tiny())
    encoder = model.language.encoder
    from beholder.parts.blocks.masks import Visibility
    from beholder.parts.contracts import LanguageInputs

    ids = torch.tensor([[5, 5, 7, 8]])
    seen = Visibility.causal(1, 4)
    embeddings = torch.randn(1, 4, 32, requires_grad=True)
    hidden = encoder(LanguageInputs(ids, embeddings, seen.blocks_BT, seen)).hidden_BTD
    hidden[0, 0].square().sum().backward()
    assert embeddings.grad is not None and embeddings.grad[0, 3].abs().sum() > 0


def test_microsofts_own_files(tmp_path: object) -> None:
    """The settings and names of microsoft/Florence-2-large; the weights of both layouts make one model."""
    vision = {
        "model_type": "davit",
        "dim_embed": [16, 32, 48, 64],
        "num_heads": [2, 2, 4, 4],
        "num_groups": [2, 2, 4, 4],
        "depths": [1, 1, 2, 1],
        "enable_checkpoint": False,
        "projection_dim": 32,
        "visual_temporal_embedding": {"type": "COSINE", "max_temporal_embeddings": 9},
        "image_pos_embed": {"type": "learned_abs_2d", "max_pos_embeddings": 7},
        "image_feature_source": ["spatial_avg_pool", "temporal_avg_pool"],
    }
    text = {
        "vocab_size": 99,
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "output_attentions": True,
    }
    config = {"model_type": "florence2", "projection_dim": 32, "vocab_size": 99}
    reading = read_system({**config, "vision_config": vision, "text_config": text}, name="x")
    from beholder.weights.layout import to_own, to_published

    model = build(reading.card)
    own = state_tensors(model)
    published = to_published(own, reading.namings[0])
    assert published["image_projection"].shape == (64, 32)
    for name in (
        "vision_tower.blocks.2.1.channel_block.channel_attn.fn.qkv.weight",
        "language_model.model.encoder.layers.0.self_attn.q_proj.weight",
        "language_model.final_logits_bias",
        "image_pos_embed.row_embeddings.weight",
        "visual_temporal_embed.pos_idx_to_embed",
    ):
        assert name in published, json.dumps(sorted(published), indent=1)
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    again = to_own(published, reading.namings[0], shapes)
    assert all(torch.equal(again[name].load(), own[name]) for name in shapes)
    with pytest.raises(BeholderError, match="image_feature_source"):
        wrong = {**vision, "image_feature_source": ["last_frame"]}
        read_system({**config, "vision_config": wrong, "text_config": text}, name="x")
