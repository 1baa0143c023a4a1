"""Features in the prompt: order, row breaks, and counts that must agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from beholder.errors import BeholderError
from beholder.media.plan import NEWLINE, Box, Features, Grid, PicturePlan, Tag, View
from beholder.parts.blocks.masks import Visibility
from beholder.parts.contracts import BranchOutput, LanguageInputs, Packed
from beholder.parts.fusion.splice import Splice
from beholder.parts.fusion.towers import Towers
from tests.toys import DECODER

PLACE = 999


def picture(grids, *pieces):
    """A plan with one view per grid; pieces are orders of features or tags."""
    view = View((28, 28), (), Box(0, 0, 28, 28))
    made = tuple(Tag(piece) if isinstance(piece, str) else Features(np.array(piece)) for piece in pieces)
    return PicturePlan("image", (28, 28), (view,) * len(grids), tuple(Grid(1, *grid) for grid in grids), made)


def output(*rows):
    """The features of all pictures: token number i is filled with i."""
    grids = tuple(grid for row in rows for plan in row for grid in plan.grids)
    count = sum(grid.num_tokens for grid in grids)
    return BranchOutput(
        Packed(torch.arange(1.0, count + 1)[:, None].expand(count, 32).contiguous(), grids), rows
    )


def draft(*rows):
    ids = torch.tensor(rows)
    blank = torch.zeros(*ids.shape, 32)
    return LanguageInputs(ids, blank, torch.zeros_like(ids), Visibility.causal(*ids.shape))


def test_features_stand_in_plan_order_with_row_breaks():
    fusion = Splice(token_id=PLACE, newline=True).build(DECODER)
    with torch.no_grad():
        fusion.newline.fill_(-7)
    first = picture([(1, 2), (1, 2)], [2, 3, NEWLINE], "<tag>", [0, 1, NEWLINE])
    second = picture([(1, 1)], [0])
    inputs = fusion.prepare(
        draft([4, PLACE, PLACE, PLACE, 6, PLACE, PLACE, PLACE], [PLACE, 4, 4, 4, 4, 4, 4, 4]),
        {"image": output((first,), (second,))},
    )
    assert inputs.embeddings_BTD[0, :, 0].tolist() == [0, 3, 4, -7, 0, 1, 2, -7]
    assert inputs.embeddings_BTD[1, :, 0].tolist() == [5, 0, 0, 0, 0, 0, 0, 0]
    assert inputs.routes_BT[0].tolist() == [0, 1, 1, 1, 0, 1, 1, 1]
    inputs.embeddings_BTD.sum().backward()
    assert fusion.newline.grad.tolist() == [2.0] * 32


def test_several_pictures_in_a_row_and_rows_without():
    fusion = Splice(token_id=PLACE).build(DECODER)
    one, two = picture([(1, 2)], [1, 0]), picture([(1, 1)], [0])
    rows = ((one, two), (), (two,))
    inputs = fusion.prepare(
        draft([PLACE, PLACE, 3, PLACE], [1, 2, 3, 4], [1, 2, PLACE, 4]), {"image": output(*rows)}
    )
    assert inputs.embeddings_BTD[..., 0].tolist() == [[2, 1, 0, 3], [0, 0, 0, 0], [0, 0, 4, 0]]


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([PLACE, 1, 1], "row 0 has 1 <image> placeholders but its 1 pictures give 2 tokens"),
        ([PLACE, PLACE, PLACE], "row 0 has 3 <image> placeholders but its 1 pictures give 2 tokens"),
    ],
)
def test_wrong_counts_raise_with_numbers(ids, says):
    fusion = Splice(token_id=PLACE).build(DECODER)
    with pytest.raises(BeholderError, match=says):
        fusion.prepare(draft(ids), {"image": output((picture([(1, 2)], [0, 1]),))})


def test_tokens_of_one_row_do_not_make_up_for_another():
    fusion = Splice(token_id=PLACE).build(DECODER)
    plan = picture([(1, 2)], [0, 1])
    with pytest.raises(BeholderError, match="row 0 has 3"):
        fusion.prepare(draft([PLACE, PLACE, PLACE], [PLACE, 1, 1]), {"image": output((plan,), (plan,))})


def test_placeholders_without_pictures_raise_and_text_alone_passes():
    fusion = Splice(token_id=PLACE).build(DECODER)
    with pytest.raises(
        BeholderError, match="row 0 has 1 <image> placeholders but its 0 pictures give 0 tokens"
    ):
        fusion.prepare(draft([1, PLACE]), {})
    given = draft([1, 2])
    assert fusion.prepare(given, {}) is given


def test_row_breaks_need_their_vector():
    fusion = Splice(token_id=PLACE).build(DECODER)
    with pytest.raises(BeholderError, match=r"Splice\(newline=True\)"):
        fusion.prepare(draft([PLACE, PLACE]), {"image": output((picture([(1, 1)], [0, NEWLINE]),))})


def test_the_draft_is_left_as_it_was():
    fusion, given = Splice(token_id=PLACE).build(DECODER), draft([PLACE])
    fusion.prepare(given, {"image": output((picture([(1, 1)], [0]),))})
    assert not given.embeddings_BTD.any()


def test_a_splice_needs_a_language_part():
    with pytest.raises(BeholderError, match="language part"):
        Splice(token_id=PLACE).build(None)


def test_towers_mix_nothing():
    given = draft([1, 2])
    assert Towers().build(DECODER).prepare(given, {}) is given
    assert Towers().placeholder() is None
