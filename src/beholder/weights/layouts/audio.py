"""Encoders of sound and other signals."""

from __future__ import annotations

from functools import lru_cache

from beholder.weights.layout import Layout
from beholder.weights.layouts.encoder_decoders import bart_decoder
from beholder.weights.layouts.rules import Rules, affine, inside
from beholder.weights.ops import Fuse, Reshape, Split, Tied, Transpose

# transformers: models/whisper/modeling_whisper.py and models/speech_to_text/modeling_speech_to_text.py
SPEECH_LAYERS = affine(
    {
        "layers.{}.self_attn.q_proj": "blocks.{}.attn.q",
        "layers.{}.self_attn.k_proj": "blocks.{}.attn.k",
        "layers.{}.self_attn.v_proj": "blocks.{}.attn.v",
        "layers.{}.self_attn.out_proj": "blocks.{}.attn.out",
        "layers.{}.self_attn_layer_norm": "blocks.{}.norm1",
        "layers.{}.fc1": "blocks.{}.mlp.up",
        "layers.{}.fc2": "blocks.{}.mlp.down",
        "layers.{}.final_layer_norm": "blocks.{}.norm2",
        "layer_norm": "last_norm",
    }
)
WHISPER = Layout(
    {
        "embed_positions.weight": "positions.weight",
        **affine({"conv1": "stem.convs.0", "conv2": "stem.convs.1"}),
        **SPEECH_LAYERS,
    },
    name="transformers Whisper encoder",
)
# transformers: models/qwen2_5_omni/modeling_qwen2_5_omni.py, an encoder of chunks
OMNI_ENCODER = Layout(
    {
        "audio_bos_eos_token.weight": "spare",
        **inside(
            {
                key.replace("layer_norm.", "ln_post.", 1) if key.startswith("layer_norm.") else key: op
                for key, op in WHISPER.rules.items()
                if not key.startswith("embed_positions")
            },
            "",
            "encoder.",
        ),
    },
    name="transformers Qwen2.5-Omni encoder",
)
SPEECH_TO_TEXT = Layout(
    {"embed_positions.weights": None, **affine({"conv.conv_layers.{}": "stem.convs.{}"}), **SPEECH_LAYERS},
    name="transformers Speech2Text encoder",
)


SPEECH_DECODER = bart_decoder(pre=True)

# transformers: models/audio_spectrogram_transformer, as it is saved; numbers: positions, with the class tokens
AST = Layout(
    {
        "embeddings.cls_token": Fuse("cls", 0, (1, 1)),
        "embeddings.distillation_token": Fuse("cls", 1, (1, 1)),
        "embeddings.position_embeddings": Reshape("positions.weight", (1, "positions", -1)),
        **affine(
            {
                "embeddings.patch_embeddings.projection": "stem.patch",
                "encoder.layer.{}.attention.attention.query": "blocks.{}.attn.q",
                "encoder.layer.{}.attention.attention.key": "blocks.{}.attn.k",
                "encoder.layer.{}.attention.attention.value": "blocks.{}.attn.v",
                "encoder.layer.{}.attention.output.dense": "blocks.{}.attn.out",
                "encoder.layer.{}.layernorm_before": "blocks.{}.norm1",
                "encoder.layer.{}.layernorm_after": "blocks.{}.norm2",
                "encoder.layer.{}.intermediate.dense": "blocks.{}.mlp.up",
                "encoder.layer.{}.output.dense": "blocks.{}.mlp.down",
                "layernorm": "last_norm",
            }
        ),
    },
    name="transformers AST",
)


def _wave_stem(*, released: bool) -> Rules:
    """released: the names of weight normalisation before torch 2."""
    conv = "encoder.pos_conv_embed.conv."
    scale, weight = "weight_g", "weight_v"
    if not released:
        scale, weight = "parametrizations.weight.original0", "parametrizations.weight.original1"
    return {
        "masked_spec_embed": "mask_token",
        f"{conv}bias": "positions.bias",
        f"{conv}{scale}": "positions.scale",
        f"{conv}{weight}": "positions.weight",
        **affine(
            {
                "feature_extractor.conv_layers.{}.conv": "stem.convs.{}",
                "feature_extractor.conv_layers.{}.layer_norm": "stem.norms.{}",
                "feature_projection.layer_norm": "stem.norm",
                "feature_projection.projection": "stem.project",
            }
        ),
    }


