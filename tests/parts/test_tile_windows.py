"""TextMonkey's tiles that look at each other, and the tokens of them that stay, against formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.geometry import plan_picture
from beholder.media.plan import Grid
from beholder.media.slices import Cut
from beholder.parts.blocks.attention import Attention
from beholder.parts.connectors.cross_resampler import CrossResampler
from beholder.parts.connectors.kept_tokens import KeptTokens, least_alike
from beholder.parts.contracts import Context, Packed
from beholder.parts.vision.sizes import QWEN_VL
from beholder.parts.vision.tile_windows import TileWindows
from tests.parts.test_resamplers import drawn

SMALL = TileWindows(base=QWEN_VL).tiny()


def read_in_windows(layer: torch.nn.Module, map_HWD: torch.Tensor) -> torch.Tensor:
    """One token after the other: 4 x 4 rolled by 1, padded to 6 x 6, cut into windows of 3 x 3."""
    x_HWC = layer.narrow(map_HWD + layer.places.view(4, 4, -1))
    normed, heads, mixed = layer.norm1(x_HWC), layer.heads.num_heads, torch.zeros_like(x_HWC)

    def rolled(row: int, column: int) -> torch.Tensor:
        if row >= 4 or column >= 4:
            return torch.zeros(x_HWC.shape[-1])  # padding, whose biases are seen
        return normed[(row + 1) % 4, (column + 1) % 4]

    def region(place: int) -> int:
        return (place >= 3) + (place >= 5)

    table = layer.bias.table.view(5, 5, heads)
    for row in range(4):
        for column in range(4):
            window = [(r + row // 3 * 3, c + column // 3 * 3) for r in range(3) for c in range(3)]
            near = [(r, c) for r, c in window if (region(r), region(c)) == (region(row), region(column))]
            asked = layer.heads.q(rolled(row, column)).view(heads, -1)
            keys = torch.stack([layer.heads.k(rolled(*place)).view(heads, -1) for place in near], 1)
            values = torch.stack([layer.heads.v(rolled(*place)).view(heads, -1) for place in near], 1)
            bias = torch.stack([table[row - r + 2, column - c + 2] for r, c in near], 1)
            scores = (asked[:, None] * keys).sum(-1) / math.sqrt(asked.shape[-1]) + bias
            given = (scores.softmax(-1)[..., None] * values).sum(1).flatten()
            mixed[(row + 1) % 4, (column + 1) % 4] = layer.heads.out(given)
    x_HWC = x_HWC + mixed
    return map_HWD + layer.down(F.gelu(layer.up(layer.norm2(x_HWC)))) * layer.scale


def test_tiles_of_a_picture_look_at_each_other_in_shifted_windows() -> None:
    encoder = drawn(SMALL.build())
    views = [torch.randn(3, 28, 28) for _ in range(10)]
    given = encoder(views)
    assert given.grids == (Grid(1, 2, 2),) * 10
    base = encoder.base
    for picture in range(2):
        tiles = base._embed(torch.stack(views[5 * picture : 5 * picture + 4]))[:, 0]
        for block, window in zip(base.blocks, encoder.windows, strict=True):
            rows = [torch.cat([tile.view(2, 2, -1) for tile in tiles[n : n + 2]], 1) for n in (0, 2)]
            read = read_in_windows(window, torch.cat(rows))
            tiles = torch.stack([read[r : r + 2, c : c + 2].flatten(0, 1) for r in (0, 2) for c in (0, 2)])
            tiles = tiles + block.attn.out(_attended(block, block.norm1(tiles)))
            tiles = tiles + block.mlp(block.norm2(tiles))
        whole = base([views[5 * picture + 4]]).tokens_ND
        ours = given.split()[5 * picture : 5 * picture + 5]
        assert torch.allclose(torch.stack(ours[:4]), tiles, atol=1e-4)
        assert torch.allclose(ours[4], whole, atol=1e-5)


def _attended(block: torch.nn.Module, normed_BTD: torch.Tensor) -> torch.Tensor:
    heads = block.attn.config.num_heads
    q, k, v = (
        part(normed_BTD).unflatten(-1, (heads, -1)).transpose(1, 2)
        for part in (block.attn.q, block.attn.k, block.attn.v)
    )
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def test_a_view_by_itself_is_the_whole_of_a_picture() -> None:
    encoder = drawn(SMALL.build())
    view = torch.randn(3, 28, 28)
    assert torch.equal(encoder([view]).tokens_ND, encoder.base([view]).tokens_ND)
    with pytest.raises(BeholderError, match="4 views; .* pictures of 4 tiles"):
        encoder([view] * 4)
    with pytest.raises(BeholderError, match="unequal sizes"):
        encoder([view, torch.randn(3, 42, 42), view, view, view])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"heads": (4,)}, "4 layers, 4 widths and 1 numbers"),
        ({"before": (1, 2, 3, 48)}, "before layer 48, but the encoder has 48"),
        ({"window": 64}, "windows of 64 tokens on a map of 64"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(BeholderError, match=says):
        TileWindows(base=QWEN_VL, **change)


def test_tokens_stay_whose_nearest_behind_them_is_farthest() -> None:
    generator = torch.Generator().manual_seed(5)
    x_PND = torch.randn(2, 9, 6, generator=generator)
    x_PND[0, 3] = 2 * x_PND[0, 7]  # its like is behind it: the earlier of the two goes
    for x_ND, ours in zip(x_PND, least_alike(x_PND, 5), strict=True):
        nearest = [
            max((float(F.cosine_similarity(x_ND[i], x_ND[j], 0)) for j in range(i + 1, 9)), default=-2.0)
            for i in range(9)
        ]
        assert ours.tolist() == sorted(sorted(range(9), key=nearest.__getitem__)[:5])
    assert 3 not in least_alike(x_PND, 8)[0] and 7 in least_alike(x_PND, 8)[0]


def test_kept_tokens_have_read_all_and_the_wholes_stand_behind_them() -> None:
    config = KeptTokens(kept=5, width=16, attention=Attention(2, head_dim=8), then=CrossResampler(queries=4))
    layer = drawn(config.build(32, 128))
    plan = plan_picture((50, 80), Cut(tile=28, last=True), lambda _view: Grid(1, 2, 2), config.grids)
    given = Packed(torch.randn(2 * 5 * 4, 32), (Grid(1, 2, 2),) * 10)
    result = layer(given, Context(plans=((plan, plan),)))
    assert result.grids == (Grid(1, 1, 5), Grid(1, 1, 4)) * 2
    views = layer.then(given).split()
    for number, ours in enumerate(result.tokens_ND.split(9)):
        own = views[5 * number : 5 * number + 5]
        x_ND = torch.cat(own[:4])
        kept = x_ND[least_alike(x_ND[None], 5)[0]]
        asked = layer.norm_queries(layer.narrow(kept))
        read = torch.cat((layer.norm_features(layer.narrow(x_ND)), asked))
        q, k, v = (
            part(x).view(len(x), 2, 8).transpose(0, 1)
            for part, x in ((layer.attn.q, asked), (layer.attn.k, read), (layer.attn.v, read))
        )
        seen = layer.attn.out(((q @ k.mT / 8**0.5).softmax(-1) @ v).transpose(0, 1).flatten(1))
        change = layer.down(F.gelu(layer.up(layer.norm(seen)))) * layer.scale
        assert torch.allclose(ours, torch.cat((kept + change, own[4])), atol=1e-4)
    alone = Packed(given.tokens_ND[:4], given.grids[:1])
    assert torch.equal(layer(alone).tokens_ND, layer.then(alone).tokens_ND)
    with pytest.raises(BeholderError, match="4 tiles have 16 tokens; 17 cannot be kept"):
        config.but(kept=17).grids((), given.grids[:5])
