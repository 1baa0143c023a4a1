"""Grammar of questions and captions."""

from __future__ import annotations

import pytest

from beholder.data.phrases import counted, listed, plural, presence_of, with_article


@pytest.mark.parametrize(
    ("noun", "several"),
    [
        ("dog", "dogs"), ("mouse", "mice"), ("computer mouse", "computer mice"), ("box", "boxes"),
        ("cherries", "cherries"), ("fish", "fish"), ("butterfly", "butterflies"), ("monkey", "monkeys"),
        ("slice of cake", "slices of cake"), ("heart with arrow", "hearts with arrow"), ("rice", "rice"),
        ("bow and arrow", "bows and arrow"), ("knife", "knives"), ("palm tree", "palm trees"), ("torch", "torches"),
    ],
)  # fmt: skip
def test_plural(noun: str, several: str) -> None:
    assert plural(noun) == several


@pytest.mark.parametrize(
    ("noun", "phrase"),
    [
        ("dog", "a dog"), ("apple", "an apple"), ("unicorn", "a unicorn"), ("hourglass", "an hourglass"),
        ("x-ray", "an x-ray"), ("scissors", "scissors"), ("rice", "rice"), ("fish", "a fish"), ("ufo", "a ufo"),
    ],
)  # fmt: skip
def test_article(noun: str, phrase: str) -> None:
    assert with_article(noun) == phrase


def test_lists() -> None:
    parts = [counted("dog", 3), counted("egg", 1), counted("jeans", 1)]
    assert listed(parts) == "3 dogs, an egg and jeans"
    assert listed(parts[:1]) == "3 dogs"


def test_plural_things_are_asked_for_with_are() -> None:
    assert any(wording.startswith("Are there") for wording in presence_of("jeans"))
    assert not any(wording.startswith("Are there") for wording in presence_of("dog"))
