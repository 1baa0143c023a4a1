"""Decoders whose code is published beside their weights, against small references written from the papers, with the
publishers' names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from beholder.model import Batch
from beholder.pipeline import load
from beholder.weights.readers.systems import read_system

# T tokens, D = 32 channels, H = 4 query heads, J = 2 key heads, K = 8 channels of a head, M = 24 inner channels
Weights = dict[str, Tensor]
T, D, H, J, K, M, LAYERS, WORDS = 9, 32, 4, 2, 8, 24, 2, 50


def drawn(shapes: dict[str, tuple[int, ...]]) -> Weights:
    """Random weights; `{}` in a name stands for each layer."""
    generator = torch.Generator().manual_seed(5)
    names = {
        name.replace("{}", str(layer)): shape for name, shape in shapes.items() for layer in range(LAYERS)
    }
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in names.items()}


def rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


def turn(x_THK: Tensor, base: float, width: int = K, adjacent: bool = False) -> Tensor:
    """The first `width` channels of every head turned pair by pair."""
    y_THK = x_THK.clone()
    for position in range(len(x_THK)):
        for pair in range(width // 2):
            angle = position / base ** (2 * pair / width)
            first, second = (2 * pair, 2 * pair + 1) if adjacent else (pair, pair + width // 2)
            a, b = x_THK[position, :, first], x_THK[position, :, second]
            y_THK[position, :, first] = a * math.cos(angle) - b * math.sin(angle)
            y_THK[position, :, second] = b * math.cos(angle) + a * math.sin(angle)
    return y_THK


def attend(q_THK: Tensor, k_TJK: Tensor, v_TJK: Tensor) -> Tensor:
    """(T, H K): each query head sees the past through the key head of its group."""
    heads = []
    for head in range(q_THK.shape[1]):
        shared = head // (q_THK.shape[1] // k_TJK.shape[1])
        scores = q_THK[:, head] @ k_TJK[:, shared].T / math.sqrt(K)
        future = torch.ones_like(scores).triu(1).bool()
        heads.append(scores.masked_fill(future, -math.inf).softmax(-1) @ v_TJK[:, shared])
    return torch.cat(heads, -1)


QWEN = {
    "model_type": "qwen",
    "vocab_size": WORDS,
    "hidden_size": D,
    "intermediate_size": 2 * M,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": H,
    "kv_channels": K,
    "seq_length": 4,
    "layer_norm_epsilon": 1e-6,
    "no_bias": True,
}
QWEN_SHAPES: dict[str, tuple[int, ...]] = {
    "transformer.wte.weight": (WORDS, D),
    "transformer.h.{}.ln_1.weight": (D,),
    "transformer.h.{}.attn.c_attn.weight": (3 * D, D),
    "transformer.h.{}.attn.c_attn.bias": (3 * D,),
    "transformer.h.{}.attn.c_proj.weight": (D, D),
    "transformer.h.{}.ln_2.weight": (D,),
    "transformer.h.{}.mlp.w1.weight": (M, D),
    "transformer.h.{}.mlp.w2.weight": (M, D),
    "transformer.h.{}.mlp.c_proj.weight": (D, M),
    "transformer.ln_f.weight": (D,),
    "lm_head.weight": (WORDS, D),
}


def qwen(w: Weights, ids: Tensor) -> Tensor:
    """Qwen technical report (2309.16609), section 2.3, with the steps of the NTK base and log-n of its released code: a
    text of 9 tokens where 4 were trained has ceil(log2(9 / 4) + 1) = 3 octaves.
    """
    base = 10000.0 * (2**3 - 1) ** (K / (K - 2))
    growth = torch.tensor([max(1.0, math.log(place) / math.log(4)) for place in range(1, T + 1)])
    x = w["transformer.wte.weight"][ids]
    for layer in range(LAYERS):
        at = f"transformer.h.{layer}."
        y = rms(x, w[at + "ln_1.weight"], 1e-6)
        joined = y @ w[at + "attn.c_attn.weight"].T + w[at + "attn.c_attn.bias"]
        q, k, v = (part.view(T, H, K) for part in joined.split(D, -1))
        q = turn(q, base) * growth[:, None, None]
        x = x + attend(q, turn(k, base), v) @ w[at + "attn.c_proj.weight"].T
        y = rms(x, w[at + "ln_2.weight"], 1e-6)
        y = (y @ w[at + "mlp.w1.weight"].T) * F.silu(y @ w[at + "mlp.w2.weight"].T)
        x = x + y @ w[at + "mlp.c_proj.weight"].T
    return rms(x, w["transformer.ln_f.weight"], 1e-6) @ w["lm_head.weight"].T


INTERNLM2 = {
    "model_type": "internlm2",
    "vocab_size": WORDS,
    "hidden_size": D,
    "intermediate_size": M,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": H,
    "num_key_value_heads": J,
    "bias": False,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000,
    "rope_scaling": {"type": "dynamic", "factor": 2.0},
    "max_position_embeddings": 6,
}
INTERNLM2_SHAPES: dict[str, tuple[int, ...]] = {
    "model.tok_embeddings.weight": (WORDS, D),
    "model.layers.{}.attention_norm.weight": (D,),
    "model.layers.{}.attention.wqkv.weight": ((H + 2 * J) * K, D),
    "model.layers.{}.attention.wo.weight": (D, D),
    "model.layers.{}.ffn_norm.weight": (D,),
    "model.layers.{}.feed_forward.w1.weight": (M, D),
    "model.layers.{}.feed_forward.w3.weight": (M, D),
    "model.layers.{}.feed_forward.w2.weight": (D, M),
    "model.norm.weight": (D,),
    "output.weight": (WORDS, D),
}


def internlm2(w: Weights, ids: Tensor) -> Tensor:
    """InternLM2 technical report (2403.17297), section 2.2: the rows of each key head's queries, key and value are
    together. Dynamic NTK: 9 tokens where 6 were trained.
    """
    base = 1000000.0 * (2.0 * 9 / 6 - (2.0 - 1)) ** (K / (K - 2))
    x = w["model.tok_embeddings.weight"][ids]
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        y = rms(x, w[at + "attention_norm.weight"], 1e-5)
        grouped = (y @ w[at + "attention.wqkv.weight"].T).view(T, J, H // J + 2, K)
        q, k, v = grouped[:, :, :-2].reshape(T, H, K), grouped[:, :, -2], grouped[:, :, -1]
        x = x + attend(turn(q, base), turn(k, base), v) @ w[at + "attention.wo.weight"].T
        y = rms(x, w[at + "ffn_norm.weight"], 1e-5)
        y = F.silu(y @ w[at + "feed_forward.w1.weight"].T) * (y @ w[at + "feed_forward.w3.weight"].T)
        x = x + y @ w[at + "feed_forward.w2.weight"].T
    return rms(x, w["model.norm.weight"], 1e-5) @ w["output.weight"].T


CHATGLM = {
    "model_type": "chatglm",
    "padded_vocab_size": WORDS,
    "hidden_size": D,
    "ffn_hidden_size": M,
    "num_layers": LAYERS,
    "num_attention_heads": H,
    "kv_channels": K,
    "multi_query_attention": True,
    "multi_query_group_num": J,
    "add_qkv_bias": True,
    "add_bias_linear": False,
    "rope_ratio": 50,
    "layernorm_epsilon": 1e-5,
}
CHATGLM_SHAPES: dict[str, tuple[int, ...]] = {
    "transformer.embedding.word_embeddings.weight": (WORDS, D),
    "transformer.encoder.layers.{}.input_layernorm.weight": (D,),
    "transformer.encoder.layers.{}.self_attention.query_key_value.weight": ((H + 2 * J) * K, D),
    "transformer.encoder.layers.{}.self_attention.query_key_value.bias": ((H + 2 * J) * K,),
    "transformer.encoder.layers.{}.self_attention.dense.weight": (D, D),
    "transformer.encoder.layers.{}.post_attention_layernorm.weight": (D,),
    "transformer.encoder.layers.{}.mlp.dense_h_to_4h.weight": (2 * M, D),
    "transformer.encoder.layers.{}.mlp.dense_4h_to_h.weight": (D, M),
    "transformer.encoder.final_layernorm.weight": (D,),
    "transformer.output_layer.weight": (WORDS, D),
}


def chatglm(w: Weights, ids: Tensor) -> Tensor:
    """ChatGLM (2406.12793), section 2: half of each head's channels turn, neighbours together; the base times 50."""
    x = w["transformer.embedding.word_embeddings.weight"][ids]
    for layer in range(LAYERS):
        at = f"transformer.encoder.layers.{layer}."
        y = rms(x, w[at + "input_layernorm.weight"], 1e-5)
        name = at + "self_attention.query_key_value."
        q, k, v = (y @ w[name + "weight"].T + w[name + "bias"]).split([H * K, J * K, J * K], -1)
        q, k = (turn(part.reshape(T, -1, K), 500000.0, K // 2, adjacent=True) for part in (q, k))
        x = x + attend(q, k, v.view(T, J, K)) @ w[at + "self_attention.dense.weight"].T
        y = rms(x, w[at + "post_attention_layernorm.weight"], 1e-5) @ w[at + "mlp.dense_h_to_4h.weight"].T
        x = x + (F.silu(y[:, :M]) * y[:, M:]) @ w[at + "mlp.dense_4h_to_h.weight"].T
    return (
        rms(x, w["transformer.encoder.final_layernorm.weight"], 1e-5) @ w["transformer.output_layer.weight"].T
    )


def llama_shapes(norms: tuple[str, str] = ("input_layernorm", "post_attention_layernorm")) -> dict[str, Any]:
    at = "model.layers.{}."
    return {
        "model.embed_tokens.weight": (WORDS, D),
        **{f"{at}self_attn.{name}_proj.weight": (D, D) for name in "qkvo"},
        **{f"{at}{norm}.weight": (D,) for norm in norms},
        f"{at}mlp.gate_proj.weight": (M, D),
        f"{at}mlp.up_proj.weight": (M, D),
        f"{at}mlp.down_proj.weight": (D, M),
        "model.norm.weight": (D,),
    }


LLAMA_FORM = {
    "vocab_size": WORDS,
    "hidden_size": D,
    "intermediate_size": M,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": H,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
}


def llama_form(
    w: Weights,
    ids: Tensor,
    *,
    norms: tuple[str, str] = ("input_layernorm", "post_attention_layernorm"),
    base: float = 10000.0,
    scales: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """scales: of token vectors, of what each half adds, of logits. Maps have biases where there are weights for them."""

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[name + ".weight"].T + w.get(name + ".bias", torch.zeros(1))

    x = w["model.embed_tokens.weight"][ids] * scales[0]
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        y = rms(x, w[f"{at}{norms[0]}.weight"], 1e-5)
        q, k, v = (linear(y, f"{at}self_attn.{name}_proj").view(T, H, K) for name in "qkv")
        given = attend(turn(q, base), turn(k, base), v)
        x = x + scales[1] * linear(given, f"{at}self_attn.o_proj")
        y = rms(x, w[f"{at}{norms[1]}.weight"], 1e-5)
        y = F.silu(linear(y, at + "mlp.gate_proj")) * linear(y, at + "mlp.up_proj")
        x = x + scales[1] * linear(y, at + "mlp.down_proj")
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    return rms(x, w["model.norm.weight"], 1e-5) @ head.T * scales[2]


def minicpm(w: Weights, ids: Tensor) -> Tensor:
    """MiniCPM (2404.06395), section 4.1 and table 2: scales of embeddings, of depth and of the output."""
    return llama_form(w, ids, scales=(12.0, 1.4 / math.sqrt(LAYERS), 16 / D))


def old_yi(w: Weights, ids: Tensor) -> Tensor:
    return llama_form(w, ids, norms=("ln1", "ln2"), base=5e6)


def internlm(w: Weights, ids: Tensor) -> Tensor:
    """Dynamic NTK with a factor of 1: 9 tokens where 6 were trained."""
    return llama_form(w, ids, base=20000.0 * (9 / 6) ** (K / (K - 2)))


def baichuan(w: Weights, ids: Tensor) -> Tensor:
    split = dict(w)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}.self_attn."
        for name, part in zip("qkv", w[at + "W_pack.weight"].split(D), strict=True):
            split[f"{at}{name}_proj.weight"] = part
    return llama_form(split, ids)


OLD_PHI = {
    "model_type": "phi-msft",
    "vocab_size": 50,
    "n_embd": D,
    "n_head": H,
    "n_layer": LAYERS,
    "rotary_dim": 4,
    "flash_attn": True,
}
OLD_PHI_SHAPES: dict[str, tuple[int, ...]] = {
    "transformer.embd.wte.weight": (64, D),
    **{f"transformer.h.{{}}.ln.{leaf}": (D,) for leaf in ("weight", "bias")},
    "transformer.h.{}.mixer.Wqkv.weight": (3 * D, D),
    "transformer.h.{}.mixer.Wqkv.bias": (3 * D,),
    "transformer.h.{}.mixer.out_proj.weight": (D, D),
    "transformer.h.{}.mixer.out_proj.bias": (D,),
    "transformer.h.{}.mlp.fc1.weight": (4 * D, D),
    "transformer.h.{}.mlp.fc1.bias": (4 * D,),
    "transformer.h.{}.mlp.fc2.weight": (D, 4 * D),
    "transformer.h.{}.mlp.fc2.bias": (D,),
    **{f"lm_head.ln.{leaf}": (D,) for leaf in ("weight", "bias")},
    "lm_head.linear.weight": (64, D),
    "lm_head.linear.bias": (64,),
}


def old_phi(w: Weights, ids: Tensor) -> Tensor:
    """Phi-1.5 (2309.05463), section 2.1: attention and MLP read one norm and are added together; half of the channels
    turn.
    """

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    def layer_norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * w[name + ".weight"] + w[name + ".bias"]

    x = w["transformer.embd.wte.weight"][ids]
    for layer in range(LAYERS):
        at = f"transformer.h.{layer}."
        y = layer_norm(x, at + "ln")
        q, k, v = (part.reshape(T, H, K) for part in linear(y, at + "mixer.Wqkv").split(D, -1))
        mixed = linear(attend(turn(q, 10000.0, 4), turn(k, 10000.0, 4), v), at + "mixer.out_proj")
        inner = linear(y, at + "mlp.fc1")
        inner = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        x = x + mixed + linear(inner, at + "mlp.fc2")
    return linear(layer_norm(x, "lm_head.ln"), "lm_head.linear")


HEAD = {"lm_head.weight": (WORDS, D)}
BIASES = {f"model.layers.{{}}.self_attn.{name}_proj.bias": (D,) for name in "qkvo"}
PACKED = {
    name: shape
    for name, shape in llama_shapes().items()
    if not name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
} | {"model.layers.{}.self_attn.W_pack.weight": (3 * D, D)}
CASES: dict[str, tuple[dict[str, Any], dict[str, tuple[int, ...]], Callable[[Weights, Tensor], Tensor]]] = {
    "qwen": (QWEN, QWEN_SHAPES, qwen),
    "internlm2": (INTERNLM2, INTERNLM2_SHAPES, internlm2),
    "chatglm": (CHATGLM, CHATGLM_SHAPES, chatglm),
    "phi-msft": (OLD_PHI, OLD_PHI_SHAPES, old_phi),
    "minicpm": (
        {"model_type": "minicpm", **LLAMA_FORM, "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 16},
        llama_shapes(),
        minicpm,
    ),
    "Yi": (
        {"model_type": "Yi", **LLAMA_FORM, "num_key_value_heads": H},
        {**llama_shapes(("ln1", "ln2")), **HEAD},
        old_yi,
    ),
    "internlm": (
        {
            "model_type": "internlm",
            **LLAMA_FORM,
            "bias": True,
            "max_position_embeddings": 6,
            "rotary": {"base": 20000, "type": "dynamic"},
        },
        {**llama_shapes(), **HEAD, **BIASES},
        internlm,
    ),
    "baichuan": ({"model_type": "baichuan", **LLAMA_FORM}, {**PACKED, **HEAD}, baichuan),
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.filterwarnings("error::UserWarning")
def test_own_code_models_equal_a_reference(kind: str, tmp_path: Path) -> None:
    config, shapes, reference = CASES[kind]
    weights = drawn(shapes)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(weights, tmp_path / "model.safetensors")
    pipeline = load(tmp_path)
    ids = torch.randint(0, WORDS, (T,), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours = pipeline.model(Batch(ids[None])).heads["text"][0]
    theirs = reference(weights, ids)
    assert float((ours - theirs).abs().max() / theirs.std()) < 1e-5
    pipeline.export(tmp_path / "again")
    exported = load_file(tmp_path / "again" / "model.safetensors")
    assert exported.keys() == weights.keys()
    assert all(torch.equal(exported[name], weights[name]) for name in weights)


def test_internlm2_under_its_older_type() -> None:
    files = [read_system({**INTERNLM2, "model_type": kind}, name="x") for kind in ("internlm", "internlm2")]
    assert files[0].card == files[1].card
    assert [binding.layout for binding in files[0].namings[0]] == [b.layout for b in files[1].namings[0]]
