"""Rules decide what trains."""

from __future__ import annotations

import pytest
import torch

from beholder.cards.schema import Stage, Trains
from beholder.errors import BeholderError
from beholder.model import build
from beholder.train.stages import prepare_stage, store_frozen
from tests.toys import SEES


def stage(*rules: Trains) -> Stage:
    return Stage("test", rules=rules)


def test_first_matching_rule_decides_and_the_rest_is_frozen() -> None:
    model = build(SEES)
    plan = prepare_stage(
        model,
        stage(
            Trains("branches.image.vision.blocks.0.*", lr=0.0),
            Trains("branches.image.vision.blocks.*", lr=1e-4, weight_decay=0.1),
            Trains("branches.image.connector.*", lr=1e-3),
        ),
    )
    names = set(plan.trained)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == names
    assert not any(".blocks.0." in name for name in names)
    assert any(".blocks.1." in name for name in names) and any("connector" in name for name in names)
    groups = plan.optimizer_groups()
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1e-4, 0.1), (1e-3, 0.0)]
    assert plan.frozen + sum(group.num_values for group in plan.groups) == sum(
        p.numel() for p in model.parameters()
    )


def test_rules_with_a_rank_train_adapters_alone() -> None:
    model = build(SEES)
    plan = prepare_stage(model, stage(Trains("languages.main.blocks.*", lr=1e-3, rank=3)))
    assert len(plan.trained) == 2 * 7 * 2  # a and b of seven matrices in two layers
    assert all(name.endswith((".lora_a", ".lora_b")) for name in plan.trained)
    assert "languages.main.blocks.*" in plan.table() and f"{plan.frozen:,}" in plan.table()


def test_a_later_stage_can_freeze_adapters() -> None:
    model = build(SEES)
    prepare_stage(model, stage(Trains("languages.main.blocks.*", lr=1e-3, rank=3)))
    plan = prepare_stage(model, stage(Trains("branches.image.connector.*", lr=1e-3)))
    assert all("connector" in name for name in plan.trained)


@pytest.mark.parametrize(
    "rules",
    [
        (Trains("branches.image.conector.*", lr=1e-3),),
        (Trains("branches.*", lr=1e-3), Trains("branches.image.connector.*", lr=1e-4)),
    ],
)
def test_a_rule_that_decides_nothing_is_an_error(rules: tuple[Trains, ...]) -> None:
    with pytest.raises(BeholderError, match=r"con+ector\.\*' decides no parameter"):
        prepare_stage(build(SEES), stage(*rules))


def test_frozen_language_weights_are_stored_small() -> None:
    model = build(SEES)
    prepare_stage(model, stage(Trains("*.attn.q.weight", lr=1e-3, rank=2), Trains("*connector*", lr=1e-3)))
    store_frozen(model, torch.bfloat16)
    dtypes = {name: p.dtype for name, p in model.named_parameters()}
    assert dtypes["languages.main.embedding.weight"] == torch.bfloat16
    assert dtypes["languages.main.blocks.0.attn.q.lora_a"] == torch.float32
    assert dtypes["branches.image.connector.layers.0.weight"] == torch.float32
