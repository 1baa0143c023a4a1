"""Pictures changed a little from epoch to epoch: cropped, mirrored, brighter or paler. What is said about them stays true.

Every change is drawn by the sample's key and the epoch alone, so that a resumed run sees what an unbroken one would.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from beholder.config import Config
from beholder.data.samples import Conversation, Dataset, Item, Over, Sample
from beholder.errors import BeholderError
from beholder.prompts.messages import Regions, Text

SIDED = re.compile(  # what a mirror makes untrue: sides, and letters that are to be read
    r"\b(left\w*|right\w*|east\w*|west\w*|clockwise|anticlockwise|mirror\w*|read|reads|reading|written|writing|words?|"
    r"letters?|text|says?|sign|signs|spell\w*)\b",
    re.IGNORECASE,
)
PLACED = re.compile(r"[\[(<{]\s*(?:loc)?\d[\d.]*\s*[,>]")  # coordinates in words


@dataclass(frozen=True)
class Augment(Config):
    """crop: least share of a picture's area that is kept, 1 for all; ratio: how much longer or wider the crop may be than the
    picture. flip: odds of a mirror image, where nothing that is said would become untrue. brightness, contrast, saturation:
    most change, as a share.
    """

    crop: float = 0.8
    ratio: float = 4 / 3
    flip: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __post_init__(self) -> None:
        shares = (self.flip, self.brightness, self.contrast, self.saturation)
        if not 0 < self.crop <= 1 or self.ratio < 1 or not all(0 <= share <= 1 for share in shares):
            raise BeholderError(
                f"crop {self.crop:g}, ratio {self.ratio:g}, others {shares}: give a crop above 0, a ratio from 1, and shares "
                "from 0 to 1"
            )

    def changed(
        self, pixels_HWC: np.ndarray, rng: np.random.Generator, *, moves: bool, mirrors: bool
    ) -> np.ndarray:
        """Another (H, W, 3) uint8. moves: it may be cropped; mirrors: it may be mirrored. As many numbers are drawn whatever
        may be done.
        """
        share, tall, down, across, mirror, *tones = rng.random(8).tolist()
        height, width = pixels_HWC.shape[:2]
        if moves and self.crop < 1:
            area, stretch = 1 - (1 - self.crop) * share, self.ratio ** (2 * tall - 1)
            rows = min(height, max(1, round(height * (area * stretch) ** 0.5)))
            columns = min(width, max(1, round(width * (area / stretch) ** 0.5)))
            top, left = int(down * (height - rows + 1)), int(across * (width - columns + 1))
            pixels_HWC = pixels_HWC[top : top + rows, left : left + columns]
        if mirrors and mirror < self.flip:
            pixels_HWC = pixels_HWC[:, ::-1]
        return np.ascontiguousarray(self._toned(pixels_HWC, tones))

    def _toned(self, pixels_HWC: np.ndarray, tones: Sequence[float]) -> np.ndarray:
        most = (self.brightness, self.contrast, self.saturation)
        if not any(most):
            return pixels_HWC
        bright, contrast, colour = (
            1 + limit * (2 * tone - 1) for limit, tone in zip(most, tones, strict=True)
        )
        values_HWC = pixels_HWC.astype(np.float32) * bright
        values_HWC = (values_HWC - values_HWC.mean()) * contrast + values_HWC.mean()
        grey_HW1 = values_HWC @ np.array([0.299, 0.587, 0.114], np.float32)[:, None]  # ITU-R BT.601
        return (grey_HW1 + (values_HWC - grey_HW1) * colour).round().clip(0, 255).astype(np.uint8)


class Augmented(Over):
    """A data set whose pictures are changed anew in each epoch. Number i + n * length is item i in epoch n, which an `Order`
    gives for it.
    """

    def __init__(self, dataset: Dataset, augment: Augment | None = None, *, seed: int = 0) -> None:
        super().__init__(dataset)
        self.augment, self.seed = augment or Augment(), seed

    @property
    def by_epoch(self) -> bool:
        return True

    def __getitem__(self, index: int) -> Item:
        whole = index
        epoch, index = divmod(index, len(self.dataset))
        item = self.dataset[whole if super().by_epoch else index]
        digest = hashlib.blake2b(f"{index} {item.key}".encode(), digest_size=8).digest()
        rng = np.random.default_rng([self.seed, epoch, int.from_bytes(digest, "big")])
        words, regions = said(item)
        moves = not regions and not PLACED.search(words)
        mirrors = moves and not SIDED.search(words)
        if isinstance(item, Sample):
            return replace(item, pixels=self.augment.changed(item.pixels, rng, moves=moves, mirrors=mirrors))
        pictures = tuple(
            self.augment.changed(one, rng, moves=moves, mirrors=mirrors) for one in item.pictures
        )
        return Conversation(item.messages, pictures, item.key)


def said(item: Item) -> tuple[str, bool]:
    """All that is said about an item's pictures, and whether regions of them are pointed at."""
    if isinstance(item, Sample):
        return "\n".join(f"{turn.question}\n{turn.answer}" for turn in item.turns), False
    parts = [part for message in item.messages for part in message.parts]
    words = "\n".join(part.text for part in parts if isinstance(part, Text))
    return words, any(isinstance(part, Regions) for part in parts)
