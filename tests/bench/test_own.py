"""beholder measured: parts of times add up, tokens are counted, all requests are answered."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from beholder.bench import machine
from beholder.bench.copies import Copies
from beholder.bench.own import Opening, Own
from beholder.bench.roofline import nbytes, products, token_bytes
from beholder.bench.rounds import Workload
from beholder.bench.watch import question
from beholder.errors import BeholderError
from beholder.parts.blocks.mlp import FeedForward
from beholder.speed.compiled import pack_with_steps
from beholder.speed.precision import Precision
from tests.test_pipeline import made
from tests.toys import DECODER, DUAL, SEES, TEXT, byte_tokenizer

OPENING = Opening("toy", budget=64)


@pytest.fixture(scope="module")
def sees() -> Own:
    return Own(made(SEES), OPENING)


@pytest.fixture
def drawn(tmp_path):
    path = tmp_path / "drawn.png"
    Image.new("RGB", (40, 30), "red").save(path)
    return str(path)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_parts_add_up_and_tokens_are_counted(sees: Own, drawn: str, concurrency: int) -> None:
    work = Workload((drawn,), text=20, new=6, concurrency=concurrency, requests=7)
    found = sees.round(work)
    assert len(found.samples) == 7
    for sample in found.samples:
        assert sum(sample.parts.values()) == pytest.approx(sample.first, abs=1e-9)
        assert all(seconds > -1e-3 for seconds in sample.parts.values())
        assert sample.parts["media"] > 0 and sample.parts["vision"] > 0 and sample.parts["prefill"] > 0
        assert (sample.new, sample.image) == (6, 4)
        assert sample.prompt >= 20 + 4
        assert 0 < sample.first < sample.last <= found.seconds
        assert sample.per_token == pytest.approx((sample.last - sample.first) / 5)
    assert found.peak >= sees.facts["memory"]["weights"] > 0


def test_every_picture_is_encoded(sees: Own, drawn: str) -> None:
    """Equal pictures would be encoded once, so that each request has its own."""
    seen = []
    vision = sees.pipeline.model.branch("image").vision
    hook = vision.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    sees.round(Workload((drawn,) * 3, text=5, new=2, concurrency=2, requests=4))
    hook.remove()
    assert sum(seen) == 12


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_copies_differ_where_they_are_made_small(tmp_path, ending: str) -> None:
    path = tmp_path / f"plain.{ending}"
    Image.new("RGB", (200, 150), "white").save(path)
    copies = Copies()
    files = [copies.of(str(path), number) for number in range(20)]
    assert files[0] == str(path) and files[3] == copies.of(str(path), 3)
    small = {Image.open(file).convert("RGB").resize((14, 14)).tobytes() for file in files}
    assert len(small) == 20 and {Image.open(file).format for file in files} == {Image.open(path).format}
    sound = tmp_path / "speech.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16000, 8, "NONE", ""))
        file.writeframes(b"\0" * 16)
    assert copies.of(str(sound), 4) == str(sound)
    copies.close()
    assert not Path(files[1]).exists() and path.exists()


def test_answers_have_the_length_that_is_asked_for(sees: Own) -> None:
    found = sees.round(Workload(text=8, new=40))
    assert found.samples[0].new == 40


def test_requests_come_at_a_rate(sees: Own) -> None:
    found = sees.round(Workload(text=5, new=2, rate=200.0, requests=40))
    assert len(found.samples) == 40
    assert found.rate is not None and 80 < found.rate < 400
    assert found.seconds >= 39 / found.rate


def test_a_request_that_fails_ends_the_round(sees: Own) -> None:
    with pytest.raises(BeholderError, match="prompt 1 has 408 tokens"):
        sees.round(Workload(text=400, new=2, concurrency=2, requests=4))


def test_dual_encoders_are_called_as_they_are(drawn: str) -> None:
    own = Own(made(DUAL), OPENING)
    found = own.round(Workload((drawn, drawn), requests=3))
    assert len(found.samples) == 3 and all(sample.first == sample.last > 0 for sample in found.samples)
    with pytest.raises(BeholderError, match="needs a picture"):
        own.round(Workload())
    with pytest.raises(BeholderError, match="one request at a time"):
        own.round(Workload((drawn,), rate=2.0))
    assert own.work(Workload((drawn,))) == {}


def test_questions_have_the_length_that_is_asked_for() -> None:
    tokenizer = byte_tokenizer()
    for count in (1, 30, 300):
        text = question(tokenizer, count, 3)
        assert count <= len(tokenizer.encode(text)) < count + 7
    assert question(tokenizer, 30, 1) != question(tokenizer, 30, 2)
    assert question(tokenizer, 30, 1) == question(tokenizer, 30, 1)


def test_bytes_of_a_token_are_weights_that_are_read_and_cache() -> None:
    pipeline = made(TEXT)
    language = pipeline.model.language
    table = 300 * 32 * 4
    read = token_bytes(pipeline)
    assert read is not None
    assert read["weights"] == nbytes(language) - (0 if language.head is None else table)
    tied = made(TEXT.but(language=DECODER.but(tied=True)))
    assert token_bytes(tied)["weights"] == nbytes(tied.model.language)
    assert read["cache"] == 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, width, bytes


def test_products_are_those_of_the_shapes(drawn: str) -> None:
    pipeline = made(TEXT)
    plain, wide = (
        products(made(TEXT.but(language=DECODER.but(mlp=FeedForward(size)))), Workload(text=50))
        for size in (48, 96)
    )
    tokens = pipeline.prepare([[*_said(pipeline, 50)]]).batch.ids_BT.shape[1]
    assert (
        wide["prefill"] - plain["prefill"] == 2 * 2 * 2 * 48 * 32 * tokens
    )  # layers, two maps, two operations
    assert plain["vision"] == 0
    assert products(made(SEES), Workload((drawn,), text=5))["vision"] > 0


def _said(pipeline, count):
    from beholder.bench.watch import messages

    return messages((), question(pipeline.tokenizer, count, 0))


def test_packed_maps_count_as_plain_ones_do(drawn: str) -> None:
    work = Workload((drawn,), text=30)
    card = SEES.but(language=DECODER.but(dim=128, mlp=FeedForward(256, act="silu", gated=True, bias=False)))
    plain, packed = made(card), made(card)
    pack_with_steps(packed.model, Precision.parse("bf16"))
    counted, again = products(plain, work), products(packed, work)
    assert again["prefill"] == pytest.approx(counted["prefill"], rel=0.05)


def test_the_machine_is_told_without_names() -> None:
    told = machine.describe()
    assert set(told) == {
        *("processor", "cores", "instructions", "memory", "accelerator", "system", "python", "torch"),
    }
    assert told["torch"] == torch.__version__


def test_ceilings(monkeypatch) -> None:
    monkeypatch.setattr(machine, "READ_BYTES", 2**22)
    monkeypatch.setattr(machine, "SIDE", 64)
    found = machine.ceilings(2, torch.float32)
    assert found["read"] > 1e8 and found["products"] > 1e6
    assert "4 MiB, 2 threads" in found["read_how"] and "64^3 in float32" in found["products_how"]


def test_random_weights_need_no_files(drawn: str, monkeypatch) -> None:
    from beholder.bench import made as making

    monkeypatch.setattr(making, "card", lambda name: SEES)
    own = Own.open(replace(OPENING, random=True))
    assert own.facts["weights"] == "random" and own.facts["precision"] == "bfloat16"
    assert own.round(Workload((drawn,), text=10, new=3)).samples[0].new == 3
