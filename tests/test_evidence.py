"""Evidence claims no more than what ran and what the recorded references show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beholder.cards import card
from beholder.cards.schema import Card

from . import matching
from .evidence import LEDGER, Ledger, facts_of_system, unproved_mechanisms
from .matching import pieces
from .mechanisms import PROOFS, facts


def note(ledger: Ledger, name: str, *, ok: bool, when: str = "call", **parameters: Any) -> None:
    item: Any = SimpleNamespace(
        nodeid=f"tests/x.py::{name}",
        name=name,
        callspec=SimpleNamespace(params=parameters),
        get_closest_marker=lambda _: SimpleNamespace(args=("matches",)),
    )
    report: Any = SimpleNamespace(passed=ok, when=when)
    ledger.note(item, report)


def test_a_reference_counts_when_all_its_tests_passed() -> None:
    ledger = Ledger()
    note(ledger, "a[llama]", ok=True, when="setup", family="llama")
    assert ledger.families == set()
    note(ledger, "a[llama]", ok=True, family="llama")
    note(ledger, "a[clip]", ok=True, family="clip")
    note(ledger, "a[clip]", ok=False, when="teardown", family="clip")
    assert ledger.families == {"llama"}
    assert ledger.proves("tests/x.py::a[l") and not ledger.proves("tests/x.py::a[c")
    assert not ledger.proves("tests/other.py")


def test_what_one_size_has_is_proved_on_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LEDGER, "proves", lambda start: True)
    shared = PROOFS["gqa"]
    small, large = card("llama-2-7b"), card("llama-2-70b")
    assert shared.holds(facts(large)) and not shared.holds(facts(small))
    assert unproved_mechanisms(small) == unproved_mechanisms(large) == []
    assert facts_of_system("llama-2") != facts_of_system("llama-3")
    monkeypatch.setattr(LEDGER, "proves", lambda start: start != shared.test)
    assert unproved_mechanisms(small) == unproved_mechanisms(large) == ["gqa"]


LLAVA = card("llava-1.5-7b")


@pytest.mark.parametrize(
    "other",
    [
        LLAVA.but(**{"vision.take.layers": (-2, -5)}),
        LLAVA.but(**{"vision.mlp.act": "gelu"}),
        LLAVA.but(**{"connector.norm": True}),
        LLAVA.but(**{"images.fit": "crop"}),
        LLAVA.but(**{"language.attention.window": 4096}),
        LLAVA.but(**{"language.attention.qkv_bias": True}),
        LLAVA.but(**{"language.tied": True}),
        LLAVA.but(fusion=card("llava-1.6-vicuna-7b").fusion),
    ],
)
def test_another_computation_is_another_piece(other: Card) -> None:
    assert pieces(other) - pieces(LLAVA)


def test_another_size_is_the_same_piece() -> None:
    assert pieces(card("llava-1.5-13b")) == pieces(LLAVA) == pieces(LLAVA.tiny())


def test_a_geometry_needs_recorded_pictures(
    oracle: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = oracle("llava_padded")
    whole = matching.provided(["llava_padded"])
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / "llava_unrecorded" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "llava_unrecorded" / name).write_bytes((source / name).read_bytes())
    monkeypatch.setattr(matching, "ORACLE", tmp_path)
    lost = pieces(LLAVA) & (whole - matching.provided(["llava_unrecorded"]))
    assert any('"class": "Fixed"' in piece for piece in lost)
