"""Places as a system's head of numbers tells them: points, boxes, and where somebody looks, in pixels of the picture.

D width. The language part reads each number that was told before it tells the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.media.plan import Box, Size
from beholder.model import Batch, Model
from beholder.parts.blocks.masks import Visibility
from beholder.parts.contracts import LanguageInputs, LanguageOutput
from beholder.parts.heads.places import PlacesHead
from beholder.parts.language.state import State
from beholder.prompts.chat import Turn
from beholder.prompts.messages import Picture, user
from beholder.prompts.tasks import Region

if TYPE_CHECKING:
    from beholder.pipeline import Pipeline

MOST = 50  # points of an answer, as in vikhyat/moondream


def point(pipeline: Pipeline, picture: Any, thing: str, most: int = MOST) -> tuple[Region, ...]:
    """Where each `thing` is, as points in pixels. Raises `BeholderError` for a system that tells no places."""
    walk = _Walk.begin(pipeline, picture, f"\n\nPoint: {thing}\n\n")
    return tuple(Region(thing, point=walk.pixels(*place)) for place, _ in walk.places(sizes=False, most=most))


def find(pipeline: Pipeline, picture: Any, thing: str, most: int = MOST) -> tuple[Region, ...]:
    """Where each `thing` is, as boxes in pixels. Raises `BeholderError` for a system that tells no places."""
    walk = _Walk.begin(pipeline, picture, f"\n\nDetect: {thing}\n\n")
    found = []
    for (x, y), (width, height) in walk.places(sizes=True, most=most):
        corners = (x - width / 2, y - height / 2), (x + width / 2, y + height / 2)
        found.append(Region(thing, Box(*walk.pixels(*corners[0]), *walk.pixels(*corners[1]))))
    return tuple(found)


def gaze(pipeline: Pipeline, picture: Any, eye: tuple[float, float]) -> tuple[float, float] | None:
    """Where somebody looks whose eyes are at `eye`, both in pixels; None where it is not in the picture."""
    walk = _Walk.begin(pipeline, picture, "\n\nPoint:")
    height, width = walk.original
    for share in (eye[0] / width, eye[1] / height):
        if not 0 <= share <= 1:
            raise BeholderError(
                f"the eyes are at {eye}, which is not in a picture of {width}x{height} pixels"
            )
        walk.feed(walk.head.embed(share))
    walk.read(pipeline._need_tokenizer().encode(" gaze\n\n"))
    seen = walk.places(sizes=False, most=1)
    return walk.pixels(*seen[0][0]) if seen else None


class _Walk:
    """A prompt that was read, and what follows."""

    def __init__(
        self, model: Model, head: PlacesHead, batch: Batch, original: Size, ends: tuple[int, ...]
    ) -> None:
        self.model, self.head, self.original, self.ends = model, head, original, ends
        self.state = State(1)
        with torch.inference_mode():
            output = model(batch, self.state).language
        assert output is not None
        self._note(output)

    @classmethod
    def begin(cls, pipeline: Pipeline, picture: Any, text: str) -> _Walk:
        head = next((head for head in pipeline.model.heads if isinstance(head, PlacesHead)), None)
        if head is None:
            raise BeholderError(
                f"{pipeline.card.name} tells no places in numbers; choose a system such as moondream2"
            )
        bare = pipeline.prompt_format.but(user=Turn(), generation="")
        prepared = type(pipeline)(pipeline.model, pipeline.tokenizer, chat=bare).prepare(
            [[user(Picture(picture), text)]]
        )
        (plan,) = prepared.plans
        assert plan.prompt is not None
        return cls(pipeline.model, head, prepared.batch, plan.pictures[0].original, plan.prompt.stop_ids)

    def _note(self, output: LanguageOutput) -> None:
        self.hidden_D = output.taps[self.head.depth][0, -1]
        self.next_id = int(self.model.language.logits(output.last())[0].argmax())

    def feed(self, vector_D: Tensor) -> None:
        """Read a vector in place of a word's."""
        with torch.inference_mode():
            self._step(torch.zeros(1, 1, dtype=torch.long, device=vector_D.device), vector_D[None, None])

    def read(self, ids: list[int]) -> None:
        """Read words."""
        ids_1T = torch.tensor([ids], device=self.hidden_D.device)
        with torch.inference_mode():
            self._step(ids_1T, self.model.language.embed(ids_1T))

    def _step(self, ids_1T: Tensor, vectors_1TD: Tensor) -> None:
        seen = Visibility.causal_rows(
            (ids_1T.shape[1],), ids_1T.shape[1], starts=self.state.lengths, device=ids_1T.device
        )
        inputs = LanguageInputs(ids_1T, vectors_1TD, seen.blocks_BT, seen)
        self._note(
            self.model.language(
                inputs, self.state, layer_parts=self.model.layer_parts, taps=(self.head.depth,)
            )
        )

    def places(self, *, sizes: bool, most: int) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        """Centres and sizes, in shares of the picture's sides, until a text would end; sizes are 0 where they are not told."""
        found: list[tuple[tuple[float, float], tuple[float, float]]] = []
        with torch.inference_mode():
            while self.next_id not in self.ends and len(found) < most:
                x = self.head.read(self.hidden_D)
                self.feed(self.head.embed(x))
                y = self.head.read(self.hidden_D)
                self.feed(self.head.embed(y))
                size = (0.0, 0.0)
                if sizes:
                    size = self.head.read_size(self.hidden_D)
                    self.feed(self.head.embed_size(*size))
                found.append(((x, y), size))
        return found

    def pixels(self, x: float, y: float) -> tuple[float, float]:
        """A share of both sides as a point of the picture."""
        height, width = self.original
        return x * width, y * height
