"""Captions written and filtered by models that were trained on the noisy ones (CapFilt of BLIP, 2201.12086, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

Picture = TypeVar("Picture")


class Caption(NamedTuple):
    """A text that the filter kept, and whether the captioner wrote it."""

    text: str
    written: bool


def capfilt(
    pairs: Iterable[tuple[Picture, str]],
    write: Callable[[Picture], str],
    odds: Callable[[Picture, str], float],
    *,
    least: float = 0.5,
) -> Iterator[tuple[Picture, tuple[Caption, ...]]]:
    """Each picture with those of its own text and a written one that belong to it by at least such odds; pictures that keep
    neither are left out. write: a caption of a picture; odds: of a match, 0 to 1.
    """
    for picture, text in pairs:
        offered = [Caption(text, written=False), Caption(write(picture), written=True)]
        kept = tuple(dict.fromkeys(one for one in offered if one.text and odds(picture, one.text) >= least))
        if kept:
            yield picture, kept