@lru_cache(maxsize=8)
def wav2vec2(norm: str, *, released: bool = False) -> Layout:
    """transformers: models/wav2vec2, hubert and wavlm. norm: `post` or `pre` (`do_stable_layer_norm`)."""
    before, after, edge = (
        ("norm1", "norm2", "last_norm") if norm == "pre" else ("after1", "after2", "first_norm")
    )
    layer = "encoder.layers.{}."
    rules: Rules = {
        **_wave_stem(released=released),
        # WavLM
        "encoder.layers.0.attention.rel_attn_embed.weight": "bias.weight",
        f"{layer}attention.gru_rel_pos_const": Reshape("blocks.{}.attn.gate_scale", (1, -1, 1, 1)),
        **affine(
            {
                "encoder.layer_norm": edge,
                f"{layer}attention.q_proj": "blocks.{}.attn.q",
                f"{layer}attention.k_proj": "blocks.{}.attn.k",
                f"{layer}attention.v_proj": "blocks.{}.attn.v",
                f"{layer}attention.out_proj": "blocks.{}.attn.out",
                f"{layer}attention.gru_rel_pos_linear": "blocks.{}.attn.gate",
                f"{layer}layer_norm": f"blocks.{{}}.{before}",
                f"{layer}feed_forward.intermediate_dense": "blocks.{}.mlp.up",
                f"{layer}feed_forward.output_dense": "blocks.{}.mlp.down",
                f"{layer}final_layer_norm": f"blocks.{{}}.{after}",
            }
        ),
    }
    return Layout(rules, name=f"transformers wav2vec 2.0, {norm}-norm")


@lru_cache(maxsize=2)
def conformer(*, released: bool = False) -> Layout:
    """transformers: models/wav2vec2_conformer/modeling_wav2vec2_conformer.py."""
    layer, conv = "encoder.layers.{}.", "encoder.layers.{}.conv_module."
    rules: Rules = {
        **_wave_stem(released=released),
        f"{layer}self_attn.pos_bias_u": "blocks.{}.attn.content_bias",
        f"{layer}self_attn.pos_bias_v": "blocks.{}.attn.distance_bias",
        f"{layer}self_attn.linear_pos.weight": "blocks.{}.attn.distance.weight",
        f"{conv}pointwise_conv1.weight": "blocks.{}.conv.up.weight",
        f"{conv}depthwise_conv.weight": "blocks.{}.conv.depthwise.weight",
        f"{conv}pointwise_conv2.weight": "blocks.{}.conv.down.weight",
        f"{conv}batch_norm.*": "blocks.{}.conv.inner_norm.*",
        **affine(
            {
                f"{layer}ffn1_layer_norm": "blocks.{}.norm1",
                f"{layer}ffn1.intermediate_dense": "blocks.{}.mlp1.up",
                f"{layer}ffn1.output_dense": "blocks.{}.mlp1.down",
                f"{layer}self_attn_layer_norm": "blocks.{}.norm2",
                f"{layer}self_attn.linear_q": "blocks.{}.attn.q",
                f"{layer}self_attn.linear_k": "blocks.{}.attn.k",
                f"{layer}self_attn.linear_v": "blocks.{}.attn.v",
                f"{layer}self_attn.linear_out": "blocks.{}.attn.out",
                f"{conv}layer_norm": "blocks.{}.conv.norm",
                f"{layer}ffn2_layer_norm": "blocks.{}.norm3",
                f"{layer}ffn2.intermediate_dense": "blocks.{}.mlp2.up",
                f"{layer}ffn2.output_dense": "blocks.{}.mlp2.down",
                f"{layer}final_layer_norm": "blocks.{}.after",
                "encoder.layer_norm": "last_norm",
            }
        ),
    }
    return Layout(rules, name="transformers wav2vec 2.0 conformer")


