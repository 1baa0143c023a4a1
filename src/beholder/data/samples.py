"""What a data set gives: pictures with questions and answers, or whole conversations, by number, so that a run resumes
exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from beholder.errors import BeholderError
from beholder.prompts.messages import (
    Clip,
    Message,
    Part,
    Picture,
    Sound,
    Text,
    assistant,
    filled,
    user,
)


@dataclass(frozen=True)
class Turn:
    """One question about a picture, its answer, and the task that the pair is scored under."""

    question: str
    answer: str
    task: str


@dataclass(frozen=True)
class Sample:
    """One picture, (height, width, 3) uint8 RGB, with its turns; `key` names it within its data set."""

    pixels: np.ndarray
    turns: tuple[Turn, ...]
    key: str


@dataclass(frozen=True, eq=False)
class Conversation:
    """Turns of user and assistant, of which every answer is learned. `pictures`, (height, width, 3) uint8 RGB, stand at the
    places `Picture()` of the messages, in order; there may be none. Clips and sounds are in the messages with their sources,
    as in `Clip("talk.mp4")`: which frames and samples are wanted, the card says that reads them. `key` names the conversation
    within its data set.

    Raises `BeholderError` where places and pictures differ in number, and for a clip or sound without a source.
    """

    messages: tuple[Message, ...]
    pictures: tuple[np.ndarray, ...] = ()
    key: str = ""

    def __post_init__(self) -> None:
        parts = [part for message in self.messages for part in message.parts]
        if any(isinstance(part, (Clip, Sound)) and part.source is None for part in parts):
            raise BeholderError(
                f"conversation {self.key}: a clip or sound has no source; give its file, its bytes or an array"
            )
        places = sum(isinstance(part, Picture) for part in parts)
        if places != len(self.pictures):
            raise BeholderError(
                f"conversation {self.key}: {places} places for pictures but {len(self.pictures)} pictures; give one for each"
            )

    @property
    def told(self) -> tuple[Message, ...]:
        """The messages with the pictures in their places, as a pipeline takes them, and names for clips and sounds."""
        numbers = Counter[str]()

        def named(part: Part) -> Part:
            if not isinstance(part, (Clip, Sound)) or part.name:
                return part
            what = "clip" if isinstance(part, Clip) else "sound"
            numbers[what] += 1
            return replace(part, name=f"sample {self.key}, {what} {numbers[what]}")

        messages = filled(self.messages, Picture, self.pictures)
        return tuple(replace(each, parts=tuple(map(named, each.parts))) for each in messages)


def turns_of(messages: Sequence[Message]) -> tuple[Turn, ...]:
    """Every answer of a conversation with the words of the user before it."""
    turns, asked = [], ""
    for message in messages:
        words = " ".join(part.text for part in message.parts if isinstance(part, Text))
        if message.role == "user":
            asked = words
        elif message.role == "assistant":
            turns.append(Turn(asked, words, "all"))
    return tuple(turns)


Item = Sample | Conversation


class Dataset(Protocol):
    """A list of samples or conversations. Item `i` is a pure function of the data set's settings and `i`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item: ...


def items_at(dataset: Dataset, indices: Sequence[int]) -> list[Item]:
    """Several items, whose pictures are decoded side by side where the data set can (`many`)."""
    many = getattr(dataset, "many", None)
    return [dataset[index] for index in indices] if many is None else many(indices)


