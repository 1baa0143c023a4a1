"""The packaged list of backbones is what the parts and the readers are."""

from __future__ import annotations

import json

import part_pages
import pytest

from beholder.catalogue.backbones import FILE, backbones, kinds, model_types
from beholder.errors import UnknownName
from beholder.weights.readers.systems import SYSTEMS

STALE = "stale; run `python tools/pages.py --parts`"


def test_sizes_are_those_of_the_parts_counted_again() -> None:
    counted = {size.key: [type(size.config).__name__, size.parameters] for size in part_pages.sizes()}
    assert json.loads(FILE.read_text(encoding="utf-8"))["sizes"] == counted, STALE
    assert [each.key for each in backbones()] == [size.key for size in part_pages.ordered()], STALE


def test_types_are_those_of_the_readers_and_load_alone() -> None:
    listed = {
        kind: {part: list(names) for part, names in each.items()} for kind, each in model_types().items()
    }
    assert listed == part_pages.model_types(), STALE
    names = [name for each in listed.values() for types in each.values() for name in types]
    assert len(names) == len(set(names)) and set(names) <= SYSTEMS.keys()


def test_sizes_are_chosen_by_kind_and_words() -> None:
    found = backbones(kind="language", words=(".llama_2", "DECODER"))
    assert [each.name for each in found] == ["LLAMA_2_7B", "LLAMA_2_13B", "LLAMA_2_70B"]
    assert found[0].parameters == 6_738_415_616 and found[0].key == "language.sizes.LLAMA_2_7B"
    assert {each.kind for each in backbones()} == set(kinds()) == set(model_types())
    assert list(model_types(kind="codecs")) == ["codecs"]
    for choose in (backbones, model_types):
        with pytest.raises(UnknownName, match="nearest: language"):
            choose(kind="languages")
