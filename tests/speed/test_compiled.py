"""Compiled steps inside pipelines and schedulers: the answers of PyTorch's steps, and those where a model is not covered."""

from __future__ import annotations

import pytest
import torch

import beholder.speed.compiled as compiled_module
from beholder.engine import Engine
from beholder.generate.runtime import Runtime
from beholder.generate.sampling import Sampling
from beholder.generate.scheduler import Limits, Scheduler
from beholder.model import build
from beholder.native.decoder import why_not
from beholder.pipeline import Pipeline
from beholder.speed.compiled import CompiledSteps, pack_with_steps
from beholder.speed.precision import Precision
from tests.generate.test_scheduler import PHOTO, alone, finished, job, requests, spread, text
from tests.test_cards import Tiny
from tests.test_engine import question
from tests.test_pipeline import made
from tests.toys import SEES, TEXT

pytestmark = pytest.mark.skipif(
    "kernels" in (why_not(build(TEXT)) or ""), reason="the compiled kernels are not built"
)
FLOAT = Precision.parse("float32")


def compiled(model) -> CompiledSteps:
    _, found = pack_with_steps(model, FLOAT)
    assert isinstance(found, CompiledSteps), found
    return found


@pytest.mark.parametrize("name", ["llama-2-7b", "smolvlm-256m", "qwen2-vl-2b", "paligemma-3b-224"])
def test_company_changes_no_answer(name: str) -> None:
    tiny = Tiny(name, PHOTO)
    model, prompts = spread(tiny.model), requests(tiny)
    samplings = [Sampling(max_tokens=5 + i, temperature=float(i % 2), seed=i) for i in range(len(prompts))]
    wanted = [alone(model, batch, each) for batch, each in zip(prompts, samplings, strict=True)]
    if why_not(model) is not None:
        assert name == "paligemma-3b-224" and isinstance(pack_with_steps(model, FLOAT)[1], str)
        return
    steps, taken = compiled(model), []
    real = steps.decoder.step
    steps.decoder.step = lambda ids, *rest: taken.append(len(ids)) or real(ids, *rest)
    scheduler = Scheduler(model, Limits(chunk=9), Runtime(advance=steps).remembering(2**24, 2**24))
    jobs = [job(model, batch, each) for batch, each in zip(prompts, samplings, strict=True)]
    for each in jobs:
        scheduler.submit(each)
        scheduler.step()
    while scheduler.step():
        pass
    assert [finished(each) for each in jobs] == wanted
    assert len(taken) > 5 and max(taken) > 2


def test_what_is_not_covered_goes_on_in_pytorch() -> None:
    """A state or a model that the kernels refuse."""
    model = spread(build(TEXT, seed=1))
    sampling, prompt = Sampling(max_tokens=9), text(*range(3, 12))
    wanted = alone(model, prompt, sampling)
    steps = compiled(model)
    steps.decoder.refuses = lambda *_: "not this one"
    steps.decoder.step = None
    scheduler = Scheduler(model, runtime=Runtime(advance=steps))
    done = scheduler.submit(job(model, prompt, sampling))
    while scheduler.step():
        pass
    assert finished(done) == wanted
    other = spread(build(TEXT.but(**{"language.attention.softcap": 30.0}), seed=1))
    _, reason = pack_with_steps(other, FLOAT)
    assert "softcap" in reason


def test_words_are_read_from_the_table_in_its_new_type() -> None:
    """The table is cast after the kernels were pointed at it."""
    model = spread(build(TEXT, seed=1))
    wanted = alone(model.to(torch.bfloat16), text(*range(3, 12)), Sampling(max_tokens=4))
    model = spread(build(TEXT, seed=1))
    _, steps = pack_with_steps(model, Precision.parse("bf16"))
    assert steps.decoder.weights.words.data_ptr() == model.language.embedding.weight.data_ptr()
    scheduler = Scheduler(model, runtime=Runtime(advance=steps))
    done = scheduler.submit(job(model, text(*range(3, 12)), Sampling(max_tokens=4)))
    while scheduler.step():
        pass
    assert finished(done)[:2] == wanted[:2]


def test_pipelines_and_engines_use_them() -> None:
    plain = made(SEES)
    wanted = [plain.chat(question(i), max_tokens=9).ids for i in range(3)]
    quick = Pipeline(plain.model, plain.tokenizer, runtime=Runtime(advance=compiled(plain.model)))
    assert [quick.chat(question(i), max_tokens=9).ids for i in range(3)] == wanted
    with Engine(quick) as engine:
        assert [r.ids for r in engine.answer([question(i) for i in range(3)], max_tokens=9)] == wanted


def test_where_products_would_be_slow_pytorch_has_weights_of_its_own(monkeypatch) -> None:
    monkeypatch.setattr(compiled_module, "describe", lambda: ("portable", "yes"))
    model, same = (spread(build(TEXT, seed=1)) for _ in range(2))
    report, steps = pack_with_steps(model, FLOAT)
    assert isinstance(steps, CompiledSteps) and not steps.decoder.weights.shared
    monkeypatch.undo()
    shared, _ = pack_with_steps(same, FLOAT)
    assert {name for each in shared.maps for name in each.names} >= {
        name for each in report.maps for name in each.names
    }
