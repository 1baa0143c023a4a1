"""Pages whose padding is read: one token stands for all of it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.pages import Pages
from beholder.media.plan import Box, Grid, PicturePlan, View, in_order
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.latent_queries import LatentQueries
from beholder.parts.contracts import Context, Packed
from beholder.parts.vision.filled import FilledViT
from beholder.parts.vision.positions import RowsColumns

VIT = FilledViT(
    image_size=8,
    patch=4,
    dim=16,
    num_layers=2,
    attention=Attention(2),
    mlp=FeedForward(24, gated=True),
    norm=Norm("rms"),
    positions=RowsColumns(6),
)
LATENTS = LatentQueries(latents=3, attention=Attention(2, qkv_bias=True), padded=True)


def test_all_padding_is_alike_and_nobody_looks_at_it() -> None:
    """Against the layers over a page with five such tokens that are masked as keys."""
    torch.manual_seed(0)
    encoder, view = VIT.build().eval(), torch.randn(3, 8, 12)
    with torch.no_grad():
        packed = encoder([view])
        x_TD = encoder._embed(view[None])[0, 0]
        x_1TD = torch.cat((x_TD[:-1], x_TD[-1:].expand(5, -1)))[None]
        for block in encoder.blocks:
            y, attn = block.norm1(x_1TD), block.attn
            q, k, v = (attn.split(heads) for heads in attn.project(y))
            heads = F.scaled_dot_product_attention(q, k[:, :, :6], v[:, :, :6])
            x_1TD = x_1TD + attn.merge(heads)
            x_1TD = x_1TD + block.mlp(block.norm2(x_1TD))
        want_TD = encoder.post_norm(x_1TD)[0]
    assert packed.grids == (Grid(1, 1, 7),) == (VIT.grid((8, 12)),)
    assert torch.allclose(packed.tokens_ND, want_TD[:7], atol=1e-5)
    assert torch.allclose(want_TD[6:], want_TD[6:7].expand(5, -1), atol=1e-6)


def test_pages_of_unequal_sizes_run_apart() -> None:
    torch.manual_seed(0)
    encoder, views = VIT.build().eval(), [torch.randn(3, 8, 12), torch.randn(3, 4, 4)]
    with torch.no_grad():
        both, one = encoder(views).split(), encoder(views[1:]).tokens_ND
    assert torch.allclose(both[1], one, atol=1e-6) and len(one) == 2
    with pytest.raises(BeholderError, match="padding has row and column 0"):
        VIT.but(cls=True)


@pytest.mark.parametrize("spare", [0, 1, 4])
def test_latents_read_padding_as_often_as_there_is(spare: int) -> None:
    torch.manual_seed(0)
    connector, tokens = LATENTS.build(8, 16), torch.randn(5, 8)
    view = View((1, 5), (), Box(0, 0, 5, 1), spare=spare)
    plan = PicturePlan("image", (1, 5), (view,), (Grid(1, 1, 3),), (in_order((Grid(1, 1, 3),)),))
    given = connector(Packed(tokens, (Grid(1, 1, 5),)), Context(plans=((plan,),))).tokens_ND
    plain = LATENTS.but(padded=False).build(8, 16)
    plain.load_state_dict(connector.state_dict())
    repeated = torch.cat((tokens[:4], tokens[4:].expand(spare, -1)))
    want = plain(Packed(repeated, (Grid(1, 1, 4 + spare),))).tokens_ND
    assert torch.allclose(given, want, atol=1e-6)


def test_pages_tell_what_they_are_short_of() -> None:
    (view,) = Pages(cell=8, most=32, filled=True).views((48, 64))
    assert view.spare == 32 - (view.size[0] // 8) * (view.size[1] // 8) > 0
    assert Pages(cell=8, most=32).views((48, 64))[0].spare == 0
