"""The compiled decode step gives what PyTorch gives, and goes on from PyTorch's state and back."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import pytest
import torch

from beholder.errors import BeholderError
from beholder.model import Batch, Model
from beholder.native import library
from beholder.native.decoder import NativeDecoder, why_not
from beholder.native.formats import Formats
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.rotary_scaling import DynamicScaling, Llama3Scaling
from beholder.parts.blocks.rwkv import TimeMix
from beholder.parts.blocks.shared_keys import SharedKeysAttention
from beholder.parts.blocks.transformer import LayerKind
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.layer_inputs import LayerInputDecoder
from beholder.parts.language.state import State
from beholder.speed.quantise import dequantise_int4, dequantise_int8, quantise_int4, quantise_int8
from tests.native.toys import PLAIN, farthest, made, prefilled, torch_step

SET, REASON = library.describe()
pytestmark = pytest.mark.skipif(SET is None, reason=REASON)
SETS = list(library.kernels().sets) if SET else []
EXACT = Formats("float32")
ROTARY = Rotary()


def heads(num_heads: int, shared: int, width: int, **more: object) -> Attention:
    return Attention(num_heads=num_heads, num_kv_heads=shared, head_dim=width, **({"rotary": ROTARY} | more))


SHAPES = {
    "usual": PLAIN,
    "tied": PLAIN.but(tied=True, norm=Norm("rms", offset=1.0), embedding=TokenEmbedding(scale=3.0)),
    "each head its keys": PLAIN.but(attention=heads(4, 4, 16)),
    "all heads one key": PLAIN.but(attention=heads(6, 1, 16)),
    "groups of three, 64 wide": PLAIN.but(attention=heads(3, 1, 64)),
    "80 wide": PLAIN.but(attention=heads(2, 1, 80)),
    "128 wide": PLAIN.but(attention=heads(4, 2, 128)),
    "10 wide": PLAIN.but(attention=heads(5, 5, 10)),
    "nothing whole": PLAIN.but(
        dim=42, mlp=FeedForward(53, act="silu", gated=True, bias=True), attention=heads(3, 3, 14)
    ),
    "partial": PLAIN.but(attention=heads(4, 2, 24, rotary=Rotary(share=0.5))),
    "adjacent": PLAIN.but(attention=heads(4, 2, 16, rotary=Rotary(pairs="adjacent"))),
    "normed": PLAIN.but(attention=heads(4, 2, 16, qk_norm=Norm("rms", 1e-6), scale=0.3)),
    "biases": PLAIN.but(attention=heads(4, 2, 16, qkv_bias=True, out_bias=True), head_bias=True),
    "keys without bias": PLAIN.but(attention=heads(4, 2, 16, qkv_bias=True, k_bias=False)),
    "gelu": PLAIN.but(mlp=FeedForward(96, act="gelu_tanh", gated=True, bias=False), logit_scale=0.25),
    "gelu by erf": PLAIN.but(mlp=FeedForward(96, act="gelu", gated=True, bias=False)),
    "squared relu": PLAIN.but(mlp=FeedForward(96, act="relu2", gated=True, bias=False)),
    "scaled rotary": PLAIN.but(
        attention=heads(4, 2, 16, rotary=Rotary(scaling=Llama3Scaling(8.0, 1.0, 4.0, 16)))
    ),
    "rotary by length": PLAIN.but(attention=heads(4, 2, 16, rotary=Rotary(scaling=DynamicScaling(2.0, 8)))),
    "some layers without rotary": PLAIN.but(
        num_layers=4, others=(LayerKind(heads(4, 2, 16, rotary=None)),), pattern=(0, 1)
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_float32_equals_torch(name: str) -> None:
    model = made(SHAPES[name])
    worst, _ = farthest(NativeDecoder.of(model, EXACT, threads=2), model, (9, 4, 12))
    assert worst < 1e-4


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("name", ("usual", "10 wide", "nothing whole", "80 wide"))
def test_every_instruction_set(instruction_set: str, name: str) -> None:
    model = made(SHAPES[name])
    decoder = NativeDecoder.of(model, EXACT, threads=1, instruction_set=instruction_set)
    assert farthest(decoder, model, (70, 5, 3))[0] < 1e-4
    assert farthest(decoder, model, (5,))[0] < 1e-4


@pytest.mark.parametrize("rows", (1, 2, 3, 4, 5, 7, 8, 9, 17, 32))
@pytest.mark.parametrize("form", ("float32", "bf16", "int8", "int4"))
def test_rows_do_not_depend_on_each_other(form: str, rows: int) -> None:
    model = made(PLAIN)
    decoder = NativeDecoder.of(model, Formats(form), threads=2)
    lengths = [1 + (5 * row) % 23 for row in range(rows)]
    together = prefilled(model, lengths)
    one_by_one = [together.reorder([row]) for row in range(rows)]
    ids = [(7 * row) % 300 for row in range(rows)]
    got_BV = decoder.step(ids, together)
    for row, state in enumerate(one_by_one):
        torch.testing.assert_close(got_BV[row], decoder.step([ids[row]], state)[0], atol=2e-5, rtol=1e-4)


def rounded(model: Model, form: str) -> Model:
    """The same with the weights that a format computes with, in float32."""
    assert isinstance(model.card.main, Decoder)
    oracle = made(model.card.main)
    oracle.load_state_dict(model.state_dict())
    for name, parameter in oracle.language.named_parameters():
        if parameter.ndim == 2 and not name.startswith("embedding"):
            weight = parameter.data
            if form == "bf16":
                parameter.data = weight.bfloat16().float()
            elif form == "int8":
                parameter.data = dequantise_int8(*quantise_int8(weight))
            else:
                parameter.data = dequantise_int4(*quantise_int4(weight))
    return oracle


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize(("form", "share"), (("bf16", 0.008), ("int8", 0.02), ("int4", 0.02)))
def test_formats_compute_with_rounded_weights(instruction_set: str, form: str, share: float) -> None:
    """What is left is the rounding of what meets them: 8 bits of which one is the sign, or bfloat16's 8 bits."""
    model = made(PLAIN.but(dim=128, attention=heads(4, 2, 32)))
    decoder = NativeDecoder.of(model, Formats(form), threads=2, instruction_set=instruction_set)
    oracle = rounded(model, form)
    for lengths in ((9, 4, 12), (6,)):
        # both go on from the oracle's prompt, so that its keys are the same
        worst, largest = farthest(decoder, oracle, lengths)
        assert 0 < worst < share * largest


