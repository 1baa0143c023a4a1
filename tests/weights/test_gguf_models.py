"""A language model from a GGUF file alone computes what its official checkpoint computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file

from beholder.errors import BeholderError, UnknownName
from beholder.model import Batch, build
from beholder.pipeline import load
from beholder.weights.files import open_weights
from beholder.weights.gguf_files import read_metadata
from beholder.weights.layout import to_published
from beholder.weights.load import state_tensors
from beholder.weights.open import open_gguf_file, open_official
from beholder.weights.readers.gguf import gguf_bindings, gguf_card

BYTES = [chr(code) for code in range(256, 512)]


def write_gguf(path: Path, source: Path, architecture: str, **more: object) -> None:
    """An official tiny checkpoint as a GGUF file with a vocabulary of single letters."""
    model = open_official(source, dtype=torch.float32).model
    decoder = model.card.main
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(decoder.num_layers)
    writer.add_context_length(decoder.context)
    writer.add_embedding_length(decoder.dim)
    writer.add_feed_forward_length(decoder.mlp.hidden)
    writer.add_head_count(decoder.attention.num_heads)
    writer.add_head_count_kv(decoder.attention.kv_heads)
    writer.add_layer_norm_rms_eps(decoder.norm.eps)
    writer.add_rope_freq_base(decoder.attention.rotary.theta)
    if decoder.attention.head_dim:
        writer.add_key_length(decoder.attention.head_dim)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*BYTES, *(f"<{i}>" for i in range(decoder.vocab_size - 256))])
    writer.add_token_types([1] * 256 + [3] * (decoder.vocab_size - 256))
    writer.add_token_merges([])
    writer.add_eos_token_id(300)
    for key, value in more.items():
        writer.add_string(key, str(value))
    for name, tensor in to_published(state_tensors(model), gguf_bindings(decoder, architecture)).items():
        writer.add_tensor(name, tensor.load().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("family", "architecture"), [("llama", "llama"), ("llama_tied_hd", "llama"), ("qwen2", "qwen2")]
)
def test_logits_equal_the_official_ones(
    family: str, architecture: str, oracle: Callable[[str], Path], tmp_path: Path
) -> None:
    write_gguf(tmp_path / "model.gguf", oracle(family), architecture)
    opened, tokenizer = open_gguf_file(tmp_path / "model.gguf", dtype=torch.float32)
    recorded = load_file(oracle(family) / "reference.safetensors")
    ids_BT = load_file(oracle(family) / "inputs.safetensors")["input_ids"]
    with torch.inference_mode():
        logits = opened.model(Batch(ids_BT[:1])).heads["text"]
    error = (logits - recorded["logits"][:1]).abs().max() / recorded["logits"].std()
    assert error < 1e-4
    assert tokenizer.eos_ids == (300,)


def test_values_are_half_precision_unless_asked_otherwise(
    oracle: Callable[[str], Path], tmp_path: Path
) -> None:
    write_gguf(tmp_path / "model.gguf", oracle("llama"), "llama")
    assert open_gguf_file(tmp_path / "model.gguf")[0].model.dtype == torch.bfloat16
    assert load(tmp_path / "model.gguf", dtype=torch.float32).model.dtype == torch.float32


def test_what_cannot_be_read_is_named(oracle: Callable[[str], Path], tmp_path: Path) -> None:
    write_gguf(tmp_path / "scaled.gguf", oracle("llama"), "llama", **{"llama.rope.scaling.type": "spiral"})
    with pytest.raises(
        BeholderError, match=r"scaled\.gguf: llama metadata: rope\.scaling\.factor is missing"
    ):
        load(tmp_path / "scaled.gguf")
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "rwkv6")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UnknownName, match="'rwkv6'; nearest"):
        load(tmp_path / "other.gguf")


def test_layout_reaches_every_parameter(oracle: Callable[[str], Path]) -> None:
    model = build(open_official(oracle("qwen2")).model.card, device="meta")
    names = to_published(state_tensors(model), gguf_bindings(model.card.main, "qwen2"))
    assert "blk.0.attn_q.bias" in names and len(names) == len(list(model.parameters()))


def test_metadata_that_cannot_be_is_one_line(oracle: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, oracle("llama"), "llama")
    metadata, tensors = read_metadata(path), open_weights(path)
    numbers = [key for key in metadata if key.startswith("llama.")]
    assert len(numbers) >= 8
    for key in numbers:
        for junk in (None, [1], "4", -1, 0, True, 10**12, float("nan")):
            try:
                build(gguf_card(path, {**metadata, key: junk}, tensors), device="meta")
            except BeholderError as error:
                assert "\n" not in str(error)
    with pytest.raises(BeholderError, match="llama metadata: block_count is missing"):
        gguf_card(path, {**metadata, "llama.block_count": None}, tensors)
    with pytest.raises(BeholderError, match="partial rotary"):
        gguf_card(path, {**metadata, "llama.rope.dimension_count": 4}, tensors)
    with pytest.raises(BeholderError, match=r"no matrix token_embd\.weight"):
        gguf_card(path, metadata, {})
