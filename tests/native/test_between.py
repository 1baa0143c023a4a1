"""What happens to rows between products, compiled, is what PyTorch gives: norms, turned heads, activations."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.native import library, rows
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.attention import Attention, SelfAttention
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary, XPos
from beholder.parts.blocks.rotary2d import AxialRotary
from beholder.parts.blocks.step import Step
from beholder.speed.maps import packed_linear
from beholder.speed.norms import PackedLayerNorm, PackedRmsNorm, Turner, packed_norm
from beholder.speed.packed import pack
from tests.speed.test_packed import PHOTO
from tests.test_cards import Tiny

SET, REASON = library.describe()
pytestmark = pytest.mark.skipif(SET in (None, library.PORTABLE), reason=REASON)
SETS = list(library.kernels().sets) if SET else []
KINDS = ("rms", "layer")
TURNS = {
    "half": Rotary(),
    "adjacent": Rotary(pairs="adjacent"),
    "a share": Rotary(share=0.5),
    "axes": Rotary(sections=(2, 3, 3)),
    "rows and columns": AxialRotary(),
    "nothing": None,
}
NORMS = {
    "none": {},
    "of each head": {"qk_norm": Norm("rms", 1e-6, offset=1.0)},
    "of each head, own weights": {"qk_norm": Norm("layer"), "qk_norm_over": "heads"},
    "of all": {"qk_norm": Norm("rms"), "qk_norm_over": "all"},
    "layer, of each head": {"qk_norm": Norm("layer")},
}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def far(given: Tensor, wanted: Tensor) -> float:
    return float((given.float() - wanted.float()).abs().max() / wanted.float().abs().max())


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    kernels = library.kernels()
    chosen = library.Kernel(kernels, kernels.number(request.param))
    monkeypatch.setattr(library, "quickest", lambda: chosen)
    return request.param


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1, 16, 33, 70, 576, 4100])
def test_norms(kind: str, width: int, instruction_set: str) -> None:
    x = 3 * numbers(2, 9, width) + 1
    weight, bias = numbers(width, seed=1), numbers(width, seed=2)
    of_torch = (
        partial(F.rms_norm, normalized_shape=(width,), eps=1e-3)
        if kind == "rms"
        else partial(F.layer_norm, normalized_shape=(width,), eps=1e-3)
    )
    plain, learned = rows.Norm(kind, 1e-3), rows.Norm(kind, 1e-3, weight, None if kind == "rms" else bias)
    more = {"weight": weight} | ({} if kind == "rms" else {"bias": bias})
    for norm, extra in ((plain, {}), (learned, more)):
        wanted = of_torch(x, **extra)
        given = rows.normed(x, norm)
        assert given.shape == x.shape and (given - wanted).abs().max() <= 1e-5 * (1 + wanted.abs().max())
        rounded = rows.normed(x.bfloat16(), norm)
        assert rounded.dtype == torch.bfloat16
        wanted = of_torch(x.bfloat16().float(), **extra)
        assert (rounded - wanted).abs().max() <= 0.005 * (1 + wanted.abs().max())


@pytest.mark.parametrize("width", [20, 70, 72, 576])
def test_layer_norm_far_from_zero(width: int, instruction_set: str) -> None:
    """What lies beyond the end of a row does not count, however far the row is from it."""
    x = 300 + 0.1 * numbers(5, width)
    wanted = F.layer_norm(x.double(), (width,))
    given = rows.normed(x, rows.Norm("layer", 1e-5))
    assert (given - wanted).abs().max() < 0.002


@pytest.mark.parametrize("name", rows.ACTIVATIONS)
def test_activations(name: str, instruction_set: str) -> None:
    x, number = torch.cat((numbers(40, 77) * 4, torch.full((1, 77), -60.0))), rows.ACTIVATIONS.index(name)
    act = activation(name)
    assert (rows.activated(x, number) - act(x)).abs().max() < 2e-6 * (1 + act(x).abs().max())
    gate, up = x[:, :38], x[:, 39:]
    assert far(rows.activated(gate, number, up), act(gate) * up) < 1e-5
    kept = x.clone()
    given = rows.activated(kept, number, in_place=True)
    assert given.data_ptr() == kept.data_ptr() and torch.equal(given, rows.activated(x, number))
    half = rows.activated(x.bfloat16()[:, ::2], number)
    assert far(half, act(x.bfloat16().float())[:, ::2]) < 0.005


def test_large_and_odd_numbers(instruction_set: str) -> None:
    """What PyTorch gives for infinities and numbers that are none goes on."""
    norm = rows.Norm("rms", 1e-6)
    assert rows.normed(torch.full((1, 20), 1e15), norm).isfinite().all()
    assert rows.normed(torch.zeros(1, 20), norm).eq(0).all()
    assert rows.normed(torch.tensor([[1.0, float("nan"), 2.0]]), norm).isnan().all()


def made(rotary: Rotary | AxialRotary | None, norms: dict[str, object], dtype: torch.dtype) -> SelfAttention:
    """A packed layer with norms that are not ones."""
    torch.manual_seed(3)
    config = Attention(6, 2, 16, qkv_bias=True, rotary=rotary, **norms)
    attention = SelfAttention(config, 32).requires_grad_(False)
    for norm in (attention.q_norm, attention.k_norm):
        for parameter in () if norm is None else norm.parameters():
            parameter += 0.3 * numbers(*parameter.shape)
    linears = (attention.q, attention.k, attention.v)
    weight, bias = (torch.cat([getattr(each, name) for each in linears]) for name in ("weight", "bias"))
    attention.fused = packed_linear(weight, bias, "bf16" if dtype == torch.bfloat16 else "float32")
    return attention


def step_of(rotary: Rotary | AxialRotary | None, rows_B: int, tokens: int, dtype: torch.dtype) -> Step:
    axes = 2 if isinstance(rotary, AxialRotary) else 3 if rotary is not None and rotary.sections else 0
    shape = (axes, rows_B, tokens) if axes else (rows_B, tokens)
    positions = torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(4))
    return Step(dtype=dtype, positions=positions)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("turn", TURNS)
def test_queries_and_keys(turn: str, norm: str, instruction_set: str) -> None:
    rotary = TURNS[turn]
    attention = made(rotary, NORMS[norm], torch.float32)
    x_BTD, step = numbers(2, 7, 32, seed=5), step_of(rotary, 2, 7, torch.float32)
    wanted = attention.turned(x_BTD, step)
    attention.turner = Turner.of(attention, torch.float32)
    if rotary is None and norm == "none":
        assert attention.turner is None
        return
    assert attention.turner is not None
    qkv_BTD = attention.fused(x_BTD)
    values = qkv_BTD[..., -32:].clone()
    q, k, v = attention._together(qkv_BTD, step)
    assert far(q, wanted[0]) < 1e-5 and far(k, wanted[1]) < 1e-5
    assert torch.equal(v.transpose(1, 2).flatten(2), values)


@settings(deadline=None, max_examples=30)
@drawn(st.integers(1, 70), st.integers(1, 3), st.sampled_from(sorted(TURNS)), st.sampled_from(sorted(NORMS)))
def test_a_layer_in_bf16(tokens: int, count: int, turn: str, norm: str) -> None:
    """As near to the layer in float32 as PyTorch's own bf16 is."""
    rotary = TURNS[turn]
    exact, rounded = (made(rotary, NORMS[norm], dtype) for dtype in (torch.float32, torch.bfloat16))
    with torch.inference_mode():
        x = numbers(count, tokens, 32).bfloat16()
        wanted = exact.turned(x.float(), step_of(rotary, count, tokens, torch.float32))
        rounded.turner = Turner.of(rounded, torch.bfloat16)
        given = rounded._together(rounded.fused(x), step_of(rotary, count, tokens, torch.bfloat16))
    assert all(far(a, b) < 0.03 for a, b in zip(given, wanted, strict=False))