def test_int4_needs_whole_groups() -> None:
    model = made(PLAIN.but(mlp=FeedForward(50, act="silu", gated=True, bias=False)))
    numbers = {layer.down.format for layer in NativeDecoder.of(model, Formats("int4")).weights.layers}
    assert numbers == {2}  # int8


def test_head_has_a_format_of_its_own() -> None:
    model = made(PLAIN)
    decoder = NativeDecoder.of(model, Formats("int4", head="bf16"))
    assert decoder.weights.decoder.head.format == 1 and decoder.weights.layers[0].qkv.format == 3
    small, large = (
        NativeDecoder.of(model, Formats("int4", head=head)).nbytes for head in ("int4", "float32")
    )
    assert small < decoder.nbytes < large


def test_bf16_model_is_nearer_to_float32_than_torch_is() -> None:
    rough = made(PLAIN, dtype=torch.bfloat16)
    exact = made(PLAIN.but())
    exact.load_state_dict({name: value.float() for name, value in rough.state_dict().items()})
    mine, theirs, oracle = (prefilled(model, (40, 9)) for model in (rough, rough, exact))
    decoder, errors = NativeDecoder.of(rough), {"native": 0.0, "torch": 0.0}
    for number in range(6):
        ids = [number, 2 * number]
        want_BV = torch_step(exact, ids, oracle)
        errors["native"] = max(errors["native"], float((decoder.step(ids, mine) - want_BV).abs().max()))
        errors["torch"] = max(errors["torch"], float((torch_step(rough, ids, theirs) - want_BV).abs().max()))
    assert mine.self_attention(0).keys.dtype == torch.bfloat16
    assert errors["native"] < 1.2 * errors["torch"]


@pytest.mark.parametrize("threads", (1, 2, 3, 9))
def test_threads(threads: int) -> None:
    model = made(SHAPES["all heads one key"])
    assert farthest(NativeDecoder.of(model, EXACT, threads=threads), model, (3, 30), steps=4)[0] < 1e-4


