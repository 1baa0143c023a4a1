"""Ranges of options, the filters against slow loops, and rows that do not depend on each other."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from beholder.errors import BeholderError, UnknownName
from beholder.generate.sampling import MAX_SEED, Sampling, filtered, next_ids, penalised


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("max_tokens", 0, "from 1 to 1000000"),
        ("max_tokens", -3, "max_tokens = -3"),
        ("max_tokens", 10**9, "from 1 to 1000000"),
        ("max_tokens", "12", "is a str"),
        ("max_tokens", 1.5, "whole number"),
        ("max_tokens", True, "is a bool"),
        ("temperature", math.nan, "temperature = nan"),
        ("temperature", -0.1, "from 0 to 10"),
        ("temperature", math.inf, "temperature = inf"),
        ("top_k", -1, "top_k = -1"),
        ("top_p", 0.0, "from 1e-06 to 1"),
        ("top_p", 1.01, "from 1e-06 to 1"),
        ("min_p", math.nan, "min_p = nan"),
        ("repetition_penalty", 0, "repetition_penalty = 0"),
        ("seed", -1, f"to {MAX_SEED}"),
        ("seed", "x", "whole number"),
        ("stops", [""], "not empty"),
        ("stops", 3, "list of strings"),
        ("stops", ["x"] * 65, "65 strings"),
    ],
)
def test_out_of_range_names_field_value_and_range(name, value, says):
    with pytest.raises(BeholderError) as caught:
        Sampling(**{name: value})
    assert says in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_option_suggests_the_nearest():
    with pytest.raises(UnknownName, match="temperature"):
        Sampling.of({"temprature": 1.0})


def test_one_stop_string_is_a_list_of_one():
    assert Sampling(stops="END").stops == ("END",)


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-9])
def test_the_coldest_temperatures_take_the_best(temperature):
    logits = torch.tensor([[0.0, 3.0, 1.0], [-5.0, -3.0, -1.0]])
    samplings = [Sampling(temperature=temperature, seed=0)] * 2
    assert next_ids(logits, samplings, [s.generator() for s in samplings]) == [1, 2]


def test_greedy_takes_the_best():
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    samplings = [Sampling(), Sampling()]
    assert next_ids(logits, samplings, [s.generator() for s in samplings]) == [1, 0]


def slow_filter(logits: list[float], s: Sampling) -> dict[int, float]:
    """Probabilities by id, one word at a time."""
    order = sorted(range(len(logits)), key=lambda i: -logits[i])
    if s.top_k:
        order = order[: s.top_k]
    weights = {i: math.exp((logits[i] - logits[order[0]]) / s.temperature) for i in order}
    total = sum(weights.values())
    kept, passed = {}, 0.0
    for i in order:
        if s.top_p == 1 or passed < s.top_p:
            kept[i] = weights[i]
        passed += weights[i] / total
    kept = {i: w for i, w in kept.items() if w >= s.min_p * weights[order[0]]}
    total = sum(kept.values())
    return {i: w / total for i, w in kept.items()}


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.integers(-40, 40), min_size=2, max_size=12, unique=True),
    st.sampled_from([0.3, 1.0, 2.5]),
    st.integers(0, 5),
    st.sampled_from([0.2, 0.55, 0.9, 1.0]),
    st.sampled_from([0.0, 0.11, 0.7]),
)
def test_filters_equal_a_slow_loop(tenths, temperature, top_k, top_p, min_p):
    logits = [x / 10 for x in tenths]
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    probs, ids = filtered(torch.tensor([logits]), [sampling])
    probs = probs / probs.sum()
    got = {int(i): float(p) for i, p in zip(ids[0], probs[0], strict=True) if p > 0}
    want = slow_filter(logits, sampling)
    assert got.keys() == want.keys()
    assert all(abs(got[i] - want[i]) < 1e-5 for i in want)


def test_draws_follow_the_probabilities():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    sampling = Sampling(temperature=1.0, seed=3)
    generator, counts = sampling.generator(), torch.zeros(4)
    for _ in range(4000):
        counts[next_ids(logits, [sampling], [generator])[0]] += 1
    assert (counts / 4000 - logits[0].softmax(-1)).abs().max() < 0.03


def test_a_row_draws_the_same_alone_and_in_company():
    logits = torch.randn(5, 50)
    samplings = [Sampling(temperature=0.5 + i, seed=i, top_p=0.9) for i in range(5)]
    together, sources = [], [s.generator() for s in samplings]
    for _ in range(8):
        together.append(next_ids(logits, samplings, sources))
    for row in range(5):
        source = samplings[row].generator()
        alone = [next_ids(logits[row : row + 1], [samplings[row]], [source])[0] for _ in range(8)]
        assert alone == [ids[row] for ids in together]


def test_greedy_rows_ignore_chance_of_their_mates():
    logits = torch.randn(2, 20)
    samplings = [Sampling(), Sampling(temperature=3.0)]
    best = int(logits[0].argmax())
    assert {next_ids(logits, samplings, [s.generator() for s in samplings])[0] for _ in range(10)} == {best}


def test_no_seed_draws_anew():
    assert Sampling().generator().initial_seed() != Sampling().generator().initial_seed()


def test_penalty_lowers_seen_words_of_either_sign():
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0], [4.0, 1.0, 1.0, 1.0]])
    seen = torch.tensor([[True, True, False, False], [True, False, False, False]])
    got = penalised(logits, seen, [2.0, 1.0])
    assert got.tolist() == [[1.0, -4.0, 2.0, -2.0], [4.0, 1.0, 1.0, 1.0]]


def test_scores_that_are_not_numbers_in_one_row_leave_the_others():
    logits = torch.randn(2, 10)
    samplings = [Sampling(temperature=1.0, seed=0), Sampling(temperature=1.0, seed=1)]
    clean = next_ids(logits, samplings, [s.generator() for s in samplings])
    logits[0, 3] = math.nan
    ids = next_ids(logits, samplings, [s.generator() for s in samplings])
    assert ids[1] == clean[1]
    assert 0 <= ids[0] < 10
