"""Prompts through the weights of compiled steps: the products that PyTorch gives with the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.model import Batch
from beholder.native import library
from beholder.native.decoder import NativeDecoder
from beholder.native.formats import FORMATS, Formats
from beholder.native.packing import pack, side_by_side, unpacked
from beholder.native.products import NativeGated, NativeLinear
from beholder.native.rows import ACTIVATIONS
from beholder.parts.blocks.activations import activation
from beholder.parts.language.state import State
from beholder.speed.compiled import CompiledSteps, pack_with_steps
from beholder.speed.packed import num_bytes
from beholder.speed.precision import Precision
from beholder.speed.quantise import GROUP, dequantise_int4, quantise_int4
from tests.native.toys import PLAIN, made, torch_step

SET, REASON = library.describe()
pytestmark = pytest.mark.skipif(SET is None, reason=REASON)
SETS = list(library.kernels().sets) if SET else []
ROUNDING = {"float32": 1e-5, "bf16": 0.01, "int8": 0.02, "int4": 0.02}  # of the largest output


def kernel(instruction_set: str | None = None) -> library.Kernel:
    return library.Kernel(library.kernels(), library.kernels().number(instruction_set))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def far(given: Tensor, wanted: Tensor) -> float:
    return float((given.float() - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("outputs", "inputs"), [(64, 96), (33, 70), (301, 64), (96, 1000)])
def test_products_are_those_of_the_weight(form: str, instruction_set: str, outputs: int, inputs: int) -> None:
    bias = drawn(outputs, seed=1)
    linear = NativeLinear(pack(drawn(outputs, inputs), form), bias, kernel(instruction_set))
    assert linear.weight.shape == (outputs, inputs)
    for rows in (1, 7, 70):
        x = drawn(rows, inputs, seed=2)
        given = linear(x.to(linear.dtype))
        assert given.dtype == linear.dtype and given.shape == (rows, outputs)
        assert far(given, F.linear(x, linear.weight.float(), bias)) < ROUNDING[form]


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize(("outputs", "inputs"), [(64, 96), (33, 64), (96, 1024)])
def test_weights_alone_of_fewer_bits(form: str, instruction_set: str, outputs: int, inputs: int) -> None:
    """What meets them has 16: hundreds of times nearer than 8."""
    weight, bias = pack(drawn(outputs, inputs), form), drawn(outputs, seed=1)
    wide = NativeLinear(weight, bias, kernel(instruction_set), wide=True)
    narrow = NativeLinear(weight, bias, kernel(instruction_set))
    for rows in (1, 7, 70):
        x = (
            drawn(rows, inputs, seed=2) * 10 ** drawn(1, inputs, seed=3)
        ).bfloat16()  # some channels are large
        wanted = F.linear(x.float(), unpacked(weight).float(), bias)
        errors = [(each.product(x.float()) - wanted).abs().mean() for each in (wide, narrow)]
        assert errors[0] < 1e-4 * wanted.abs().mean() and errors[0] < errors[1] / 50
        assert far(wide(x), wanted) < 0.005


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("shape", [(40, 64), (4100, 32), (5, 45)])
def test_weights_come_back(form: str, shape: tuple[int, int]) -> None:
    weight = drawn(*shape)
    linear = NativeLinear(pack(weight, form), None, kernel())
    assert linear.kind == ("int8" if form == "int4" and shape[1] % GROUP else form)
    if linear.kind == "int4":
        assert torch.equal(linear.weight, dequantise_int4(*quantise_int4(weight), torch.bfloat16))
    assert far(linear.weight, weight) < {"float32": 1e-9, "bf16": 0.004, "int8": 0.01}.get(linear.kind, 0.2)


def test_rows_do_not_depend_on_each_other() -> None:
    """More rows than are made ready at a time."""
    for form in FORMATS:
        linear = NativeLinear(pack(drawn(70, 64), form), None, kernel())
        x = drawn(1100, 64, seed=3).to(linear.dtype)
        together = linear(x[None])[0]
        assert all(torch.equal(linear(x[rows]), together[rows]) for rows in (slice(0, 1), slice(500, 530)))


def test_inputs_with_gaps_and_none() -> None:
    linear = NativeLinear(pack(drawn(40, 64), "float32"), None, kernel())
    x = drawn(6, 10, 128)
    assert torch.equal(linear(x[..., :64]), linear(x[..., :64].contiguous()))
    assert torch.equal(linear(x[:, :, ::2]), linear(x[:, :, ::2].contiguous()))
    assert linear(x[:0, :, :64]).shape == (0, 10, 40)


@pytest.mark.parametrize("half", [32, 40, 7])
@pytest.mark.parametrize("instruction_set", SETS)
def test_gates(half: int, instruction_set: str) -> None:
    gate, up, bias = drawn(half, 64), drawn(half, 64, seed=1), drawn(2 * half, seed=2)
    joined = NativeLinear(pack(side_by_side(gate, up), "float32"), bias, kernel(instruction_set), hidden=half)
    both = torch.cat((gate, up))
    assert far(joined.weight, both) < 1e-9
    x = drawn(3, 50, 64, seed=3)
    assert far(joined(x), F.linear(x, both, bias)) < 1e-5
    for name in ACTIVATIONS:
        act = activation(name)
        one, other = F.linear(x, both, bias).chunk(2, -1)
        assert far(NativeGated(joined, act, name)(x), act(one) * other) < 1e-5


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("outputs", [64, 33])
def test_maps_that_activate(form: str, outputs: int) -> None:
    bias, x = drawn(outputs, seed=1), drawn(70, 96, seed=2)
    linear = NativeLinear(pack(drawn(outputs, 96), form), bias, kernel())
    assert linear.activated(x, "tanh") is None
    for name in ACTIVATIONS:
        given = linear.activated(x, name)
        assert given is not None and given.dtype == x.dtype and given.shape == (70, outputs)
        assert far(given, activation(name)(F.linear(x, linear.weight.float(), bias))) < 1.5 * ROUNDING[form]


def test_gradients_go_through() -> None:
    gate, up = drawn(40, 64), drawn(40, 64, seed=1)
    joined = NativeLinear(pack(side_by_side(gate, up), "float32"), None, kernel(), hidden=40)
    x, same = (drawn(5, 64, seed=3).requires_grad_() for _ in range(2))
    NativeGated(joined, F.silu, "silu")(x).sum().backward()
    (F.silu(same @ gate.T) * (same @ up.T)).sum().backward()
    assert far(x.grad, same.grad) < 1e-5


@pytest.mark.parametrize("form", FORMATS)
def test_models_hold_their_weights_once(form: str) -> None:
    """Prompts, and steps in PyTorch, are those of the same weights by themselves."""
    model, wide = made(PLAIN.but(dim=128), 2), made(PLAIN.but(dim=128), 2)
    before = num_bytes(model)
    report, steps = pack_with_steps(model, Precision.parse(form))
    head = "int8" if form == "int4" else form
    assert isinstance(steps, CompiledSteps) and {each.kind for each in report.maps} == {form, head}
    assert report.bytes_before == before and not report.left
    others = sum(each.nbytes for each in (*model.parameters(), *model.buffers()))
    assert others < 1.2 * model.language.embedding.weight.nbytes
    assert num_bytes(model) <= 1.1 * steps.decoder.nbytes + others
    assert not [name for name, p in model.named_parameters() if p.ndim > 1 and "embedding" not in name]
    with torch.no_grad():  # the oracle has the weights that are computed with
        for packed in report.maps:
            for name in packed.names:
                held = model.get_submodule(name).weight
                wide.get_submodule(name).weight.copy_(held)
    ids, state, oracle = torch.arange(40)[None], State(1), State(1)
    with torch.inference_mode():
        given = model.language.logits(model.read(Batch(ids_BT=ids), {}, state).last())
        wanted = wide.language.logits(wide.read(Batch(ids_BT=ids), {}, oracle).last())
    bound = 1e-4 if form == "float32" else 0.06
    assert far(given, wanted) < bound
    assert far(steps.decoder.step([5], state), torch_step(wide, [5], oracle)) < bound


def test_weights_of_their_own() -> None:
    """A decoder beside a model leaves it as it was."""
    model = made(PLAIN)
    before = num_bytes(model)
    decoder = NativeDecoder.of(model, Formats("int8"))
    assert not decoder.weights.taken and num_bytes(model) == before