def test_decoders_at_once() -> None:
    """Threads of Python take turns at the kernels' own threads."""
    models = [made(PLAIN, seed=seed) for seed in range(3)]
    decoders = [NativeDecoder.of(model, EXACT, threads=2) for model in models]

    def worst(number: int) -> float:
        return farthest(decoders[number], models[number], (3, 8), steps=20)[0]

    with ThreadPoolExecutor(3) as pool:
        assert max(pool.map(worst, range(3))) < 1e-4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_after_a_fork() -> None:
    """The child has none of its parent's threads and starts its own."""
    model = made(PLAIN)
    decoder, state = NativeDecoder.of(model, EXACT, threads=2), prefilled(model, (5, 3))
    want_BV = decoder.step([1, 2], state.snapshot())
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if torch.equal(decoder.step([1, 2], state), want_BV) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_long_texts_and_growth() -> None:
    """Keys are looked at 64 at a time; memory begins with room for 32 tokens."""
    model = made(PLAIN)
    assert farthest(NativeDecoder.of(model, EXACT), model, (30, 200), steps=70)[0] < 1e-4


def test_large_scores() -> None:
    """Softmax does not overflow, whichever block has the largest score."""
    model = made(PLAIN)
    with torch.no_grad():
        for block in model.language.blocks:
            block.attn.q.weight *= 60
    worst, largest = farthest(NativeDecoder.of(model, EXACT), model, (150, 90), steps=5)
    assert worst < 1e-3 * largest


def test_goes_on_from_torch_and_back() -> None:
    model = made(PLAIN)
    decoder = NativeDecoder.of(model, EXACT)
    mine, theirs = prefilled(model, (5, 9)), prefilled(model, (5, 9))
    both = [mine, theirs]
    for number in range(12):
        ids = [number, 3 * number]
        step = decoder.step if number % 3 else lambda ids, state: torch_step(model, ids, state)
        torch.testing.assert_close(step(ids, mine), torch_step(model, ids, theirs), atol=1e-4, rtol=0)
        if number == 5:
            for state in both:
                state.truncate([7, 6])
        if number == 7:
            mine, theirs = both = [state.reorder([1, 0, 1]).reorder([2, 1]) for state in both]
        if number == 9:
            decoder.step(ids, mine.snapshot())  # leaves `mine` as it was
    torch.testing.assert_close(mine.segments_BS[:, :9], theirs.segments_BS[:, :9])
    assert mine.plain == theirs.plain and mine.lengths == theirs.lengths
    with torch.inference_mode():
        more = torch.tensor([[1, 2, 3], [4, 5, 6]])
        got, want = (model.read(Batch(ids_BT=more), {}, state).hidden_BTD for state in (mine, theirs))
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_begins_with_an_empty_state() -> None:
    model = made(PLAIN)
    mine, theirs = State(2), State(2)
    for ids in ([1, 2], [3, 4]):
        got_BV = NativeDecoder.of(model, EXACT).step(ids, mine)
        torch.testing.assert_close(got_BV, torch_step(model, ids, theirs), atol=1e-4, rtol=0)


def test_positions_of_their_own() -> None:
    """Positions that pictures have moved, on three axes or given one by one."""
    for rotary in (Rotary(sections=(2, 3, 3)), Rotary()):
        model = made(PLAIN.but(attention=heads(4, 2, 16, rotary=rotary)))
        decoder = NativeDecoder.of(model, EXACT)
        mine, theirs = prefilled(model, (6, 3)), prefilled(model, (6, 3))
        for state in (mine, theirs):
            state.shift_B = torch.tensor([-2, 3000])  # more places than the first table has
        torch.testing.assert_close(
            decoder.step([1, 2], mine), torch_step(model, [1, 2], theirs), atol=1e-4, rtol=0
        )
        positions = torch.tensor([[20], [11]])
        if rotary.sections:
            positions = torch.stack((positions, positions + 3, positions - 2))
        seen = Visibility(torch.zeros(2, 1, dtype=torch.long), torch.tensor([[7], [4]]))
        batch = Batch(ids_BT=torch.tensor([[5], [6]]), positions=positions, visibility=seen)
        with torch.inference_mode():
            want_BV = model.language.logits(model.read(batch, {}, theirs).last())
        torch.testing.assert_close(decoder.step([5, 6], mine, positions, seen), want_BV, atol=1e-4, rtol=0)
        torch.testing.assert_close(
            decoder.step([1, 2], mine), torch_step(model, [1, 2], theirs), atol=1e-4, rtol=0
        )