def test_rows_do_not_depend_on_each_other_or_on_threads() -> None:
    x, norm = numbers(300, 70).bfloat16(), rows.Norm("layer", 1e-5)
    together, threads = rows.normed(x, norm), torch.get_num_threads()
    torch.set_num_threads(5)
    assert torch.equal(rows.normed(x, norm), together)
    torch.set_num_threads(threads)
    assert torch.equal(rows.normed(x[100:109], norm), together[100:109])


def test_norms_of_packed_parts() -> None:
    """In place of the modules that they stand for; gradients go through them in PyTorch."""
    layer, rms = nn.LayerNorm(40), Norm("rms", 1e-6, offset=1.0).build(40)
    for norm, kind in ((layer, PackedLayerNorm), (rms, PackedRmsNorm)):
        with torch.no_grad():
            norm.weight += 0.3 * numbers(40)
        packed = packed_norm(norm)
        assert isinstance(packed, kind)
        x = numbers(3, 50, 40).bfloat16()
        with torch.no_grad():
            wanted = norm(x.float())
            assert far(packed(x), wanted) < 0.01
        trained = x.clone().requires_grad_()
        given = packed(trained)
        assert given.requires_grad and far(given.detach(), wanted) < 0.02
    assert packed_norm(nn.LayerNorm((4, 5))) is None and packed_norm(Norm("rms").build(8, heads=2)) is None
    assert packed_norm(nn.Linear(3, 3)) is None


