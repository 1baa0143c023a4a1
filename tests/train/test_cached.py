"""Features kept on disk: the same losses and gradients, never those of other weights, and no more bytes than allowed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from beholder.cards import card
from beholder.data.samples import Conversation, Sample, Turn
from beholder.errors import BeholderError
from beholder.model import Model, build
from beholder.prompts.messages import Picture, assistant, user
from beholder.train.cached import HEAD, Cached, FeatureStore
from beholder.train.collate import Collator, TrainBatch
from beholder.train.objectives import next_token
from tests.toys import CHAT, SEES, byte_tokenizer


def frozen(model: Model) -> Model:
    for branch in model.branches:
        for encoder in (model.branch(branch).vision, *model.branch(branch).others):
            encoder.requires_grad_(False)
    return model


def batches(chosen=SEES) -> list[TrainBatch]:
    collate = Collator(chosen, byte_tokenizer())
    pictures = [
        np.random.default_rng(n).integers(0, 256, (28 + 9 * n, 40, 3), dtype=np.uint8) for n in range(4)
    ]
    samples = [Sample(pixels, (Turn("What?", "a", "x"),), str(n)) for n, pixels in enumerate(pictures)]
    talk = Conversation((user(Picture(), Picture(), "?"), assistant("no")), tuple(pictures[:2]), "t")
    return [collate(samples[:2]), collate([samples[2], talk]), collate(samples)]


def run(model: Model, objective, items: list[TrainBatch]) -> tuple[list[float], list[Tensor]]:
    model.zero_grad()
    losses = []
    for item in items:
        loss = objective(model, item)
        loss.backward()
        losses.append(loss.item())
    return losses, [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", ["", "qwen2-vl-2b", "cambrian-8b", "deepseek-vl-7b", "llava-1.6-vicuna-7b"])
def test_losses_and_gradients_are_the_same(name: str, tmp_path: Path) -> None:
    chosen = card(name).tiny().but(prompt=CHAT) if name else SEES
    model, items = frozen(build(chosen)), batches(chosen)
    wanted, grads = run(model, next_token, items)
    cached = Cached(next_token, tmp_path)
    cached.prepare(model)
    first, _ = run(model, cached, items)
    misses, hits = cached.misses, cached.hits
    assert misses == len(cached.store) and hits > 0  # pictures come again in later batches
    again = Cached(next_token, tmp_path)
    second, kept = run(model, again, items)
    assert (again.misses, again.hits) == (0, misses + hits)
    assert first == pytest.approx(wanted, abs=1e-5) and second == pytest.approx(wanted, abs=1e-5)
    for one, other in zip(kept, grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_other_weights_have_other_features(tmp_path: Path) -> None:
    items = batches()
    model = frozen(build(SEES))
    cached = Cached(next_token, tmp_path)
    run(model, cached, items)
    other = frozen(build(SEES, seed=1))
    fresh = Cached(next_token, tmp_path)
    assert run(other, fresh, items)[0] == pytest.approx(run(other, next_token, items)[0], abs=1e-5)
    assert fresh.misses == cached.misses
    with torch.no_grad():  # the tower changes while the run goes on
        next(model.branch("image").vision.parameters()).mul_(1.5)
    assert run(model, cached, items)[0] == pytest.approx(run(model, next_token, items)[0], abs=1e-5)
    assert len(cached.store) == 2 * fresh.misses


def test_encoders_that_train_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BeholderError, match="branch image trains its encoder, so its features change; freeze it"
    ):
        Cached(next_token, tmp_path).prepare(build(SEES))


def test_bytes_are_bounded_and_losses_stay(tmp_path: Path) -> None:
    model, items = frozen(build(SEES)), batches()
    cached = Cached(next_token, tmp_path, most=2500)
    wanted = run(model, next_token, items)[0]
    for _ in range(2):
        assert run(model, cached, items)[0] == pytest.approx(wanted, abs=1e-5)
    assert 0 < len(cached.store) < 5
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2500


def test_what_a_killed_process_left_is_not_read(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    for number in range(3):
        assert store.put(bytes([number]) * 16, b"data" * (number + 1))
    store.close()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    again = FeatureStore(tmp_path)
    assert [again.get(bytes([n]) * 16) for n in range(3)] == [b"data", b"datadata", None]
    assert again.put(b"\2" * 16, b"new") and again.get(b"\2" * 16) == b"new"
    damaged = bytearray(whole)
    damaged[HEAD.size + 1] ^= 1
    path.write_bytes(damaged)
    assert FeatureStore(tmp_path).get(b"\0" * 16) is None
    assert len(list(tmp_path.iterdir())) == 2  # a process writes a file of its own


def test_what_the_objective_carries_is_kept(tmp_path: Path) -> None:
    class Counts:
        steps, ready = 0, False

        def __call__(self, model: Model, item: TrainBatch) -> Tensor:
            return next_token(model, item)

        def prepare(self, model: Model) -> None:
            self.ready = True

        def after_step(self, model: Model) -> None:
            self.steps += 1

        def state_dict(self) -> dict[str, int]:
            return {"steps": self.steps}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.steps = state["steps"]

    model, inner = frozen(build(SEES)), Counts()
    cached = Cached(inner, tmp_path)
    cached.prepare(model)
    cached.after_step(model)
    assert inner.ready and cached.state_dict() == {"steps": 1}
    cached.load_state_dict({"steps": 7})
    assert inner.steps == 7
    assert replace(batches()[0]).batch.encoded == {}
