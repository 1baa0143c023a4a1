"""Positions of several axes: pictures' tokens have a time, a row and a column, words the same number on every axis (Qwen2-VL,
2409.12191, section 2.1).

B rows, T positions, N tokens of a run, A axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from beholder.errors import BeholderError
from beholder.media.plan import Features, Media, PicturePlan
from beholder.parts.blocks.masks import PADDING
from beholder.parts.contracts import BranchOutput, Fusion, FusionConfig, LanguageConfig, LanguageInputs
from beholder.parts.fusion.experts import PICTURE

AXES = 3


@dataclass(frozen=True)
class GridPositions(FusionConfig):
    """Behind the fusion that puts features of `branch` into the sequence: each run of features starts at one more than the
    highest position before it, and words behind it go on from one more than its highest.

    per_second: positions on the time axis for each second of a recording (Qwen2.5-VL, 2502.13923, section 2.1.2); None
    counts frames.
    """

    branch: str = "image"
    per_second: float | None = None

    @property
    def in_segments(self) -> bool:
        return True

    def build(self, language: LanguageConfig | None) -> Fusion:
        return GridPositionsFusion(self)


class GridPositionsFusion(Fusion):
    """Adds no modules to layers; gives positions (3, B, T) where there are pictures."""

    def __init__(self, config: GridPositions) -> None:
        super().__init__()
        self.config = config

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        branch = branches.get(self.config.branch)
        if branch is None or draft.routes_BT is None or draft.positions.ndim != 2:
            return draft
        seen, starts_BT = draft.visibility, draft.positions.cpu().numpy()
        rows = zip(
            (draft.routes_BT == PICTURE).cpu().numpy(), seen.segments_BT.cpu().numpy(), starts_BT, strict=True
        )
        tables = [
            segment_positions(
                places_T, segments_T, seen.parents, [self.coordinates(plan) for plan in plans], starts_T
            )
            if len(seen.parents) > 1
            else row_positions(places_T, [self.coordinates(plan) for plan in plans], int(starts_T[0]))
            for (places_T, segments_T, starts_T), plans in zip(rows, branch.plans, strict=True)
        ]
        positions = torch.from_numpy(np.stack(tables, 1)).to(draft.positions)
        return replace(draft, positions=positions)

    def coordinates(self, plan: PicturePlan) -> list[np.ndarray]:
        """Time, row and column (3, N) of each run of a picture's features, counted from the run's first."""
        places = np.concatenate([_grid(*grid) for grid in plan.grids], 1)
        if self.config.per_second is not None and plan.times:
            places[0] = np.floor(np.array(_seconds(plan)) * self.config.per_second + 1e-6)
        runs = []
        for piece in plan.pieces:
            if isinstance(piece, Features) and not isinstance(piece, Media) and piece.num_tokens:
                run_3N = places[:, piece.order]
                runs.append(run_3N - run_3N.min(1, keepdims=True))
        return runs


def row_positions(places_T: np.ndarray, pictures: Sequence[Sequence[np.ndarray]], start: int) -> np.ndarray:
    """Positions (3, T) of a row that begins at `start`. places_T: where features stand; pictures: the runs of each."""
    positions = np.empty((AXES, len(places_T)), dtype=np.int64)
    features, done, next_position = np.flatnonzero(places_T), 0, start
    runs: Iterator[np.ndarray] = (run_3N for picture in pictures for run_3N in picture)
    used = 0
    for run_3N in runs:
        first, count = int(features[used]), run_3N.shape[1]
        positions[:, done:first] = np.arange(next_position, next_position + first - done)
        next_position += first - done
        positions[:, first : first + count] = run_3N + next_position
        next_position += int(run_3N.max()) + 1
        done, used = first + count, used + count
    positions[:, done:] = np.arange(next_position, next_position + len(places_T) - done)
    return positions


def segment_positions(
    places_T: np.ndarray,
    segments_T: np.ndarray,
    parents: Sequence[int],
    pictures: Sequence[Sequence[np.ndarray]],
    starts_T: np.ndarray,
) -> np.ndarray:
    """`row_positions` for a row of several texts: each begins where the one that it goes on from ends, or by itself where
    `starts_T` says. Padding gets 0.
    """
    positions = np.zeros((AXES, len(places_T)), dtype=np.int64)
    runs = [run_3N for picture in pictures for run_3N in picture]
    edges = [0, *(np.flatnonzero(np.diff(segments_T)) + 1).tolist(), len(segments_T)]
    ends: dict[int, int] = {}
    for first, stop in pairwise(edges):
        segment, own = int(segments_T[first]), list[np.ndarray]()
        if segment == PADDING:
            continue
        count = int(places_T[first:stop].sum())
        while sum(run_3N.shape[1] for run_3N in own) < count:
            own.append(runs.pop(0))
        start = ends.get(parents[segment], int(starts_T[first]))
        positions[:, first:stop] = row_positions(places_T[first:stop], [own], start)
        ends[segment] = int(positions[:, first:stop].max()) + 1
    return positions


def _grid(frames: int, height: int, width: int) -> np.ndarray:
    """(3, frames * height * width) in raster order."""
    return np.indices((frames, height, width), dtype=np.int64).reshape(AXES, -1)


def _seconds(plan: PicturePlan) -> list[float]:
    """When each token's frame was, the first one where a token shows several."""
    if len(plan.views) != len(plan.grids):
        raise BeholderError(
            f"{len(plan.views)} views were joined to {len(plan.grids)}; their tokens have no time"
        )
    seconds = []
    for view, grid in zip(plan.views, plan.grids, strict=True):
        for frame in range(grid.frames):
            number = view.numbers[frame * len(view.numbers) // grid.frames]
            seconds += [plan.times[number]] * (grid.height * grid.width)
    return seconds
