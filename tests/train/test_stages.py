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


def test_rates_fall_from_layer_to_layer() -> None:
    model = build(SEES.but(**{"language.num_layers": 3}))
    plan = prepare_stage(
        model,
        stage(
            Trains("languages.main.*", lr=1e-3, weight_decay=0.1, layer_decay=0.5),
            Trains("branches.image.connector.*", lr=1e-2),
        ),
    )
    rates = {id(p): group["lr"] for group in plan.optimizer_groups() for p in group["params"]}
    of = {name: rates[id(parameter)] for name, parameter in plan.trained.items()}
    assert of["languages.main.embedding.weight"] == pytest.approx(1e-3 * 0.5**3)
    assert [of[f"languages.main.blocks.{n}.attn.q.weight"] for n in range(3)] == pytest.approx(
        [2.5e-4, 5e-4, 1e-3]
    )
    assert of["languages.main.norm.weight"] == of["languages.main.head.weight"] == 1e-3
    assert of["branches.image.connector.layers.0.weight"] == 1e-2
    groups = plan.optimizer_groups()
    assert len(groups) == 5 and [group["weight_decay"] for group in groups] == [0.1] * 4 + [0.0]
    assert " to 0.001" in plan.table()
    with pytest.raises(BeholderError, match=r"layer_decay 1\.5"):
        Trains("*", layer_decay=1.5)


def test_rates_of_adapters_fall_as_those_of_their_layers() -> None:
    plan = prepare_stage(build(SEES), stage(Trains("languages.main.*", lr=1.0, rank=2, layer_decay=0.5)))
    rates = {id(p): group["lr"] for group in plan.optimizer_groups() for p in group["params"]}
    assert rates[id(plan.trained["languages.main.blocks.0.attn.q.lora_a"])] == 0.5
    assert rates[id(plan.trained["languages.main.blocks.1.attn.q.lora_b"])] == 1.0


def test_biases_and_norms_alone() -> None:
    """BitFit (2106.10199) and tuning of norms are patterns."""
    model = build(SEES)
    plan = prepare_stage(model, stage(Trains("*.bias", lr=1e-3), Trains("*norm*.weight", lr=1e-3)))
    assert {name.rpartition(".")[2] for name in plan.trained} == {"bias", "weight"}
    assert all(value.ndim == 1 for value in plan.trained.values())
    assert sum(value.numel() for value in plan.trained.values()) < 0.05 * plan.frozen


def test_what_matches_nothing_gets_the_nearest_names() -> None:
    with pytest.raises(
        BeholderError, match=r"nothing is called so; nearest: .*branches\.image\.connector\.layers"
    ):
        prepare_stage(build(SEES), stage(Trains("branches.image.conector.layers.0.weight", lr=1.0)))
    with pytest.raises(BeholderError, match=r"are of the rule 'branches\.\*' before it"):
        prepare_stage(build(SEES), stage(Trains("branches.*", lr=1.0), Trains("*.connector.*", lr=1.0)))


def test_two_kinds_of_adapters_in_one_stage() -> None:
    model = build(SEES)
    plan = prepare_stage(
        model,
        stage(
            Trains("languages.main.blocks.*", lr=1e-3, rank=2),
            Trains("languages.main.blocks.*", lr=1e-2, rank=5, adapter="prefix"),
            Trains("branches.image.connector.*", lr=1e-4),
        ),
    )
    low, prefix, connector = plan.groups
    assert all(".lora_" in name for name in low.parameters)
    assert all(name.startswith("adapters.0.layers.") for name in prefix.parameters)
    assert len(prefix.parameters) == 4 and all("connector" in name for name in connector.parameters)
    later = prepare_stage(model, stage(Trains("languages.main.*", lr=1e-3, rank=5, adapter="prefix")))
    assert later.trained.keys() == prefix.parameters.keys()


def test_the_table_counts_parts_and_shares() -> None:
    import io

    from rich.console import Console

    model = build(SEES)
    plan = prepare_stage(
        model,
        stage(
            Trains("languages.main.blocks.*", lr=1e-3, rank=2, adapter="dora"), Trains("*connector*", lr=1e-3)
        ),
    )
    total = sum(parameter.numel() for parameter in model.parameters())
    assert plan.frozen + sum(group.num_values for group in plan.groups) == total
    assert sum(values for values, _ in plan.parts.values()) == total
    assert plan.parts["adapters"][0] == plan.parts["adapters"][1] == plan.groups[0].num_values
    table = plan.table()
    assert "dora 2" in table and f"{100 * plan.frozen / total:.2f} %" in table and "of connector" in table
    text = io.StringIO()
    Console(file=text, width=90).print(plan)
    assert "what trains" in text.getvalue()
