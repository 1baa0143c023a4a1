"""Every card computes on a device of its own: on a GPU that is pretended, no tensor meets one of the processor, and what comes
out is what the processor gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from beholder.cards import card_names
from beholder.cards.schema import Card
from beholder.generate.loop import answers, generate
from beholder.generate.runtime import Runtime
from beholder.generate.sampling import Sampling
from beholder.generate.scheduler import Scheduler
from beholder.model import Batch, Model, build
from beholder.pipeline import Pipeline
from beholder.prompts.messages import Picture, user
from beholder.speed.gpu import runtime_of
from beholder.speed.graphs import FixedSteps
from tests.generate.test_scheduler import PHOTO, Numbers, job, spread
from tests.pretend import Claimed, Pretended, back, moved, on_device
from tests.test_cards import Tiny
from tests.toys import DUAL, SEES, TEXT, TILES, byte_tokenizer

CHANCE = Sampling(max_tokens=2, seed=3, temperature=0.7, repetition_penalty=1.2, logprobs=2)


def there(batch: Batch) -> Batch:
    """A batch as a pipeline makes it for a GPU."""
    tables = {name: on_device(getattr(batch, name)) for name in ("ids_BT", "target_BT", "words")}
    return replace(batch, **tables)  # views wait on the processor


def unrecorded(model: Model) -> Runtime:
    """What a model on a GPU is computed by, but for the graphs, which cannot be pretended."""
    runtime = runtime_of(model)
    assert isinstance(runtime.memory, FixedSteps)
    runtime.memory.recorded = False
    return runtime


def said(model: Model, batch: Batch) -> list[Any]:
    given = generate(model, batch, [CHANCE], eos_ids=(), decode=Numbers)
    return [(result.ids, [score.id for score in result.scores]) for result in answers(given)]


def numbers(value: Any) -> list[Tensor]:
    """The tensors that a head gave."""
    if isinstance(value, Tensor):
        return [value]
    parts = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return [each for part in parts for each in numbers(part)]


@pytest.mark.parametrize("name", card_names())
def test_no_card_mixes_devices(name: str) -> None:
    """What writes text writes some; of all else the heads are compared."""
    tiny = Tiny(name, PHOTO)
    heads, batch = {head.output for head in tiny.card.heads}, tiny.batch()
    counts = sum(plan.num_tokens for plan in tiny.plans)
    writes = "text" in heads and tiny.card.main.room(len(tiny.ids)) > 2 and (counts or not tiny.plans)
    whole = not writes or heads != {"text"}
    with torch.inference_mode():
        told = said(tiny.model, replace(batch, target_BT=None)) if writes else None
        wanted = tiny.model(batch) if whole else None
        with Pretended():
            moved(tiny.model)
            again = said(tiny.model, there(replace(batch, target_BT=None))) if writes else None
            found = tiny.model(there(batch)) if whole else None
    assert told == again
    if wanted is not None and found is not None:
        assert wanted.heads.keys() == found.heads.keys()
        for head, value in wanted.heads.items():
            for want, got in zip(numbers(value), numbers(found.heads[head]), strict=True):
                assert isinstance(got, Claimed)
                assert torch.allclose(want, back(got), atol=1e-4, equal_nan=True), head


@pytest.mark.parametrize("system", [SEES, TILES, TEXT], ids=lambda system: system.name)
def test_pipelines_answer_there(system: Card) -> None:
    """Pictures, several conversations and seeds, by what a model on a GPU is given; the answers are the processor's."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    shown = () if system is TEXT else (Picture(pixels),)
    conversations = [[user(*shown, "What?")], [user("Who is there?")], [user(*shown, *shown, "And now?")]]
    options = {"max_tokens": 6, "temperature": 0.8, "seed": 5}
    wanted = Pipeline(spread(build(system)), byte_tokenizer()).answer(conversations, **options)
    model = spread(build(system))
    with torch.inference_mode(), Pretended():
        moved(model)
        runtime = unrecorded(model)
        pipeline = Pipeline(model, byte_tokenizer(), runtime=runtime.remembering())
        for _ in range(2):  # the second time from what was kept
            assert pipeline.answer(conversations, **options) == wanted
        assert "".join(pipeline.stream(conversations[0], **options)) == wanted[0]


def test_a_dual_encoder_compares_there() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    given = {"images": [pixels, pixels[::-1]], "texts": ["a fox", "the sea and a ship"]}
    wanted = Pipeline(build(DUAL), byte_tokenizer()).embed(**given)
    model = build(DUAL)
    with torch.inference_mode(), Pretended():
        pipeline = Pipeline(moved(model), byte_tokenizer())
        assert np.allclose(pipeline.embed(**given).scores, wanted.scores, atol=1e-5)
        assert np.isfinite(pipeline.classify([pixels], ["a fox", "a ship"]).probabilities).all()


def test_a_token_of_all_answers_asks_the_device_once() -> None:
    model = build(TEXT)
    with torch.inference_mode(), Pretended() as gpu:
        moved(model)
        scheduler = Scheduler(model, runtime=unrecorded(model))
        for count in (3, 5, 4):
            batch = Batch(torch.arange(6, 6 + count, device="cuda")[None])
            scheduler.submit(job(model, batch, Sampling(max_tokens=8)))
        scheduler.step()
        for _ in range(4):
            gpu.waits.clear()
            gpu.moves.clear()
            scheduler.step()
            assert dict(gpu.waits) == {"tolist": 1} and sum(gpu.moves.values()) <= 2


def test_the_pretended_device_refuses_what_a_real_one_would() -> None:
    here, index = torch.ones(3, 4), torch.tensor([0, 2])
    with torch.inference_mode(), Pretended() as gpu:
        held = on_device(here)
        assert held.device.type == "cuda" and (held + 1).device.type == "cuda"
        assert held[index].device.type == "cuda" and torch.tensor([1.0], device="cuda").device.type == "cuda"
        assert held.cpu().device.type == "cpu" and here.to("cuda").device.type == "cuda"
        for wrong in (
            lambda: held + here,
            lambda: torch.cat((held, here)),
            lambda: held.masked_fill(here > 0, 0.0),
            lambda: held.index_select(0, index),
            lambda: torch.nn.functional.linear(here, held),
            lambda: torch.rand(2, device="cuda", generator=torch.Generator()),
            lambda: torch.where(held > 0, held, here),
        ):
            with pytest.raises(RuntimeError, match=r"two devices|generator of the processor"):
                wrong()
        with pytest.raises(RuntimeError):
            held.numpy()
        assert (held * torch.tensor(2.0)).device.type == "cuda"  # a number may come from anywhere
        gpu.waits.clear()
        assert float(held.sum()) == 12 and bool((held > 0).all()) and sum(gpu.waits.values()) == 2
