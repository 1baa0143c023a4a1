"""A connector that finds things and says what they are, where, and what words say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from beholder.media.plan import Exact, Grid
from beholder.parts.connectors.named_things import (
    PER_THING,
    NamedThings,
    Seen,
    alike,
    between,
    boxes_around,
    chosen,
    fine_map,
    overlaps,
    places,
)
from beholder.parts.connectors.projections import Mlp
from beholder.parts.contracts import Packed

CONFIG = NamedThings(Mlp(depth=1), words=5, kinds=3, colours=2, things=2, letters=3, hidden=8)
GRID = Grid(1, 3, 4)


def seen(odds_N: list[float], boxes_N4: list[tuple[float, ...]]) -> Seen:
    """Foretold of one view: how likely cells are centres, and their boxes; nothing else is known."""
    odds_VN = torch.tensor([odds_N])
    cells = odds_VN.shape[1]
    nothing = torch.zeros(1, cells, 1)
    return Seen(
        nothing,
        nothing,
        nothing,
        nothing,
        odds_VN.logit(),
        torch.tensor([boxes_N4]),
        nothing[:, 0],
        nothing[None],
    )


def packed(views: int = 2, grid: Grid = GRID) -> Packed:
    return Packed(torch.randn(views * grid.num_tokens, 8), (grid,) * views)


def test_tokens_are_as_many_as_foretold_whatever_the_grids_are() -> None:
    connector = CONFIG.build(8, 6)
    count = 1 + PER_THING * 2 + 3
    assert CONFIG.num_tokens(GRID) == Exact(count)
    small = Grid(1, 2, 2)
    mixed = Packed(torch.randn(GRID.num_tokens + small.num_tokens, 8), (GRID, small))
    for features in (packed(), mixed):
        given = connector(features)
        assert given.tokens_ND.shape == (2 * count, 6) and given.grids == (Grid(1, 1, count),) * 2
    alone = [
        connector(Packed(x_ND, (grid,))).tokens_ND
        for x_ND, grid in zip(mixed.split(), mixed.grids, strict=True)
    ]
    torch.testing.assert_close(connector(mixed).tokens_ND, torch.cat(alone))


def test_views_do_not_see_each_other() -> None:
    connector, features = CONFIG.build(8, 6), packed()
    first = Packed(features.split()[0], features.grids[:1])
    torch.testing.assert_close(
        connector(features).tokens_ND[: 1 + PER_THING * 2 + 3], connector(first).tokens_ND
    )


def test_boxes_that_lie_on_each_other_are_one_thing_and_their_odds_add_up() -> None:
    left, right, beside = (0.0, 0.0, 0.4, 1.0), (0.05, 0.0, 0.45, 1.0), (0.6, 0.0, 1.0, 1.0)
    cells_VK, sure_VK = chosen(seen([0.5, 0.4, 0.3], [left, right, beside]), 2)
    assert cells_VK.tolist() == [[0, 2]]
    torch.testing.assert_close(sure_VK, torch.tensor([[0.9, 0.3]]))


def test_more_things_than_boxes_are_nothing() -> None:
    box = (0.1, 0.1, 0.9, 0.9)
    _, sure_VK = chosen(seen([0.8, 0.7], [box, box]), 3)
    torch.testing.assert_close(sure_VK, torch.tensor([[1.0, 0.0, 0.0]]))


def test_overlap_of_halves_is_a_third() -> None:
    boxes_VN4 = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.5, 1.0]]])
    torch.testing.assert_close(overlaps(boxes_VN4)[0, 0], torch.tensor([1.0, 1 / 3]))


def test_boxes_reach_from_their_cells() -> None:
    reach_VN4 = torch.ones(1, GRID.num_tokens, 4)
    last_4 = boxes_around(reach_VN4, GRID)[0, -1]
    torch.testing.assert_close(last_4, torch.tensor([2.5 / 4, 1.5 / 3, 4.5 / 4, 3.5 / 3]))


def test_the_fine_map_undoes_the_fold() -> None:
    fine_VChw = torch.arange(2 * 3 * 6 * 8.0).view(2, 3, 6, 8)
    folded_VIhw = torch.nn.functional.pixel_unshuffle(fine_VChw, 2)
    x_VNI = torch.cat((torch.zeros(2, 5, 3, 4), folded_VIhw), 1).flatten(2).transpose(1, 2)
    assert torch.equal(fine_map(x_VNI, GRID, fine=12), fine_VChw)


@pytest.mark.parametrize(
    ("x", "shares"),
    [(1 / 6, (1.0, 0.0, 0.0)), (1 / 3, (0.5, 0.5, 0.0)), (0.5, (0.0, 1.0, 0.0)), (0.9, (0.0, 0.0, 1.0))],
)
def test_places_are_thirds(x: float, shares: tuple[float, float, float]) -> None:
    given_VK6 = places(torch.tensor([[[x - 0.05, 0.45, x + 0.05, 0.55]]]))
    torch.testing.assert_close(given_VK6[0, 0], torch.tensor([*shares, 0.0, 1.0, 0.0]), atol=1e-5, rtol=0)


def test_things_of_one_name_are_counted() -> None:
    names_VKW = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    torch.testing.assert_close(
        alike(names_VKW, torch.tensor([[1.0, 1.0, 0.5]])), torch.tensor([[1.5, 1.0, 1.5]])
    )


def test_numbers_between_digits_are_between_their_vectors() -> None:
    digits: Tensor = torch.arange(10.0)[:, None]
    torch.testing.assert_close(
        between(torch.tensor([0.0, 2.25, 42.0]), digits)[:, 0],
        torch.tensor([0.0, 2.25, 9.0]),
        atol=2e-3,
        rtol=0,
    )


def test_a_thing_is_told_of_in_words() -> None:
    """Of one sure thing: its name, its kind, colour, place and number, the tens and ones of its edges; then nothing."""
    connector = CONFIG.build(8, 6)
    with torch.no_grad():
        for number, value in enumerate(
            (connector.name_values, connector.kind_values, connector.colour_values, connector.place_values)
        ):
            value.fill_(10.0 ** -(number + 1))
        connector.digit_values.copy_(torch.arange(10.0)[:, None].expand(10, 6))
        connector.hundredth_values.copy_(torch.arange(10.0)[:, None].expand(10, 6) / 100)
        connector.nothing.fill_(-7.0)
    view = seen([0.5], [(0.12, 0.34, 0.56, 0.78)])
    words = torch.zeros(1, 1, 6)
    view = Seen(
        words,
        torch.zeros(1, 1, 5),
        torch.zeros(1, 1, 3),
        torch.zeros(1, 1, 3),
        view.centres_VN,
        view.boxes_VN4,
        torch.zeros(1, 2),
        torch.zeros(1, 1, 1, 1),
    )
    cells, sure = torch.zeros(1, 2, dtype=torch.long), torch.tensor([[1.0, 0.0]])
    tokens_TD = connector.say(view, cells, sure, torch.zeros(1, 3, 27))[0].detach()
    about = 0.01 + 0.001 + 2 * 0.0001 + 1.0
    edges = [1.02, 3.04, 5.06, 7.08]
    torch.testing.assert_close(tokens_TD[1:8, 0], torch.tensor([0.1, 0.1, about, *edges]), atol=2e-3, rtol=0)
    torch.testing.assert_close(tokens_TD[8:15, 0], torch.full((7,), -7.0))
