"""Published encoders of sound: each size is what its config file says, and counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from beholder.parts.audio import sizes
from beholder.parts.audio.transformer import SignalTransformer
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_audio
from beholder.weights.readers.systems import read_system


def whisper(dim: int, layers: int, heads: int, **rest: int) -> dict[str, Any]:
    sides = {
        f"{side}_{key}": value
        for side in ("encoder", "decoder")
        for key, value in (("layers", layers), ("attention_heads", heads), ("ffn_dim", 4 * dim))
    }
    return {"model_type": "whisper", "d_model": dim, **sides, **rest}


LARGE_V2 = whisper(1280, 32, 20)
LARGE_V3 = LARGE_V2 | {"num_mel_bins": 128, "vocab_size": 51866}
# config.json, parameters in the released file (encoder and decoder): openai/whisper-*
WHISPERS: dict[str, tuple[dict[str, Any], int]] = {
    "TINY": ({"model_type": "whisper"}, 37_760_640),
    "TINY_EN": ({"model_type": "whisper", "vocab_size": 51864}, 37_760_256),
    "BASE": (whisper(512, 6, 8), 72_593_920),
    "SMALL": (whisper(768, 12, 12), 241_734_912),
    "MEDIUM": (whisper(1024, 24, 16), 763_857_920),
    "LARGE_V2": (LARGE_V2, 1_543_304_960),
    "LARGE_V3": (LARGE_V3, 1_543_490_560),
    "LARGE_V3_TURBO": (LARGE_V3 | {"decoder_layers": 4}, 808_878_080),
}
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
STABLE = LARGE | {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
BIASED = STABLE | {"conv_bias": True}
# config.json, parameters of the official class at it
ENCODERS: dict[str, tuple[dict[str, Any], int]] = {
    "AST": ({"model_type": "audio-spectrogram-transformer"}, 86_187_264),
    "WAV2VEC2_BASE": ({"model_type": "wav2vec2"}, 94_371_712),
    "WAV2VEC2_LARGE": ({"model_type": "wav2vec2"} | LARGE, 315_428_992),
    "WAV2VEC2_LARGE_LV60": ({"model_type": "wav2vec2"} | BIASED, 315_438_720),
    "HUBERT_BASE": ({"model_type": "hubert"}, 94_371_712),
    "HUBERT_LARGE": ({"model_type": "hubert"} | BIASED, 315_438_720),
    "HUBERT_XLARGE": (
        {"model_type": "hubert"}
        | BIASED
        | {"hidden_size": 1280, "num_hidden_layers": 48, "intermediate_size": 5120},
        962_497_408,
    ),
    "WAVLM_BASE": ({"model_type": "wavlm"}, 94_381_936),
    "WAVLM_LARGE": ({"model_type": "wavlm"} | STABLE, 315_453_120),
    "QWEN2_AUDIO": ({"model_type": "qwen2_audio_encoder"}, 636_968_960),
}
# Rounding intervals of what papers say: 90M (2212.09058, table 1); 341M (2408.05211), which VITA's code counts in units of
# 1024 x 1024
ROUNDED = {
    "BEATS": (85_000_000, 95_000_000),
    "VITA_AUDIO": (int(340.5 * 2**20), int(341.5 * 2**20)),
}


def count(*configs: Any) -> int:
    with torch.device("meta"):
        return sum(values.numel() for config in configs for values in config.build().parameters())


def own_size(name: str) -> Any:
    return getattr(sizes, name)


@pytest.mark.parametrize("name", WHISPERS)
def test_whispers_are_counted_exactly_and_as_their_config_files_say(name: str) -> None:
    config, parameters = WHISPERS[name]
    encoder = own_size(f"WHISPER_{name.removesuffix('_EN').removesuffix('_TURBO')}")
    decoder = own_size(f"WHISPER_{name}_DECODER")
    assert count(encoder, decoder) == parameters
    card = read_system(config, name="x").card
    assert (card.branches[0].encoders, card.main) == ((encoder,), decoder)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_are_counted_exactly_and_as_their_config_files_say(name: str) -> None:
    config, parameters = ENCODERS[name]
    assert count(own_size(name)) == parameters
    assert read_audio(Fields(config)).config == own_size(name)


def test_counts_within_their_rounding() -> None:
    for name, (low, high) in ROUNDED.items():
        assert low <= count(own_size(name)) < high


def test_imagebind_counts_what_its_file_holds() -> None:
    """imagebind_huge.pth has 4.47 GiB of float32; besides the trunks the matrices to 1024 channels and a scale."""
    modalities = ("VISION", "AUDIO", "THERMAL", "DEPTH", "IMU")
    trunks = [own_size(f"IMAGEBIND_{modality}") for modality in modalities]
    matrices = sum(config.dim * 1024 for config in trunks)
    total = count(*trunks, sizes.IMAGEBIND_TEXT) + matrices + 1
    assert 4.465 <= 4 * total / 2**30 < 4.475


def test_every_size_is_counted() -> None:
    named = {name for name, value in vars(sizes).items() if isinstance(value, SignalTransformer)}
    proved = {*ENCODERS, *ROUNDED, *(name for name in named if name.startswith(("WHISPER", "IMAGEBIND")))}
    assert named == proved
