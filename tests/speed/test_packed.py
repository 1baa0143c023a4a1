"""Packed models compute what plain ones do: in float32 and bf16 the same, in int8 and int4 what the numbers of 8 and 4 bits
give.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from beholder.cards import card
from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Box
from beholder.media.regions import Region
from beholder.model import Batch, Model, build
from beholder.native import library
from beholder.parts.adapters.apply import apply_adapters
from beholder.parts.blocks.attention import Attention, SelfAttention
from beholder.parts.blocks.disentangled import DisentangledAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.rwkv import ChannelMix, TimeMix
from beholder.parts.blocks.shared_keys import SharedKeysAttention
from beholder.parts.blocks.transformer import Arrangement, LayerKind
from beholder.parts.heads.cells import CellLabels
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.layer_inputs import LayerInputDecoder, LayerInputs, Streams
from beholder.parts.language.page_reader import PageReader
from beholder.parts.language.state import State
from beholder.parts.vision.mix_transformer import MixTransformer
from beholder.pipeline import Pipeline, load
from beholder.speed.linears import (
    Int4Linear,
    Int8Linear,
    OneDnnLinear,
    PackedLinear,
    Slice,
    is_packed,
)
from beholder.speed.maps import packed_linear
from beholder.speed.packed import Packed, pack
from beholder.speed.precision import Precision
from beholder.speed.quantise import dequantise_int4, dequantise_int8, quantise_int4, quantise_int8
from tests.test_cards import Tiny
from tests.toys import DECODER, TEXT, TEXT_TOWER

CARDS = (
    "llava-1.5-7b",
    "smolvlm-256m",
    "qwen2-vl-2b",
    "cogvlm-chat",
    "blip-2-opt-2.7b",
    "blip-2-itm-vit-g",
    "aria",
    "mini",
    "mini-search",
    "internlm-xcomposer2-vl-7b",
    "vl-mamba-2.8b",
    "openflamingo-3b",
    "florence-2-base",
    "paligemma-3b-224",
    "fuyu-8b",
)
WORDS = TEXT.but(language=DECODER, heads=(NextToken(),))
SPARSE = FeedForward(64, "gelu_tanh", gated=True, bias=False, sparsity=0.7)
OWN = SharedKeysAttention(4, 2, 8, rotary=Rotary(), v_norm=Norm("rms", learned=False), lends="k")
READER = TEXT_TOWER.but(causal=False, pool=None, projection=0)
VARIANTS: dict[str, Card] = {
    "sparse": WORDS.but(language=DECODER.but(mlp=SPARSE)),
    "sparse, without a gate": WORDS.but(language=DECODER.but(mlp=FeedForward(64, "relu", sparsity=0.7))),
    "learned paths": WORDS.but(language=DECODER.but(arrangement=Arrangement("both", laurel=4))),
    "shared keys": WORDS.but(
        language=DECODER.but(
            attention=OWN, others=(LayerKind(OWN.but(lends=None, borrows="k")),), pattern=(0, 1)
        )
    ),
    "keys as values": WORDS.but(language=DECODER.but(attention=OWN.but(keys_as_values=True))),
    "layer inputs": WORDS.but(
        language=LayerInputDecoder(
            300,
            32,
            2,
            OWN,
            SPARSE,
            inputs=LayerInputs(8, 200),
            streams=Streams(3, active=1),
            layer_scalar=True,
        )
    ),
    "time and channels": WORDS.but(
        language=DECODER.but(
            attention=TimeMix(32), mlp=None, others=(LayerKind(ChannelMix(48)),), pattern=(0, 1)
        )
    ),
    "distances": Card(
        name="toy-distances",
        language=READER.but(attention=DisentangledAttention(4, qkv_bias=True, span=8, farthest=16)),
    ),
    "distances with own maps": Card(
        name="toy-distances",
        language=READER.but(attention=DisentangledAttention(4, span=8, farthest=16, own_maps=True)),
    ),
    "page": Card(
        name="toy-page",
        language=PageReader(
            300,
            32,
            2,
            Attention(4),
            SPARSE,
            context=40,
            causal=False,
            pool=None,
            projection=0,
            edge=6,
            extent=4,
        ),
    ),
    "maps": Card(
        name="toy-maps",
        vision=MixTransformer(64, (8, 16), (1, 1), (2, 2), (7, 3), (4, 2), (2, 1), (2.0, 2.0)),
        heads=(CellLabels((8, 16), 8, 3),),
    ),
}
PHOTO = Path(__file__).resolve().parents[2] / "docs" / "samples" / "cat.jpg"


def tensors(given: Any) -> list[Tensor]:
    """All floating-point tensors in tuples, lists and dataclasses."""
    if isinstance(given, Tensor):
        return [given.float().flatten()] if given.is_floating_point() else []
    if hasattr(given, "__dataclass_fields__"):
        given = tuple(vars(given).values())
    return [tensor for one in given for tensor in tensors(one)] if isinstance(given, (tuple, list)) else []


def outputs(model: Model, batch: Batch) -> Tensor:
    """All that branches, the language part and heads give."""
    with torch.no_grad():
        output = model(batch)
    given: list[Any] = [branch.packed.tokens_ND for branch in output.branches.values()]
    given += [] if output.language is None else [output.language.hidden_BTD]
    return torch.cat(tensors([*given, *output.heads.values()]))


def tiny(name: str) -> Tiny:
    made = Tiny(name, PHOTO)
    with torch.no_grad():
        for parameter in made.model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.02)
    return made


def in_bf16(model: Model) -> Model:
    """As if loaded in it."""
    for owner in model.modules():
        for parameter in owner.parameters(recurse=False):
            parameter.data = parameter.data.bfloat16()
        for name, buffer in owner.named_buffers(recurse=False):
            if buffer.is_floating_point() and name not in owner._non_persistent_buffers_set:
                owner._buffers[name] = buffer.bfloat16()
    return model


def far(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def with_packed_values(model: Model, report: Packed) -> Model:
    """A plain model whose weights are what 8 and 4 bits keep of them; a tied head gets a weight of its own."""
    modules = dict(model.named_modules())
    with torch.no_grad():
        for packed in report.maps:
            for name in packed.names:
                linear = modules.get(name)
                if linear is None:
                    decoder = modules[name.removesuffix(".head")]
                    linear = decoder.head = nn.Linear(*reversed(packed.shape), bias=False)
                    linear.weight.copy_(decoder.embedding.weight)
                    linear.bias = decoder.head_bias
                if packed.kind == "int8":
                    linear.weight.copy_(dequantise_int8(*quantise_int8(linear.weight)))
                if packed.kind == "int4":
                    linear.weight.copy_(dequantise_int4(*quantise_int4(linear.weight)))
    return model


@pytest.mark.parametrize("name", CARDS)
def test_float32_is_the_same(name: str) -> None:
    made = tiny(name)
    plain = outputs(made.model.eval(), made.batch())
    report = pack(made.model, "float32", smallest=1)
    assert report.maps and {packed.kind for packed in report.maps} == {"float32"}
    assert torch.allclose(outputs(made.model, made.batch()), plain, rtol=1e-5, atol=1e-5)


def spread(name: str) -> tuple[Model, Batch]:
    """A variant whose parameters are all different, and what it reads."""
    model = build(VARIANTS[name], seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    if not model.languages:
        return model, Batch(views={"image": [torch.randn(3, 32, 48)]})
    words = torch.tensor([[7, 8, 250, 11, 13, 17]])
    boxes = tuple(Region(Box(n, 2 * n, 30 + n, 50 + n)) for n in range(words.shape[1]))
    return model, Batch(words, regions=(boxes,) if name == "page" else ())


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_the_same(name: str) -> None:
    """Parts that read maps in their own way: each map is joined only where what is joined computes the same."""
    model, batch = spread(name)
    plain = outputs(model, batch)
    report = pack(model, "float32", smallest=1)
    assert report.maps and plain.std() > 0.1
    assert torch.allclose(outputs(model, batch), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_in_bf16_are_those_loaded_in_it(name: str) -> None:
    model, batch = spread(name)
    oracle = in_bf16(copy.deepcopy(model))
    pack(model, "bf16", smallest=1)
    narrow = replace(
        batch, views={key: [view.bfloat16() for view in own] for key, own in batch.views.items()}
    )
    assert far(outputs(model, batch), outputs(oracle, narrow)) < 0.02


@pytest.fixture(params=["compiled", "torch"])
def maps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whose kernels take fewer bits."""
    if request.param == "torch":
        monkeypatch.setenv(library.OFF, "0")
    elif library.quickest() is None:
        pytest.skip("no kernels for this processor")
    return str(request.param)


