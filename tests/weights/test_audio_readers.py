"""Official settings and names of encoders of sound: damaged, released and older ones, and those inside language models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from beholder.errors import BeholderError
from beholder.parity import compare_folder
from beholder.weights.layout import Binding, to_own
from beholder.weights.lazy import lazy
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_audio
from beholder.weights.readers.systems import read_system


@pytest.mark.parametrize(
    "change, message",
    [
        ({"conv_dim": [512, -1]}, "conv_dim"),
        ({"feat_extract_norm": "none"}, "feat_extract_norm"),
        ({"add_adapter": True}, "add_adapter"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"conv_pos_batch_norm": True}, "conv_pos_batch_norm"),
    ],
)
def test_damaged_settings_are_one_line_errors(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BeholderError, match=message) as caught:
        read_audio(Fields({"model_type": "hubert"} | change))
    assert "\n" not in str(caught.value)


# facebook/hubert-large-ll60k and microsoft/wavlm-large config.json have these besides; openai/whisper-tiny the last
OF_TRAINING = {
    **dict.fromkeys(
        ("feat_extract_dropout", "mask_time_other", "mask_channel_other", "mask_channel_prob"), 0.0
    ),
    **dict.fromkeys(("mask_time_min_space", "mask_channel_min_space", "replace_prob"), 1),
    **dict.fromkeys(("mask_time_selection", "mask_channel_selection"), "static"),
    **dict.fromkeys(("no_mask_time_overlap", "no_mask_channel_overlap", "gradient_checkpointing"), False),
}
FORCED = {
    "forced_decoder_ids": [[1, 50259]],
    "suppress_tokens": [1],
    "max_length": 448,
    "num_hidden_layers": 4,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "hubert"} | OF_TRAINING,
        {"model_type": "wavlm"} | OF_TRAINING,
        {"model_type": "whisper"} | FORCED,
    ],
)
def test_released_settings_are_understood(config: dict[str, Any]) -> None:
    assert (
        read_system(config, name="x").card == read_system({"model_type": config["model_type"]}, name="x").card
    )


def test_older_names_of_normed_weights_are_read(oracle: Callable[[str], Path], tmp_path: Path) -> None:
    for file in oracle("hubert").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    new = "encoder.pos_conv_embed.conv.parametrizations.weight.original"
    for number, old in enumerate(("weight_g", "weight_v")):
        weights[f"encoder.pos_conv_embed.conv.{old}"] = weights.pop(f"{new}{number}")
    save_file(weights, tmp_path / "model.safetensors")
    assert all(result.ok for result in compare_folder(tmp_path))


TOWERS = {"qwen2_audio": "feature_attention_mask", "audioflamingo3": "input_features_mask", "voxtral": None}


@pytest.mark.parametrize("family", TOWERS)
def test_encoders_of_language_models_equal_the_official_ones(
    family: str, oracle: Callable[[str], Path]
) -> None:
    folder = oracle(family)
    read = read_audio(Fields(json.loads((folder / "config.json").read_text())["audio_config"]))
    model = read.config.build().eval()
    weights = {
        name.removeprefix("audio_tower."): lazy(name, values)
        for name, values in load_file(folder / "model.safetensors").items()
        if name.startswith("audio_tower.")
    }
    shapes = {name: tuple(values.shape) for name, values in model.state_dict().items()}
    own = to_own(weights, (Binding("", "", read.layout, read.numbers),), shapes)
    model.load_state_dict({name: values.load() for name, values in own.items()})
    inputs = load_file(folder / "inputs.safetensors")
    theirs = load_file(folder / "reference.safetensors")["hook/model.audio_tower/last_hidden_state"]
    mask = TOWERS[family]
    with torch.no_grad():
        ours = model(list(inputs["input_features"][:, None]), inputs[mask].sum(1).tolist() if mask else None)
    torch.testing.assert_close(ours.tokens_ND, theirs.flatten(0, 1), rtol=1e-4, atol=1e-5)