class Samples(Protocol):
    """A data set that has nothing but samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Mixture:
    """Draws every sample from one of several data sets, chosen with fixed odds by the sample's own number.

    weights: of the data sets; None: their sizes to the power 1 / temperature, so that 1 draws every sample alike and large
    temperatures every data set. length: how many samples the mixture has; the default is the sum of its parts.
    Raises `BeholderError` for an empty data set, and when the weights are not one positive number per data set.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        weights: Sequence[float] | None = None,
        seed: int = 0,
        *,
        temperature: float = 1.0,
        length: int | None = None,
    ) -> None:
        sizes = [len(part) for part in datasets]
        if temperature <= 0:
            raise BeholderError(f"temperature {temperature:g} of a mixture is not positive; 1 is by size")
        if 0 in sizes:
            raise BeholderError(f"data set {sizes.index(0) + 1} of the mixture is empty; leave it out")
        weights = [size ** (1 / temperature) for size in sizes] if weights is None else weights
        if not datasets or len(datasets) != len(weights) or min(weights) <= 0:
            raise BeholderError(
                f"{len(datasets)} data sets but weights {list(weights)}: give one positive weight for each"
            )
        self.datasets = tuple(datasets)
        self.odds = np.asarray(weights, dtype=float) / sum(weights)
        self.seed = seed
        self.length = sum(sizes) if length is None else length

    def __len__(self) -> int:
        return self.length

    @property
    def by_epoch(self) -> bool:
        """Whether a part's samples differ by epoch; number i + e * length is then sample i of epoch e."""
        return any(getattr(part, "by_epoch", False) for part in self.datasets)

    def __getitem__(self, index: int) -> Item:
        part, number = self._place(index)
        return self.datasets[part][number]

    def many(self, indices: Sequence[int]) -> list[Item]:
        """Items as `items_at` gives those of each part."""
        places = [self._place(index) for index in indices]
        own = [
            iter(items_at(dataset, [number for part, number in places if part == each]))
            for each, dataset in enumerate(self.datasets)
        ]
        return [next(own[part]) for part, _ in places]

    def _place(self, index: int) -> tuple[int, int]:
        """The data set that an item is drawn from, and its number there, whatever the epoch."""
        epoch = 0
        if self.by_epoch:
            epoch, index = divmod(index, self.length)
        part, number = self.drawn(index)
        again = getattr(self.datasets[part], "by_epoch", False)
        return part, number + again * epoch * len(self.datasets[part])

    def drawn(self, index: int) -> tuple[int, int]:
        """Which data set a sample is drawn from, and its number there."""
        index = checked_index(index, self.length)
        rng = np.random.default_rng([self.seed, index])
        part = int(rng.choice(len(self.datasets), p=self.odds))
        return part, int(rng.integers(len(self.datasets[part])))


def checked_index(index: int, length: int) -> int:
    """`index` counted from the start, for a sequence of `length` items. Raises IndexError beyond it."""
    if not -length <= index < length:
        raise IndexError(f"sample {index} of {length}")
    return index % length


class Over:
    """A data set made of another one's samples, one of each: their order, lengths and places in files are the other's."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def by_epoch(self) -> bool:
        """Whether samples differ by epoch, as in `Mixture`."""
        return getattr(self.dataset, "by_epoch", False)

    @property
    def near(self) -> Any:
        """The shuffle that the files can be read in; None where any will do."""
        return getattr(self.dataset, "near", None)

    def sizes(self) -> np.ndarray | None:
        """A guess of the samples' lengths; None where only reading would tell."""
        return self.dataset.sizes() if hasattr(self.dataset, "sizes") else None


class Bare(Over):
    """Conversations without the words of users: pictures, clips and sounds, and what is said of them."""

    def __getitem__(self, index: int) -> Conversation:
        return self.many([index])[0]

    def many(self, indices: Sequence[int]) -> list[Conversation]:
        """Items as `items_at` gives them."""
        return [_wordless(item) for item in items_at(self.dataset, indices)]


def _wordless(item: Item) -> Conversation:
    if isinstance(item, Sample):
        pictures: tuple[np.ndarray, ...] = (item.pixels,)
        messages: tuple[Message, ...] = (user(Picture()), assistant(item.turns[0].answer))
    else:
        pictures, messages = item.pictures, item.messages
    return Conversation(tuple(map(_bare, messages)), pictures, item.key)


def _bare(message: Message) -> Message:
    if message.role != "user":
        return message
    return replace(message, parts=tuple(part for part in message.parts if not isinstance(part, Text)))
