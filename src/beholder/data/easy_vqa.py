"""easy-VQA: 5,000 pictures of one coloured shape with questions, a fixed public benchmark (MIT licence)."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from beholder.data.samples import Sample, Turn, checked_index
from beholder.errors import BeholderError
from beholder.packages import Package

EASY_VQA = Package(
    client="pip",
    name="easy-vqa",
    version="1.0",
    filename="easy_vqa-1.0-py3-none-any.whl",
    sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
)
TASKS = ("easy-vqa/shape", "easy-vqa/colour", "easy-vqa/yes-no")


class EasyVQA:
    """The official `train` or `test` questions, those about one picture together; pictures are 64 px square.

    With `questions`, a picture with more of them becomes several samples of at most that many turns.
    `folder` holds the package's wheel. Raises BeholderError when it is missing.
    """

    def __init__(
        self, folder: str | Path, split: Literal["train", "test"], *, questions: int | None = None
    ) -> None:
        wheel = Path(folder) / EASY_VQA.filename
        if split not in ("train", "test"):
            raise ValueError(f"easy-VQA has the splits train and test, not {split!r}")
        if questions is not None and questions < 1:
            raise ValueError(f"questions={questions}: a sample needs at least one")
        if not wheel.exists():
            raise BeholderError(f"{wheel} is missing; run recipes/mini/prepare.py --out {folder}")
        turns: dict[int, list[Turn]] = {}
        with zipfile.ZipFile(wheel) as archive:
            root = f"easy_vqa/data/{split}"
            for question, answer, picture in json.loads(archive.read(f"{root}/questions.json")):
                turns.setdefault(picture, []).append(Turn(question, answer, _task(answer)))
            self._pictures = {picture: archive.read(f"{root}/images/{picture}.png") for picture in turns}
        self._samples = [
            (picture, tuple(asked[start : start + (questions or len(asked))]))
            for picture, asked in sorted(turns.items())
            for start in range(0, len(asked), questions or len(asked))
        ]
        self.split = split

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        index = checked_index(index, len(self))
        picture, turns = self._samples[index]
        with Image.open(io.BytesIO(self._pictures[picture])) as image:
            pixels = np.asarray(image.convert("RGB"))
        return Sample(pixels, turns, f"easy-vqa/{self.split}/{index}")


def _task(answer: str) -> str:
    if answer in ("yes", "no"):
        return "easy-vqa/yes-no"
    return "easy-vqa/shape" if answer in ("circle", "rectangle", "triangle") else "easy-vqa/colour"