@lru_cache(maxsize=8)
def beats(num_layers: int) -> Layout:
    """microsoft/unilm: beats/BEATs.py and backbone.py. Every layer's file holds a copy of the shared relative bias."""
    bias = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
    copies: Rules = {bias.format(index): Tied("bias.weight") for index in range(1, num_layers)}
    rules: Rules = {
        "patch_embedding.weight": Transpose(
            "stem.patch.weight", (0, 1, 3, 2)
        ),  # theirs: time before frequency
        "predictor.*": None,
        "encoder.pos_conv.0.bias": "positions.bias",
        "encoder.pos_conv.0.weight_g": "positions.scale",
        "encoder.pos_conv.0.weight_v": "positions.weight",
        bias.format(0): "bias.weight",
        **copies,
        "encoder.layers.{}.self_attn.grep_a": Reshape("blocks.{}.attn.gate_scale", (1, -1, 1, 1)),
        **affine(
            {
                "layer_norm": "stem.norm",
                "post_extract_proj": "stem.project",
                "encoder.layer_norm": "first_norm",
                "encoder.layers.{}.self_attn.q_proj": "blocks.{}.attn.q",
                "encoder.layers.{}.self_attn.k_proj": "blocks.{}.attn.k",
                "encoder.layers.{}.self_attn.v_proj": "blocks.{}.attn.v",
                "encoder.layers.{}.self_attn.out_proj": "blocks.{}.attn.out",
                "encoder.layers.{}.self_attn.grep_linear": "blocks.{}.attn.gate",
                "encoder.layers.{}.self_attn_layer_norm": "blocks.{}.after1",
                "encoder.layers.{}.fc1": "blocks.{}.mlp.up",
                "encoder.layers.{}.fc2": "blocks.{}.mlp.down",
                "encoder.layers.{}.final_layer_norm": "blocks.{}.after2",
            }
        ),
    }
    return Layout(rules, name="unilm BEATs")


# VITA-MLLM/VITA: vita/model/multimodal_encoder/whale/module/encoder/encoder.py and what it is made of
VITA_AUDIO = Layout(
    {
        "global_cmvn.mean": "stem.mean",
        "global_cmvn.istd": "stem.inverse_std",
        "enc.1.encoders.{}.self_attn.pos_bias_u": "blocks.{}.attn.content_bias",
        "enc.1.encoders.{}.self_attn.pos_bias_v": "blocks.{}.attn.distance_bias",
        "enc.1.encoders.{}.self_attn.linear_pos.weight": "blocks.{}.attn.distance.weight",
        **affine(
            {
                "enc.0.core.conv.0": "stem.convs.0",
                "enc.0.core.conv.2": "stem.convs.1",
                "enc.0.core.out.0": "stem.join",
                "enc.1.embed.0": "stem.project",
                "enc.1.embed.1": "stem.norm",
                "enc.1.encoders.{}.self_attn.linear_q": "blocks.{}.attn.q",
                "enc.1.encoders.{}.self_attn.linear_k": "blocks.{}.attn.k",
                "enc.1.encoders.{}.self_attn.linear_v": "blocks.{}.attn.v",
                "enc.1.encoders.{}.self_attn.linear_out": "blocks.{}.attn.out",
                "enc.1.encoders.{}.feed_forward.w_1": "blocks.{}.mlp.up",
                "enc.1.encoders.{}.feed_forward.w_2": "blocks.{}.mlp.down",
                "enc.1.encoders.{}.norm1": "blocks.{}.norm1",
                "enc.1.encoders.{}.norm2": "blocks.{}.norm2",
                "enc.1.after_norm": "last_norm",
            }
        ),
    },
    name="VITA audio encoder",
)


def imagebind_trunk(prefix: str) -> Rules:
    """A trunk's layers."""
    attn = prefix + "blocks.{}.attn."
    pieces = {
        leaf: tuple(f"blocks.{{}}.attn.{name}.{leaf}" for name in ("q", "k", "v"))
        for leaf in ("weight", "bias")
    }
    return {
        **{f"{attn}in_proj_{leaf}": Split(names) for leaf, names in pieces.items()},
        f"{attn}bias_k": Reshape("blocks.{}.attn.extra_k", (1, 1, -1)),
        f"{attn}bias_v": Reshape("blocks.{}.attn.extra_v", (1, 1, -1)),
        **affine(
            {
                f"{attn}out_proj": "blocks.{}.attn.out",
                f"{prefix}blocks.{{}}.norm_1": "blocks.{}.norm1",
                f"{prefix}blocks.{{}}.norm_2": "blocks.{}.norm2",
                f"{prefix}blocks.{{}}.mlp.fc1": "blocks.{}.mlp.up",
                f"{prefix}blocks.{{}}.mlp.fc2": "blocks.{}.mlp.down",
            }
        ),
    }


