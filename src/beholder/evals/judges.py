"""Tasks whose answers are right to a degree, or in several ways: boxes, descriptions, names with aliases."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

ENOUGH = 0.5  # intersection over union from which a box is right
OR = " | "  # between answers of which each is right


def overlap(given: str, wanted: str) -> float:
    """1 where the first box in `given` and that in `wanted`, four numbers each, share at least half of what both cover."""
    boxes = [[float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)[:4]] for text in (given, wanted)]
    if any(len(box) < 4 for box in boxes):
        return 0.0
    (l0, t0, r0, b0), (l1, t1, r1, b1) = boxes
    shared = max(0.0, min(r0, r1) - max(l0, l1)) * max(0.0, min(b0, b1) - max(t0, t1))
    both = max(0.0, r0 - l0) * max(0.0, b0 - t0) + (r1 - l1) * (b1 - t1) - shared
    return float(shared >= ENOUGH * both)


def told(given: str, wanted: str, normalise: Callable[[str], str]) -> float:
    """F1 of the parts of a description: `2 dogs`, `tree`, `red background`."""
    parts = [
        Counter(normalise(part) for part in re.split(r",| and | on ", text.lower()) if part.strip())
        for text in (given, wanted)
    ]
    shared = (parts[0] & parts[1]).total()
    return 2 * shared / max(1, parts[0].total() + parts[1].total())
