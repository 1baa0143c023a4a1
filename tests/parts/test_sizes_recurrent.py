"""Published state-space, recurrent and linear-attention models: each size is what its config file says, and counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from beholder.cards.schema import Card
from beholder.model import Batch, build
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_recurrent as sizes
from beholder.weights.readers.systems import read_system


def mamba(dim: int, layers: int) -> dict[str, Any]:
    return {"model_type": "mamba", "hidden_size": dim, "num_hidden_layers": layers}


def mamba2(dim: int, layers: int) -> dict[str, Any]:
    own = {"num_heads": dim // 32, "n_groups": 1, "vocab_size": 50288, "tie_word_embeddings": True}
    return {**mamba(dim, layers), "model_type": "mamba2", **own}


def lfm2(dim: int, heads: int, hidden: int) -> dict[str, Any]:
    return {
        "model_type": "lfm2",
        "hidden_size": dim,
        "num_attention_heads": heads,
        "block_ff_dim": hidden,
        "num_hidden_layers": 16,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14],
    }


MINIMAX = {
    "model_type": "minimax_text_01",
    "attn_type_list": [0, 0, 0, 0, 0, 0, 0, 1] * 10,
    "hidden_size": 6144,
    "intermediate_size": 9216,
    "head_dim": 128,
    "vocab_size": 200064,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "num_local_experts": 32,
    **{
        f"layernorm_{half}_alpha": 3.5565588200778455
        for half in ("linear_attention", "full_attention", "mlp")
    },
    **{f"layernorm_{half}_beta": 1.0 for half in ("linear_attention", "full_attention", "mlp")},
    "max_position_embeddings": 10240000,
    "rope_theta": 10000000,
    "rotary_dim": 64,
    "postnorm": True,
    "rms_norm_eps": 1e-05,
    "shared_intermediate_size": 0,
    "shared_moe_mode": "sigmoid",
}
GEMMA_9B = {
    "model_type": "recurrent_gemma",
    "hidden_size": 4096,
    "num_hidden_layers": 38,
    "intermediate_size": 24576,
    "num_attention_heads": 16,
    "num_key_value_heads": 1,
}
FALCON = {**mamba(4096, 64), "model_type": "falcon_mamba", "vocab_size": 65024, "tie_word_embeddings": False}
BAMBA = {
    "model_type": "bamba",
    "vocab_size": 128256,
    "attn_layer_indices": [9, 18, 27],
    "mamba_d_head": 64,
    "mamba_d_state": 128,
}
# config file, parameters. Exact counts are those of the model cards (Codestral Mamba, LFM2), of the weight index
# (Jamba: 103,140,646,656 bytes in bfloat16), and else of the official class at this config.
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "MAMBA_130M": (mamba(768, 24), 129_135_360),
    "MAMBA_370M": (mamba(1024, 48), 371_516_416),
    "MAMBA_790M": (mamba(1536, 48), 793_204_224),
    "MAMBA_1_4B": (mamba(2048, 48), 1_372_178_432),
    "MAMBA_2_8B": (mamba(2560, 64), 2_768_345_600),
    "FALCON_MAMBA_7B": (FALCON, 7_272_665_088),
    "MAMBA2_130M": (mamba2(768, 24), 128_989_632),
    "MAMBA2_370M": (mamba2(1024, 48), 368_346_624),
    "MAMBA2_780M": (mamba2(1536, 48), 780_161_280),
    "MAMBA2_1_3B": (mamba2(2048, 48), 1_343_757_312),
    "MAMBA2_2_7B": (mamba2(2560, 64), 2_702_599_680),
    "CODESTRAL_MAMBA_7B": ({"model_type": "mamba2"}, 7_285_403_648),
    "BAMBA_9B": (BAMBA, 9_780_235_392),
    "JAMBA_52B": ({"model_type": "jamba"}, 51_570_323_328),
    "RECURRENT_GEMMA_2B": (
        {"model_type": "recurrent_gemma", "intermediate_size": 15360, "num_key_value_heads": 1},
        2_682_862_080,
    ),
    "RECURRENT_GEMMA_9B": (GEMMA_9B, 8_579_977_216),
    "MINIMAX_TEXT_01": (MINIMAX, 456_089_655_296),
    "QWEN3_NEXT_80B": (
        {"model_type": "qwen3_next", "rope_theta": 10000000, "max_position_embeddings": 262144},
        79_674_391_296,
    ),
    "LFM2_350M": (lfm2(1024, 16, 6656), 354_483_968),
    "LFM2_700M": (lfm2(1536, 24, 10240), 742_489_344),
    "LFM2_1_2B": (lfm2(2048, 32, 12288), 1_170_340_608),
}


def count(name: str) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in getattr(sizes, name).build().parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_exact(name: str) -> None:
    assert count(name) == PUBLISHED[name][1]


def layers_of(config: Any) -> Any:
    return config.but(others=(), pattern=()), config.layers


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_what_their_config_files_say(name: str) -> None:
    read = read_system(PUBLISHED[name][0], name="x").card.main
    assert layers_of(read) == layers_of(getattr(sizes, name))


def test_striped_hyena_counts_within_its_rounding() -> None:
    """Published as 7.65B: togethercomputer/StripedHyena-Nous-7B."""
    attention = {"attn_layer_idxs": list(range(1, 32, 2)), "hyena_layer_idxs": list(range(0, 33, 2))}
    read = read_system({"model_type": "stripedhyena", **attention}, name="x").card.main
    assert layers_of(read) == layers_of(sizes.STRIPED_HYENA_7B)
    assert 7.645e9 <= count("STRIPED_HYENA_7B") < 7.655e9


@pytest.mark.parametrize("name", [*PUBLISHED, "STRIPED_HYENA_7B"])
def test_tiny_forms_have_every_kind_of_layer_and_run(name: str) -> None:
    config = getattr(sizes, name)
    tiny = config.tiny()
    assert len(set(tiny.layers)) == len(set(config.layers))
    model = build(Card(name="tiny", language=tiny, heads=(NextToken(),)), seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) < 150_000
    with torch.no_grad():
        scores = model(Batch(torch.randint(0, 512, (2, 6)))).heads["text"]
    assert scores.shape == (2, 6, 512) and scores.isfinite().all()


def test_every_size_is_counted() -> None:
    published = {name for name in vars(sizes) if name.isupper() and not name.startswith("_")}
    assert published - {"ENDLESS"} == {*PUBLISHED, "STRIPED_HYENA_7B"}
