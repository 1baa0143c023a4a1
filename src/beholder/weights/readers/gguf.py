"""GGUF files of decoder-only language models: a card from the file's own metadata, and its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName, WeightsError
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Alibi, Rotary
from beholder.parts.blocks.rotary_scaling import (
    LinearScaling,
    LongRope,
    RotaryScaling,
    Yarn,
    yarn_magnitude,
)
from beholder.parts.blocks.transformer import Arrangement, LayerKind
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.prompts.tokenizer import Tokenizer
from beholder.weights.layout import Binding
from beholder.weights.layouts.gguf import gguf_layout
from beholder.weights.lazy import LazyTensors
from beholder.weights.readers.fields import Fields


@dataclass(frozen=True)
class Form:
    """What an architecture's files do not say themselves. pairs: of channels that turn together, or `permuted` where rows
    are written so that neighbours do (llama.cpp convert_hf_to_gguf.py). scaled: token vectors count sqrt(width) times.
    qk_over: what a norm of queries and keys is over. period: of layers with windows, the last of each without.
    """

    act: str = "silu"
    pairs: str | None = "half"
    scaled: bool = False
    alibi: Alibi | None = None
    qk_over: str = "head"
    period: int = 1


ARCHITECTURES: Mapping[str, Form] = {
    "llama": Form(pairs="permuted"),
    "qwen2": Form(),
    "qwen3": Form(),
    "granite": Form(pairs="permuted"),
    "arcee": Form("relu2", pairs="permuted"),
    "olmo2": Form(qk_over="all", period=0),
    "command-r": Form(pairs="adjacent"),
    "stablelm": Form(),
    "phi2": Form("gelu_tanh"),
    "phi3": Form(),
    "starcoder2": Form("gelu_tanh"),
    "gemma": Form("gelu_tanh", scaled=True),
    "gemma2": Form("gelu_tanh", scaled=True, period=2),
    "gemma3": Form("gelu_tanh", scaled=True, period=6),
    "gpt2": Form("gelu_tanh", pairs=None),
    "starcoder": Form("gelu_tanh", pairs=None),
    "gptneox": Form("gelu"),
    "falcon": Form("gelu"),
    "bloom": Form("gelu_tanh", pairs=None, alibi=Alibi()),
    "mpt": Form("gelu", pairs=None),
}
# Gemma 2 and 3 of 27B divide scores by sqrt(width / heads), the others by sqrt(head width); files do not say it
# (llama.cpp: src/models/gemma2.cpp and gemma3.cpp, which know these by their numbers of layers)
WIDE_SCORES = {"gemma2": 46, "gemma3": 62}


def gguf_card(path: Path, metadata: Mapping[str, Any], tensors: LazyTensors) -> Card:
    """The language model that a GGUF file holds, named like the file. Raises `UnknownName` for other architectures and
    `BeholderError` for metadata that is missing or cannot be.
    """
    architecture = str(metadata.get("general.architecture"))
    if architecture not in ARCHITECTURES:
        raise UnknownName(f"{path.name}: architecture", architecture, ARCHITECTURES)
    start = f"{architecture}."
    own = {key.removeprefix(start): value for key, value in metadata.items() if key.startswith(start)}
    if "token_embd.weight" not in tensors or len(tensors["token_embd.weight"].shape) != 2:
        raise WeightsError(f"{path.name}: no matrix token_embd.weight; it is no whole language model")
    file = _File(Fields(own, f"{path.name}: {architecture} metadata"), tensors, architecture)
    return Card(name=path.stem, language=file.decoder(), heads=(NextToken(),))


class _File:
    """A decoder's settings: numbers from the metadata, and what there is from the tensors' names."""

    def __init__(self, fields: Fields, tensors: LazyTensors, architecture: str) -> None:
        self.fields, self.tensors, self.architecture = fields, tensors, architecture
        self.form = ARCHITECTURES[architecture]
        for key in ("block_count", "embedding_length", "attention.head_count", "feed_forward_length"):
            fields.need(key)
        fields.need("context_length")
        self.dim, self.num_heads = (
            fields.count("embedding_length", 1),
            fields.count("attention.head_count", 1),
        )
        self.hidden, self.context = (
            fields.count("feed_forward_length", 1),
            fields.count("context_length", 1),
        )
        width = fields.count("attention.key_length", None)
        if width is None and self.dim % self.num_heads:
            raise BeholderError(
                f"{fields.name}: width {self.dim} does not divide into {self.num_heads} heads"
            )
        self.width = width or self.dim // self.num_heads

    def has(self, name: str) -> bool:
        """Whether layers have this tensor."""
        return f"blk.0.{name}" in self.tensors

    def decoder(self) -> Decoder:
        fields, tensors = self.fields, self.tensors
        embedding_scale = math.sqrt(self.dim) if self.form.scaled else self._optional("embedding_scale")
        norm, attention = self._norm(), self._attention()
        logit_scale = self._optional("logit_scale") or 1.0
        decoder = Decoder(
            vocab_size=tensors["token_embd.weight"].shape[0],
            dim=self.dim,
            num_layers=fields.layers("block_count", 1),
            attention=attention,
            mlp=FeedForward(
                self.hidden,
                act=self.form.act,
                gated=self.has("ffn_gate.weight") or self._fused_mlp(),
                bias=self.has("ffn_up.bias"),
            ),
            norm=norm,
            tied="output.weight" not in tensors,
            context=self.context,
            arrangement=self._arrangement(),
            embedding=TokenEmbedding(
                scale=embedding_scale or 1.0,
                norm=norm if "token_embd_norm.weight" in tensors else None,
                positions="learned" if "position_embd.weight" in tensors else None,
            ),
            head_bias="output.bias" in tensors,
            logit_scale=1 / logit_scale if self.architecture == "granite" else logit_scale,
            logit_softcap=self._optional("final_logit_softcapping"),
        )
        return self._with_windows(decoder, attention)

    def _attention(self) -> Attention:
        fields, form = self.fields, self.form
        bias = self.has("attn_qkv.bias") or self.has("attn_q.bias")
        alibi, steepest = form.alibi, self._optional("attention.max_alibi_bias")
        if self.architecture == "mpt":
            alibi = Alibi(steepest) if steepest else None
        scale = self._optional("attention.scale")
        if WIDE_SCORES.get(self.architecture) == fields.count("block_count", 1):
            scale = (self.dim / self.num_heads) ** -0.5
        return Attention(
            num_heads=self.num_heads,
            num_kv_heads=fields.count("attention.head_count_kv", self.num_heads),
            head_dim=None if self.width * self.num_heads == self.dim else self.width,
            qkv_bias=bias,
            out_bias=self.has("attn_output.bias"),
            rotary=None if form.pairs is None else self._rotary(form.pairs),
            alibi=alibi,
            scale=scale,
            softcap=self._optional("attn_logit_softcapping"),
            clip=self._optional("attention.clamp_kqv"),
            qk_norm=self._norm() if self.has("attn_q_norm.weight") else None,
            qk_norm_over=form.qk_over,
        )

    def _norm(self) -> Norm:
        """RMS norms or LayerNorms, as the name of epsilon says."""
        key, bias = "attention.layer_norm_epsilon", "output_norm.bias" in self.tensors
        if self.fields.raw(key) is not None:
            return Norm("layer", self.fields.positive(key), bias=bias)
        return Norm("rms", self.fields.positive("attention.layer_norm_rms_epsilon"))

    def _arrangement(self) -> Arrangement:
        before, behind = self.has("attn_norm.weight"), self.has("post_attention_norm.weight")
        scale = self._optional("residual_scale") or 1.0
        if behind:
            return Arrangement("both" if before else "after", scale=scale)
        parallel = "one norm" if not self.has("ffn_norm.weight") else None
        if self.has("attn_norm_2.weight"):
            parallel = "two norms"
        if self.architecture == "gptneox" and self.fields.get("use_parallel_residual", True):
            parallel = "two norms"
        return Arrangement(parallel=parallel, scale=scale)

    def _rotary(self, pairs: str) -> Rotary:
        fields = self.fields
        turned = fields.count("rope.dimension_count", self.width)
        if turned > self.width or (pairs == "permuted" and turned != self.width):
            raise BeholderError(
                f"{fields.name}: partial rotary positions over {turned} of {self.width} channels are not known of "
                f"{self.architecture}"
            )
        return Rotary(
            theta=fields.positive("rope.freq_base", 10000.0),
            pairs="half" if pairs == "permuted" else pairs,
            scaling=self._scaling(),
            share=turned / self.width,
        )

    def _scaling(self) -> RotaryScaling | None:
        fields = self.fields
        original = fields.count("rope.scaling.original_context_length", self.context)
        factor = self._optional("rope.scaling.attn_factor")
        if "rope_factors_long.weight" in self.tensors:
            short, long = (self._factors(f"rope_factors_{kind}.weight") for kind in ("short", "long"))
            return LongRope(short, long, original, factor or 1.0)
        if "rope_freqs.weight" in self.tensors:
            factors = self._factors("rope_freqs.weight")
            return LongRope(factors, factors, original, 1.0)
        kind = fields.get("rope.scaling.type", "none")
        if kind in ("none", "longrope"):
            return None
        stretch = fields.positive("rope.scaling.factor")
        if kind == "linear":
            return LinearScaling(stretch)
        if kind != "yarn":
            raise UnknownName(
                f"{fields.name}: rope.scaling.type", kind, ("none", "linear", "yarn", "longrope")
            )
        return Yarn(
            stretch,
            original,
            beta_fast=fields.positive("rope.scaling.yarn_beta_fast", 32.0),
            beta_slow=fields.positive("rope.scaling.yarn_beta_slow", 1.0),
            attention_factor=None if factor is None else factor * yarn_magnitude(stretch),
        )

    def _factors(self, name: str) -> tuple[float, ...]:
        if name not in self.tensors:
            raise WeightsError(f"{self.fields.name}: there is no {name}")
        values = self.tensors[name].load().flatten().tolist()
        if not all(0 < value < math.inf for value in values):
            raise WeightsError(f"{self.fields.name}: {name} holds numbers that are not above 0")
        return tuple(values)

    def _with_windows(self, decoder: Decoder, attention: Attention) -> Decoder:
        """Windows in all layers but the last of each period, or in those that the file lists; where some have none, those
        with windows have rotary positions of their own, never scaled (Gemma 3, OLMo 3).
        """
        fields = self.fields
        window, period = (
            fields.get("attention.sliding_window", 0),
            fields.raw("attention.sliding_window_pattern"),
        )
        period = self.form.period if period is None else period
        if window <= 0 or not period:
            return decoder
        near = attention.but(window=window)
        if period == 1:
            return decoder.but(attention=near)
        if attention.rotary is not None:
            usual = 10000.0 if self.architecture == "gemma3" else attention.rotary.theta
            theta = fields.positive("rope.freq_base_swa", usual)
            near = near.but(rotary=attention.rotary.but(theta=theta, scaling=None))
        if isinstance(period, list):
            pattern = tuple(int(bool(windowed)) for windowed in period)
        elif type(period) is int and 1 < period <= decoder.num_layers + 64:
            pattern = (1,) * (period - 1) + (0,)
        else:
            raise BeholderError(
                f"{fields.name}: attention.sliding_window_pattern is {period!r}; expected a count"
            )
        return decoder.but(others=(LayerKind(near),), pattern=pattern)

    def _fused_mlp(self) -> bool:
        name = "blk.0.ffn_up.weight"
        return name in self.tensors and self.tensors[name].shape[0] == 2 * self.hidden

    def _optional(self, key: str) -> float | None:
        """A number above 0; None where the file has none, or 0."""
        return None if not self.fields.raw(key) else self.fields.positive(key)


def gguf_bindings(
    decoder: Decoder, architecture: str = "llama", tensors: Iterable[str] = ()
) -> tuple[Binding, ...]:
    """Where a GGUF file's `tensors` belong in a system whose main language part is `decoder`."""
    attention, names, mlp = decoder.attention, set(tensors), decoder.mlp
    assert isinstance(attention, Attention) and isinstance(mlp, FeedForward)
    layout = gguf_layout(
        permuted=ARCHITECTURES[architecture].pairs == "permuted",
        fused_qkv="blk.0.attn_qkv.weight" in names,
        fused_mlp=mlp.gated and bool(names) and "blk.0.ffn_gate.weight" not in names,
        second="attn_norm" if "blk.0.attn_norm_2.weight" in names else "ffn_norm",
    )
    heads = {"num_heads": attention.num_heads, "num_kv_heads": attention.kv_heads}
    return (Binding("", "languages.main.", layout, heads),)


def gguf_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer in a GGUF file's metadata; raises `BeholderError` for vocabularies other than byte-level BPE."""
    field = metadata.get
    return Tokenizer.from_gguf_fields(
        field("tokenizer.ggml.tokens", ()),
        field("tokenizer.ggml.merges", ()),
        field("tokenizer.ggml.token_type", ()),
        model=field("tokenizer.ggml.model", ""),
        pre=field("tokenizer.ggml.pre", ""),
        bos_id=field("tokenizer.ggml.bos_token_id"),
        eos_id=field("tokenizer.ggml.eos_token_id"),
        pad_id=field("tokenizer.ggml.padding_token_id"),
        add_bos=bool(field("tokenizer.ggml.add_bos_token", False)),
        chat_template=field("tokenizer.chat_template"),
    )