UNCOVERED = {
    "language.attention.window=6": PLAIN.but(attention=heads(4, 2, 16, window=6)),
    "language.attention.softcap=50.0": PLAIN.but(attention=heads(4, 2, 16, softcap=50.0)),
    "language.attention.sinks=True": PLAIN.but(attention=heads(4, 2, 16, sinks=True)),
    "language.attention.qk_norm_over='all'": PLAIN.but(
        attention=heads(4, 2, 16, qk_norm=Norm("rms"), qk_norm_over="all")
    ),
    "language.mlp.act='tanh'": PLAIN.but(mlp=FeedForward(96, act="tanh", gated=True)),
    "language.mlp.gated=False": PLAIN.but(mlp=FeedForward(96, act="silu")),
    "language.norm.kind='layer'": PLAIN.but(norm=Norm("layer")),
    "language.logit_softcap=30.0": PLAIN.but(logit_softcap=30.0),
    "language.embedding.positions='learned'": PLAIN.but(embedding=TokenEmbedding(positions="learned")),
    "layers differ in mlp.hidden": PLAIN.but(
        others=(LayerKind(mlp=FeedForward(64, act="silu", gated=True, bias=False)),), pattern=(0, 1)
    ),
    "language.arrangement.placement='both'": PLAIN.but(arrangement=PLAIN.arrangement.but(placement="both")),
    "language.arrangement.laurel=4": PLAIN.but(arrangement=PLAIN.arrangement.but(laurel=4)),
    "language.mlp.sparsity=0.5": PLAIN.but(mlp=PLAIN.mlp.but(sparsity=0.5)),
    "language.attention is SharedKeysAttention": PLAIN.but(attention=SharedKeysAttention(4, 2, lends="keys")),
    "language.attention is TimeMix": PLAIN.but(attention=TimeMix(64)),
    "language is LayerInputDecoder, which is no plain Decoder": LayerInputDecoder(
        **{each.name: getattr(PLAIN, each.name) for each in fields(PLAIN)}
    ),
}


@pytest.mark.parametrize("field", UNCOVERED)
def test_what_is_not_covered_is_named(field: str) -> None:
    model = made(UNCOVERED[field])
    assert why_not(model) == field
    with pytest.raises(BeholderError, match="no compiled decode step for toy-native: "):
        NativeDecoder.of(model)


def test_modules_that_were_exchanged_are_named() -> None:
    model = made(PLAIN)
    model.language.blocks[1].mlp.down = torch.nn.Sequential(model.language.blocks[1].mlp.down)
    assert why_not(model) == "blocks.1.mlp.down is Sequential"
    model = made(PLAIN)
    model.language.blocks[0].norm2 = torch.nn.Identity()
    assert why_not(model) == "blocks.0.norm2 is Identity"
    assert why_not(made(PLAIN).to(torch.float16)) == "weights are torch.float16"


def test_states_that_are_refused() -> None:
    model = made(PLAIN)
    decoder = NativeDecoder.of(model)
    assert decoder.refuses(prefilled(model, (3,))) is None
    ring = State(1, rolling=True)
    ring.rolling_attention(0, 4)
    for state in (ring, State(1, memory=torch.zeros(1, 1, 1))):
        with pytest.raises(
            BeholderError, match=r"no compiled decode step: (state|layer 0 keeps self of kind Rolling)"
        ):
            decoder.step([1], state)
    apart = Visibility(torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long), (-1, -1))
    assert "2 segments" in (decoder.refuses(State(1), apart) or "")


def test_bad_ids() -> None:
    model = made(PLAIN)
    decoder, state = NativeDecoder.of(model), prefilled(model, (3, 3))
    with pytest.raises(BeholderError, match="1 ids for 2 rows"):
        decoder.step([1], state)
    with pytest.raises(BeholderError, match="row 1 goes on with the id 301, which is none of the 301 words"):
        decoder.step([1, 301], state)
    assert state.lengths == [3, 3]
    with pytest.raises(BeholderError, match="unknown instruction set of this processor 'sse'"):
        NativeDecoder.of(model, instruction_set="sse")
    with pytest.raises(BeholderError, match="unknown format of weights 'int3'"):
        Formats("int3")
