"""Small training data for tests."""

from __future__ import annotations

import numpy as np

from beholder.data.samples import Sample, Turn

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (250, 250, 250)}


class Plain:
    """Pictures of one colour; what is asked is the colour, and whether it is red."""

    def __init__(self, length: int = 64) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        name = str(rng.choice(list(COLOURS)))
        pixels = np.empty((28, 28, 3), np.uint8)
        pixels[:] = COLOURS[name]
        turns = (Turn("colour?", name, "colour"), Turn("is it red?", "yes" if name == "red" else "no", "presence"))
        return Sample(pixels, turns[: 1 + index % 2], f"plain/{index}")
