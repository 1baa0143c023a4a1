"""Backbones: published sizes of parts with their exact parameters, and the official `model_type`s that load.

`parts.json` is written by `python tools/pages.py`, so that nothing here needs torch; `tests/parts/test_sizes.py` counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from beholder.catalogue.facts import HERE
from beholder.errors import UnknownName

FILE = HERE / "parts.json"


@dataclass(frozen=True)
class Backbone:
    """A published size: the constant `name` of the module `beholder.parts.<module>`, a config of the class `part`."""

    module: str
    name: str
    part: str
    parameters: int

    @property
    def key(self) -> str:
        """As `language.sizes.LLAMA_2_7B`."""
        return f"{self.module}.{self.name}"

    @property
    def kind(self) -> str:
        """The folder of the parts that it belongs to, as `language`."""
        return self.module.partition(".")[0]


def backbones(*, kind: str | None = None, words: tuple[str, ...] = ()) -> tuple[Backbone, ...]:
    """Sizes of a kind (default: all) whose name or class holds every word, whatever their case: by module, the smallest
    first. Raises `UnknownName` for a kind that is none.
    """
    check_kind(kind)
    return tuple(
        each
        for each in _all()
        if kind in (None, each.kind)
        and all(word.lower() in f"{each.key} {each.part}".lower() for word in words)
    )


def kinds() -> list[str]:
    """Kinds of backbone: `audio`, `codecs`, `language`, `vision`."""
    return sorted({each.kind for each in _all()})


def check_kind(kind: str | None) -> None:
    """Raise `UnknownName` for a kind that is none; None is all of them."""
    if kind is not None and kind not in kinds():
        raise UnknownName("kind of part", kind, kinds())


def model_types(*, kind: str | None = None) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """kind -> class of the part -> the `model_type`s of official config files that are read as one."""
    check_kind(kind)
    found = _data()["model_types"]
    return {
        each: {part: tuple(types) for part, types in parts.items()}
        for each, parts in found.items()
        if kind in (None, each)
    }


@cache
def _data() -> Any:
    return json.loads(FILE.read_text(encoding="utf-8"))


@cache
def _all() -> tuple[Backbone, ...]:
    found = []
    for key, (part, parameters) in _data()["sizes"].items():
        module, _, name = key.rpartition(".")
        found.append(Backbone(module, name, part, parameters))
    return tuple(found)