@pytest.mark.parametrize("name", [name for name in CARDS if name != "fuyu-8b"])
@pytest.mark.parametrize("kind", ["bf16", "int8", "int4"])
def test_fewer_bits_are_those_of_the_weights(name: str, kind: str, maps: str) -> None:
    made = tiny(name)
    oracle = copy.deepcopy(made.model).eval()
    report = pack(made.model, f"vision={kind},language={kind},head={kind}", smallest=1)
    assert any(packed.kind == kind for packed in report.maps)
    oracle = in_bf16(with_packed_values(oracle, report))
    assert far(outputs(made.model, made.batch()), outputs(oracle, made.batch())) < 0.02


def test_int4_oracle_can_tell() -> None:
    """What 4 bits lose is more than the tolerance of the test above."""
    made = tiny("llava-1.5-7b")
    plain = outputs(in_bf16(copy.deepcopy(made.model)).eval(), made.batch())
    pack(made.model, "int4", smallest=1)
    assert far(outputs(made.model, made.batch()), plain) > 0.03


def test_decoding_with_state() -> None:
    made = tiny("smolvlm-256m")
    plain = made.model.eval()
    packed = copy.deepcopy(plain)
    pack(packed, "float32", smallest=1)
    logits = []
    for model in (plain, packed):
        state, ids = State(1), [7, 8, 9]
        with torch.inference_mode():
            given = [model(Batch(torch.tensor([ids])), state).heads["text"][:, -1]]
            given += [model(Batch(torch.tensor([[word]])), state).heads["text"][:, -1] for word in (11, 13)]
        logits.append(torch.cat(given))
    assert torch.allclose(*logits, atol=1e-5)


