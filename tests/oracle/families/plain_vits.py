"""Plain vision transformers at settings and sizes that their usual families do not show: pictures of other sizes than the
position table's, gated layers, registers, shared biases, other pools.
"""

import torch
from core import DROP
from families.vision import vision_family


def views(*size, **flags):
    """Two pictures of so many rows and columns of patches; flags: arguments of the forward."""

    def inputs(sizes):
        height, width = (count * sizes.patch for count in size)
        flag_tensors = {name: torch.tensor(value) for name, value in flags.items()}
        return dict(pixel_values=sizes.randn(2, 3, height, width), **flag_tensors)

    return inputs


RESIZED = views(3, 4, interpolate_pos_encoding=True)

vision_family(
    "vit_resized",
    model_type="vit",
    settings=lambda sizes: dict(pooler_output_size=sizes.vision_hidden, qkv_bias=False),
    inputs=RESIZED,
)
vision_family(
    "deit_resized",
    model_type="deit",
    settings=lambda sizes: dict(pooler_output_size=sizes.vision_hidden),
    inputs=RESIZED,
)
vision_family("ijepa_resized", model_type="ijepa", inputs=RESIZED)
vision_family("vit_msn_resized", model_type="vit_msn", inputs=RESIZED)
vision_family(
    "dinov2_swiglu",
    model_type="dinov2",
    settings=lambda sizes: dict(
        mlp_ratio=2, intermediate_size=DROP, use_swiglu_ffn=True, use_mask_token=False
    ),
    inputs=views(1, 3),
)
vision_family(
    "dinov2_registers_resized",
    model_type="dinov2_with_registers",
    settings=lambda sizes: dict(mlp_ratio=2, intermediate_size=DROP, num_register_tokens=2, image_size=70),
    inputs=views(3, 4),
)
vision_family(
    "dinov3_gated",
    model_type="dinov3_vit",
    settings=lambda sizes: dict(
        num_register_tokens=2, use_gated_mlp=True, hidden_act="silu", query_bias=False, value_bias=False
    ),
    inputs=views(3, 4),
)
vision_family(
    "beit_resized",
    model_type="beit",
    settings=lambda sizes: dict(
        use_relative_position_bias=True, use_absolute_position_embeddings=True, use_mask_token=True
    ),
    inputs=views(3, 4),
)
vision_family(
    "beit_shared",
    model_type="beit",
    settings=lambda sizes: dict(use_shared_relative_position_bias=True, use_mean_pooling=False),
)
vision_family(
    "beit_cls",
    model_type="beit",
    class_name="BeitForImageClassification",
    settings=lambda sizes: dict(use_relative_position_bias=True, num_labels=7),
)
vision_family(
    "data2vec_vision_cls",
    model_type="data2vec-vision",
    class_name="Data2VecVisionForImageClassification",
    settings=lambda sizes: dict(use_relative_position_bias=True, num_labels=7),
)
vision_family(
    "aimv2_native",
    model_type="aimv2_vision_model",
    class_name="Aimv2VisionModel",
    settings=lambda sizes: dict(use_head=True, is_native=True, qkv_bias=True, mlp_bias=True),
    inputs=views(3, 2),
)
vision_family(
    "intern_vit",
    model_type="internvl_vision",
    class_name="InternVLVisionModel",
    settings=lambda sizes: dict(
        image_size=[sizes.image] * 2,
        patch_size=[sizes.patch] * 2,
        use_qk_norm=True,
        norm_type="rms_norm",
        use_mask_token=True,
    ),
    inputs=views(3, 4),
)
vision_family(
    "mlcd_resized",
    model_type="mlcd_vision_model",
    class_name="MLCDVisionModel",
    settings=lambda sizes: dict(hidden_size=32, num_attention_heads=4),
    inputs=views(3, 4),
)
