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

Peft = Callable[[Sequence[dict[str, Any]], Path], None]
Exchanged = dict[str, tuple[Tensor | None, dict[str, Any]]]
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
NAMES = (
    "llama mistral qwen2 qwen3 gemma gemma2 phi phi3 opt gpt2 gpt_neox gptj starcoder2 cohere olmo2 stablelm mixtral gpt_oss "
    "mpt glm persimmon codegen gpt_neo bamba apertus arcee bloom",
    "gemma3 llava llava_next qwen2_vl qwen2_5_vl paligemma idefics3 smolvlm internvl mllama blip_2 llava_onevision chameleon "
    "fuyu kosmos2 mistral3 aya_vision",
)
TEXTS, SYSTEMS = (names.split() for names in NAMES)
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
def peft(oracle_python: Path) -> Peft:
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


def written(what: str, base: Path, folder: Path) -> tuple[Tensor, dict[str, Any]]:
    """Our scores with an adapter that we save, and peft's job to open it."""
    family, name, pattern, also = WRITTEN[what]
    adapter, inputs = chosen(name, 4, pattern), inputs_of(family, base, folder)
    pipeline = load(base)
    assert adapter is not None
    plain = scores(pipeline, inputs)
    put_on(pipeline.model, adapter)
    stir(pipeline, also)
    ours, saved = scores(pipeline, inputs), pipeline.save_adapter(folder / what, also=also)
    assert not torch.allclose(ours, plain, atol=1e-3)
    close(scores(load(base, adapter=saved), inputs), ours)
    paths = {"base": base, "adapter": saved, "inputs": inputs, "out": folder / f"{what}.out"}
    merge = adapter.kind in ("lora", "ia3")
    return ours, {"do": "open", "merge": merge, **{key: str(path) for key, path in paths.items()}}


def asked(what: str, base: Path, folder: Path) -> dict[str, Any]:
    """Peft's job to make an adapter."""
    family, kind, settings, task = MADE[what]
    paths = {
        "base": base,
        "adapter": folder / f"{what} of peft",
        "inputs": inputs_of(family, base, folder),
        "out": folder / f"{what} of peft.out",
    }
    return {"do": "make", "kind": kind, "settings": settings, "task": task} | {
        key: str(path) for key, path in paths.items()
    }


@pytest.fixture(scope="module")
def exchanged(
    oracle: Callable[[str], Path], peft: Peft, tmp_path_factory: pytest.TempPathFactory
) -> Exchanged:
    """Everything that both sides write, all that peft computes in one process."""
    folder = tmp_path_factory.mktemp("peft")
    jobs: Exchanged = {}
    jobs |= {f"ours: {what}": written(what, oracle(WRITTEN[what][0]), folder) for what in WRITTEN}
    jobs |= {f"theirs: {what}": (None, asked(what, oracle(MADE[what][0]), folder)) for what in MADE}
    peft([job for _, job in jobs.values()], folder)
    return jobs


@pytest.mark.parametrize("what", WRITTEN)
def test_peft_opens_what_we_write(what: str, exchanged: Exchanged) -> None:
    ours, job = exchanged[f"ours: {what}"]
    assert ours is not None
    theirs = load_file(job["out"])
    assert theirs.keys() == ({"logits", "merged"} if job["merge"] else {"logits"})
    for each in theirs.values():
        close(ours, each)


@pytest.mark.parametrize("what", MADE)
def test_we_open_what_peft_writes(what: str, exchanged: Exchanged) -> None:
    _, job = exchanged[f"theirs: {what}"]
    theirs, inputs = load_file(job["out"])["logits"], Path(job["inputs"])
    close(scores(load(job["base"], adapter=job["adapter"]), inputs), theirs)
    if job["kind"] in ("LoraConfig", "IA3Config"):
        merged = load(job["base"], adapter=job["adapter"], merge=True)
        assert not merged.card.adapters
        close(scores(merged, inputs), theirs)


@pytest.mark.large
def test_every_family_s_names_are_peft_s(oracle: Callable[[str], Path], peft: Peft, tmp_path: Path) -> None:
    """LoRA on all maps of all layers."""
    jobs = []
    for family in (*TEXTS, *SYSTEMS):
        base, pipeline = oracle(family), load(oracle(family))
        put_on(pipeline.model, Lora(pattern="*.blocks.*", rank=3, alpha=5.0))
        stir(pipeline)
        saved = pipeline.save_adapter(tmp_path / family)
        inputs = base / "inputs.safetensors" if family in SYSTEMS else inputs_of(family, base, tmp_path)
        out = tmp_path / f"{family}.out"
        paths = {"base": base, "adapter": saved, "inputs": inputs, "out": out}
        jobs.append(
            (scores(pipeline, inputs), {"do": "open"} | {key: str(path) for key, path in paths.items()})
        )
    peft([job for _, job in jobs], tmp_path)
    for ours, job in jobs:
        close(ours, load_file(job["out"])["logits"])
