"""A connector's words add to its tokens what fits them."""

from __future__ import annotations

import torch

from beholder.media.plan import Grid
from beholder.parts.connectors.projections import Mlp
from beholder.parts.connectors.visual_words import VisualWords
from beholder.parts.contracts import Packed

CONFIG = VisualWords(Mlp(depth=1), words=3)


def packed(num_tokens: int = 4) -> Packed:
    return Packed(torch.randn(num_tokens, 8), (Grid(1, 1, num_tokens),))


def test_words_without_content_change_nothing() -> None:
    connector, features = CONFIG.build(8, 6), packed()
    connector.values.data.zero_()
    torch.testing.assert_close(connector(features).tokens_ND, connector.base(features).tokens_ND)


def test_the_word_that_fits_is_added() -> None:
    connector, features = CONFIG.build(8, 6), packed(1)
    token = connector.base(features).tokens_ND
    keys = torch.stack((-token[0], 1000 * token[0], torch.zeros(6))).detach()
    values = torch.tensor([[1.0], [2.0], [3.0]]).expand(3, 6)
    connector.fill(keys, values)
    torch.testing.assert_close(connector(features).tokens_ND, token + 2.0)


def test_equal_fits_add_the_mean() -> None:
    connector, features = CONFIG.build(8, 6), packed()
    values = torch.randn(3, 6)
    connector.fill(torch.zeros(3, 6), values)
    added = connector(features).tokens_ND - connector.base(features).tokens_ND
    torch.testing.assert_close(added, values.mean(0).expand(4, 6), atol=1e-5, rtol=1e-5)


def test_grids_and_counts_are_the_base_connectors() -> None:
    grid = Grid(1, 7, 7)
    assert CONFIG.grid(grid) == Mlp().grid(grid) and CONFIG.num_tokens(grid) == Mlp().num_tokens(grid)
    assert CONFIG.tiny().build(8, 6)(packed()).grids == packed().grids
