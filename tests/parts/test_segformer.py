"""SegFormer's encoder and its labels of cells."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.contracts import BranchOutput, HeadInputs, Packed
from beholder.parts.heads.cells import CellLabels
from beholder.parts.vision.mix_transformer import MixTransformer, ReducedAttention

MIT = MixTransformer(
    dims=(8, 12),
    depths=(1, 2),
    heads=(2, 3),
    kernels=(7, 3),
    strides=(4, 2),
    ratios=(4, 1),
    hidden=(2.0, 2.0),
)


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (20, 61)])
def test_maps_have_the_foretold_sides(size: tuple[int, int]) -> None:
    packed = MIT.build().eval()([torch.randn(3, *size)])
    assert {number: tap.grids for number, tap in packed.taps.items()} == {
        number: (grid,) for number, grid in zip(MIT.taps, MIT.grids(size), strict=True)
    }
    assert packed.grids == (MIT.grid(size),)
    assert packed.pooled_VD is not None
    assert torch.allclose(packed.pooled_VD[0], packed.tokens_ND.mean(0), atol=1e-6)


def test_cells_look_at_a_coarser_map() -> None:
    torch.manual_seed(0)
    attn, x = ReducedAttention(6, 2, 2), torch.randn(1, 4, 6, 6)
    coarse = attn.norm(attn.reduce(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)).flatten(1, 2)
    q, k, v = attn.heads.q(x.flatten(1, 2)), attn.heads.k(coarse), attn.heads.v(coarse)
    heads = [
        ((q[0, :, part] @ k[0, :, part].T) / 3**0.5).softmax(-1) @ v[0, :, part]
        for part in (slice(0, 3), slice(3, 6))
    ]
    want = attn.heads.out(torch.cat(heads, -1)).view(1, 4, 6, 6)
    assert coarse.shape[1] == 6 and torch.allclose(attn(x), want, atol=1e-5)


def test_there_are_places_without_positions() -> None:
    """A picture of one colour gives other cells at its edges, where the convolutions are padded."""
    torch.manual_seed(0)
    with torch.no_grad():
        tokens = MIT.build().eval()([torch.ones(3, 64, 64)]).tokens_ND.view(8, 8, -1)
    assert not torch.allclose(tokens[0, 0], tokens[4, 4], atol=1e-4)


def test_labels_are_of_all_maps_on_the_first_grid() -> None:
    torch.manual_seed(0)
    head = CellLabels(dims=(8, 12), width=6, count=3).build(None).eval()
    fine, coarse = torch.randn(6, 8), torch.randn(2, 12)
    grids = (Grid(1, 2, 3),), (Grid(1, 1, 2),)
    taps = {1: Packed(fine, grids[0]), 2: Packed(coarse, grids[1])}
    seen = Packed(coarse, grids[1], taps)
    given = head(HeadInputs(branches={"image": BranchOutput(seen, (), (seen,))}))
    first = head.maps[0](fine).T.view(1, 6, 2, 3)
    second = F.interpolate(head.maps[1](coarse).T.view(1, 6, 1, 2), (2, 3), mode="bilinear")
    want = head.labels(head.norm(head.fuse(torch.cat((second, first), 1))).relu())
    assert given.grids == grids[0] and torch.allclose(given.tokens_ND, want[0].flatten(1).T, atol=1e-6)
    with pytest.raises(BeholderError, match="read 2 maps; the encoder gives 1"):
        seen = Packed(coarse, grids[1], {2: taps[2]})
        head(HeadInputs(branches={"image": BranchOutput(seen, (), (seen,))}))
    with pytest.raises(BeholderError, match="3 labels have 1 names"):
        CellLabels(dims=(8,), width=6, count=3, names=("sky",))
