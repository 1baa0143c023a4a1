"""Convolutional nets and hierarchical vision transformers."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import QKV, Rules, affine, conv_norms, joined, pointwise
from beholder.weights.ops import Pointwise, Reshape, Transpose

MOST_STAGES = 8


def steps(key: str, own: str) -> dict[str, str]:
    """Pairs for steps that are published with the stage they leave, `{}` in `key`, and are ours with the one they lead to."""
    return {key.format(number): f"stages.{number + 1}.down.{own}" for number in range(MOST_STAGES)}


def classifying(layout: Layout, body: str, classifier: str) -> Layout:
    """The layout of a checkpoint with a classifier: the bare model's under the prefix `body`."""
    inner = {body + key: op for key, op in layout.rules.items() if not key.startswith(classifier)}
    return Layout({**inner, **affine({classifier: "classifier"})}, f"{layout.name} with classifier")


# transformers: models/resnet/modeling_resnet.py
RESNET = Layout(
    conv_norms(
        {
            own: (f"{key}.convolution", f"{key}.normalization")
            for own, key in {
                "stem.0": "embedder.embedder",
                "stages.{}.{}.layers.{}": "encoder.stages.{}.layers.{}.layer.{}",
                "stages.{}.{}.shortcut": "encoder.stages.{}.layers.{}.shortcut",
            }.items()
        },
        counted=True,
    ),
    name="transformers ResNet",
)


def _layers_1_to_4() -> Rules:
    """Stages named `layer1` to `layer4`, with convolutions `conv1` to `conv3`."""
    pairs = {}
    for stage in range(4):
        key = f"layer{stage + 1}.{{}}"
        for number in range(3):
            own = f"stages.{stage}.{{}}.layers.{number}"
            pairs[own] = (f"{key}.conv{number + 1}", f"{key}.bn{number + 1}")
        pairs[f"stages.{stage}.{{}}.shortcut"] = (f"{key}.downsample.0", f"{key}.downsample.1")
    return conv_norms(pairs, counted=True)


# pytorch/vision: torchvision/models/resnet.py; timm uses the same names
TORCHVISION_RESNET = Layout(
    {
        **conv_norms({"stem.0": ("conv1", "bn1")}, counted=True),
        **_layers_1_to_4(),
        **affine({"fc": "classifier"}),
    },
    name="torchvision ResNet",
)

# openai/CLIP: clip/model.py `ModifiedResNet`
CLIP_RESNET = Layout(
    {
        **conv_norms({f"stem.{n}": (f"conv{n + 1}", f"bn{n + 1}") for n in range(3)}, counted=True),
        **_layers_1_to_4(),
        "attnpool.positional_embedding": "pool.positions",
        **affine({f"attnpool.{part}_proj": f"pool.attn.{part}" for part in QKV}),
        **affine({"attnpool.c_proj": "pool.attn.out"}),
    },
    name="openai/CLIP ResNet",
)


def _convnext(layer: str, names: str) -> Rules:
    """Rules for ConvNeXt's blocks under `layer`. names: of the depthwise convolution, the norm, both maps and the scale."""
    own = "stages.{}.blocks.{}."
    *modules, scale = names.split()
    pairs = zip(modules, ("depthwise", "norm", "up", "down"), strict=True)
    return affine({f"{layer}.{name}": own + ours for name, ours in pairs}) | {
        f"{layer}.{scale}": f"{own}scale"
    }


# transformers: models/convnext/modeling_convnext.py, models/convnextv2/modeling_convnextv2.py
CONVNEXT = Layout(
    {
        **affine(
            {
                "embeddings.patch_embeddings": "stem.conv",
                "embeddings.layernorm": "stem.norm",
                "encoder.stages.{}.downsampling_layer.0": "stages.{}.down.norm",
                "encoder.stages.{}.downsampling_layer.1": "stages.{}.down.conv",
                "layernorm": "norm",
            }
        ),
        **_convnext("encoder.stages.{}.layers.{}", "dwconv layernorm pwconv1 pwconv2 layer_scale_parameter"),
        **{
            f"encoder.stages.{{}}.layers.{{}}.grn.{leaf}": Reshape(
                f"stages.{{}}.blocks.{{}}.responses.{leaf}", (1, 1, 1, -1)
            )
            for leaf in ("weight", "bias")
        },
    },
    name="transformers ConvNeXt",
)

