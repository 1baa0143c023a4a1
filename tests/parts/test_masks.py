"""Who sees whom, against slow loops over pairs of tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from beholder.parts.blocks.masks import (
    GROUP_TABLES,
    PADDING,
    AttentionMask,
    Visibility,
    ancestor_table,
    dense_mask,
    group_mask,
    media_mask,
)
from beholder.parts.language.state import State


def sees(query, key, parents, window):
    """Whether a query token (segment, block) sees a key token."""
    (segment, block), (other, other_block) = query, key
    if segment == PADDING:
        return True  # its result is not used; it must only be finite
    related, above = False, segment
    while above != PADDING:
        related |= above == other
        above = parents[above]
    near = window is None or block - other_block < window
    return related and other_block <= block and near


def slow_mask(visibility, window=None):
    tokens = [
        list(zip(segments, blocks, strict=True))
        for segments, blocks in zip(
            visibility.segments_BT.tolist(), visibility.blocks_BT.tolist(), strict=True
        )
    ]
    return torch.tensor(
        [[[sees(q, k, visibility.parents, window) for k in row] for q in row] for row in tokens]
    )


def full_mask(visibility, window=None):
    return dense_mask(visibility, visibility.segments_BT, visibility.blocks_BT, window)


@st.composite
def visibilities(draw):
    count = draw(st.integers(1, 4))
    parents = tuple(draw(st.integers(PADDING, number - 1)) for number in range(count))
    rows, width = draw(st.integers(1, 2)), draw(st.integers(1, 7))
    token = st.tuples(st.integers(PADDING, count - 1), st.integers(0, 5))
    table = draw(st.lists(st.lists(token, min_size=width, max_size=width), min_size=rows, max_size=rows))
    return Visibility(*torch.tensor(table).unbind(-1), parents=parents)


@settings(deadline=None, max_examples=150)
@given(visibilities(), st.none() | st.integers(1, 4))
def test_dense_mask_equals_a_slow_loop(visibility, window):
    assert torch.equal(full_mask(visibility, window), slow_mask(visibility, window))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.none() | st.integers(1, 4))
def test_rows_of_causal_text(lengths, window):
    width = max(lengths)
    mask = full_mask(Visibility.causal_rows(lengths, width), window)
    for row, length in enumerate(lengths):
        q, k = torch.arange(length)[:, None], torch.arange(width)
        want = (k <= q) & (k > q - (window or width))
        assert torch.equal(mask[row, :length], want)


def test_full_rows_are_plain():
    """A state masks rows of unequal lengths itself."""
    assert Visibility.causal_rows([3, 3], 3).plain
    assert not Visibility.causal_rows([3, 2], 3).plain
    assert Visibility.causal_rows([1, 1], 1, starts=[2, 5]).plain
    assert not Visibility.causal_rows([2, 1], 2, starts=[2, 5]).plain
    assert Visibility.causal_rows([1, 1], 1, starts=[5, 5]).blocks_BT.tolist() == [[5], [5]]


def test_bidirectional_picture_before_causal_text():
    """Prefix-LM: three tokens share a block, two words follow."""
    visibility = Visibility(torch.zeros(1, 5, dtype=torch.long), torch.tensor([[0, 0, 0, 1, 2]]))
    want = [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert full_mask(visibility)[0].int().tolist() == want


def test_bidirectional_leaves_out_what_is_not_kept():
    mask = full_mask(Visibility.bidirectional(torch.tensor([[True, False, True]])))
    assert mask[0, 0].tolist() == mask[0, 2].tolist() == [True, False, True]


def test_packed_samples_do_not_see_each_other():
    segments = torch.tensor([[0, 0, 1, 1, 1, PADDING]])
    blocks = torch.tensor([[0, 1, 0, 1, 2, 0]])
    mask = full_mask(Visibility(segments, blocks, parents=(PADDING, PADDING)))[0]
    want = torch.block_diag(torch.ones(2, 2).tril(), torch.ones(3, 3).tril()).bool()
    assert torch.equal(mask[:5, :5], want)
    assert not mask[:5, 5].any()


def test_siblings_see_their_parent_and_not_each_other():
    segments = torch.tensor([[0, 0, 1, 1, 2, 2]])
    blocks = torch.tensor([[0, 1, 2, 3, 2, 3]])
    mask = full_mask(Visibility(segments, blocks, parents=(PADDING, 0, 0)))[0].int()
    assert mask.tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 1, 1],
    ]


def test_ancestors():
    assert ancestor_table((PADDING, 0, 1)).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    with pytest.raises(ValueError, match="cycle"):
        ancestor_table((1, 0))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.none() | st.integers(1, 4),
)
def test_with_a_state_the_mask_is_the_last_rows_of_the_whole(prompts, steps, window):
    """Reading in pieces gives each query the same keys as reading at once."""
    state = State(rows=len(prompts), capacity=1)
    total = sum(steps)
    first = Visibility.causal_rows(prompts, max(prompts))
    state.append(first)
    state.commit(max(prompts), prompts)
    for width in steps:
        new = Visibility.causal_rows([width] * len(prompts), width, starts=state.lengths)
        keys = state.append(new)
        mask = dense_mask(new, keys.segments_BT, keys.blocks_BT, window)
        for row, start in enumerate(state.lengths):
            q, k = torch.arange(start, start + width)[:, None], torch.arange(keys.blocks_BT.shape[1])
            assert torch.equal(mask[row], (k <= q) & (k > q - (window or 10**6)))
        state.commit(width, None)
    assert state.lengths == [length + total for length in prompts]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(0, 9),
    st.none() | st.integers(1, 12),
    st.booleans(),
)
def test_padding_behind_rows_needs_no_table(lengths, before, window, chunked):
    """Whoever is no padding sees what the dense mask lets them see."""
    rows, width = len(lengths), max(lengths)
    state = State(rows=rows, capacity=1)
    if before:
        state.append(Visibility.causal(rows, before))
        state.commit(before, None)
    queries = Visibility.causal_rows(lengths, width, starts=[before] * rows)
    keys = state.append(queries)
    mask = AttentionMask.of(queries, keys, window, chunked)
    want_BTS = dense_mask(queries, keys.segments_BT, keys.blocks_BT, window, chunked=chunked)
    allowed = mask.allowed(width, before + width, torch.device("cpu"))
    found_BTS = torch.ones_like(want_BTS) if allowed is None else allowed.expand_as(want_BTS[:, None])[:, 0]
    for row, length in enumerate(lengths):
        assert torch.equal(found_BTS[row, :length], want_BTS[row, :length])
    cut = window is not None and window < before + width
    assert (mask.allowed_B1TS is None) == (not (cut and chunked))
    state.commit(width, lengths)
    assert state.plain


def test_padding_that_somebody_sees_needs_a_table():
    rows = Visibility.causal_rows([3, 2], 3)
    together_BT = torch.tensor([[True, True, False], [True, False, False]])
    for other in (rows.sharing(torch.zeros_like(rows.blocks_BT)), rows.grouped(together_BT)):
        assert rows.behind and not other.behind
    state = State(rows=2, capacity=1)
    state.append(rows)
    state.commit(3, [3, 2])
    later = Visibility.causal_rows([2, 1], 2, starts=state.lengths)
    assert not later.behind and not state.append(later).behind


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 12), st.integers(0, 12), st.none() | st.integers(1, 30), st.booleans())
def test_cheapest_mask_says_the_same_as_the_dense_one(num_queries, before, window, chunked):
    keys = Visibility.causal(1, before + num_queries)
    queries = Visibility.causal(1, num_queries, start=before)
    mask = AttentionMask.of(queries, keys, window, chunked)
    want = dense_mask(queries, keys.segments_BT, keys.blocks_BT, window, chunked=chunked)
    allowed = mask.allowed(num_queries, before + num_queries, torch.device("cpu"))
    assert want.all() if allowed is None else torch.equal(allowed.expand_as(want[:, None])[:, 0], want)
    cut = window is not None and window < before + num_queries
    assert (mask.allowed_B1TS is None) == (not (cut and chunked))


@pytest.mark.parametrize("objective", GROUP_TABLES)
def test_group_mask_equals_a_slow_loop(objective):
    """Queries are group 0, text is group 1 (BLIP-2, figure 2)."""
    groups = [0, 0, 0, 1, 1]

    def allowed(q, k):
        same = groups[q] == groups[k]
        if objective == "itc":
            return same
        if objective == "itm":
            return True
        return same if groups[q] == 0 else groups[k] == 0 or k <= q

    want = [[allowed(q, k) for k in range(5)] for q in range(5)]
    assert group_mask(torch.tensor(groups), objective).tolist() == want


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
    st.sampled_from(["latest", "own", "before"]),
)
def test_media_mask_equals_a_slow_loop(queries, keys, rule):
    mask = media_mask(torch.tensor([queries]), torch.tensor([keys]), rule)[0]
    for q, query in enumerate(queries):
        for k, key in enumerate(keys):
            assert bool(mask[q, k]) == (key > 0 and (key <= query if rule == "before" else key == query))


def test_unknown_rule():
    with pytest.raises(ValueError, match="known: latest, before, own"):
        media_mask(torch.ones(1, 1), torch.ones(1, 1), "nearest")