def test_what_is_not_covered_is_left_to_torch() -> None:
    assert not rows.covers(torch.zeros(3, 4, dtype=torch.float16))
    assert not rows.covers(torch.zeros(3, 4, requires_grad=True))
    assert rows.covers(torch.zeros(3, 4))
    for config in (
        Attention(4, rotary=XPos()),
        Attention(4, rotary=Rotary(), clip=1.0),
        Attention(4, rotary=Rotary(), qk_norm=Norm("rms"), qk_norm_late=True),
        Attention(4, head_dim=1024, rotary=Rotary()),
    ):
        assert Turner.of(SelfAttention(config, 32), torch.float32) is None
    attention = made(Rotary(), {}, torch.float32)
    attention.turner = Turner.of(attention, torch.float32)
    x, step = numbers(1, 5, 32), step_of(Rotary(), 1, 5, torch.bfloat16)  # tables of another type
    assert not attention.turner(attention.fused(x), step)
    q, _, _ = attention._together(attention.fused(x), step)
    assert far(q, attention.turned(x, step)[0]) < 1e-5


def test_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.OFF, "0")
    assert library.quickest() is None and not rows.covers(torch.zeros(2, 2))
    assert packed_norm(nn.LayerNorm(4)) is None
    attention = SelfAttention(Attention(4, rotary=Rotary()), 32)
    assert Turner.of(attention, torch.bfloat16) is None


@pytest.mark.parametrize("name", ["llama-2-7b", "qwen2-vl-2b", "bunny-phi-2-eva", "openflamingo-3b"])
def test_whole_models_use_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Tiny(name, PHOTO)
    model, batch = made.model.to(torch.bfloat16).eval(), made.batch()
    pack(model, "bf16", smallest=1)
    calls = {"turn": 0, "normed": 0, "activated": 0}

    def counted(name: str) -> None:
        work = getattr(rows, name)

        def run(*given: Any, **more: Any) -> Any:
            calls[name] += 1
            return work(*given, **more)

        monkeypatch.setattr(rows, name, run)

    for each in calls:
        counted(each)
    with torch.inference_mode():
        compiled = model(batch).heads["text"].float()
    used = {each for each, count in calls.items() if count}
    assert used >= ({"normed"} if name == "openflamingo-3b" else {"turn", "normed", "activated"})
    monkeypatch.setattr(library, "quickest", lambda: None)
    calls.update(dict.fromkeys(calls, 0))
    with torch.inference_mode():
        plain = model(batch).heads["text"].float()
    assert not any(calls.values()) and not torch.equal(plain, compiled)
    assert far(compiled, plain) < 0.05
