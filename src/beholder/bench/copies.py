"""Pictures that differ from each other in their middle. An engine encodes equal pictures once, even without a cache, so
that one picture given again and again would cost less than as many pictures do.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from beholder.prompts.messages import Picture
from beholder.seeing import part_of

CELLS = 4  # coloured cells on each side of what is changed
SHARE = 4  # of each side that is changed, in the middle, where crops leave it


class Copies:
    """`of(path, number)`: a file like `path`, other pixels for each number; 0 is the file itself. Clips and sounds stay as they
    are.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="beholder-bench-")
        self._made: dict[tuple[str, int], str] = {}

    def of(self, path: str, number: int) -> str:
        if number == 0 or not isinstance(part_of(path), Picture):
            return path
        if (path, number) not in self._made:
            self._made[path, number] = self._make(path, number)
        return self._made[path, number]

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()
        self._made.clear()

    def _make(self, path: str, number: int) -> str:
        """In the format of the file where that is JPEG, else as PNG, so that decoding costs about the same."""
        with Image.open(path) as opened:
            kind, picture = opened.format, opened.convert("RGB")
        colours = np.random.default_rng(number).integers(0, 256, (CELLS, CELLS, 3), np.uint8)
        size = (max(picture.width // SHARE, 1), max(picture.height // SHARE, 1))
        place = ((picture.width - size[0]) // 2, (picture.height - size[1]) // 2)
        picture.paste(Image.fromarray(colours).resize(size, Image.Resampling.NEAREST), place)
        is_jpeg = kind == "JPEG"
        name = Path(self._folder.name, f"{len(self._made)}.{'jpg' if is_jpeg else 'png'}")
        picture.save(name, quality=90)  # of JPEG; PNG has none
        return str(name)
