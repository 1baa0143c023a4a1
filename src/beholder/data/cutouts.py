"""Pictures of single things on a transparent ground: a memory-mapped array, and an index of what rows show."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beholder.errors import BeholderError
from beholder.files import write_text_atomic

SPLITS = ("train", "test-concepts", "test-style")
INDEX, PIXELS = "cutouts.json", "cutouts.npy"


@dataclass(frozen=True)
class Concept:
    """Something with a name. `kind` is the wider word for it, `tags` are words that also fit."""

    name: str
    kind: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class CutOut:
    """One row of the array, drawn in the style of one icon set.

    `width` and `height` are its extent in pixels from the top left corner of the row. `mean` is the mean RGB of
    what is opaque, or None for a stencil: a shape without colours, to be tinted.
    """

    row: int
    concept: str
    style: str
    width: int
    height: int
    mean: tuple[int, int, int] | None

    @classmethod
    def of(cls, facts: dict[str, Any]) -> CutOut:
        """From the fields as JSON keeps them."""
        return cls(**{**facts, "mean": facts["mean"] and tuple(facts["mean"])})


@dataclass(frozen=True)
class CutOuts:
    """All cut-outs of a folder: `pixels` is (rows, size, size, 4) uint8 RGBA.

    `test_concepts` and the icon set `test_style` are kept out of training.
    """

    pixels: np.ndarray
    rows: tuple[CutOut, ...]
    concepts: dict[str, Concept]
    test_concepts: frozenset[str]
    test_style: str

    @classmethod
    def open(cls, folder: str | Path) -> CutOuts:
        """Maps the array of a prepared folder. Raises BeholderError when it is missing or not whole."""
        folder = Path(folder)
        if not (folder / INDEX).exists():
            raise BeholderError(f"{folder} holds no cut-outs; run recipes/mini/prepare.py --out {folder}")
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        pixels = np.load(folder / PIXELS, mmap_mode="r")
        if len(pixels) != len(index["rows"]):
            raise BeholderError(
                f"{folder} has {len(pixels)} pictures for {len(index['rows'])} rows; prepare it again"
            )
        concepts = (Concept(item["name"], item["kind"], tuple(item["tags"])) for item in index["concepts"])
        return cls(
            pixels=pixels,
            rows=tuple(CutOut.of(row) for row in index["rows"]),
            concepts={concept.name: concept for concept in concepts},
            test_concepts=frozenset(index["test_concepts"]),
            test_style=index["test_style"],
        )

    def save_index(self, folder: str | Path) -> None:
        """Writes everything but the pixels."""
        index = {
            "test_style": self.test_style,
            "test_concepts": sorted(self.test_concepts),
            "concepts": [asdict(concept) for concept in self.concepts.values()],
            "rows": [asdict(row) for row in self.rows],
        }
        write_text_atomic(Path(folder) / INDEX, json.dumps(index))

    def pool(self, split: str) -> dict[str, list[CutOut]]:
        """Concept -> its cut-outs in one of SPLITS, in a fixed order.

        `train` has neither held-out concepts nor the held-out style; `test-concepts` has the held-out concepts in
        the styles of training; `test-style` has concepts of training in the held-out style.
        """
        if split not in SPLITS:
            raise ValueError(f"scenes have the splits {', '.join(SPLITS)}, not {split!r}")
        trained = self._select(concepts_held_out=False, style_held_out=False)
        if split == "train":
            return trained
        if split == "test-concepts":
            return self._select(concepts_held_out=True, style_held_out=False)
        found = self._select(concepts_held_out=False, style_held_out=True)
        return {name: rows for name, rows in found.items() if name in trained}

    def _select(self, *, concepts_held_out: bool, style_held_out: bool) -> dict[str, list[CutOut]]:
        pool: dict[str, list[CutOut]] = {}
        for row in self.rows:
            held_out = (row.concept in self.test_concepts, row.style == self.test_style)
            if held_out == (concepts_held_out, style_held_out):
                pool.setdefault(row.concept, []).append(row)
        return dict(sorted(pool.items()))
