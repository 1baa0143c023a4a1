"""Questions that the composition of a scene answers; a maker gives None where the answer would not be clear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from beholder.data import phrases
from beholder.data.canvas import TEXT, Lettering, Placed
from beholder.data.phrases import pick
from beholder.data.samples import Turn

# how far, as a share of the picture's side, a centre must be from a line to be called on one side of it
CLEAR = 0.09
# a thing larger than this share of the picture's side is everywhere
SMALL = 0.45


@dataclass(frozen=True)
class Scene:
    """What a picture of `size` px square shows."""

    size: int
    placed: tuple[Placed, ...]
    ground: str
    lettering: Lettering | None = None

    @property
    def counts(self) -> Counter[str]:
        return Counter(thing.cutout.concept for thing in self.things)

    @property
    def things(self) -> list[Placed]:
        """All that is no lettering."""
        return [thing for thing in self.placed if thing.cutout.concept != TEXT]

    @property
    def lone(self) -> list[Placed]:
        """Things whose name stands for them alone, and lettering."""
        counts = Counter(thing.cutout.concept for thing in self.placed)
        return [thing for thing in self.placed if counts[thing.cutout.concept] == 1]

    @property
    def small(self) -> list[Placed]:
        """Lone things small enough to be somewhere."""
        return [thing for thing in self.lone if max(thing.width, thing.height) < SMALL * self.size]


Maker = Callable[[np.random.Generator, Scene], Turn | None]


def naming(rng: np.random.Generator, scene: Scene) -> Turn:
    return Turn(pick(rng, phrases.NAMING), phrases.with_article(scene.placed[0].cutout.concept), "naming")


def background_colour(rng: np.random.Generator, scene: Scene) -> Turn:
    return Turn(pick(rng, phrases.BACKGROUND), scene.ground, "colour")


def colour_of(rng: np.random.Generator, scene: Scene) -> Turn | None:
    """The colour of a tinted stencil."""
    thing = _choose(rng, [thing for thing in scene.lone if thing.tint is not None])
    if thing is None:
        return None
    return Turn(pick(rng, phrases.COLOUR_OF, thing=thing.cutout.concept), str(thing.tint), "colour")


def word_colour(rng: np.random.Generator, scene: Scene) -> Turn:
    (text,) = (thing for thing in scene.placed if thing.cutout.concept == TEXT)
    return Turn(pick(rng, phrases.COLOUR_OF, thing=TEXT), str(text.tint), "colour")


def reading(rng: np.random.Generator, scene: Scene) -> Turn:
    assert scene.lettering is not None
    return Turn(pick(rng, phrases.READING), scene.lettering.word.lower(), "reading")


def count_of(rng: np.random.Generator, name: str, count: int) -> Turn:
    return Turn(pick(rng, phrases.COUNT_OF, plural=phrases.plural(name)), str(count), "counting")


def count_all(rng: np.random.Generator, scene: Scene) -> Turn:
    return Turn(pick(rng, phrases.COUNT_ALL), str(len(scene.things)), "counting")


def count_most(rng: np.random.Generator, scene: Scene) -> Turn:
    """How often the most frequent thing is there."""
    return count_of(rng, *scene.counts.most_common(1)[0])


def count_other(rng: np.random.Generator, scene: Scene) -> Turn:
    """How often one of the other things is there, or how many things there are at all."""
    rest = scene.counts.most_common()[1:]
    return count_of(rng, *rest[int(rng.integers(len(rest)))]) if rest else count_all(rng, scene)


def where(rng: np.random.Generator, scene: Scene) -> Turn | None:
    """Which of nine parts of the picture a thing is in."""
    thing = _choose(rng, scene.small)
    if thing is None:
        return None
    across = _third(thing.centre[0] / scene.size, ("left", "center", "right"))
    down = _third(thing.centre[1] / scene.size, ("top", "center", "bottom"))
    if across is None or down is None:
        return None
    words = [word for word in (down, across) if word != "center"]
    return Turn(pick(rng, phrases.WHERE, thing=thing.cutout.concept), " ".join(words) or "center", "place")


def side(rng: np.random.Generator, scene: Scene) -> Turn | None:
    """Which half of the picture a thing is in."""
    thing = _choose(rng, scene.small)
    if thing is None:
        return None
    x, y = (centre / scene.size - 0.5 for centre in thing.centre)
    choices = []
    if abs(x) > CLEAR:
        choices.append((phrases.SIDE, "left" if x < 0 else "right"))
    if abs(y) > CLEAR:
        choices.append((phrases.LEVEL, "top" if y < 0 else "bottom"))
    if not choices:
        return None
    wordings, answer = choices[int(rng.integers(len(choices)))]
    return Turn(pick(rng, wordings, thing=thing.cutout.concept), answer, "position")


def box(rng: np.random.Generator, scene: Scene) -> Turn | None:
    """The box around a thing, its edges in hundredths of the picture's sides."""
    thing = _choose(rng, scene.lone)
    if thing is None:
        return None
    edges = (thing.left, thing.top, thing.left + thing.width, thing.top + thing.height)
    numbers = ",".join(f"{min(99, 100 * edge // scene.size):02d}" for edge in edges)
    return Turn(pick(rng, phrases.BOX, thing=thing.cutout.concept), f"[{numbers}]", "box")


