"""Pictures and questions whose tokens see each other both ways, against slow loops."""

from __future__ import annotations

import pytest
import torch

from beholder.media.plan import Box, Grid, PicturePlan, View, in_order
from beholder.parts.blocks.masks import AttentionMask, Visibility, dense_mask
from beholder.parts.contracts import BranchOutput, LanguageInputs, Packed
from beholder.parts.fusion.splice import Splice
from beholder.parts.language.state import State
from tests.toys import DECODER

IDS = [7, 8, 5, 5, 5, 9, 5, 5, 11, 13, 17]


def prepared(sees: str, prompts: tuple[int, ...], marks: tuple[int, ...] = ()) -> LanguageInputs:
    fusion = Splice(token_id=5, sees=sees, marks=marks).build(DECODER)  # type: ignore[arg-type]
    ids = torch.tensor([IDS])
    draft = LanguageInputs(
        ids,
        torch.zeros(1, len(IDS), DECODER.dim),
        torch.arange(len(IDS))[None],
        Visibility.causal(1, len(IDS)),
        prompts=prompts,
    )
    grids = (Grid(1, 1, 3), Grid(1, 1, 2))
    plans = tuple(
        PicturePlan("image", (1, 1), (View((1, 1), (), Box(0, 0, 1, 1)),), (grid,), (in_order((grid,)),))
        for grid in grids
    )
    output = BranchOutput(Packed(torch.randn(5, DECODER.dim), grids), (plans,))
    return fusion.prepare(draft, {"image": output})


def runs() -> list[int]:
    """The number of each token's run of features, -1 for words."""
    found, number = [], -1
    for place, token in enumerate(IDS):
        number += token == 5 and (place == 0 or IDS[place - 1] != 5)
        found.append(number if token == 5 else -1)
    return found


@pytest.mark.parametrize("window", [None, 2, 4])
@pytest.mark.parametrize("cached", [False, True])
def test_a_picture_sees_itself_inside_the_window(window: int | None, cached: bool) -> None:
    """Gemma 3: inside (earlier or the same picture), and no further back than the window reaches."""
    seen = prepared("picture", (len(IDS),)).visibility
    keys = State(1).append(seen) if cached else seen
    mask = dense_mask(seen, keys.segments_BT, keys.blocks_BT, window, keys.places_BT)[0]
    group = runs()
    for q in range(len(IDS)):
        for k in range(len(IDS)):
            want = (k <= q or (group[k] == group[q] >= 0)) and (window is None or q - k < window)
            assert bool(mask[q, k]) == want, (q, k)


@pytest.mark.parametrize("window", [None, 3])
def test_a_question_sees_all_of_itself_and_answers_what_is_before(window: int | None) -> None:
    """PaliGemma 2: the question is seen whole by itself, by answers as far as the window reaches."""
    prompt = 9
    seen = prepared("prompt", (prompt,)).visibility
    mask = dense_mask(seen, seen.segments_BT, seen.blocks_BT, window, seen.places_BT)[0]
    for q in range(len(IDS)):
        for k in range(len(IDS)):
            near = window is None or q - k < window
            want = (k <= q and near) or (q < prompt and k < prompt)
            assert bool(mask[q, k]) == want, (q, k)


def test_later_tokens_count_places_behind_a_picture() -> None:
    """A token generated behind a cached picture reaches as far back as its window, not as the picture's block."""
    seen = prepared("picture", (len(IDS),)).visibility
    state = State(1)
    state.append(seen)
    state.commit(len(IDS), None)
    new = Visibility.causal(1, 1, start=len(IDS))
    keys = state.reorder([0]).append(new)
    mask = AttentionMask.of(new, keys, 6).allowed_B1TS
    assert mask is not None
    assert mask[0, 0, 0].tolist() == [len(IDS) - k < 6 for k in range(len(IDS) + 1)]


def test_words_alone_stay_causal() -> None:
    assert prepared("causal", (4,)).visibility.plain
    mask = dense_mask(seen := prepared("prompt", (0,)).visibility, seen.segments_BT, seen.blocks_BT)
    assert torch.equal(mask[0], torch.ones(len(IDS), len(IDS)).tril().bool())


@pytest.mark.parametrize("cached", [False, True])
def test_all_pictures_of_a_question_see_each_other(cached: bool) -> None:
    """Molmo 2: features and marks of the question, whatever words stand between; what is answered is causal."""
    seen = prepared("pictures", (7,), marks=(8,)).visibility
    keys = State(1).append(seen) if cached else seen
    mask = AttentionMask.of(seen, keys, None).allowed_B1TS
    assert mask is not None
    together = [number < 7 and token in (5, 8) for number, token in enumerate(IDS)]
    for q in range(len(IDS)):
        for k in range(len(IDS)):
            assert bool(mask[0, 0, q, k]) == (k <= q or (together[q] and together[k])), (q, k)


def test_a_row_without_question_stays_plain() -> None:
    seen = prepared("pictures", (0,), marks=(8,)).visibility
    assert seen.plain and seen.groups_BT is None
