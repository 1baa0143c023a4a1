"""Adapters: nothing at first, a change of rank R later, mergeable."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from beholder.errors import BeholderError
from beholder.model import build
from beholder.parts.adapters.apply import adapter_tensors, adapters, apply_adapters, merge_adapters
from beholder.parts.adapters.low_rank import Lora, LowRankLinear
from tests.toys import TEXT


def trained(rank: int = 3, dtype: torch.dtype = torch.float64) -> tuple[nn.Sequential, torch.Tensor]:
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 5, bias=False)).to(dtype)
    apply_adapters(model, "*", rank, alpha=4.0)
    for layer in adapters(model).values():
        nn.init.normal_(layer.lora_b)
    return model, torch.randn(7, 8, dtype=dtype)


def test_a_new_adapter_changes_nothing() -> None:
    plain, adapted = build(TEXT), build(TEXT)
    names = apply_adapters(adapted, "languages.main.blocks.*", 4)
    assert len(names) == 14
    ids = torch.tensor([[1, 2, 3]])
    embed = plain.language.embed(ids)
    assert torch.equal(embed, adapted.language.embed(ids))
    first, second = (model.language.blocks[0].attn.q for model in (plain, adapted))
    assert torch.equal(first(embed), second(embed))


def test_the_change_is_b_times_a_times_alpha_over_rank() -> None:
    layer = nn.Linear(6, 4)
    model = nn.Sequential(layer)
    before = layer.weight.detach().clone()
    apply_adapters(model, "0.weight", 2, alpha=6.0)
    adapted = adapters(model)["0"]
    nn.init.normal_(adapted.lora_b)
    x = torch.randn(3, 6)
    want = x @ (before + 3.0 * adapted.lora_b @ adapted.lora_a).T + layer.bias
    torch.testing.assert_close(model(x), want)


def test_gradients_are_those_of_the_formula() -> None:
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    layer = LowRankLinear(nn.Linear(6, 4, dtype=torch.float64), Lora(rank=2, alpha=5.0))
    layer.lora_a.data, layer.lora_b.data = layer.lora_a.data.double(), torch.randn(4, 2, dtype=torch.float64)
    target = torch.randn(2, 3, 4, dtype=torch.float64)
    wanted = []
    for forward in (
        lambda: x @ (layer.weight.detach() + layer.scaling * layer.lora_b @ layer.lora_a).T + layer.bias,
        lambda: layer(x),
    ):
        ((forward() - target) ** 2).sum().backward()
        wanted.append([t.grad.clone() for t in (x, layer.lora_a, layer.lora_b, layer.bias)])
        x.grad = None
        layer.zero_grad()
    for plain, own in zip(*wanted, strict=True):
        torch.testing.assert_close(own, plain, atol=1e-5, rtol=1e-5)  # the adapter's own are float32


def test_merging_keeps_the_outputs_and_takes_the_adapters_off() -> None:
    model, x = trained()
    before = model(x)
    assert merge_adapters(model) == 2
    assert not adapters(model) and type(model[0]) is nn.Linear
    torch.testing.assert_close(model(x), before, atol=1e-5, rtol=1e-5)


def test_extracted_tensors_rebuild_the_change() -> None:
    model, _ = trained()
    tensors = adapter_tensors(model)
    assert set(tensors) == {"0.lora_a", "0.lora_b", "2.lora_a", "2.lora_b"}
    for name, layer in adapters(model).items():
        product = tensors[f"{name}.lora_b"] @ tensors[f"{name}.lora_a"]
        torch.testing.assert_close(product, layer.change())
        assert torch.linalg.matrix_rank(product) == 3


def test_applying_twice_keeps_the_first_adapter() -> None:
    model, _ = trained()
    first = adapters(model)["0"]
    apply_adapters(model, "*", 5)
    assert adapters(model)["0"] is first


def test_errors_name_pattern_and_rank() -> None:
    with pytest.raises(BeholderError, match=r"no linear layer's weight matches 'x\.\*'"):
        apply_adapters(nn.Sequential(nn.Linear(2, 2)), "x.*", 2)
    with pytest.raises(BeholderError, match="rank 0"):
        apply_adapters(nn.Sequential(nn.Linear(2, 2)), "*", 0)