# transformers: models/dinov3_convnext/modeling_dinov3_convnext.py
DINOV3_CONVNEXT = Layout(
    {
        **affine(
            {
                "stages.0.downsample_layers.0": "stem.conv",
                "stages.0.downsample_layers.1": "stem.norm",
                **{f"stages.{n}.downsample_layers.0": f"stages.{n}.down.norm" for n in range(1, 5)},
                **{f"stages.{n}.downsample_layers.1": f"stages.{n}.down.conv" for n in range(1, 5)},
                "layer_norm": "norm",
            }
        ),
        **_convnext("stages.{}.layers.{}", "depthwise_conv layer_norm pointwise_conv1 pointwise_conv2 gamma"),
    },
    name="transformers DINOv3 ConvNeXt",
)

# huggingface/pytorch-image-models: timm/models/convnext.py; open_clip has them under `visual.trunk.`
TIMM_CONVNEXT = Layout(
    {
        **affine(
            {
                "stem.0": "stem.conv",
                "stem.1": "stem.norm",
                "stages.{}.downsample.0": "stages.{}.down.norm",
                "stages.{}.downsample.1": "stages.{}.down.conv",
                "stages.{}.blocks.{}.mlp.grn": "stages.{}.blocks.{}.responses",
                "head.norm": "norm",
                "head.fc": "classifier",
            }
        ),
        **_convnext("stages.{}.blocks.{}", "conv_dw norm mlp.fc1 mlp.fc2 gamma"),
    },
    name="timm ConvNeXt",
)

# transformers: models/efficientnet/modeling_efficientnet.py
EFFICIENTNET = Layout(
    {
        **conv_norms(
            {
                "stem": ("embeddings.convolution", "embeddings.batchnorm"),
                "last": ("encoder.top_conv", "encoder.top_bn"),
                **{
                    f"blocks.{{}}.{own}": (f"encoder.blocks.{{}}.{conv}", f"encoder.blocks.{{}}.{norm}")
                    for own, conv, norm in (
                        ("expand", "expansion.expand_conv", "expansion.expand_bn"),
                        ("depthwise", "depthwise_conv.depthwise_conv", "depthwise_conv.depthwise_norm"),
                        ("project", "projection.project_conv", "projection.project_bn"),
                    )
                },
            },
            counted=True,
        ),
        **pointwise(
            {
                "encoder.blocks.{}.squeeze_excite.reduce": "blocks.{}.gate.down",
                "encoder.blocks.{}.squeeze_excite.expand": "blocks.{}.gate.up",
            }
        ),
    },
    name="transformers EfficientNet",
)


def _timm_nfnet() -> Rules:
    convolutions = {f"stem.conv{n + 1}": f"stem.{n}" for n in range(4)} | {"final_conv": "last"}
    for number, key in enumerate(("conv1", "conv2", "conv2b", "conv3")):
        convolutions[f"stages.{{}}.{{}}.{key}"] = f"stages.{{}}.{{}}.layers.{number}"
    convolutions["stages.{}.{}.downsample.conv"] = "stages.{}.{}.shortcut"
    gates = {
        "stages.{}.{}.attn_last.fc1": "stages.{}.{}.gate.down",
        "stages.{}.{}.attn_last.fc2": "stages.{}.{}.gate.up",
    }
    return {
        **affine(convolutions),
        **{f"{key}.gain": Reshape(f"{own}.gain", (-1, 1, 1, 1)) for key, own in convolutions.items()},
        **pointwise(gates),
        "stages.{}.{}.skipinit_gain": "stages.{}.{}.gain",
        **affine({"head.fc": "classifier"}),
    }


# huggingface/pytorch-image-models: timm/models/nfnet.py, the `dm_nfnet_f*` models with DeepMind's weights
TIMM_NFNET = Layout(_timm_nfnet(), name="timm NFNet")

