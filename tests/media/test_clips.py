"""Frames of recordings: evenly spaced or so many a second, and as pictures that follow each other."""

from __future__ import annotations

import numpy as np
import pytest

from beholder.errors import BeholderError
from beholder.media.clips import EvenClips, Frames
from beholder.model import build
from beholder.pipeline import Pipeline
from tests.toys import SEES, byte_tokenizer


def test_even_frames_are_the_middles_of_equal_stretches():
    assert Frames(4).frame_numbers(8, 30.0) == [[1, 3, 5, 7]]
    assert Frames(3).frame_numbers(100, 30.0) == [[16, 50, 83]]
    assert Frames(4).frame_numbers(2, 30.0) == [[0, 0, 1, 1]]
    assert EvenClips(seconds=1.0, count=1, frames=3).frame_numbers(25, 25.0) == [[0, 12, 24]]
    with pytest.raises(BeholderError, match="above 0"):
        Frames(0)


def test_paced_frames_are_so_many_a_second():
    """At one a second; a recording that gives more than may be seen is thinned evenly."""
    paced = Frames(8, rate=1.0)
    assert paced.frame_numbers(100, 25.0) == [[0, 25, 50, 75]]
    assert paced.frame_numbers(10, 25.0) == [[0]]
    assert paced.frame_numbers(1000, 25.0) == Frames(8).frame_numbers(1000, 25.0)
    with pytest.raises(BeholderError, match="above 0"):
        Frames(8, rate=0.0)


def test_frames_are_pictures_one_after_the_other():
    """A video is asked about as the pictures it is seen as."""
    recording = list(np.random.default_rng(0).integers(0, 256, (9, 40, 56, 3), np.uint8))
    pictures = Frames(3).pictures(recording, 25.0)
    assert [next(n for n, frame in enumerate(recording) if frame is picture) for picture in pictures] == [
        1,
        4,
        7,
    ]
    seen = Pipeline(build(SEES, seed=4), byte_tokenizer())
    reply = seen.ask(pictures, "What happens?", max_tokens=2)
    assert reply.usage.image == 3 * seen.ask(pictures[0], "What?", max_tokens=2).usage.image
