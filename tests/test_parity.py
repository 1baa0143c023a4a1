"""Every oracle family: the same names and the same numbers as the official implementation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from beholder.parity import compare_folder
from beholder.pipeline import load

FAMILIES = [
    line
    for line in (Path(__file__).parent / "oracle_families.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
TEXT = {"logits", "greedy logits", "greedy"}
DUAL = {"vision", "connector", "text vectors", "similarity"}
EXPECTED = {  # of each group of references, one of these sets of stages must have been compared
    "text-decoder": [TEXT],
    "text-encdec": [TEXT | {"memory"}],
    "text-encoder": [{"hidden states"}, {"text vectors"}, {"tokens"}, {"logits"}],
    "vision": [{"vision"}, {"stage 1"}, {"depth"}],
    "dual-encoder": [
        DUAL,
        {"vision", "matching", "similarity"},
        {"connector", "vectors"},
        {"areas"},
        {"vision", "connector", "similarity"},
    ],  # of BLIP, ColPali, CLIPSeg, X-CLIP
    "vlm": [
        TEXT | {"connector"},
        {"vision", "memory", "logits"},
        TEXT | {"vision"},
        TEXT | {"sound", "embeddings"},
    ],  # memory: what was seen; embeddings: all features at their places
    "fusion": [{"hidden states", "text vectors"}, {"hidden states", "answers"}, {"hidden states", "picture"}],
    "detector": [
        {"connector", "boxes", "phrases"},
        {"hidden states", "boxes", "phrases"},
        {"boxes", "classes"},
    ],
    "segmenter": [{"masks", "mask scores"}],
    "codec": [{"codes", "restored"}],
    "audio": [{"sound"}, {"codes"}],
    "audio-lm": [TEXT | {"sound", "connector"}],
}


# rwkv: official generation of several rows is wrong, so that it is no reference. layoutlmv3: its reference holds nothing
# else of what is computed, the last states of words and patches
ALONE = {"rwkv": {"logits"}, "layoutlmv3": {"hidden states"}}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.evidence("matches")
@pytest.mark.filterwarnings("error::UserWarning")
def test_outputs_are_equal(family: str, oracle: Callable[[str], Path]) -> None:
    results = compare_folder(oracle(family))
    assert all(result.ok for result in results), [r for r in results if not r.ok]
    found = {result.stage for result in results}
    group = json.loads((oracle(family) / "meta.json").read_text(encoding="utf-8"))["group"]
    wanted = [ALONE[family]] if family in ALONE else EXPECTED[group]
    assert any(found >= stages for stages in wanted), f"{group}: only {found}"


@pytest.mark.parametrize(
    "family",
    [
        "clip",
        "siglip",
        "llava_padded",
        "llava_next",
        "idefics3",
        "smolvlm",
        "mllama",
        "idefics_resampler",
        "siglip2",
    ],
)
def test_pixels_are_equal(family: str, oracle: Callable[[str], Path]) -> None:
    assert "pixels" in {result.stage for result in compare_folder(oracle(family))}


def test_a_wrong_weight_is_seen(oracle: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in oracle("llava").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights["multi_modal_projector.linear_1.bias"][0] += 0.1
    save_file(weights, tmp_path / "model.safetensors")
    failed = {result.stage for result in compare_folder(tmp_path) if not result.ok}
    assert failed >= {"connector", "logits"} and "vision" not in failed


@pytest.mark.parametrize("family", FAMILIES)
def test_save_and_export_give_the_bytes_back(
    family: str, oracle: Callable[[str], Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    pipeline = load(oracle(family))
    pipeline.save(tmp_path / "ours")
    again = load(tmp_path / "ours")
    assert again.card.but(prompt=None) == pipeline.card.but(prompt=None)
    before, after = pipeline.model.state_dict(), again.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again.export(tmp_path / "theirs")
    official, exported = (
        load_file(folder / "model.safetensors") for folder in (oracle(family), tmp_path / "theirs")
    )
    assert official.keys() == exported.keys()
    assert all(torch.equal(official[name], exported[name]) for name in official)