@pytest.mark.parametrize("rows", [0, 1, 3, 40, 300])
@pytest.mark.parametrize(("outputs_", "inputs"), [(128, 64), (48, 96), (80, 32)])
@pytest.mark.parametrize("bias", [False, True])
def test_maps_with_few_and_many_rows(rows: int, outputs_: int, inputs: int, bias: bool, maps: str) -> None:
    weight_NK = torch.randn(outputs_, inputs) * 0.05
    bias_N = torch.randn(outputs_) if bias else None
    x_MK = torch.randn(rows, inputs).bfloat16()
    for kind in ("float32", "bf16", "int8", "int4"):
        packed = packed_linear(weight_NK, bias_N, kind)
        assert packed.kind == kind and not list(packed.parameters())
        want = nn.functional.linear(x_MK.float(), packed.weight.float(), bias_N)
        got = packed(x_MK)
        assert got.dtype == torch.bfloat16 and got.shape == (rows, outputs_)
        assert rows == 0 or far(got.float(), want) < 0.008
        strided = x_MK.float().repeat(2, 2)[::2, :inputs].reshape(2, -1, inputs) if rows % 2 == 0 else None
        assert strided is None or packed(strided).shape == (2, rows // 2, outputs_)
    int4 = packed_linear(weight_NK, None, "int4")
    assert far(int4.weight.float(), dequantise_int4(*quantise_int4(weight_NK))) < 0.003


def test_shapes_that_do_not_fit_take_the_next_wider_form(monkeypatch: pytest.MonkeyPatch) -> None:
    if library.quickest() is not None:
        forms = [packed_linear(torch.randn(20, inputs), None, "int4").kind for inputs in (64, 48, 40)]
        assert forms == ["int4", "int8", "int8"]
    monkeypatch.setenv(library.OFF, "0")
    assert isinstance(packed_linear(torch.randn(20, 64), None, "int4"), Int8Linear)
    assert isinstance(packed_linear(torch.randn(32, 48), None, "int4"), Int8Linear)
    assert packed_linear(torch.randn(32, 40), None, "int4").kind == "bf16"
    assert isinstance(packed_linear(torch.randn(32, 64), None, "int4"), Int4Linear)


def test_queries_keys_and_values_are_one_map_and_its_slices() -> None:
    made = tiny("llava-1.5-7b")
    block = made.model.language.blocks[0]
    x_BTD = torch.randn(1, 3, block.attn.q.in_features)
    plain = block.attn.q(x_BTD)
    report = pack(made.model, "float32", smallest=1)
    assert isinstance(block.attn, SelfAttention) and isinstance(block.attn.fused, PackedLinear)
    assert isinstance(block.attn.q, Slice)
    assert torch.allclose(block.attn.q(x_BTD), plain, atol=1e-6)
    assert any(packed.names[-1].endswith("attn.v") and len(packed.names) == 3 for packed in report.maps)


@pytest.mark.parametrize("name", ["llava-1.5-7b", "smolvlm-256m"])
def test_joined_maps_are_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not their slices, each of which would compute the whole."""
    made = tiny(name)
    report = pack(made.model, "bf16", smallest=1)
    calls: list[PackedLinear] = []
    product = OneDnnLinear.product
    monkeypatch.setattr(OneDnnLinear, "product", lambda own, *args: calls.append(own) or product(own, *args))
    monkeypatch.setattr(Slice, "forward", None)
    outputs(made.model, made.batch())
    assert len(report.maps) >= len(calls) == len({id(call) for call in calls}) > 10


def test_adapters_and_small_maps_stay() -> None:
    model = build(card("mini").tiny())
    adapted = apply_adapters(model, "languages.main.*.attn.q.weight", rank=2)
    report = pack(model, "float32", smallest=1)
    assert set(adapted) <= report.left.keys() and "merge_adapters" in report.left[adapted[0]]
    report = pack(build(card("mini").tiny()), "int8")
    assert "small" in report.left.values() and not any(packed.kind == "float32" for packed in report.maps)


def test_bytes_and_parts() -> None:
    report = pack(build(card("smolvlm-256m").tiny()), "vision=bf16,language=int4,head=int8", smallest=1)
    kinds = {packed.names[0].split(".")[0]: packed.kind for packed in report.maps}
    assert kinds["branches"] == "bf16"
    assert {p.kind for p in report.maps if p.names[0].endswith(".head")} == {"int8"}
    assert {p.kind for p in report.maps if ".attn." in p.names[0] and p.names[0].startswith("lang")} == {
        "int4"
    }
    assert 0 < report.bytes_after < report.bytes_before
    assert "int4" in str(report) and "MB" in str(report)


def test_what_a_packed_model_refuses(tmp_path: Path) -> None:
    model = build(card("mini").tiny())
    pack(model, "bf16", smallest=1)
    with pytest.raises(BeholderError, match="packed already"):
        pack(model, "int8")
    with pytest.raises(BeholderError, match="stays on the processor"):
        model.to(torch.float32)
    with pytest.raises(BeholderError, match="packed for inference; load it again without a precision"):
        Pipeline(model).save(tmp_path / "saved")


def test_other_devices_take_types_alone() -> None:
    with pytest.raises(BeholderError, match="use precision bf16 or the device cpu"):
        pack(build(card("mini").tiny(), device="meta"), "int8")
    model = build(card("mini").tiny(), device="meta")
    assert not pack(model, "bf16").maps and model.dtype == torch.bfloat16


def test_loaded_with_a_precision(tmp_path: Path) -> None:
    Pipeline(build(card("mini").tiny())).save(tmp_path / "saved")
    again = load(tmp_path / "saved", precision="int8").model
    assert is_packed(again) and again.dtype == torch.bfloat16
    with pytest.raises(BeholderError, match="leave one out"):
        load(tmp_path / "saved", precision="int8", dtype=torch.float32)
    with pytest.raises(BeholderError, match="the device is cuda:0; use precision bf16 or the device cpu"):
        load(tmp_path / "saved", precision="int8", device="cuda:0")


def test_precision_texts() -> None:
    assert Precision.parse("int8") == Precision("int8", "int8", "int8", "int8")
    assert Precision.parse("vision=float32, language=int4") == Precision("float32", "float32", "int4", "int8")
    assert Precision.parse("int4") == Precision("int8", "int8", "int4", "int8")
    assert Precision.parse("vision=int4") == Precision("int4", "int4", "bf16", "bf16")
    for text in ("bf16", "int8", "int4", "vision=int4,connector=int4,language=int4,head=int4"):
        assert str(Precision.parse(text)) == text
    assert Precision.parse("language=int4,head=int8") == Precision("bf16", "bf16", "int4", "int8")
    assert str(Precision.parse("head=int8")) == "vision=bf16,connector=bf16,language=bf16,head=int8"
    assert Precision.parse("int4").bytes_per_weight("language") == 0.5625
    assert Precision.parse("int4").dtype("vision") == torch.bfloat16
    for text in ("int5", "vision=int9", "tower=int8"):
        with pytest.raises(UnknownName):
            Precision.parse(text)
    with pytest.raises(BeholderError, match="names no part"):
        Precision.parse("vision=int8,int4")
    with pytest.raises(BeholderError, match="twice"):
        Precision.parse("head=int8,head=int4")
