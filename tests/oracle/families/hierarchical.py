"""Convolutional nets and hierarchical vision transformers at settings and sizes that their usual families do not show:
maps that windows do not divide, tables made for other sizes, the other kinds of block.
"""

from families.vision import vision_family


def views(*size):
    return lambda sizes: dict(pixel_values=sizes.randn(2, 3, *size))


vision_family(
    "resnet_basic",
    model_type="resnet",
    base=False,
    settings=lambda sizes: dict(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 2],
        layer_type="basic",
        downsample_in_first_stage=True,
    ),
    inputs=views(43, 38),
    std=0.12,
)
vision_family(
    "resnet_cls",
    model_type="resnet",
    class_name="ResNetForImageClassification",
    base=False,
    settings=lambda sizes: dict(
        embedding_size=8,
        hidden_sizes=[16, 24],
        depths=[2, 1],
        downsample_in_bottleneck=True,
        num_labels=7,
    ),
    inputs=views(32, 40),
    std=0.12,
)
vision_family(
    "efficientnet_odd",
    model_type="efficientnet",
    base=False,
    settings=lambda sizes: dict(
        image_size=33,
        width_coefficient=0.25,
        depth_coefficient=0.3,
        kernel_sizes=[3, 5, 3],
        in_channels=[32, 16, 24],
        out_channels=[16, 24, 40],
        strides=[2, 2, 2],
        num_block_repeats=[1, 2, 4],
        expand_ratios=[1, 6, 6],
        hidden_dim=320,
        depthwise_padding=[1],
        pooling_type="max",
    ),
    inputs=views(75, 59),
    std=0.15,
)
vision_family(
    "swin_padded",
    model_type="swin",
    base=False,
    settings=lambda sizes: dict(
        image_size=36,
        patch_size=2,
        embed_dim=16,
        depths=[2, 2, 2],
        num_heads=[2, 4, 4],
        window_size=4,
        drop_path_rate=0.0,
    ),
    inputs=views(36, 29),
)
vision_family(
    "swinv2_trained_windows",
    model_type="swinv2",
    base=False,
    settings=lambda sizes: dict(
        image_size=40,
        patch_size=2,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=12,
        pretrained_window_sizes=[8, 6],
        drop_path_rate=0.0,
    ),
    inputs=views(40, 40),
)
vision_family(
    "swinv2_larger",
    model_type="swinv2",
    base=False,
    settings=lambda sizes: dict(
        image_size=32,
        patch_size=2,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=5,
        drop_path_rate=0.0,
    ),
    inputs=views(46, 28),
)
vision_family(
    "focalnet",
    base=False,
    settings=lambda sizes: dict(
        image_size=32, patch_size=2, embed_dim=8, depths=[1, 2], focal_levels=[3, 2], focal_windows=[3, 5]
    ),
    inputs=views(33, 26),
)
vision_family(
    "focalnet_large",
    model_type="focalnet",
    base=False,
    settings=lambda sizes: dict(
        image_size=32,
        embed_dim=8,
        depths=[1, 2],
        focal_levels=[2, 3],
        focal_windows=[3, 3],
        use_conv_embed=True,
        use_post_layernorm=True,
        use_layerscale=True,
        use_post_layernorm_in_modulation=True,
        normalize_modulator=True,
    ),
    inputs=views(52, 40),
)
vision_family(
    "vitdet_resized",
    model_type="vitdet",
    base=False,
    settings=lambda sizes: dict(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        mlp_ratio=2,
        image_size=28,
        pretrain_image_size=42,
        patch_size=14,
        window_size=2,
        window_block_indices=[0, 2],
        use_relative_position_embeddings=True,
    ),
    inputs=views(42, 70),
)
vision_family(
    "sam_vision",
    model_type="sam_vision_model",
    class_name="SamVisionModel",
    base=False,
    settings=lambda sizes: dict(
        hidden_size=32,
        output_channels=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=80,
        patch_size=16,
        window_size=3,
        global_attn_indexes=[1],
    ),
    inputs=views(80, 80),
)
vision_family(
    "sam2_vision",
    model_type="sam2_vision_model",
    class_name="Sam2VisionModel",
    base=False,
    settings=lambda sizes: dict(
        backbone_config=dict(
            model_type="sam2_hiera_det_model",
            hidden_size=8,
            image_size=[64, 96],
            embed_dim_per_stage=[8, 16, 24, 32],
            blocks_per_stage=[1, 2, 3, 1],
            num_attention_heads_per_stage=[1, 2, 2, 4],
            window_size_per_stage=[4, 2, 6, 3],
            window_positional_embedding_background_size=[3, 3],
            global_attention_blocks=[4],
            mlp_ratio=2.0,
        ),
        backbone_channel_list=[32, 24, 16, 8],
        fpn_hidden_size=16,
    ),
    inputs=views(64, 96),
)