_SWIN_BLOCK = "encoder.layers.{}.blocks.{}"

# transformers: models/swin/modeling_swin.py, models/swinv2/modeling_swinv2.py, as `save_pretrained` writes them
SWIN = Layout(
    {
        **affine(
            {
                "embeddings.patch_embeddings.projection": "stem.conv",
                "embeddings.norm": "stem.norm",
                f"{_SWIN_BLOCK}.attention.self.query": "stages.{}.blocks.{}.mixer.heads.q",
                f"{_SWIN_BLOCK}.attention.self.key": "stages.{}.blocks.{}.mixer.heads.k",
                f"{_SWIN_BLOCK}.attention.self.value": "stages.{}.blocks.{}.mixer.heads.v",
                f"{_SWIN_BLOCK}.attention.output.dense": "stages.{}.blocks.{}.mixer.heads.out",
                f"{_SWIN_BLOCK}.layernorm_before": "stages.{}.blocks.{}.norm1",
                f"{_SWIN_BLOCK}.layernorm_after": "stages.{}.blocks.{}.norm2",
                f"{_SWIN_BLOCK}.intermediate.dense": "stages.{}.blocks.{}.mlp.up",
                f"{_SWIN_BLOCK}.output.dense": "stages.{}.blocks.{}.mlp.down",
                f"{_SWIN_BLOCK}.attention.self.continuous_position_bias_mlp.0": "stages.{}.blocks.{}.mixer.bias.up",
                "layernorm": "norm",
                **steps("encoder.layers.{}.downsample.norm", "norm"),
            }
        ),
        f"{_SWIN_BLOCK}.attention.self.relative_position_bias_table": "stages.{}.blocks.{}.mixer.bias.table",
        f"{_SWIN_BLOCK}.attention.self.continuous_position_bias_mlp.2.weight": (
            "stages.{}.blocks.{}.mixer.bias.down.weight"
        ),
        f"{_SWIN_BLOCK}.attention.self.logit_scale": Pointwise("stages.{}.blocks.{}.mixer.log_scale"),
        f"{_SWIN_BLOCK}.attention.self.relative_position_index": None,
        f"{_SWIN_BLOCK}.attention.self.relative_coords_table": None,
        **steps("encoder.layers.{}.downsample.reduction.weight", "linear.weight"),
    },
    name="transformers Swin",
)

# transformers: models/donut/modeling_donut_swin.py, which saves what it looks biases up with
DONUT_SWIN = SWIN.but(
    {f"{_SWIN_BLOCK}.attention.self.relative_position_index": "stages.{}.blocks.{}.mixer.bias.index"},
    name="transformers Donut Swin",
)


def _davit(conv: str, place: str, norm1: str, attention: str, norm2: str, mlp: str) -> Rules:
    """Rules for the names of a stage's convolution, and of a block's convolutions, norms, attention and MLP; `kind` in them
    stands for `window` or `channel`.
    """
    rules = affine({f"convs.{{}}.{conv}": "stages.{}.down.conv", "convs.{}.norm": "stages.{}.down.norm"})
    for block, kind in (("spatial", "window"), ("channel", "channel")):
        names = {place.replace("kind", f"conv{n}"): f"place{n}" for n in (1, 2)}
        names |= {norm1: "norm1", norm2: "norm2", f"{attention}.proj": "attn.heads.out"}
        names |= {f"{mlp}.fc1": "mlp.up", f"{mlp}.fc2": "mlp.down"}
        key, own = f"blocks.{{}}.{{}}.{block}_block", f"stages.{{}}.blocks.{{}}.{block}"
        rules |= affine(
            {f"{key}.{theirs.replace('kind', kind)}": f"{own}.{ours}" for theirs, ours in names.items()}
        )
        rules |= joined(f"{key}.{attention.replace('kind', kind)}.qkv.", f"{own}.attn.heads")
    return rules