def beside(rng: np.random.Generator, scene: Scene) -> Turn | None:
    """Where one thing is relative to another."""
    found = _pair(rng, scene)
    if found is None:
        return None
    thing, other, answer = found
    wordings = phrases.BESIDE if answer in ("left", "right") else phrases.ABOVE
    words = {"thing": thing.cutout.concept, "other": other.cutout.concept}
    return Turn(pick(rng, wordings, **words), answer, "position")


def neighbour(rng: np.random.Generator, scene: Scene) -> Turn | None:
    """What is on one side of a thing, where only one thing is."""
    found = _pair(rng, scene)
    if found is None:
        return None
    thing, other, answer = found
    if sum(_direction(third, other, scene.size, answer) for third in scene.placed if third is not other) > 1:
        return None
    return Turn(
        pick(rng, phrases.NEIGHBOUR[answer], other=other.cutout.concept),
        phrases.with_article(thing.cutout.concept),
        "relation",
    )


def _choose(rng: np.random.Generator, things: list[Placed]) -> Placed | None:
    return things[int(rng.integers(len(things)))] if things else None


def _pair(rng: np.random.Generator, scene: Scene) -> tuple[Placed, Placed, str] | None:
    """A lone thing, another, and where the first is seen from the second: left, right, above or below."""
    lone = scene.lone
    if len(lone) < 2:
        return None
    first, second = (lone[int(i)] for i in rng.choice(len(lone), 2, replace=False))
    seen = [answer for answer in phrases.NEIGHBOUR if _direction(first, second, scene.size, answer)]
    return (first, second, seen[int(rng.integers(len(seen)))]) if seen else None


def _direction(thing: Placed, other: Placed, size: int, direction: str) -> bool:
    """Whether `thing` is clearly in that direction from `other`."""
    x, y = ((a - b) / size for a, b in zip(thing.centre, other.centre, strict=True))
    distance = {"left": -x, "right": x, "above": -y, "below": y}[direction]
    return distance > 1.5 * CLEAR


def _third(share: float, names: tuple[str, str, str]) -> str | None:
    """Which third a coordinate is in, None near the lines between them."""
    lines = (1 / 3, 2 / 3)
    if min(abs(share - line) for line in lines) < CLEAR / 2:
        return None
    return names[sum(share > line for line in lines)]


# makers whose second turn about the same picture would only repeat the first
ONCE: frozenset[Maker] = frozenset({naming, background_colour, count_all, count_most, word_colour})
