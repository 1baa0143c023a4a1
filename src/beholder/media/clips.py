"""Which parts of a long recording are looked at: clips evenly spread over it, and frames evenly spread over each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beholder.config import Config
from beholder.errors import BeholderError, MediaError

# S samples, F frames


@dataclass(frozen=True)
class EvenClips(Config):
    """`count` clips of `seconds` each, the first at the start of the recording and the last at its end, others evenly
    between (pytorchvideo's `ConstantClipsPerVideoSampler`, which ImageBind uses). frames: of each clip, from its first to
    its last (`UniformTemporalSubsample`); 0 where clips are sounds.
    """

    seconds: float = 2.0
    count: int = 3
    frames: int = 0

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.count < 1 or self.frames < 0:
            raise BeholderError(
                f"{self.count} clips of {self.seconds} s with {self.frames} frames; give one clip or more, longer than 0"
            )

    def spans(self, duration: float) -> list[tuple[float, float]]:
        """(start, end) of each clip in seconds, of a recording of so many; clips of a short one are the whole of it."""
        if not duration > 0:
            raise MediaError(f"a recording of {duration} s has nothing to look at")
        room = max(duration - self.seconds, 0.0)
        starts = [room * index / max(self.count - 1, 1) for index in range(self.count)]
        return [(start, start + min(self.seconds, duration)) for start in starts]

    def sounds(self, samples_S: np.ndarray, rate: int) -> list[np.ndarray]:
        """The samples of each clip."""
        spans = self.spans(len(samples_S) / rate)
        return [samples_S[int(start * rate) : int(end * rate)] for start, end in spans]

    def frame_numbers(self, num_frames: int, rate: float) -> list[list[int]]:
        """For each clip the numbers of its `frames` frames, of a recording of `num_frames` at `rate` a second."""
        chosen = []
        for start, end in self.spans(num_frames / rate):
            first = min(int(np.ceil(start * rate)), num_frames - 1)
            last = max(min(int(np.ceil(end * rate)), num_frames) - 1, first)
            chosen.append([int(place) for place in np.linspace(first, last, self.frames)])
        return chosen


@dataclass(frozen=True)
class Frames(Config):
    """Pictures of one recording, in order: `count` evenly spaced ones, the middles of as many equal stretches; or, with
    `rate`, so many a second and at most `count`.
    """

    count: int
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.count < 1 or (self.rate is not None and self.rate <= 0):
            raise BeholderError(f"{self.count} frames at {self.rate} a second; give numbers above 0")

    def frame_numbers(self, num_frames: int, rate: float) -> list[list[int]]:
        """The numbers of the frames, of a recording of `num_frames` at `rate` a second, as those of its one clip."""
        count = self.count
        if self.rate is not None:
            step = rate / self.rate
            paced = [int(step * number) for number in range(max(int(num_frames / step), 1))]
            if len(paced) <= count:
                return [paced]
        return [[int((number + 0.5) * num_frames / count) for number in range(count)]]

    def pictures(self, recording: Sequence[np.ndarray], rate: float) -> list[np.ndarray]:
        """The frames that are looked at, as pictures that follow each other in a prompt."""
        (numbers,) = self.frame_numbers(len(recording), rate)
        return [recording[number] for number in numbers]