# transformers: models/florence2/modeling_florence2.py `Florence2VisionBackbone`
DAVIT = Layout(
    _davit("conv", "kind", "norm1", "kind_attn", "norm2", "ffn"), name="transformers Florence-2 DaViT"
)
# microsoft/Florence-2-base: modeling_florence2.py `DaViT`
FLORENCE_2 = Layout(
    _davit("proj", "kind.fn.dw", "kind_attn.norm", "kind_attn.fn", "ffn.norm", "ffn.fn.net"),
    name="microsoft Florence-2 DaViT",
)

# transformers: models/focalnet/modeling_focalnet.py
FOCALNET = Layout(
    {
        **affine(
            {
                "embeddings.patch_embeddings.projection": "stem.conv",
                "embeddings.norm": "stem.norm",
                "encoder.stages.{}.layers.{}.norm1": "stages.{}.blocks.{}.norm1",
                "encoder.stages.{}.layers.{}.norm2": "stages.{}.blocks.{}.norm2",
                "encoder.stages.{}.layers.{}.mlp.fc1": "stages.{}.blocks.{}.mlp.up",
                "encoder.stages.{}.layers.{}.mlp.fc2": "stages.{}.blocks.{}.mlp.down",
                "encoder.stages.{}.layers.{}.modulation.projection_in": "stages.{}.blocks.{}.mixer.split",
                "encoder.stages.{}.layers.{}.modulation.projection_out": "stages.{}.blocks.{}.mixer.out",
                "encoder.stages.{}.layers.{}.modulation.layernorm": "stages.{}.blocks.{}.mixer.norm",
                **steps("encoder.stages.{}.downsample.projection", "conv"),
                **steps("encoder.stages.{}.downsample.norm", "norm"),
                "layernorm": "norm",
            }
        ),
        **pointwise(
            {"encoder.stages.{}.layers.{}.modulation.projection_context": "stages.{}.blocks.{}.mixer.mix"}
        ),
        "encoder.stages.{}.layers.{}.modulation.focal_layers.{}.0.weight": (
            "stages.{}.blocks.{}.mixer.surroundings.{}.weight"
        ),
        "encoder.stages.{}.layers.{}.gamma_1": "stages.{}.blocks.{}.scale1",
        "encoder.stages.{}.layers.{}.gamma_2": "stages.{}.blocks.{}.scale2",
    },
    name="transformers FocalNet",
)


def hiera(depths: tuple[int, ...]) -> Layout:
    """transformers: models/hiera/modeling_hiera.py, which numbers layers by stage. Number: width."""
    rules: Rules = {
        **affine({"embeddings.patch_embeddings.projection": "patch", "pooler.layernorm": "norm"}),
        "embeddings.position_embeddings": Reshape("positions", (1, -1, "width")),
    }
    places = [(stage, index) for stage, depth in enumerate(depths) for index in range(depth)]
    for number, (stage, index) in enumerate(places):
        key, own = f"encoder.stages.{stage}.layers.{index}", f"blocks.{number}"
        pairs = {"layernorm_before": "norm1", "layernorm_after": "norm2", "attn.proj": "attn.out"}
        pairs |= {"mlp.fc1": "mlp.up", "mlp.fc2": "mlp.down", "proj": "shortcut"}
        rules |= affine({f"{key}.{theirs}": f"{own}.{ours}" for theirs, ours in pairs.items()})
        rules |= joined(f"{key}.attn.qkv.", f"{own}.attn")
    return Layout(rules, name="transformers Hiera")


def _sam2(trunk: str, patch: str, norm: str, mlp: tuple[str, str], lateral: str) -> Rules:
    """Rules for SAM 2's Hiera under `trunk`, and its pyramid's convolutions `lateral`; numbers: width, background, window."""
    names = {f"{norm}1": "norm1", f"{norm}2": "norm2", "attn.proj": "attn.out", "proj": "shortcut"}
    names |= {mlp[0]: "mlp.up", mlp[1]: "mlp.down"}
    tables = {"pos_embed": ("positions", "background"), "pos_embed_window": ("window_positions", "window")}
    return {
        **affine({f"{trunk}.{patch}": "patch"}),
        **affine({f"{trunk}.blocks.{{}}.{theirs}": f"blocks.{{}}.{ours}" for theirs, ours in names.items()}),
        **joined(f"{trunk}.blocks.{{}}.attn.qkv.", "blocks.{}.attn"),
        **pointwise({lateral: "pyramid.lateral.{}"}),
        **{
            f"{trunk}.{key}": Reshape(Transpose(own, (1, 2, 0)), (1, "width", side, side))
            for key, (own, side) in tables.items()
        },
    }


