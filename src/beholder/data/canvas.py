"""Draws scenes: a coloured background, cut-outs laid out without overlap, and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from beholder.data.cutouts import CutOut

# H, W height and width of the scene; h, w of something placed on it; C colour channels

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 40),
    "orange": (245, 140, 25),
    "yellow": (250, 218, 50),
    "green": (55, 160, 60),
    "blue": (45, 95, 215),
    "purple": (130, 60, 170),
    "pink": (247, 150, 195),
    "brown": (125, 78, 42),
    "teal": (15, 140, 140),
    "black": (22, 22, 22),
    "white": (246, 246, 246),
    "gray": (140, 140, 140),
}
NEUTRAL = frozenset({"black", "white", "gray"})
JITTER = 12
READABLE = 75.0
# most of a recolouring: turn of the hue in radians, the least and the most of saturation, brightness and gamma
HUE, SATURATION, BRIGHTNESS, GAMMA = 0.35, (0.4, 1.3), (0.75, 1.2), (0.7, 1.4)
TEXT = "text"  # what written words are called


@dataclass(frozen=True)
class Placed:
    """A cut-out at (left, top) with a drawn size, in pixels of the scene; `tint` names a stencil's colour."""

    cutout: CutOut
    left: int
    top: int
    width: int
    height: int
    tint: str | None = None

    @property
    def centre(self) -> tuple[float, float]:
        return self.left + self.width / 2, self.top + self.height / 2


def shade(rng: np.random.Generator, name: str) -> np.ndarray:
    """A colour near the named one, (3,) float RGB."""
    jitter_C = rng.uniform(-JITTER, JITTER, 3)
    if name in NEUTRAL:
        jitter_C = jitter_C[0] + jitter_C / 6
    return np.clip(np.asarray(COLOURS[name]) + jitter_C, 0, 255)


def colour_apart(rng: np.random.Generator, means: list[tuple[int, int, int]]) -> str:
    """The name of a random colour on which things of these mean colours can be seen."""
    names = [str(name) for name in rng.permutation(list(COLOURS))]
    far = {name: min((distance(COLOURS[name], mean) for mean in means), default=255.0) for name in names}
    return next((name for name in names if far[name] >= READABLE), max(names, key=far.__getitem__))


