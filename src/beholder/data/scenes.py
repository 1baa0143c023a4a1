"""Pictures composed on the fly from cut-outs, with questions that their composition answers.

Counts are answered in digits, everything else in lower-case words.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from beholder.data import phrases
from beholder.data import questions as ask
from beholder.data.canvas import (
    COLOURS,
    TEXT,
    Lettering,
    Placed,
    background,
    colour_apart,
    distance,
    lay_out,
    paste,
    recoloured,
    shade,
)
from beholder.data.cutouts import PIXELS, Concept, CutOut, CutOuts
from beholder.data.phrases import pick
from beholder.data.questions import Maker, Scene
from beholder.data.samples import Sample, Turn, checked_index

KINDS_OF_SCENE = ("single", "several", "repeated", "word")
ODDS = (0.25, 0.35, 0.28, 0.12)
# kinds too vague to ask for
VAGUE_KINDS = frozenset({
    "award", "game", "heart", "mail", "money", "music", "object", "paper", "place", "science", "sign", "sport",
})  # fmt: skip
MAX_THINGS = 6
MAX_LETTERS = 6
BESIDE_WORDS = 2  # at most so many things stand beside a word
REAL_WORDS = 0.5  # share of written words that are of the names of things
READABLE_WORD = re.compile(f"[a-z]{{2,{MAX_LETTERS}}}")
VOWELS, LETTERS = "aeiou", "abcdefghijklmnopqrstuvwxyz"
CONSONANTS = "".join(letter for letter in LETTERS if letter not in VOWELS)
LENGTHS = {"train": 1_000_000, "test-concepts": 400, "test-style": 400}


@dataclass(frozen=True)
class ComposedSample(Sample):
    """A sample that knows what it was composed of."""

    scene: Scene


def _words(concepts: Iterable[Concept]) -> set[str]:
    """Short words of names and tags."""
    said = " ".join(text for concept in concepts for text in (concept.name, *concept.tags))
    return {word for word in said.split() if READABLE_WORD.fullmatch(word)}


def word_held_out(word: str) -> bool:
    """One written word in ten, by its letters alone."""
    return hashlib.sha256(f"word:{word}".encode()).digest()[0] % 10 == 0


def made_up(rng: np.random.Generator, *, held_out: bool) -> str:
    """Two to six letters in a row: consonants and vowels in turn, or any."""
    while True:
        length, first = int(rng.integers(2, MAX_LETTERS + 1)), int(rng.integers(2))
        kinds = (VOWELS, CONSONANTS) if rng.random() < 0.6 else (LETTERS, LETTERS)
        word = "".join(str(rng.choice(list(kinds[(place + first) % 2]))) for place in range(length))
        if word_held_out(word) == held_out:
            return word


class Scenes:
    """`length` composed pictures of `size` px square with `questions` turns each, from one split of cut-outs.

    `train` never shows a held-out concept nor the held-out style; `test-concepts` shows only the former and
    `test-style` only the latter. With another `seed`, `train` gives fresh pictures of the same things. `odds` are
    those of KINDS_OF_SCENE. held_out_words: written words are those that `train` does not show, else those that it
    does; by default as the split is. recolour: share of coloured cut-outs that are painted in slightly other colours.
    Raises ValueError for settings out of range, BeholderError when `folder` was not prepared.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str = "train",
        seed: int = 0,
        *,
        size: int = 224,
        questions: int = 4,
        length: int | None = None,
        odds: Sequence[float] = ODDS,
        held_out_words: bool | None = None,
        recolour: float = 0.0,
    ) -> None:
        if questions < 1 or size < 32:
            raise ValueError(
                f"questions={questions}, size={size}: a scene needs a question and at least 32 px"
            )
        if len(odds) != len(KINDS_OF_SCENE) or min(odds) < 0 or abs(sum(odds) - 1) > 1e-6:
            raise ValueError(f"odds {list(odds)}: give {len(KINDS_OF_SCENE)}, none negative, that sum to 1")
        cutouts = CutOuts.open(folder)
        self.folder = Path(folder)
        self.pixels = cutouts.pixels
        self.concepts = cutouts.concepts
        self.pool = cutouts.pool(split)
        self.names = list(self.pool)
        if len(self.names) < 2:
            raise ValueError(
                f"{folder} has {len(self.names)} concepts for split {split!r}; prepare more icons"
            )
        self.by_kind: dict[str, list[str]] = {}
        for name in self.names:
            self.by_kind.setdefault(self.concepts[name].kind, []).append(name)
        self.split, self.seed, self.size, self.questions = split, seed, size, questions
        self.length = LENGTHS[split] if length is None else length
        self.odds, self.recolour = tuple(odds), recolour
        self.words_held_out = split != "train" if held_out_words is None else held_out_words
        known = _words(self.concepts[name] for name in self.names)
        if not self.words_held_out:
            known -= _words(Concept(name, "") for name in cutouts.test_concepts)
        self.words = sorted(word for word in known if word_held_out(word) == self.words_held_out)

    def __len__(self) -> int:
        return self.length

    def __getstate__(self) -> dict[str, Any]:
        # a worker process maps the file again rather than receiving all of it
        return self.__dict__ | {"pixels": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.pixels = np.load(self.folder / PIXELS, mmap_mode="r")

    def __getitem__(self, index: int) -> ComposedSample:
        index = checked_index(index, self.length)
        rng = np.random.default_rng([self.seed, zlib.crc32(self.split.encode()), index])
        kind = str(rng.choice(KINDS_OF_SCENE, p=self.odds))
        pixels_HWC, scene = self._compose(rng, kind)
        turns = self._ask(rng, kind, scene)
        return ComposedSample(pixels_HWC, turns, f"scenes/{self.split}/{self.seed}/{index}", scene)

    # what is in the picture

    def _compose(self, rng: np.random.Generator, kind: str) -> tuple[np.ndarray, Scene]:
        lettering = None
        if kind == "word":
            lettering = Lettering.of(self._word(rng))
            names = self._unrelated_names(rng, int(rng.integers(0, BESIDE_WORDS + 1)))
            cutouts = [lettering.cutout, *(self._cutout(rng, name) for name in names)]
            letters = len(lettering.word)
            sides = [(min(0.6, 0.11 * letters), min(0.96, 0.22 * letters)), *[(0.2, 0.34)] * len(names)]
        elif kind == "single":
            cutouts, sides = [self._cutout(rng, self._name(rng))], [(0.18, 0.95)]
        else:
            if kind == "several":
                names = self._unrelated_names(rng, int(rng.integers(2, MAX_THINGS + 1)))
                cutouts = [self._cutout(rng, name) for name in names]
            else:
                cutouts = self._repeated(rng)
            cutouts = [cutouts[i] for i in rng.permutation(len(cutouts))]
            sides = [(0.2, 0.44 if len(cutouts) < 4 else 0.34)] * len(cutouts)
        return self._paint(rng, lay_out(rng, cutouts, self.size, sides), lettering)

    def _word(self, rng: np.random.Generator) -> str:
        """A word of the names of things, or letters in a row that may be one, in one of three cases."""
        if self.words and rng.random() < REAL_WORDS:
            word = self.words[int(rng.integers(len(self.words)))]
        else:
            word = made_up(rng, held_out=self.words_held_out)
        return str(rng.choice([word, word.upper(), word.capitalize()]))

    def _repeated(self, rng: np.random.Generator) -> list[CutOut]:
        """1 to 6 of one thing, alike or drawn differently, and sometimes other things."""
        count = int(rng.integers(1, MAX_THINGS + 1))
        others = int(rng.integers(0, MAX_THINGS + 1 - count)) if rng.random() < 0.7 else 0
        name, *rest = self._unrelated_names(rng, 1 + others)
        first = self._cutout(rng, name)
        alike = rng.random() < 0.6
        same = [first if alike else self._cutout(rng, name) for _ in range(count)]
        return same + [self._cutout(rng, other) for other in rest]

    def _paint(
        self, rng: np.random.Generator, placed: list[Placed], lettering: Lettering | None
    ) -> tuple[np.ndarray, Scene]:
        ground = colour_apart(rng, [thing.cutout.mean for thing in placed if thing.cutout.mean is not None])
        scene_HWC = background(rng, ground, self.size)
        tints = [
            name for name in COLOURS if name != ground and distance(COLOURS[name], COLOURS[ground]) > 110
        ]
        coloured = []
        for thing in placed:
            tint = str(rng.choice(tints)) if thing.cutout.mean is None else None
            colour_C = None if tint is None else shade(rng, tint)
            written = lettering if thing.cutout.concept == TEXT else None
            rgba_hwC = self.pixels[thing.cutout.row] if written is None else written.rgba
            if self.recolour and tint is None and rng.random() < self.recolour:
                rgba_hwC = recoloured(rng, rgba_hwC)
            may_flip = written is None and self.concepts[thing.cutout.concept].kind != "sign"
            flip = bool(rng.random() < 0.5) and may_flip
            paste(scene_HWC, rgba_hwC, thing, flip=flip, colour_C=colour_C)
            coloured.append(replace(thing, tint=tint))
        return scene_HWC, Scene(self.size, tuple(coloured), ground, lettering)

    def _name(self, rng: np.random.Generator) -> str:
        return self.names[int(rng.integers(len(self.names)))]

    def _cutout(self, rng: np.random.Generator, name: str) -> CutOut:
        rows = self.pool[name]
        return rows[int(rng.integers(len(rows)))]

    def _unrelated_names(self, rng: np.random.Generator, count: int) -> list[str]:
        """`count` concepts of which none could pass for another; fewer when the pool has no more."""
        names: list[str] = []
        for _ in range(20 * count):
            name = self._name(rng)
            if not any(self._related(name, other) for other in names):
                names.append(name)
            if len(names) == count:
                break
        return names

    def _related(self, one: str, other: str) -> bool:
        """Whether a picture of one might rightly be called the other."""
        first, second = self.concepts[one], self.concepts[other]
        shared_word = set(one.split(" ")) & set(other.split(" "))
        return bool(shared_word) or one in second.tags or other in first.tags

    # what is asked

    def _ask(self, rng: np.random.Generator, kind: str, scene: Scene) -> tuple[Turn, ...]:
        """`questions` different turns from makers in random order by weight, round after round until enough."""
        makers, weights = zip(*self._makers(kind), strict=True)
        odds = np.asarray(weights) / sum(weights)
        turns: dict[str, Turn] = {}
        for round_number in range(8):
            for place in rng.choice(len(makers), len(makers), replace=False, p=odds):
                if round_number and makers[place] in ask.ONCE:
                    continue
                turn = makers[place](rng, scene)
                if turn is not None:
                    turns.setdefault(turn.question, turn)
                if len(turns) == self.questions:
                    return tuple(turns.values())
        return tuple(turns.values())

    def _makers(self, kind: str) -> list[tuple[Maker, float]]:
        """What is asked about a kind of scene, with weights."""
        if kind == "single":
            return [
                (ask.naming, 12.0), (self._presence, 3.0), (self._category, 3.0), (ask.where, 3.0), (ask.box, 2.0),
                (ask.colour_of, 2.0), (ask.background_colour, 1.5), (self._caption, 1.0), (ask.count_all, 0.5),
            ]  # fmt: skip
        if kind == "several":
            return [
                (ask.beside, 4.0), (ask.neighbour, 3.0), (ask.side, 2.0), (ask.where, 2.0), (self._presence, 5.0),
                (ask.count_all, 1.5), (ask.colour_of, 2.0), (ask.background_colour, 1.0), (self._caption, 3.0),
                (ask.box, 3.0), (ask.count_most, 0.7),
            ]  # fmt: skip
        if kind == "repeated":
            return [
                (ask.count_most, 10.0), (ask.count_other, 2.0), (self._count_absent, 0.5), (self._presence, 3.0),
                (ask.side, 1.0), (ask.colour_of, 2.0), (ask.background_colour, 1.0), (self._caption, 1.0), (ask.box, 1.0),
            ]  # fmt: skip
        return [
            (ask.reading, 8.0), (ask.word_colour, 2.0), (ask.background_colour, 1.0), (self._presence, 1.0), (ask.box, 1.5),
            (ask.where, 1.0), (ask.beside, 1.0), (ask.side, 1.0),
        ]  # fmt: skip

    def _presence(self, rng: np.random.Generator, scene: Scene) -> Turn | None:
        present = sorted(scene.counts)
        if present and rng.random() < 0.5:
            name, answer = str(rng.choice(present)), "yes"
        else:
            absent = self._absent(rng, present)
            if absent is None:
                return None
            name, answer = absent, "no"
        question = pick(rng, phrases.presence_of(name), a_thing=phrases.with_article(name))
        return Turn(question, answer, "presence")

    def _absent(self, rng: np.random.Generator, present: list[str]) -> str | None:
        """A concept that nothing in the picture could pass for, often of the same kind as something in it."""
        for _ in range(20):
            name = self._name(rng)
            if present and rng.random() < 0.4:
                kin = self.by_kind[self.concepts[str(rng.choice(present))].kind]
                name = kin[int(rng.integers(len(kin)))]
            if not any(self._related(name, other) for other in present):
                return name
        return None

    def _count_absent(self, rng: np.random.Generator, scene: Scene) -> Turn | None:
        name = self._absent(rng, sorted(scene.counts))
        return None if name is None else ask.count_of(rng, name, 0)

    def _category(self, rng: np.random.Generator, scene: Scene) -> Turn | None:
        kind = self.concepts[scene.placed[0].cutout.concept].kind
        return None if kind in VAGUE_KINDS else Turn(pick(rng, phrases.CATEGORY), kind, "category")

    def _caption(self, rng: np.random.Generator, scene: Scene) -> Turn:
        parts = [phrases.counted(name, count) for name, count in scene.counts.most_common()]
        article = "an" if scene.ground[0] in "aeiou" else "a"
        answer = f"{phrases.listed(parts)} on {article} {scene.ground} background"
        return Turn(pick(rng, phrases.CAPTION), answer, "caption")