# transformers: models/sam2/modeling_sam2.py `Sam2VisionModel`
SAM2_HIERA = Layout(
    _sam2(
        "backbone", "patch_embed.projection", "layer_norm", ("mlp.proj_in", "mlp.proj_out"), "neck.convs.{}"
    ),
    name="transformers SAM 2 Hiera",
)
# facebookresearch/sam2: sam2/modeling/backbones/, under `image_encoder.`
SEGMENT_ANYTHING_2 = Layout(
    _sam2("trunk", "patch_embed.proj", "norm", ("mlp.layers.0", "mlp.layers.1"), "neck.convs.{}.conv"),
    name="facebookresearch SAM 2 Hiera",
)


def _vit_det(layer: str, names: dict[str, str], attention: str) -> Rules:
    """Rules for ViTDet's layers under `layer`, norms and MLP named as `names` says."""
    return {
        **affine({f"{layer}.{theirs}": f"blocks.{{}}.{ours}" for theirs, ours in names.items()}),
        **affine({f"{layer}.{attention}.proj": "blocks.{}.mixer.heads.out"}),
        **joined(f"{layer}.{attention}.qkv.", "blocks.{}.mixer.heads"),
        f"{layer}.{attention}.rel_pos_h": "blocks.{}.mixer.rows",
        f"{layer}.{attention}.rel_pos_w": "blocks.{}.mixer.columns",
    }


# transformers: models/sam/modeling_sam.py `SamVisionEncoder`; number: table
SAM = Layout(
    {
        **affine({"patch_embed.projection": "patch"}),
        "pos_embed": Reshape("positions", (1, "table", "table", -1)),
        **_vit_det(
            "layers.{}",
            {"layer_norm1": "norm1", "layer_norm2": "norm2", "mlp.lin1": "mlp.up", "mlp.lin2": "mlp.down"},
            "attn",
        ),
        **{f"neck.conv{n + 1}.weight": f"neck.convs.{n}.weight" for n in range(2)},
        **affine({f"neck.layer_norm{n + 1}": f"neck.norms.{n}" for n in range(2)}),
    },
    name="transformers SAM encoder",
)

# facebookresearch/segment-anything: modeling/image_encoder.py, under `image_encoder.`; number: table
SEGMENT_ANYTHING = Layout(
    {
        **affine({"patch_embed.proj": "patch", "neck.1": "neck.norms.0", "neck.3": "neck.norms.1"}),
        "pos_embed": Reshape("positions", (1, "table", "table", -1)),
        **_vit_det(
            "blocks.{}",
            {"norm1": "norm1", "norm2": "norm2", "mlp.lin1": "mlp.up", "mlp.lin2": "mlp.down"},
            "attn",
        ),
        "neck.0.weight": "neck.convs.0.weight",
        "neck.2.weight": "neck.convs.1.weight",
    },
    name="facebookresearch SAM encoder",
)

# transformers: models/vitdet/modeling_vitdet.py; number: width
VITDET = Layout(
    {
        **affine({"embeddings.projection": "patch"}),
        "embeddings.position_embeddings": Reshape("positions", (1, -1, "width")),
        **_vit_det(
            "encoder.layer.{}",
            {"norm1": "norm1", "norm2": "norm2", "mlp.fc1": "mlp.up", "mlp.fc2": "mlp.down"},
            "attention",
        ),
        **{
            f"encoder.layer.{{}}.residual.conv{n + 1}.weight": f"blocks.{{}}.convolutions.convs.{n}.weight"
            for n in range(3)
        },
        **affine(
            {
                f"encoder.layer.{{}}.residual.norm{n + 1}": f"blocks.{{}}.convolutions.norms.{n}"
                for n in range(3)
            }
        ),
    },
    name="transformers ViTDet",
)
