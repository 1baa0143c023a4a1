"""Positions of several axes (Qwen2-VL, Qwen3-VL, GLM-4.1V), against the official text models on random weights."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from beholder.parts.blocks.masks import Visibility
from beholder.parts.contracts import LanguageInputs
from beholder.parts.language.decoder import DecoderModel
from beholder.pipeline import load

SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}
AXES = {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [2, 1, 1]}
FILES: dict[str, dict[str, Any]] = {
    "qwen2_vl_text": {**SMALL, "rope_parameters": AXES},
    "qwen2_5_vl_text": {**SMALL, "rope_parameters": {**AXES, "mrope_section": [1, 1, 2]}},
    "qwen3_vl_text": {
        **SMALL,
        "head_dim": 16,
        "rope_parameters": {**AXES, "mrope_section": [4, 2, 2], "mrope_interleaved": True},
    },
    "glm4v_text": {**SMALL, "hidden_size": 64, "rope_parameters": {**AXES, "partial_rotary_factor": 0.5}},
}
OFFICIAL = """
import json, sys, torch
from safetensors.torch import save_file
from transformers import AutoModel, CONFIG_MAPPING
files, folder = json.load(sys.stdin), sys.argv[1]
for kind, config in files.items():
    torch.manual_seed(7)
    model = AutoModel.from_config(CONFIG_MAPPING[kind](**config)).eval()
    ids = torch.randint(0, 64, (2, 9))
    positions = torch.randint(0, 20, (3, 2, 9)).sort(-1).values
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
        hidden = model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
    save_file({"ids": ids, "positions": positions, "hidden": hidden}, f"{folder}/{kind}.out")
    weights = {f"model.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights | {"lm_head.weight": torch.zeros(64, config["hidden_size"])}, f"{folder}/{kind}.safetensors")
"""


@pytest.fixture(scope="module")
def recorded(oracle_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("axes")
    command = [oracle_python, "-c", OFFICIAL, folder]
    done = subprocess.run(
        command, input=json.dumps(FILES), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.filterwarnings("error::UserWarning")
def test_hidden_states_are_the_official_ones(kind: str, recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, **FILES[kind]}))
    (tmp_path / "model.safetensors").write_bytes((recorded / f"{kind}.safetensors").read_bytes())
    decoder = load(tmp_path).model.languages["main"]
    assert isinstance(decoder, DecoderModel)
    theirs = load_file(recorded / f"{kind}.out")
    ids, positions = theirs["ids"], theirs["positions"]

    def error_of(positions: torch.Tensor) -> float:
        inputs = LanguageInputs(ids, decoder.embed(ids), positions, Visibility.causal(2, 9))
        with torch.inference_mode():
            hidden = decoder(inputs).hidden_BTD
        return float((hidden - theirs["hidden"]).abs().max() / theirs["hidden"].std())

    assert error_of(positions) < 1e-5
    assert error_of(positions[0]) > 1e-3, "the other axes count"
