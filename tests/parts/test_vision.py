"""Encoders: sizes, positions, depths, and what a forward does not use."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Grid
from beholder.parts.vision.positions import GridTable, bucketed_positions
from beholder.parts.vision.views import by_size
from beholder.parts.vision.vit import Take
from tests.toys import VIT

BUCKETED = GridTable("bucketed")


def built(config):
    """With every parameter away from its start value, so that nothing is zero by chance."""
    model = config.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.mark.parametrize("config", [VIT, VIT.but(cls=True, pre_norm=True), VIT.but(pool="attention")])
@torch.no_grad()
def test_views_of_unequal_sizes_equal_each_alone(config):
    model = built(config.but(positions=BUCKETED))
    views = [torch.randn(3, *size) for size in ((28, 28), (42, 14), (14, 70), (28, 28), (56, 42))]
    packed = model(views)
    assert packed.grids == tuple(Grid(1, v.shape[1] // 14, v.shape[2] // 14) for v in views)
    for index, (view, tokens) in enumerate(zip(views, packed.split(), strict=True)):
        alone = model([view])
        assert torch.allclose(alone.tokens_ND, tokens, atol=1e-5)
        if packed.pooled_VD is not None:
            assert torch.allclose(alone.pooled_VD[0], packed.pooled_VD[index], atol=1e-5)


@torch.no_grad()
def test_vit_equals_the_formulas():
    """Patches by unfolding, layers by torch's own encoder layer."""
    config = VIT.but(cls=True)
    model = built(config)
    pixels = torch.randn(2, 3, 28, 28)
    patches = nn.functional.unfold(pixels, 14, stride=14).transpose(1, 2)
    x = patches @ model.patch.weight.flatten(1).T + model.patch.bias
    x = torch.cat((model.cls.expand(2, 1, -1), x), 1) + model.positions
    for block in model.blocks:
        layer = nn.TransformerEncoderLayer(
            32, 4, 48, dropout=0, activation="gelu", batch_first=True, norm_first=True
        ).eval()
        attn = block.attn
        for name in ("weight", "bias"):
            joined = torch.cat([getattr(part, name) for part in (attn.q, attn.k, attn.v)])
            getattr(layer.self_attn, f"in_proj_{name}").copy_(joined)
            for ours, theirs in (
                (attn.out, layer.self_attn.out_proj),
                (block.norm1, layer.norm1),
                (block.norm2, layer.norm2),
                (block.mlp.up, layer.linear1),
                (block.mlp.down, layer.linear2),
            ):
                getattr(theirs, name).copy_(getattr(ours, name))
        x = layer(x)
    want = model.post_norm(x)[:, 1:].flatten(0, 1)
    assert torch.allclose(model(list(pixels)).tokens_ND, want, atol=1e-4)


@torch.no_grad()
def test_depths_are_counted_from_either_end_and_joined():
    model = built(VIT.but(take=Take((0, 1, 2), norm=False)))
    view = [torch.randn(3, 28, 28)]
    joined = model(view).tokens_ND
    assert joined.shape == (4, 96)
    for layer, negative in ((0, -3), (1, -2), (2, -1)):
        for number in (layer, negative):
            model.config = VIT.but(take=Take((number,), norm=False))
            assert torch.equal(model(view).tokens_ND, joined[:, 32 * layer : 32 * layer + 32])
    model.config = VIT.but(take=Take((1,), norm=True))
    assert torch.allclose(model(view).tokens_ND, model.post_norm(joined[:, 32:64]), atol=1e-6)


def test_tokens_in_front_are_given_where_wanted():
    config = VIT.but(cls=True, registers=2, positions=GridTable("bicubic"))
    model = built(config)
    views = [torch.randn(3, 28, 28), torch.randn(3, 14, 42)]
    patches = model(views)
    model.config = config.but(take=config.take.but(front=True))
    whole = model(views)
    assert whole.grids == tuple(model.config.grid((view.shape[-2], view.shape[-1])) for view in views)
    assert [len(x_ND) for x_ND in whole.split()] == [3 + 4, 3 + 3]
    for all_ND, patches_ND in zip(whole.split(), patches.split(), strict=True):
        assert torch.equal(all_ND[3:], patches_ND)


def test_bucketed_positions():
    for side in (2, 7, 16, 26, 27, 32, 70):
        assert bucketed_positions(side, side).tolist() == list(range(side))
        for count in range(1, side + 1):
            got, want = bucketed_positions(count, side), torch.arange(count) * side // count
            assert (got - want).abs().max() <= 1  # float32 at the borders, as officially
            assert (got.diff() >= 0).all()
            assert got.max() < side


def test_sizes_an_encoder_cannot_take():
    with pytest.raises(BeholderError, match="takes 28x28 pixels, not 28x14"):
        VIT.grid((14, 28))
    with pytest.raises(BeholderError, match="28x7 pixels is smaller than one patch of 14"):
        VIT.but(positions=BUCKETED).grid((7, 28))
    with pytest.raises(UnknownName, match="bucketed"):
        GridTable("bucket")
    with pytest.raises(UnknownName, match="attention"):
        VIT.but(pool="attend")


@pytest.mark.parametrize(
    ("config", "pooled", "want"),
    [
        (VIT, False, ()),
        (VIT.but(take=Take((1,), norm=False)), False, ("blocks.1.", "post_norm.")),
        (VIT.but(take=Take((-2,), norm=True)), False, ("blocks.1.",)),
        (VIT.but(take=Take((0, -1), norm=False)), False, ("post_norm.",)),
        (VIT.but(pool="attention", take=Take((1,))), False, ("blocks.1.", "pool.")),
        (VIT.but(pool="attention", take=Take((1,))), True, ()),
        (VIT.but(cls=True, pool="cls", take=Take((-2,), norm=False)), True, ()),
    ],
)
def test_unused_parameters_are_exactly_those_without_a_gradient(config, pooled, want):
    model = built(config)
    size = config.image_size
    packed = model([torch.randn(3, size, size), torch.randn(3, size, size)])
    (packed.pooled_VD if pooled else packed.tokens_ND).pow(2).sum().backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == model.unused_parameters(pooled=pooled)
    assert {name for name, _ in model.named_parameters() if name.startswith(want)} == (
        without if want else set()
    )


def test_by_size_keeps_the_order():
    views = [torch.full((3, 4 + i % 2, 4), float(i)) for i in range(5)]
    calls = []
    out = by_size(views, lambda stack: calls.append(len(stack)) or stack.mean((1, 2, 3)))
    assert [float(x) for x in out] == [0, 1, 2, 3, 4]
    assert sorted(calls) == [2, 3]