def distance(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Euclidean distance of two RGB colours."""
    return float(np.linalg.norm(np.subtract(one, other)))


def background(rng: np.random.Generator, name: str, size: int) -> np.ndarray:
    """A plain, graded or lightly textured ground of the named colour, (H, W, 3) uint8."""
    colour_C = shade(rng, name)
    style = rng.choice(["plain", "graded", "clouds", "grain", "stripes"], p=[0.4, 0.2, 0.15, 0.15, 0.1])
    if style == "plain":
        return np.full((size, size, 3), colour_C, np.uint8)
    if style == "graded":
        angle = rng.uniform(0, 2 * np.pi)
        axis = np.linspace(-1, 1, size)
        relief_HW = np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None]
    elif style == "clouds":
        coarse = Image.fromarray(rng.uniform(-1, 1, (6, 6)).astype(np.float32))
        relief_HW = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    elif style == "grain":
        relief_HW = rng.integers(-100, 101, (size, size), dtype=np.int8) / np.float32(100)
    else:
        period = int(rng.integers(8, 40))
        row_W = np.where(np.arange(size) // period % 2, 1.0, -1.0)
        relief_HW = np.broadcast_to(row_W[:, None] if rng.random() < 0.5 else row_W, (size, size))
    strength = rng.uniform(5, 18)
    ground_HWC = colour_C.astype(np.float32) + np.float32(strength) * relief_HW[..., None].astype(np.float32)
    return np.clip(ground_HWC, 0, 255).astype(np.uint8)


def lay_out(
    rng: np.random.Generator, cutouts: list[CutOut], size: int, sides: Sequence[tuple[float, float]]
) -> list[Placed]:
    """Places cut-outs at random without overlap, smaller when they do not fit after some tries.

    The longer side of each is drawn from its `sides`, the least and the largest share of the scene's side.
    """
    shrink = 1.0
    while True:
        for _ in range(12):
            placed: list[Placed] = []
            for cutout, reach in zip(cutouts, sides, strict=True):
                spot = _free_spot(rng, cutout, size, shrink * rng.uniform(*reach), placed)
                if spot is None:
                    break
                placed.append(spot)
            else:
                return placed
        shrink *= 0.9


def _free_spot(
    rng: np.random.Generator, cutout: CutOut, size: int, side: float, placed: list[Placed]
) -> Placed | None:
    ratio = side * size / max(cutout.width, cutout.height)
    width, height = max(4, round(cutout.width * ratio)), max(4, round(cutout.height * ratio))
    for _ in range(8):
        left, top = int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1))
        if not any(
            left < other.left + other.width + 3
            and other.left < left + width + 3
            and top < other.top + other.height + 3
            and other.top < top + height + 3
            for other in placed
        ):
            return Placed(cutout, left, top, width, height)
    return None


def recoloured(rng: np.random.Generator, rgba_hwC: np.ndarray) -> np.ndarray:
    """The same drawing, (h, w, 4) uint8, as a set with other colours might have it: hue, saturation, brightness and contrast a
    little off.
    """
    turn, saturation = rng.uniform(-HUE, HUE), rng.uniform(*SATURATION)
    brightness, gamma = rng.uniform(*BRIGHTNESS), rng.uniform(*GAMMA)
    grey_CC = np.full((3, 3), 1 / 3)
    side_CC = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turned_CC = np.cos(turn) * (np.eye(3) - grey_CC) + np.sin(turn) * side_CC  # about the axis of greys
    mix_CC = brightness * (grey_CC + saturation * turned_CC)
    mixed_hwC = (
        np.clip(rgba_hwC[..., :3].astype(np.float32) / 255 @ mix_CC.T.astype(np.float32), 0, 1) ** gamma
    )
    return np.concatenate(((mixed_hwC * 255 + 0.5).astype(np.uint8), rgba_hwC[..., 3:]), -1)


def paste(
    scene_HWC: np.ndarray, rgba_hwC: np.ndarray, thing: Placed, *, flip: bool, colour_C: np.ndarray | None
) -> None:
    """Draws a cut-out's pixels into the scene, which changes; with `colour_C` its shape in that colour."""
    tile = Image.fromarray(rgba_hwC[: thing.cutout.height, : thing.cutout.width])
    if flip:
        tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    tile_hwC = np.asarray(tile.resize((thing.width, thing.height), Image.Resampling.BILINEAR))
    alpha_hw1 = tile_hwC[..., 3:].astype(np.float32) / np.float32(255)
    paint_hwC = tile_hwC[..., :3] if colour_C is None else colour_C.astype(np.float32)
    window = np.s_[thing.top : thing.top + thing.height, thing.left : thing.left + thing.width]
    ground_hwC = scene_HWC[window].astype(np.float32)
    scene_HWC[window] = (ground_hwC + alpha_hw1 * (paint_hwC - ground_hwC) + np.float32(0.5)).astype(np.uint8)


@dataclass(frozen=True)
class Lettering:
    """A word as a mask of `pixels` (h, w), 255 where ink is; `centres` of its letters as shares of its width."""

    word: str
    pixels: np.ndarray
    centres: tuple[float, ...]

    @classmethod
    def of(cls, word: str, height: int = 64) -> Lettering:
        """The word in Pillow's own font, cropped to its ink."""
        font = ImageFont.load_default(height)
        left, top, right, bottom = (round(edge) for edge in font.getbbox(word))
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).text((-left, -top), word, font=font, fill=255)
        ends = [font.getlength(word[: count + 1]) - left for count in range(len(word))]
        middles = [(start + end) / 2 for start, end in zip([0.0, *ends], ends, strict=False)]
        return cls(word, np.asarray(mask), tuple(middle / (right - left) for middle in middles))

    @property
    def cutout(self) -> CutOut:
        """Its extent, as that of a stencil."""
        height, width = self.pixels.shape
        return CutOut(-1, TEXT, "lettering", width, height, None)

    @property
    def rgba(self) -> np.ndarray:
        """As the pixels of a cut-out, (h, w, 4)."""
        return np.repeat(self.pixels[..., None], 4, 2)
