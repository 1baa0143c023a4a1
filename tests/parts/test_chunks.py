"""Sounds that are heard chunk by chunk."""

from __future__ import annotations

import pytest
import torch

from beholder.errors import BeholderError
from beholder.media.plan import Box, View
from beholder.parts.audio.chunks import Chunks
from beholder.parts.audio.positions import SinePositions
from beholder.parts.audio.stems import FrameConvs
from beholder.parts.audio.transformer import SignalTransformer
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward

INNER = SignalTransformer(
    FrameConvs(),
    size=(4, 12),
    dim=16,
    num_layers=2,
    attention=Attention(2, qkv_bias=True),
    mlp=FeedForward(24),
    positions=SinePositions(),
    shrink=2,
)
CHUNKS = Chunks(INNER, 12, spare=(2, 8))


@pytest.mark.parametrize("count", [12, 24, 31, 36, 5, 25])
def test_tokens_are_those_of_each_chunk(count: int) -> None:
    """The encoder alone over each chunk; a last one that is too short for a token gives none."""
    torch.manual_seed(0)
    encoder, view = CHUNKS.build().eval(), torch.randn(1, 4, count)
    with torch.no_grad():
        packed = encoder([view])
        want = [encoder.encoder([piece]).tokens_ND for piece in view.split(12, -1) if piece.shape[-1] > 2]
    assert torch.allclose(packed.tokens_ND, torch.cat(want), atol=1e-6)
    assert packed.grids == (CHUNKS.grid((4, count)),) and packed.grids[0].num_tokens == len(packed.tokens_ND)


def test_no_chunk_hears_another_or_padding() -> None:
    torch.manual_seed(0)
    encoder, one, two = CHUNKS.build().eval(), torch.randn(1, 4, 30), torch.randn(1, 4, 36)
    with torch.no_grad():
        before = encoder([one, two], [20, 36]).split()
        one[..., 20:], two[..., 12:24] = 9.0, 9.0
        after = encoder([one, two], [20, 36]).split()
    assert torch.equal(before[0], after[0]) and len(after[0]) == 3 + 2
    assert torch.equal(before[1][:3], after[1][:3]) and torch.equal(before[1][6:], after[1][6:])
    assert not torch.allclose(before[1][3:6], after[1][3:6])
    view = View((4, 20), (), Box(0, 0, 30, 4), role="sound")
    assert CHUNKS.view_grid(view).num_tokens == 5


def test_what_chunks_cannot_do() -> None:
    with pytest.raises(BeholderError, match="chunks of 0 columns"):
        Chunks(INNER, 0)
    with pytest.raises(BeholderError, match="taps \\(1,\\)"):
        Chunks(INNER.but(taps=(1,)), 12)
    with pytest.raises(BeholderError, match="takes views of 4 rows, not 5"):
        CHUNKS.grid((5, 12))
    assert CHUNKS.build().unused_parameters(pooled=False) == {"spare"}
