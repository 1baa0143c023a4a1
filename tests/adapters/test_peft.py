"""Adapters in PEFT's form: what we write peft opens and computes the same, what it writes we do."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from beholder.parity.inputs import planned_batch
from beholder.parts.adapters.apply import known_as, put_on
from beholder.parts.adapters.low_rank import Lora
from beholder.parts.adapters.named import chosen
from beholder.pipeline import Pipeline, load

WORKER = Path(__file__).with_name("peft_worker.py")
LAYERS = "languages.main.blocks.*"
IDS = {"input_ids": torch.tensor([[11, 22, 33, 44, 55, 66, 77], [7, 66, 5, 44, 3, 22, 1]])}
CONNECTOR = "branches.image.connector.*"
# family, adapter, pattern, parameters that are trained themselves
WRITTEN = {
    "lora": ("qwen2", "lora", LAYERS, ()),
    "root scale": ("llama", Lora(rank=4, alpha=6.0, by_root=True), LAYERS, ()),
    "dora": ("qwen2", "dora", LAYERS, ()),
    "a fused map": ("gpt2", "lora", LAYERS, ()),
    "a part of a fused map": ("gpt2", "dora", "*.attn.[qv].weight", ()),
    "rows in groups": ("bloom", "lora", LAYERS, ()),
    "factors": ("qwen2", "ia3", "*.blocks.*", ()),
    "factors of a fused map": ("gpt2", "ia3", "*.attn.[kv].weight", ()),
    "prefix": ("qwen2", "prefix", LAYERS, ()),
    "prompt": ("qwen2", "prompt", LAYERS, ()),
    "prompt with places in a table": ("gpt2", "p-tuning", LAYERS, ()),
    "biases too": ("qwen2", "lora", "*.attn.q.weight", ("*.bias",)),
    "what sees, and a connector": ("llava", "lora", "*.blocks.*", (CONNECTOR,)),
    "a head": ("qwen2", "lora", "*.mlp.*", ("languages.main.head.weight",)),
}
LORA = {"r": 4, "lora_alpha": 8, "init_lora_weights": False}
ATTENTION = ["q_proj", "v_proj"]
MADE: dict[str, tuple[str, str, dict[str, Any], str | None]] = {
    "lora": ("qwen2", "LoraConfig", {**LORA, "target_modules": [*ATTENTION, "down_proj"]}, None),
    "ranks by pattern": (
        "llama",
        "LoraConfig",
        {
            **LORA,
            "target_modules": ATTENTION,
            "rank_pattern": {"layers.1.self_attn.q_proj": 2},
            "alpha_pattern": {"v_proj": 3},
            "use_rslora": True,
        },
        None,
    ),
    "dora": ("qwen2", "LoraConfig", {**LORA, "target_modules": "all-linear", "use_dora": True}, None),
    "a fused map": (
        "gpt2",
        "LoraConfig",
        {**LORA, "target_modules": ["c_attn"], "fan_in_fan_out": True},
        None,
    ),
    "rows in groups": ("bloom", "LoraConfig", {**LORA, "target_modules": ["query_key_value"]}, None),
    "biases and a head": (
        "qwen2",
        "LoraConfig",
        {**LORA, "target_modules": ["q_proj"], "bias": "all", "modules_to_save": ["lm_head"]},
        None,
    ),
    "factors": (
        "qwen2",
        "IA3Config",
        {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
        None,
    ),
    "prefix": ("qwen2", "PrefixTuningConfig", {"num_virtual_tokens": 5}, "CAUSAL_LM"),
    "made prefix": (
        "llama",
        "PrefixTuningConfig",
        {"num_virtual_tokens": 3, "prefix_projection": True, "encoder_hidden_size": 24},
        "CAUSAL_LM",
    ),
    "prompt": ("gpt2", "PromptTuningConfig", {"num_virtual_tokens": 5}, "CAUSAL_LM"),
    "made prompt": (
        "qwen2",
        "PromptEncoderConfig",
        {"num_virtual_tokens": 4, "encoder_reparameterization_type": "LSTM", "encoder_hidden_size": 24},
        "CAUSAL_LM",
    ),
    "what sees, and a connector": (
        "llava",
        "LoraConfig",
        {**LORA, "target_modules": ATTENTION, "modules_to_save": ["multi_modal_projector"]},
        None,
    ),
}


@pytest.fixture(scope="module")
def peft(oracle_python: Path) -> Callable[[Sequence[dict[str, Any]], Path], None]:
    if subprocess.run([oracle_python, "-c", "import peft"], capture_output=True, check=False).returncode:
        pytest.skip("peft is not installed beside transformers; make oracle installs it")

    def run(jobs: Sequence[dict[str, Any]], folder: Path) -> None:
        (folder / "jobs.json").write_text(json.dumps(jobs))
        done = subprocess.run(
            [oracle_python, "-B", WORKER, folder / "jobs.json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-4000:]

    return run


def inputs_of(family: str, base: Path, folder: Path) -> Path:
    if family == "llava":
        return base / "inputs.safetensors"
    save_file(IDS, folder / "ids.safetensors")
    return folder / "ids.safetensors"


def scores(pipeline: Pipeline, inputs: Path) -> Tensor:
    with torch.no_grad():
        return pipeline.model(planned_batch(pipeline.model, load_file(inputs))).heads["text"].float()


def stir(pipeline: Pipeline, also: Sequence[str] = ()) -> None:
    from fnmatch import fnmatchcase

    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in pipeline.model.named_parameters():
            if known_as(name)[1] or any(fnmatchcase(name, pattern) for pattern in also):
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def close(ours: Tensor, theirs: Tensor) -> None:
    theirs = theirs[:, -ours.shape[1] :]  # peft scores the prompts too
    assert ours.shape == theirs.shape
    scale = max(1.0, theirs.abs().max().item())
    assert (ours - theirs).abs().max().item() < 2e-5 * scale


def test_peft_opens_what_we_write(oracle, peft, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    jobs, wanted = [], {}
    for number, (what, (family, name, pattern, also)) in enumerate(WRITTEN.items()):
        base, adapter = oracle(family), chosen(name, 4, pattern)
        pipeline = load(base)
        assert adapter is not None
        put_on(pipeline.model, adapter)
        plain = scores(load(base), inputs_of(family, base, tmp_path))
        stir(pipeline, also)
        folder, out = tmp_path / f"ours{number}", tmp_path / f"ours{number}.safetensors"
        pipeline.save_adapter(folder, also=also)
        inputs = inputs_of(family, base, tmp_path)
        wanted[what] = scores(pipeline, inputs), out
        assert not torch.allclose(wanted[what][0], plain, atol=1e-3)
        close(scores(load(base, adapter=folder), inputs), wanted[what][0])
        merge = adapter.kind in ("lora", "ia3")
        given = {"base": base, "adapter": folder, "inputs": inputs, "out": out}
        jobs.append({"do": "open", "merge": merge, **{key: str(path) for key, path in given.items()}})
    peft(jobs, tmp_path)
    for what, (ours, out) in wanted.items():
        for which, theirs in load_file(out).items():
            try:
                close(ours, theirs)
            except AssertionError as error:
                raise AssertionError(f"{what} ({which})") from error


def test_we_open_what_peft_writes(oracle, peft, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    jobs = []
    for number, (family, kind, settings, task) in enumerate(MADE.values()):
        base = oracle(family)
        paths = {
            "base": base,
            "adapter": tmp_path / f"theirs{number}",
            "inputs": inputs_of(family, base, tmp_path),
            "out": tmp_path / f"theirs{number}.safetensors",
        }
        job = {"do": "make", "kind": kind, "settings": settings, "task": task}
        jobs.append(job | {key: str(path) for key, path in paths.items()})
    peft(jobs, tmp_path)
    for what, job in zip(MADE, jobs, strict=True):
        pipeline = load(job["base"], adapter=job["adapter"])
        theirs = load_file(job["out"])["logits"]
        try:
            close(scores(pipeline, Path(job["inputs"])), theirs)
            if job["kind"] in ("LoraConfig", "IA3Config"):
                merged = load(job["base"], adapter=job["adapter"], merge=True)
                assert not merged.card.adapters
                close(scores(merged, Path(job["inputs"])), theirs)
        except AssertionError as error:
            raise AssertionError(what) from error
