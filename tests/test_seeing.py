"""Recordings in conversations: frames as pictures of their own, or read as one, and the prompts that they make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from beholder.errors import BeholderError, MediaError
from beholder.media.clips import Frames
from beholder.media.geometry import Fixed
from beholder.media.pixels import load_views
from beholder.media.plan import Grid, View
from beholder.model import build
from beholder.parts.connectors.projections import Linear
from beholder.parts.contracts import Connector, ConnectorConfig, Context, Packed
from beholder.pipeline import Pipeline
from beholder.prompts.messages import Clip, Picture, user
from beholder.seeing import part_of
from tests.media.test_recordings import made
from tests.toys import SEES, byte_tokenizer

CLIP = np.random.default_rng(0).integers(0, 256, (10, 40, 56, 3), np.uint8)


def seen_by(frames: Frames, **changes: object) -> Pipeline:
    (branch,) = SEES.branches
    return Pipeline(
        build(SEES.but(branches=(branch.but(frames=frames),), **changes), seed=4), byte_tokenizer()
    )


def test_frames_apart_are_pictures_with_captions() -> None:
    pipeline = seen_by(Frames(3, label="F{n} {seconds:.2f}s ", end="\n"))
    prepared = pipeline.prepare([[user(Clip(CLIP), "What happens?")]])
    (plan,) = prepared.plans
    assert [picture.original for picture in plan.pictures] == [(40, 56)] * 3
    text = byte_tokenizer().decode([i for i in plan.prompt.ids if i < 256], skip_special=False)
    assert "F1 0.04s " in text and "F3 0.32s " in text and text.count("\n") == 3
    pixels = [CLIP[number] for number in Frames(3).frame_numbers(10, 25.0)[0]]
    same = pipeline.prepare([[user(*(Picture(frame) for frame in pixels), "What happens?")]])
    for one, other in zip(prepared.batch.views["image"], same.batch.views["image"], strict=True):
        assert torch.equal(one, other)


def test_a_file_is_recognised() -> None:
    assert isinstance(part_of(made("mp4", 5)), Clip) and isinstance(part_of(CLIP[0]), Picture)
    clip = Clip(CLIP)
    assert part_of(clip) is clip
    reply = seen_by(Frames(3)).ask(made("mp4", 20), "What happens?", max_tokens=2)
    assert reply.usage.image == 3 * 4


@dataclass(frozen=True)
class Mean(ConnectorConfig):
    """One frame's tokens, the mean of all frames of a recording."""

    linear: Linear = Linear()

    def grids(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Grid, ...]:
        return grids[:1]

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return MeanConnector(self, in_dim, out_dim)


class MeanConnector(Connector):
    def __init__(self, config: Mean, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear = config.linear.build(in_dim, out_dim)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        assert context is not None
        views, means, grids = packed.split(), [], []
        for plan in context.pictures:
            own, views = views[: len(plan.views)], views[len(plan.views) :]
            means.append(torch.stack(own).mean(0))
            grids += plan.grids
        return self.linear(Packed(torch.cat(means), tuple(grids)))


def test_a_recording_read_as_one() -> None:
    """Its frames make four tokens together; a picture beside it keeps its own."""
    (branch,) = SEES.branches
    one = branch.but(frames=Frames(4, apart=False), connector=Mean())
    pipeline = Pipeline(build(SEES.but(branches=(one,)), seed=4), byte_tokenizer())
    reply = pipeline.ask([Clip(CLIP), CLIP[0]], "What happens?", max_tokens=2)
    assert reply.usage.image == 8
    still = np.repeat(CLIP[:1], 10, 0)
    alone = pipeline.ask(CLIP[0], "What?", max_tokens=4)
    assert pipeline.ask(Clip(still), "What?", max_tokens=4) == alone  # equal frames are their mean


def test_frames_have_a_geometry_of_their_own() -> None:
    frames = Frames(2, geometry=Fixed(size=(28, 28), fit="crop"))
    pipeline = seen_by(frames)
    views = pipeline.prepare([[user(Clip(CLIP), Picture(CLIP[0]), "?")]]).batch.views["image"]
    numbers = frames.frame_numbers(10, 25.0)[0]
    for view, number in zip(views[:2], numbers, strict=True):
        assert torch.equal(
            view, load_views(CLIP[number], frames.geometry.views((40, 56)), frames.geometry)[0]
        )
    assert torch.equal(
        views[2], load_views(CLIP[0], Fixed(size=(28, 28)).views((40, 56)), Fixed(size=(28, 28)))[0]
    )


def test_what_cannot_be_seen() -> None:
    plain = Pipeline(build(SEES), byte_tokenizer())
    with pytest.raises(BeholderError, match="toy-sees reads no recordings.*beholder list"):
        plain.ask(Clip(CLIP), "?")
    with pytest.raises(BeholderError, match="clip 1 of the messages has no source"):
        seen_by(Frames(2)).chat([user(Clip(), "?")])
    with pytest.raises(MediaError, match="clip 2: .*not a clip"):
        seen_by(Frames(2)).chat([user(Clip(CLIP), Clip(b"words"), "?")])
