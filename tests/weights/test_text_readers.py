"""Readers of text encoders and encoder-decoders: published files, older names, partial models, damaged settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from beholder.cards.schema import Card
from beholder.errors import BeholderError, WeightsError
from beholder.model import Batch, build
from beholder.parts.contracts import LanguageConfig
from beholder.parts.language import sizes_text as sizes
from beholder.parts.language.encoder_decoder import EncoderDecoder
from beholder.parts.language.text_encoder import TextEncoder
from beholder.pipeline import load
from beholder.weights.readers.systems import read_system

# Published config.json files, without what changes nothing
T5_SMALL = {
    "model_type": "t5",
    "d_ff": 2048,
    "d_kv": 64,
    "d_model": 512,
    "decoder_start_token_id": 0,
    "layer_norm_epsilon": 1e-06,
    "n_positions": 512,
    "num_heads": 8,
    "num_layers": 6,
    "relative_attention_num_buckets": 32,
    "vocab_size": 32128,
}
FLAN_T5_XXL = {
    "model_type": "t5",
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "decoder_start_token_id": 0,
    "feed_forward_proj": "gated-gelu",
    "is_gated_act": True,
    "dense_act_fn": "gelu_new",
    "num_decoder_layers": 24,
    "num_heads": 64,
    "num_layers": 24,
    "tie_word_embeddings": False,
    "layer_norm_epsilon": 1e-06,
    "relative_attention_max_distance": 128,
    "vocab_size": 32128,
}
UMT5_XXL = {**FLAN_T5_XXL, "model_type": "umt5", "vocab_size": 256384, "scalable_attention": True}
MT5_SMALL = {
    "model_type": "mt5",
    "d_ff": 1024,
    "d_kv": 64,
    "d_model": 512,
    "feed_forward_proj": "gated-gelu",
    "num_decoder_layers": 8,
    "num_heads": 6,
    "num_layers": 8,
    "tie_word_embeddings": False,
    "vocab_size": 250112,
}
BERT_BASE = {"model_type": "bert", "architectures": ["BertModel"], "position_embedding_type": "absolute"}
ROBERTA_BASE = {
    "model_type": "roberta",
    "max_position_embeddings": 514,
    "layer_norm_eps": 1e-05,
    "type_vocab_size": 1,
    "vocab_size": 50265,
    "pad_token_id": 1,
}
XLM_R_LARGE = {
    **ROBERTA_BASE,
    "model_type": "xlm-roberta",
    "vocab_size": 250002,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
}
MPNET_BASE = {"model_type": "mpnet", "max_position_embeddings": 514, "layer_norm_eps": 1e-05}
BART_LARGE = {
    "model_type": "bart",
    "decoder_start_token_id": 2,
    "max_position_embeddings": 1024,
    "vocab_size": 50265,
    "normalize_before": False,
    "add_final_layer_norm": False,
    "num_hidden_layers": 12,
}
MBART_LARGE_50 = {
    "model_type": "mbart",
    "vocab_size": 250054,
    "scale_embedding": True,
    "decoder_start_token_id": 2,
    "tokenizer_class": "MBart50Tokenizer",
}
MODERN_BERT = {
    "model_type": "modernbert",
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "local_rope_theta": 10000.0,
    "layer_norm_eps": 1e-05,
    "local_attention": 128,
    "norm_eps": 1e-05,
    "position_embedding_type": "absolute",
}
PUBLISHED: dict[str, tuple[dict[str, Any], LanguageConfig]] = {
    "t5-small": (T5_SMALL, sizes.T5_SMALL),
    "flan-t5-xxl": (FLAN_T5_XXL, sizes.FLAN_T5_XXL),
    "mt5-small": (MT5_SMALL, sizes.MT5_SMALL),
    "umt5-xxl": (UMT5_XXL, sizes.UMT5_XXL),
    "bert-base": (BERT_BASE, sizes.BERT_BASE),
    "roberta-base": (ROBERTA_BASE, sizes.ROBERTA_BASE),
    "xlm-roberta-large": (XLM_R_LARGE, sizes.XLM_R_LARGE),
    "mpnet-base": (MPNET_BASE, sizes.MPNET_BASE),
    "modernbert-base": (MODERN_BERT, sizes.MODERN_BERT_BASE),
    "modernbert-large": (
        {
            **MODERN_BERT,
            "hidden_size": 1024,
            "num_attention_heads": 16,
            "num_hidden_layers": 28,
            "intermediate_size": 2624,
        },
        sizes.MODERN_BERT_LARGE,
    ),
    "distilbert": ({"model_type": "distilbert"}, sizes.DISTILBERT_BASE),
    "bart-large": (BART_LARGE, sizes.BART_LARGE),
    "mbart-large-50": (MBART_LARGE_50, sizes.MBART_LARGE_50),
    "kosmos-2 text": ({"model_type": "kosmos_2_text_model"}, sizes.MAGNETO_1_3B),
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.filterwarnings("error::UserWarning")
def test_published_files_are_read_as_the_published_sizes(name: str) -> None:
    data, size = PUBLISHED[name]
    assert read_system(data, name=name).card.main == size


def official_folder(
    folder: Path, config: dict[str, Any], rename: dict[str, str] | None = None, **more: torch.Tensor
) -> Card:
    """A tiny checkpoint in the official layout, some names replaced and some tensors added. Gives the card."""
    from beholder.weights.layout import to_published
    from beholder.weights.load import state_tensors

    reading = read_system(config, name="tiny")
    model = build(reading.card)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    published = to_published(state_tensors(model), reading.namings[0])
    tensors = {name: tensor.load().clone() for name, tensor in published.items()}
    for old, new in (rename or {}).items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({**tensors, **more}, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return reading.card


TINY_BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 60,
    "max_position_embeddings": 20,
}
TINY_T5 = {
    "model_type": "t5",
    "d_model": 32,
    "d_ff": 48,
    "d_kv": 8,
    "num_heads": 4,
    "num_layers": 2,
    "vocab_size": 60,
    "feed_forward_proj": "gated-gelu",
}
TINY_BART = {
    "model_type": "bart",
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "vocab_size": 60,
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 48 for side in ("encoder", "decoder")},
    "max_position_embeddings": 20,
}
IDS = Batch(torch.tensor([[5, 6, 7, 8]]))


def test_names_of_2018_load_and_next_sentence_heads_are_left_out(tmp_path: Path) -> None:
    """bert-base-uncased as published: `gamma` and `beta`, a pooler and a head over sentences beside masked words."""
    config = {**TINY_BERT, "architectures": ["BertForMaskedLM"]}
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    more = {
        "bert.pooler.dense.weight": torch.randn(32, 32),
        "bert.pooler.dense.bias": torch.randn(32),
        "cls.seq_relationship.weight": torch.randn(2, 32),
        "cls.seq_relationship.bias": torch.randn(2),
        "bert.embeddings.position_ids": torch.arange(20)[None],
    }
    torch.manual_seed(0)
    official_folder(tmp_path / "new", config)
    torch.manual_seed(0)
    official_folder(tmp_path / "old", config, old, **more)
    assert any("gamma" in name for name in load_file(tmp_path / "old" / "model.safetensors"))
    words = [load(tmp_path / name).forward_planned(IDS).heads["words"] for name in ("new", "old")]
    assert words[0].shape == (1, 4, 60) and torch.equal(*words)


def test_a_discriminator_is_read_as_the_bare_encoder(tmp_path: Path) -> None:
    """google/electra-base-discriminator as published."""
    config = {**TINY_BERT, "model_type": "electra", "embedding_size": 16}
    more = {f"discriminator_predictions.dense.{leaf}": torch.zeros(32) for leaf in ("weight", "bias")}
    official_folder(tmp_path / "e", config)
    bare = load(tmp_path / "e").forward_planned(IDS).language.hidden_BTD
    tensors = load_file(tmp_path / "e" / "model.safetensors")
    inner = {f"electra.{name}": tensor for name, tensor in tensors.items()}
    save_file({**inner, **more}, tmp_path / "e" / "model.safetensors", {"format": "pt"})
    config["architectures"] = ["ElectraForPreTraining"]
    (tmp_path / "e" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert torch.equal(load(tmp_path / "e").forward_planned(IDS).language.hidden_BTD, bare)


def test_an_output_matrix_of_its_own(tmp_path: Path) -> None:
    """T5 1.1 and Flan-T5: `tie_word_embeddings` false. Copies of the token table may stand in the file."""
    config = {**TINY_T5, "tie_word_embeddings": False}
    official_folder(tmp_path / "own", config)
    tensors = load_file(tmp_path / "own" / "model.safetensors")
    assert "lm_head.weight" in tensors
    copies = {
        f"{side}.embed_tokens.weight": tensors["shared.weight"].clone() for side in ("encoder", "decoder")
    }
    save_file({**tensors, **copies}, tmp_path / "own" / "model.safetensors", {"format": "pt"})
    before = load(tmp_path / "own")
    table, matrix = before.model.language.encoder.embedding.weight, before.model.language.decoder.head.weight
    assert torch.equal(matrix, tensors["lm_head.weight"]) and not torch.equal(matrix, table)
    copies["decoder.embed_tokens.weight"][0, 0] += 1
    save_file({**tensors, **copies}, tmp_path / "own" / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match="should be a copy"):
        load(tmp_path / "own")


@pytest.mark.parametrize("kind", ["t5", "umt5"])
def test_an_encoder_alone_is_the_encoder_of_both(tmp_path: Path, kind: str) -> None:
    config = {**TINY_T5, "model_type": kind}
    official_folder(tmp_path / "both", config)
    both = load(tmp_path / "both")
    (tmp_path / "both" / "config.json").write_text(
        json.dumps({**config, "architectures": ["T5EncoderModel"]}), encoding="utf-8"
    )
    alone = load(tmp_path / "both")
    assert isinstance(both.card.main, EncoderDecoder) and isinstance(alone.card.main, TextEncoder)
    memory = both.forward_planned(IDS).language.memory
    assert torch.equal(alone.forward_planned(IDS).language.hidden_BTD, memory)


def test_bart_without_its_output_layer(tmp_path: Path) -> None:
    """facebook/bart-large as published is a `BartModel`: no prefix and no bias of logits."""
    torch.manual_seed(0)
    official_folder(tmp_path / "whole", TINY_BART)
    tensors = load_file(tmp_path / "whole" / "model.safetensors")
    tensors["final_logits_bias"] = torch.zeros_like(tensors["final_logits_bias"])
    save_file(tensors, tmp_path / "whole" / "model.safetensors", {"format": "pt"})
    bare = {name.removeprefix("model."): t for name, t in tensors.items() if name != "final_logits_bias"}
    (tmp_path / "bare").mkdir()
    save_file(bare, tmp_path / "bare" / "model.safetensors", {"format": "pt"})
    config = {**TINY_BART, "architectures": ["BartModel"]}
    (tmp_path / "bare" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    logits = [load(tmp_path / name).forward_planned(IDS).heads["text"] for name in ("whole", "bare")]
    assert torch.equal(*logits)


def sentence_folder(folder: Path, pooling: dict[str, bool], modules: str = "") -> None:
    official_folder(folder, TINY_BERT)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    (folder / "modules.json").write_text(modules or "[]", encoding="utf-8")


@pytest.mark.parametrize(("mode", "pool"), [("mean_tokens", "mean"), ("cls_token", "first")])
def test_sentence_folders_say_how_they_pool(tmp_path: Path, mode: str, pool: str) -> None:
    sentence_folder(tmp_path / "s", {"word_embedding_dimension": 32, f"pooling_mode_{mode}": True})
    pipeline = load(tmp_path / "s")
    assert (pipeline.card.main.pool, pipeline.card.main.projection) == (pool, 0)
    language = pipeline.forward_planned(IDS).language
    hidden = language.hidden_BTD[0]
    assert torch.allclose(language.pooled_BD[0], hidden.mean(0) if pool == "mean" else hidden[0], atol=1e-6)


@pytest.mark.parametrize(
    ("pooling", "modules", "named"),
    [
        ({"pooling_mode_max_tokens": True}, "", "pooling_mode_max_tokens"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "", "pooling_mode_cls_token"),
        ({"pooling_mode_mean_tokens": True}, '[{"type": "sentence_transformers.models.Dense"}]', "Dense"),
    ],
)
def test_other_poolings_are_refused(
    tmp_path: Path, pooling: dict[str, bool], modules: str, named: str
) -> None:
    sentence_folder(tmp_path / "s", pooling, modules)
    with pytest.raises(BeholderError, match=named):
        load(tmp_path / "s")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"model_type": "t5", "feed_forward_proj": "swiglu-gelu"}, "feed_forward_proj is 'swiglu-gelu'"),
        ({"model_type": "t5", "d_model": 0}, "d_model is 0"),
        ({"model_type": "t5", "num_layers": -1}, "num_layers is -1"),
        ({"model_type": "umt5", "layer_norm_epsilon": 0}, "layer_norm_epsilon is 0"),
        ({"model_type": "bart", "d_model": "wide"}, "d_model is 'wide'"),
        ({"model_type": "bart", "encoder_layers": 10**6}, "encoder_layers is 1000000"),
        (
            {"model_type": "marian", "share_encoder_decoder_embeddings": False},
            "share_encoder_decoder_embeddings",
        ),
        ({"model_type": "bert", "position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"model_type": "bert", "hidden_size": True}, "hidden_size is True"),
        ({"model_type": "albert", "num_hidden_groups": 2}, "num_hidden_groups"),
        ({"model_type": "modernbert", "layer_types": ["full_attention"]}, "for 22 layers"),
        ({"model_type": "bart", "decoder_layers": 0}, "decoder_layers is 0"),
        (
            {"model_type": "bert", "architectures": ["BertForMaskedLM"], "tie_word_embeddings": False},
            "tie_word_embeddings must be true",
        ),
    ],
)
def test_damaged_settings_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(BeholderError, match=message):
        read_system(data, name="x")


def test_t5_files_may_name_another_activation() -> None:
    """BLIP-2's say `gelu` where `gated-gelu` means the tanh form."""
    settings = {"model_type": "t5", "feed_forward_proj": "gated-gelu"}
    for stored, act in ((None, "gelu_tanh"), ("gelu_new", "gelu_tanh"), ("gelu", "gelu")):
        read = read_system(settings | {"dense_act_fn": stored}, name="x").card.main
        assert isinstance(read, EncoderDecoder)
        assert (read.encoder.mlp.act, read.decoder.mlp.act) == (act, act)  # type: ignore[union-attr]
