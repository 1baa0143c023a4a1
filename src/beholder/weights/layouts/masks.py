"""Mask decoders and prompt encoders of SAM, HQ-SAM and SAM 2."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import Rules, affine
from beholder.weights.ops import Copies, Fuse, Leading, Reshape, Tied

ATTENTIONS = {
    "self_attn": "attn",
    "cross_attn_token_to_image": "to_map",
    "cross_attn_image_to_token": "to_tokens",
}


def _mlp(key: str, own: str) -> Rules:
    """An MLP of three matrices, published as the first, those between and the last."""
    return affine(
        {
            f"{key}.proj_in": f"{own}.layers.0",
            f"{key}.layers.0": f"{own}.layers.1",
            f"{key}.proj_out": f"{own}.layers.2",
        }
    )


def _decoder(out: str, mlp: tuple[str, str]) -> Rules:
    """transformers names under `mask_decoder.`. out: what attention's last matrix is called; mlp: the layers' two matrices."""
    rules: Rules = {"iou_token.weight": "score", "mask_tokens.weight": "masks"}
    for theirs, ours in {
        **{f"layers.{{}}.{theirs}": f"layers.{{}}.{ours}" for theirs, ours in ATTENTIONS.items()},
        "final_attn_token_to_image": "last",
    }.items():
        rules |= affine({f"transformer.{theirs}.{m}_proj": f"{ours}.{m}" for m in "qkv"})
        rules |= affine({f"transformer.{theirs}.{out}": f"{ours}.out"})
    rules |= affine({f"transformer.layers.{{}}.layer_norm{n}": f"layers.{{}}.norm{n}" for n in range(1, 5)})
    rules |= affine(
        {f"transformer.layers.{{}}.mlp.{name}": f"layers.{{}}.mlp.layers.{n}" for n, name in enumerate(mlp)}
    )
    rules |= affine({"transformer.layer_norm_final_attn": "norm", "upscale_layer_norm": "up_norm"})
    rules |= affine({"upscale_conv1": "up1", "upscale_conv2": "up2"})
    return rules | _mlp("output_hypernetworks_mlps.{}", "hyper.{}") | _mlp("iou_prediction_head", "scores")


_DETAIL = {
    "compress_vit_conv1": "early1",
    "compress_vit_norm": "early_norm",
    "compress_vit_conv2": "early2",
    "encoder_conv1": "last1",
    "encoder_norm": "last_norm",
    "encoder_conv2": "last2",
    "mask_conv1": "conv1",
    "mask_norm": "norm",
    "mask_conv2": "conv2",
}
# transformers: models/sam/modeling_sam.py `SamMaskDecoder`
SAM_DECODER = Layout(_decoder("out_proj", ("lin1", "lin2")), name="transformers SAM mask decoder")
# transformers: models/sam_hq/modeling_sam_hq.py `SamHQMaskDecoder`
SAM_HQ_DECODER = Layout(
    {
        **_decoder("out_proj", ("lin1", "lin2")),
        "hq_token.weight": "detail.token",
        **_mlp("hq_mask_mlp", "detail.mlp"),
        **affine({theirs: f"detail.{ours}" for theirs, ours in _DETAIL.items()}),
    },
    name="transformers HQ-SAM mask decoder",
)
# transformers: models/sam2/modeling_sam2.py `Sam2MaskDecoder`
SAM2_DECODER = Layout(
    {
        **_decoder("o_proj", ("proj_in", "proj_out")),
        "obj_score_token.weight": "object",
        **_mlp("pred_obj_score_head", "seen"),
        **affine({"conv_s0": "levels.0", "conv_s1": "levels.1"}),
    },
    name="transformers SAM 2 mask decoder",
)
_PROMPTS: Rules = {
    **affine({f"mask_embed.conv{n}": f"mask{n}" for n in (1, 2, 3)}),
    **affine({f"mask_embed.layer_norm{n}": f"mask_norm{n}" for n in (1, 2)}),
    "no_mask_embed.weight": "no_mask",
    "not_a_point_embed.weight": "empty",
}
SAM_PROMPTS = Layout(
    {
        **_PROMPTS,
        **{f"point_embed.{n}.weight": Fuse("kinds", n, (1, 1, 1, 1)) for n in range(4)},
        "shared_embedding.positional_embedding": Tied("waves"),
    },
    name="transformers SAM prompt encoder",
)
SAM2_PROMPTS = Layout(
    {**_PROMPTS, "point_embed.weight": "kinds", "shared_embedding.positional_embedding": "waves"},
    name="transformers SAM 2 prompt encoder",
)
SAM_PLACES = Layout({"positional_embedding": "waves"}, name="SAM's frequencies")
SAM2_PLACES = Layout({"positional_embedding": "cell_waves"}, name="SAM 2's frequencies of cells")
NO_MEMORY = Layout({"no_memory_embedding": Leading("no_memory", axes=2)}, name="SAM 2 without memory")
_MEMORY = {
    "memory_attention.layer_norm": "norm",
    "memory_attention.layers.{}.linear1": "layers.{}.mlp.layers.0",
    "memory_attention.layers.{}.linear2": "layers.{}.mlp.layers.1",
    **{f"memory_attention.layers.{{}}.layer_norm{n}": f"layers.{{}}.norm{n}" for n in (1, 2, 3)},
    **{
        f"memory_attention.layers.{{}}.{theirs}.{m}_proj": f"layers.{{}}.{ours}.{'out' if m == 'o' else m}"
        for theirs, ours in (("self_attn", "attn"), ("cross_attn_image", "look"))
        for m in "qkvo"
    },
    "memory_encoder.mask_downsampler.layers.{}.conv": "encoder.down.{}",
    "memory_encoder.mask_downsampler.layers.{}.layer_norm": "encoder.norms.{}",
    "memory_encoder.mask_downsampler.final_conv": "encoder.mask",
    "memory_encoder.feature_projection": "encoder.map",
    "memory_encoder.projection": "encoder.project",
    "memory_encoder.memory_fuser.layers.{}.depthwise_conv": "encoder.fuser.{}.depthwise",
    "memory_encoder.memory_fuser.layers.{}.layer_norm": "encoder.fuser.{}.norm",
    "memory_encoder.memory_fuser.layers.{}.pointwise_conv1": "encoder.fuser.{}.up",
    "memory_encoder.memory_fuser.layers.{}.pointwise_conv2": "encoder.fuser.{}.down",
    "temporal_positional_encoding_projection_layer": "time",
}
# transformers: models/sam2_video/modeling_sam2_video.py `Sam2VideoModel`; number: memory
SAM2_MEMORY = Layout(
    {
        **affine(_MEMORY),
        **_mlp("object_pointer_proj", "pointer"),
        "memory_encoder.memory_fuser.layers.{}.scale": "encoder.fuser.{}.scale",
        "memory_temporal_positional_encoding": Reshape("ages", (-1, 1, 1, "memory")),
        "no_object_pointer": Leading("absent", axes=1),
        "occlusion_spatial_embedding_parameter": Leading("unseen", axes=1),
        "no_memory_positional_encoding": None,
        "mask_downsample.*": None,
    },
    name="transformers SAM 2 memory",
)


# facebookresearch/sam2: sam2/modeling/{sam/mask_decoder,sam/prompt_encoder,sam/transformer,memory_attention,memory_encoder}.py
def _own_attention(key: str, own: str) -> dict[str, str]:
    return {f"{key}.{m}_proj": f"{own}.{m}" for m in ("q", "k", "v", "out")}


_OWN_DECODER = {
    **{
        key: ours
        for theirs, own in ATTENTIONS.items()
        for key, ours in _own_attention(f"transformer.layers.{{}}.{theirs}", f"layers.{{}}.{own}").items()
    },
    **_own_attention("transformer.final_attn_token_to_image", "last"),
    **{f"transformer.layers.{{}}.norm{n}": f"layers.{{}}.norm{n}" for n in range(1, 5)},
    "transformer.norm_final_attn": "norm",
    "output_upscaling.0": "up1",
    "output_upscaling.1": "up_norm",
    "output_upscaling.3": "up2",
    "output_hypernetworks_mlps.{}.layers.{}": "hyper.{}.layers.{}",
    "iou_prediction_head.layers.{}": "scores.layers.{}",
    "pred_obj_score_head.layers.{}": "seen.layers.{}",
    "conv_s0": "levels.0",
    "conv_s1": "levels.1",
}
_OWN_MLPS = {f"transformer.layers.{{}}.mlp.lin{n}": f"layers.{{}}.mlp.layers.{n - 1}" for n in (1, 2)}
_TOKENS: Rules = {"iou_token.weight": "score", "mask_tokens.weight": "masks"}
# facebookresearch/segment-anything: segment_anything/modeling/{mask_decoder,transformer}.py
OWN_SAM_DECODER = Layout(
    {**affine(_OWN_DECODER | _OWN_MLPS), **_TOKENS}, name="facebookresearch SAM mask decoder"
)
OWN_SAM2_DECODER = Layout(
    {
        **affine(_OWN_DECODER | {"transformer.layers.{}.mlp.layers.{}": "layers.{}.mlp.layers.{}"}),
        **_TOKENS,
        "obj_score_token.weight": "object",
    },
    name="facebookresearch SAM 2 mask decoder",
)
# of a system that prompts with states alone: no points, boxes or masks
_NO_REGIONS: Rules = {"point_embeddings.*": None, "mask_downscaling.*": None}
OWN_SAM_STATES = Layout(
    {
        "pe_layer.positional_encoding_gaussian_matrix": "prompts.waves",
        "no_mask_embed.weight": "prompts.no_mask",
        "not_a_point_embed.weight": None,
        **_NO_REGIONS,
    },
    name="facebookresearch SAM prompt encoder",
)
OWN_SAM2_STATES = Layout(
    {
        "pe_layer.positional_encoding_gaussian_matrix": Copies(("prompts.waves", "prompts.cell_waves")),
        "no_mask_embed.weight": "prompts.no_mask",
        "not_a_point_embed.weight": "empty",
        **_NO_REGIONS,
    },
    name="facebookresearch SAM 2 prompt encoder",
)
_OWN_MEMORY = {
    "memory_attention.norm": "norm",
    **_own_attention("memory_attention.layers.{}.self_attn", "layers.{}.attn"),
    **_own_attention("memory_attention.layers.{}.cross_attn_image", "layers.{}.look"),
    **{f"memory_attention.layers.{{}}.norm{n}": f"layers.{{}}.norm{n}" for n in (1, 2, 3)},
    **{f"memory_attention.layers.{{}}.linear{n}": f"layers.{{}}.mlp.layers.{n - 1}" for n in (1, 2)},
    **{f"memory_encoder.mask_downsampler.encoder.{3 * n}": f"encoder.down.{n}" for n in range(4)},
    **{f"memory_encoder.mask_downsampler.encoder.{3 * n + 1}": f"encoder.norms.{n}" for n in range(4)},
    "memory_encoder.mask_downsampler.encoder.12": "encoder.mask",
    "memory_encoder.pix_feat_proj": "encoder.map",
    "memory_encoder.out_proj": "encoder.project",
    "memory_encoder.fuser.layers.{}.dwconv": "encoder.fuser.{}.depthwise",
    "memory_encoder.fuser.layers.{}.norm": "encoder.fuser.{}.norm",
    "memory_encoder.fuser.layers.{}.pwconv1": "encoder.fuser.{}.up",
    "memory_encoder.fuser.layers.{}.pwconv2": "encoder.fuser.{}.down",
    "obj_ptr_proj.layers.{}": "pointer.layers.{}",
}
# number: memory
OWN_SAM2_MEMORY = Layout(
    {
        **affine(_OWN_MEMORY),
        "memory_encoder.fuser.layers.{}.gamma": "encoder.fuser.{}.scale",
        "maskmem_tpos_enc": Reshape("ages", (-1, 1, 1, "memory")),
        "no_obj_ptr": Leading("absent", axes=1),
        "no_mem_pos_enc": None,
        "mask_downsample.*": None,
    },
    name="facebookresearch SAM 2 memory",
)
OWN_NO_MEMORY = Layout(
    {"no_mem_embed": Leading("no_memory", axes=2)}, name="facebookresearch SAM 2 without memory"
)
