"""Runs with adapters: they go on exactly, and what a run wrote is opened with its card."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from beholder.cards.schema import Stage, Trains
from beholder.data.samples import Sample
from beholder.model import Model, build
from beholder.parts.adapters.low_rank import Lora
from beholder.parts.adapters.mixtures import LoraMixture
from beholder.train.collate import Collator
from beholder.train.loop import Settings, train_stage
from beholder.train.objectives import next_token
from beholder.train.stages import prepare_stage
from tests.toys import SEES, byte_tokenizer
from tests.train.test_loop import Plain

LAYERS = "languages.main.blocks.*"
COLLATE = Collator(SEES, byte_tokenizer())
MIXED = (
    Trains("*.mlp.*", lr=3e-3, adapter=LoraMixture(rank=2, experts=3, active=1), layer_decay=0.5),
    Trains("*.attn.q.weight", lr=3e-3, adapter=Lora(rank=2, magnitudes=True)),
    Trains(LAYERS, lr=3e-3, adapter="prefix", rank=3),
)


class Stops(Plain):
    """Asks the process to end while the third step's samples are made."""

    def __getitem__(self, index: int) -> Sample:
        if index == 2 * 4 + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(index)


def fresh() -> Model:
    torch.manual_seed(0)
    return build(SEES)


def settings(folder: Path) -> Settings:
    return Settings(folder, precision=torch.float32)


def test_a_stopped_run_with_several_adapters_goes_on_exactly(tmp_path: Path) -> None:
    stage = Stage("adapt", rules=MIXED, steps=5, batch=4, warmup=1)
    whole, stopped, resumed = fresh(), fresh(), fresh()
    train_stage(whole, stage, Plain(), COLLATE, settings(tmp_path / "whole"))
    result = train_stage(stopped, stage, Stops(), COLLATE, settings(tmp_path / "parts"))
    assert not result.finished
    result = train_stage(resumed, stage, Plain(), COLLATE, settings(tmp_path / "parts"))
    assert result.finished and len(result.plan.groups) == 3
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    plain = build(SEES).state_dict()
    assert all(torch.equal(whole.state_dict()[name], value) for name, value in plain.items())


def test_mixtures_add_their_balance_to_the_answers(tmp_path: Path) -> None:
    stage = Stage("adapt", rules=MIXED[:1])
    model = fresh()
    prepare_stage(model, stage)
    model.train()
    batch = COLLATE([Plain()[index] for index in range(4)])
    language = model.read(batch.batch, model.encode(batch.batch))
    balance = language.aux_losses["load balance"]
    assert balance.item() > 5.5  # about 1 at least of each of six maps
    with torch.no_grad():  # where experts report no losses
        answers = next_token(model, batch)
    torch.testing.assert_close(next_token(model, batch), answers + 0.01 * balance)


@pytest.mark.parametrize("adapter", ["lora", "prompt", "zero-init"])
def test_pictures_are_read_behind_prompts(adapter: str) -> None:
    """A row of pictures trains as it answers: prompts move words and pictures alike."""
    model = fresh()
    plan = prepare_stage(model, Stage("s", rules=(Trains(LAYERS, lr=1.0, adapter=adapter, rank=3),)))
    batch = COLLATE([Plain()[index] for index in range(3)])
    gradients = torch.autograd.grad(next_token(model, batch), list(plan.trained.values()))
    assert any(gradient.abs().max() > 0 for gradient in gradients)
