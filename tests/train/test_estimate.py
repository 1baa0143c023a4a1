"""What training will take, told beforehand: against counts by hand and against what really is allocated."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from beholder.cards import card
from beholder.cli.app import app
from beholder.errors import BeholderError
from beholder.on_paper import OnPaper
from beholder.train.estimate import stage_costs
from beholder.train.recipe import Lesson, Recipe

LLAVA = card("llava-1.5-7b")


def test_products_and_memory_are_counted_on_meta() -> None:
    layer, x = nn.Linear(30, 50, bias=False, device="meta"), torch.empty(7, 30, device="meta")
    with OnPaper() as paper:
        y = layer(x)
        assert (paper.flops, paper.live, paper.peak) == (2 * 7 * 30 * 50, y.nbytes, y.nbytes)
        z = y + 1
        assert paper.live == 2 * y.nbytes
        del z
        assert (paper.live, paper.peak) == (y.nbytes, 2 * y.nbytes)
        (gradient,) = torch.autograd.grad(y.sum(), [layer.weight])
    assert paper.flops == 2 * (2 * 7 * 30 * 50) and gradient.shape == (50, 30)


def test_real_masks_choose_among_tensors_on_paper() -> None:
    chosen = torch.tensor([True, False, True, True])
    x = torch.empty(4, 8, device="meta", requires_grad=True)
    with OnPaper():
        assert x[chosen].shape == (3, 8)
        (gradient,) = torch.autograd.grad(x[chosen].sum(), [x])
    assert gradient.shape == x.shape


def test_what_depends_on_values_is_refused() -> None:
    with OnPaper(), pytest.raises(BeholderError, match="only a run tells its cost"):
        torch.empty(3, device="meta").max().item()


def test_a_stage_of_full_size_is_costed_without_memory() -> None:
    recipe = Recipe(LLAVA, (Lesson(LLAVA.stages[1].but(batch=2, accumulate=3)),))
    (cost,) = stage_costs(recipe)
    language = sum(p.numel() for p in torch.nn.Module.parameters(_meta().languages["main"]))
    trained = language + sum(
        p.numel() for p in _meta().get_submodule("branches.image.connector").parameters()
    )
    assert cost.trained == trained and cost.moments == 8 * trained and cost.gradients == 4 * trained
    tokens = cost.tokens / 6
    assert 576 < tokens < 1000
    read_and_back = 6 * language * cost.tokens
    assert 0.8 * read_and_back < cost.operations < 1.25 * read_and_back
    (less,) = stage_costs(recipe.but(recompute=True))
    assert less.activations < 0.6 * cost.activations and 1.2 < less.operations / cost.operations < 1.45


def test_a_stage_has_pictures_of_its_side() -> None:
    (stage,) = card("paligemma-3b-224").stages[-1:]
    stages = tuple(Lesson(stage.but(name=f"at {side}", side=side, batch=1)) for side in (224, 448))
    small, large = stage_costs(Recipe(card("paligemma-3b-224"), stages))
    assert large.tokens - small.tokens == stage.accumulate * ((448 // 14) ** 2 - (224 // 14) ** 2)
    assert large.operations > 2 * small.operations


def test_wrong_pairs_are_counted_though_they_are_drawn_by_scores() -> None:
    system = card("blip-2-pretrain-vit-g")
    (cost,) = stage_costs(Recipe(system, (Lesson(system.stages[0].but(batch=2, accumulate=1)),)))
    seen_once = 2 * 1.0e9 * 257 * 2  # a billion parameters of the encoder, two pictures
    assert cost.samples == 2 and cost.operations > seen_once


def _meta():  # type: ignore[no-untyped-def]
    from beholder.model import build

    return build(LLAVA, device="meta")


def test_activations_are_what_a_real_step_holds() -> None:
    """Against the bytes that autograd keeps in a real forward of a small model."""
    from beholder.model import build
    from beholder.prompts.byte_level import byte_tokenizer
    from beholder.train.estimate import _first_samples
    from beholder.train.objectives import next_token
    from beholder.train.recipe import collator
    from beholder.train.stages import prepare_stage

    tiny = LLAVA.tiny().but(**{"language.context": 2048})
    stage = replace(LLAVA.stages[1], batch=4, accumulate=1)
    recipe = Recipe(tiny, (Lesson(stage),), precision="float32")
    (cost,) = stage_costs(recipe)
    model = build(tiny).train()
    prepare_stage(model, stage)
    item = collator(tiny, byte_tokenizer(), recipe.stages[0])(_first_samples(recipe.stages[0], 100))
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = next_token(model, item)
    assert loss.isfinite()
    assert 0.8 * sum(kept.values()) < cost.activations < 1.8 * sum(kept.values())


def test_the_command_tells_every_stage(tmp_path) -> None:  # type: ignore[no-untyped-def]
    runner = CliRunner()
    settings = ["stages.0.batch=2", "stages.1.batch=2", "--rate", "1", "--json"]
    ran = runner.invoke(app, ["cost", "--train", "llava-1.5-7b", *settings])
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert [row["stage"] for row in told["stages"]] == ["align", "instruct"]
    assert told["stages"][1]["step_seconds"] == pytest.approx(
        told["stages"][1]["operations"] / 0.5e12, rel=1e-6
    )
    assert "add --train" in str(runner.invoke(app, ["cost", "mini"]).exception)
    program = tmp_path / "program.py"
    program.write_text("x = 1\n")
    assert "a whole program" in str(runner.invoke(app, ["cost", "--train", str(program)]).exception)