@lru_cache(maxsize=8)
def imagebind(modality: str) -> Layout:
    """facebookresearch/ImageBind: models/imagebind_model.py, one modality's preprocessor, trunk and head's norm. numbers:
    positions (with the class token); dim, inputs of inertial sensors.
    """
    before, trunk = f"modality_preprocessors.{modality}.", f"modality_trunks.{modality}."
    stem = before + {"depth": "depth_stem", "imu": "imu_stem"}.get(modality, "rgbt_stem")
    helper = "" if modality == "imu" else "pos_embedding_helper."
    patch = f"{stem}.proj.1.weight" if modality == "vision" else f"{stem}.proj.weight"
    sensors = modality == "imu"
    return Layout(
        {
            f"{before}cls_token": "cls",
            f"{before}{helper}pos_embed": Reshape("positions.weight", (1, "positions", -1)),
            patch: Reshape("stem.patch.weight", ("dim", "inputs")) if sensors else "stem.patch.weight",
            **imagebind_trunk(trunk),
            **affine(
                {
                    f"{stem}.norm_layer": "stem.norm",
                    f"{trunk}pre_transformer_layer.0": "first_norm",
                    f"modality_heads.{modality}.0": "last_norm",
                }
            ),
        },
        name=f"ImageBind {modality}",
    )


@lru_cache(maxsize=8)
def imagebind_vector(modality: str) -> Layout:
    """The matrix behind a modality's trunk (the sensors' has dropout before it), and the length of its vectors."""
    place = 3 if modality == "imu" else 2
    return Layout(
        {
            f"modality_heads.{modality}.{place}.weight": "linear.weight",
            f"modality_postprocessors.{modality}.1.log_logit_scale": "log_scale",
        },
        name=f"ImageBind {modality} vectors",
    )


IMAGEBIND_TEXT = Layout(
    {
        "modality_preprocessors.text.token_embedding.weight": "embedding.weight",
        "modality_preprocessors.text.pos_embed": Reshape("embedding.positions", (1, "positions", -1)),
        "modality_preprocessors.text.mask": None,
        **imagebind_trunk("modality_trunks.text."),
        **affine({"modality_heads.text.proj.0": "norm"}),
        "modality_heads.text.proj.1.weight": "projection.weight",
    },
    name="ImageBind text",
)
IMAGEBIND_SCALE = Layout({"modality_postprocessors.text.1.log_logit_scale": "scale"}, name="ImageBind scale")


# transformers: models/granite_speech/modeling_granite_speech.py
GRANITE_SPEECH = Layout(
    {
        "layers.{}.attn.to_q.weight": "blocks.{}.attn.q.weight",
        "layers.{}.attn.to_kv.weight": Split(("blocks.{}.attn.k.weight", "blocks.{}.attn.v.weight")),
        "layers.{}.attn.rel_pos_emb.weight": "blocks.{}.attn.distance.weight",
        "layers.{}.conv.depth_conv.conv.weight": "blocks.{}.conv.depthwise.weight",
        "layers.{}.conv.batch_norm.*": "blocks.{}.conv.inner_norm.*",
        **affine(
            {
                "input_linear": "stem.project",
                "layers.{}.ff1.pre_norm": "blocks.{}.norm1",
                "layers.{}.ff1.up_proj": "blocks.{}.mlp1.up",
                "layers.{}.ff1.down_proj": "blocks.{}.mlp1.down",
                "layers.{}.attn.pre_norm": "blocks.{}.norm2",
                "layers.{}.attn.to_out": "blocks.{}.attn.out",
                "layers.{}.conv.norm": "blocks.{}.conv.norm",
                "layers.{}.conv.up_conv": "blocks.{}.conv.up",
                "layers.{}.conv.down_conv": "blocks.{}.conv.down",
                "layers.{}.ff2.pre_norm": "blocks.{}.norm3",
                "layers.{}.ff2.up_proj": "blocks.{}.mlp2.up",
                "layers.{}.ff2.down_proj": "blocks.{}.mlp2.down",
                "layers.{}.post_norm": "blocks.{}.after",
                "out": "tell",
                "out_mid": "told",
            }
        ),
    },
    name="transformers Granite Speech encoder",
)
