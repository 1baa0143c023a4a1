"""Phi-4-multimodal's way to hear: halving and separable convolutions, clipped distances, blocks, two projectors."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.audio.conformer import SeparableConv
from beholder.parts.audio.stems import HalvingConvs
from beholder.parts.audio.transformer import SignalTransformer
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.relative import ClippedDistances
from beholder.parts.connectors.company import ByCompany
from beholder.parts.connectors.pooling import GridPool
from beholder.parts.connectors.projections import Linear, Mlp
from beholder.parts.contracts import Context, Packed

ENCODER = SignalTransformer(
    HalvingConvs(8, steps=2),
    size=(10, 64),
    dim=16,
    num_layers=2,
    attention=Attention(2, qkv_bias=True, relative=ClippedDistances(12, 6)),
    mlp=FeedForward(24, "silu", gated=True),
    conv=SeparableConv(),
    last_norm=False,
    block=5,
)


@pytest.mark.parametrize("frames", [1, 7, 16, 17])
def test_each_step_halves_time_and_frequency(frames: int) -> None:
    stem = HalvingConvs(8, steps=3)
    tokens = stem.build(10, 16)(torch.randn(2, 1, 10, frames))
    assert tokens.shape == (2, stem.grid((10, frames)).num_tokens, 16)
    assert stem.filled((10, 64), frames) == -(-frames // 8)


def test_bins_are_normed_as_published() -> None:
    """(x - mean) * inverse deviation, before anything else."""
    stem, view = HalvingConvs(8, steps=1).build(4, 16), torch.randn(1, 1, 4, 6)
    before = stem(view)
    stem.mean.fill_(2.0)
    stem.inverse_std.fill_(4.0)
    assert torch.allclose(stem(view / 4.0 + 2.0), before, atol=1e-5)


def test_frames_hear_those_before_them() -> None:
    conv, x = SeparableConv(kernel=3).build(8, Norm()), torch.randn(1, 6, 8)
    before = conv(x)
    x[:, 3:] = torch.randn(1, 3, 8)
    after = conv(x)
    assert torch.equal(before[:, :3], after[:, :3]) and not torch.allclose(before[:, 3:], after[:, 3:])
    with pytest.raises(BeholderError, match="keeps its width"):
        SeparableConv(expansion=2)


def test_a_separable_convolution_is_what_it_says() -> None:
    conv, x = SeparableConv(kernel=2).build(3, Norm()), torch.randn(1, 4, 3)
    torch.nn.init.normal_(conv.up_bias)
    torch.nn.init.normal_(conv.gate_bias)
    up = F.linear(conv.norm(x), conv.up.weight[..., 0], conv.up.bias)
    mixed = (up[..., :3] + conv.up_bias.T) * F.silu(up[..., 3:] + conv.gate_bias.T)
    last = torch.stack([mixed[:, 0] * 0, *mixed.unbind(1)[:-1]], 1)
    deep = (
        last * conv.depthwise.weight[:, 0, 0] + mixed * conv.depthwise.weight[:, 0, 1] + conv.depthwise.bias
    )
    joined = F.silu(F.linear(deep, conv.pointwise.weight[..., 0], conv.pointwise.bias))
    assert torch.allclose(conv(x), F.linear(joined, conv.down.weight[..., 0], conv.down.bias), atol=1e-6)


def test_far_distances_are_one() -> None:
    distances = torch.tensor([-9, -6, -5, 0, 4, 5, 6])
    assert ClippedDistances(12, 6).of(distances).tolist() == [0, 0, 1, 6, 10, 11, 11]
    with pytest.raises(BeholderError, match="need 12 scores, not 32"):
        ClippedDistances(32, 6)


def test_long_signals_are_heard_in_blocks_filled_up_with_zeros() -> None:
    torch.manual_seed(0)
    encoder, view = ENCODER.build().eval(), torch.randn(1, 10, 48)
    with torch.no_grad():
        tokens = encoder([view]).tokens_ND
        stem = encoder.stem(view[None])[0]
        blocks = [F.pad(part, (0, 0, 0, 5 - len(part))) for part in stem.split(5)]
        whole = ENCODER.but(block=None).build().eval()
        whole.load_state_dict(encoder.state_dict())
        whole.stem = torch.nn.Identity()
        want = [whole._encode([block], None)[0][2] for block in blocks]
    assert torch.allclose(tokens, torch.cat(want)[:12], atol=1e-5)


def test_padding_of_blocks_is_cut_off() -> None:
    torch.manual_seed(0)
    encoder, view = ENCODER.build().eval(), torch.randn(1, 10, 48)
    with torch.no_grad():
        short = encoder([view[..., :30]]).tokens_ND
        assert torch.allclose(encoder([view], [30]).tokens_ND, short, atol=1e-6)
    with pytest.raises(BeholderError, match="leave out block"):
        ENCODER.but(taps=(1,))


def test_the_map_depends_on_the_company() -> None:
    connector, x = ByCompany(Linear(), Linear()).build(4, 6), torch.randn(3, 4)
    packed = Packed(x, (Grid(1, 1, 3),))
    alone, beside = (connector(packed, Context(beside=beside)).tokens_ND for beside in (False, True))
    assert torch.equal(alone, connector.alone(packed).tokens_ND)
    assert torch.equal(beside, connector.beside(packed).tokens_ND) and not torch.allclose(alone, beside)
    with pytest.raises(BeholderError, match="as many tokens"):
        ByCompany(GridPool(Mlp(), factor=2), Mlp()).grid(Grid(1, 4, 4))
