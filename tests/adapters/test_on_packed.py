"""Adapters on weights in 8 and 4 bits: the base stays packed, gradients go through what it computes with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from beholder.cards.schema import Stage, Trains
from beholder.errors import BeholderError
from beholder.model import Batch, Model, build
from beholder.parts.adapters.apply import adapters, merge_adapters, put_on
from beholder.parts.adapters.base import Joined
from beholder.parts.adapters.low_rank import Lora, LowRankLinear
from beholder.parts.adapters.named import chosen
from beholder.parts.blocks.mlp import FeedForward
from beholder.speed.compiled import pack_with_steps
from beholder.speed.linears import PackedLinear
from beholder.speed.maps import packed_linear
from beholder.speed.packed import pack
from beholder.speed.precision import Precision
from beholder.train.stages import prepare_stage
from tests.toys import TEXT

LAYERS = "languages.main.blocks.*"
IDS = torch.tensor([[1, 2, 3, 4, 5, 6], [9, 8, 7, 6, 5, 4]])
CARD = TEXT.but(**{"language.dim": 64, "language.attention.head_dim": 16, "language.mlp.hidden": 96})


def packed(precision: str) -> Model:
    model = build(CARD)
    pack(model, precision, smallest=1)
    return model


def scores(model: Model) -> Tensor:
    return model(Batch(ids_BT=IDS)).heads["text"].float()


@pytest.mark.parametrize("precision", ["int8", "int4", "bf16", "float32"])
@pytest.mark.parametrize("name", ["lora", "dora", "mixture", "ia3", "bottleneck"])
def test_a_new_adapter_changes_nothing_and_keeps_maps_joined(precision: str, name: str) -> None:
    model = packed(precision)
    with torch.no_grad():
        want = scores(model)
    adapter = chosen(name, 4, "*.attn.?.weight" if name == "ia3" else LAYERS)
    names = put_on(model, adapter)
    assert len(names) == (6 if name == "ia3" else 14)
    assert all(isinstance(block.attn.fused, Joined) for block in model.language.blocks)
    with torch.no_grad():
        torch.testing.assert_close(scores(model), want, atol=0, rtol=0)
    assert not any(".base." in key for key, _ in model.named_parameters())


@pytest.mark.parametrize("kind", ["int8", "int4", "bf16", "float32"])
@pytest.mark.parametrize("rows", [3, 300])
def test_gradients_go_through_the_weight_that_is_computed_with(kind: str, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(64, 96, generator=generator), torch.randn(64, generator=generator)
    base = packed_linear(weight, bias, kind)
    layer = LowRankLinear(base, Lora(rank=3, alpha=6.0))
    torch.nn.init.normal_(layer.lora_b, generator=generator)
    x = torch.randn(rows, 96, generator=generator, requires_grad=True)
    dense = base.weight.float()

    def formula() -> Tensor:
        return x @ (dense + layer.scaling * layer.lora_b @ layer.lora_a).T + bias

    leaves = (x, layer.lora_a, layer.lora_b)
    target = torch.randn(rows, 64, generator=generator)
    own = torch.autograd.grad((layer(x) * target).sum(), leaves)
    for given, want in zip(own, torch.autograd.grad((formula() * target).sum(), leaves), strict=True):
        assert (given - want).norm() < (1e-5 if kind == "float32" else 2e-2) * want.norm()


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_adapters_learn_on_a_packed_base_which_stays(precision: str) -> None:
    model = packed(precision)
    before = [module.weight.clone() for module in model.modules() if isinstance(module, PackedLinear)]
    plan = prepare_stage(model, Stage("s", rules=(Trains(LAYERS, lr=1e-2, rank=4),)))
    assert plan.frozen > 14 * 64 * 64 and plan.parts["language"][1] == 0
    optimizer, losses = torch.optim.AdamW(plan.optimizer_groups()), []
    model.train()
    for _ in range(25):
        loss = torch.nn.functional.cross_entropy(scores(model)[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    after = [module.weight for module in model.modules() if isinstance(module, PackedLinear)]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    with pytest.raises(BeholderError, match="a packed map cannot take up an adapter's change"):
        merge_adapters(model)


def test_dora_on_a_packed_base_is_the_formula() -> None:
    base = packed_linear(torch.randn(64, 96, generator=torch.Generator().manual_seed(1)), None, "int8")
    layer = LowRankLinear(base, Lora(rank=3, magnitudes=True))
    torch.nn.init.normal_(layer.lora_b)
    total = base.weight.float() + layer.scaling * layer.lora_b @ layer.lora_a
    torch.testing.assert_close(layer.lengths(), total.norm(dim=1), atol=0, rtol=1e-3)


def test_an_mlp_that_activates_in_its_map_is_taken_apart() -> None:
    card = CARD.but(**{"language.mlp": FeedForward(96, act="gelu")})
    model = build(card)
    pack(model, "float32", smallest=1)
    with torch.no_grad():
        want = scores(model)
    put_on(model, Lora(pattern="*.mlp.up.weight"))
    with torch.no_grad():
        torch.testing.assert_close(scores(model), want, atol=1e-5, rtol=1e-4)
        for layer in adapters(model).values():
            torch.nn.init.normal_(layer.lora_b)
        assert not torch.allclose(scores(model), want, atol=1e-3)


def test_compiled_steps_leave_an_adapted_model_to_pytorch() -> None:
    from beholder.generate.steps import advance
    from beholder.parts.language.state import State

    model = build(CARD)
    _, compiled = pack_with_steps(model, Precision.parse("int8"))
    if isinstance(compiled, str):
        pytest.skip(f"no compiled steps here: {compiled}")
    put_on(model, Lora(pattern=LAYERS))
    for layer in adapters(model).values():
        torch.nn.init.normal_(layer.lora_b, generator=torch.Generator().manual_seed(0))
    one, other = State(rows=1), State(rows=1)
    torch.testing.assert_close(compiled(model, [5], one, None), advance(model, [5], other))


def test_packed_weights_do_not_train_themselves() -> None:
    with pytest.raises(
        BeholderError, match=r"blocks\.0\.attn\.q\.weight, which is packed; give it a rank, or load"
    ):
        prepare_stage(packed("int8"), Stage("s", rules=(Trains(LAYERS, lr=1e-3),)))
    plan = prepare_stage(packed("int8"), Stage("s", rules=(Trains("languages.main.embedding.*", lr=1e-3),)))
    assert len(plan.trained) == 1
