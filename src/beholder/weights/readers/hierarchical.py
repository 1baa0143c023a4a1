"""Convolutional nets and hierarchical vision transformers. Defaults are those of the official config classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.norms import Norm
from beholder.parts.vision.convnets import BatchNorm
from beholder.parts.vision.convnext import ConvNext
from beholder.parts.vision.davit import DaVit
from beholder.parts.vision.efficientnet import Bottlenecks, EfficientNet
from beholder.parts.vision.focalnet import FocalNet
from beholder.parts.vision.hiera import Hiera, Pyramid
from beholder.parts.vision.resnet import ResNet
from beholder.parts.vision.swin import Swin
from beholder.parts.vision.vitdet import VitDet
from beholder.weights.layout import Layout
from beholder.weights.layouts import hierarchical as layouts
from beholder.weights.readers.fields import LARGEST, MOST_LAYERS, Fields
from beholder.weights.readers.read import Read, Readers, Recorded, activation_name

# What does not change a forward: rates of training, and sizes that follow from others.
UNREAD = (
    "out_features out_indices stage_names num_stages hidden_size num_layers drop_path_rate layer_scale_init_value "
    "encoder_stride num_hidden_layers num_labels layerscale_value"
)


def counts(fields: Fields, key: str, default: Sequence[int], *, least: int = 1) -> tuple[int, ...]:
    """A list of whole numbers; raises `BeholderError` for anything else."""
    values = fields.get(key, list(default))
    if not values or not all(type(value) is int and least <= value <= LARGEST for value in values):
        raise BeholderError(
            f"{fields.name}: {key} is {values!r}; expected a list of whole numbers from {least}"
        )
    return tuple(values)


def indices(fields: Fields, key: str, default: Sequence[int]) -> tuple[int, ...]:
    """Like `counts` from 0, and the list may be empty."""
    given = fields.raw(key)
    return counts(fields, key, default, least=0) if given or (given is None and default) else ()


def depths(fields: Fields, key: str, default: Sequence[int]) -> tuple[int, ...]:
    """Layers of each stage, up to `MOST_LAYERS` in all."""
    values = counts(fields, key, default)
    if sum(values) > MOST_LAYERS:
        raise BeholderError(
            f"{fields.name}: {key} are {sum(values)} layers in all; expected up to {MOST_LAYERS}"
        )
    return values


def side(fields: Fields, key: str, default: int, *, unequal: bool = False) -> int:
    """A number of pixels per side, given as one or as height and width; `unequal` takes the height of a rectangle."""
    value = fields.raw(key)
    if not isinstance(value, list):
        return fields.count(key, default)
    sides = counts(fields, key, ())
    if len(set(sides)) > 1 and not unequal:
        raise BeholderError(f"{fields.name}: {key} is {value}; only squares are supported")
    return sides[0]


def expect(fields: Fields, key: str, default: Any, *known: Any) -> None:
    """Raise `BeholderError` for a field with another value than those `known`."""
    value = fields.get(key, default)
    if value not in known:
        raise BeholderError(
            f"{fields.name}: {key} is {value!r}; only {', '.join(map(repr, known))} is supported"
        )


def _norm(fields: Fields, eps: float) -> Norm:
    return Norm("layer", fields.positive("layer_norm_eps", eps))


def _staged(
    config: Any, layout: Layout, fields: Fields, body: str, classifier: str, *, first: bool
) -> Read[Any]:
    """The stages that are recorded of all these families; `first`: tokens are recorded with channels first. Files for
    classification hold the model under `body` and a classifier besides.
    """
    fields.ignore(*UNREAD.split())
    stages = {
        "vision": Recorded("last_hidden_state", channels_first=first),
        "pooled": Recorded("pooler_output"),
    }
    if first:
        stages |= {f"stage {n}": Recorded(f"hidden_states.{n}", channels_first=True) for n in config.taps}
    if any(str(name).endswith("ForImageClassification") for name in fields.raw("architectures") or ()):
        classes = len(fields.raw("id2label") or range(2))
        layout = layouts.classifying(layout, body, classifier)
        config = config.but(classes=classes)
    return Read(config, layout, body=("",), stages=stages)


def _resnet(fields: Fields) -> Read[ResNet]:
    kind = fields.get("layer_type", "bottleneck")
    if kind not in ("bottleneck", "basic"):
        raise UnknownName(f"{fields.name}: layer_type", kind, ("bottleneck", "basic"))
    config = ResNet(
        dims=counts(fields, "hidden_sizes", (256, 512, 1024, 2048)),
        depths=depths(fields, "depths", (3, 4, 6, 3)),
        stem=fields.count("embedding_size", 64),
        reduction=4 if kind == "bottleneck" else 1,
        stride="first" if fields.get("downsample_in_bottleneck", False) else "middle",
        early=fields.get("downsample_in_first_stage", False),
        act=activation_name(fields, "hidden_act", "relu"),
    )
    return _staged(config, layouts.RESNET, fields, "resnet.", "classifier.1", first=True)


def _convnext(fields: Fields) -> Read[ConvNext]:
    config = ConvNext(
        image_size=side(fields, "image_size", 224),
        patch=side(fields, "patch_size", 4),
        dims=counts(fields, "hidden_sizes", (96, 192, 384, 768)),
        depths=depths(fields, "depths", (3, 3, 9, 3)),
        act=activation_name(fields, "hidden_act", "gelu"),
        last_eps=fields.positive("layer_norm_eps", 1e-12),
    )
    body = f"{fields.raw('model_type')}."
    return _staged(config, layouts.CONVNEXT, fields, body, "classifier", first=True)


def _convnextv2(fields: Fields) -> Read[ConvNext]:
    read = _convnext(fields)
    return replace(read, config=read.config.but(responses=True))


def _dinov3_convnext(fields: Fields) -> Read[ConvNext]:
    eps = fields.positive("layer_norm_eps", 1e-6)
    config = ConvNext(
        image_size=side(fields, "image_size", 224),
        dims=counts(fields, "hidden_sizes", (96, 192, 384, 768)),
        depths=depths(fields, "depths", (3, 3, 9, 3)),
        act=activation_name(fields, "hidden_act", "gelu"),
        eps=eps,
        last_eps=eps,
        norm_tokens=True,
    )
    read = _staged(config, layouts.DINOV3_CONVNEXT, fields, "", "classifier", first=True)
    stages = {**(read.stages or {}), "vision": Recorded("last_hidden_state", skip=1)}
    return replace(read, stages=stages)


def _efficientnet(fields: Fields) -> Read[EfficientNet]:
    names = ("kernel_sizes", "strides", "expand_ratios", "out_channels", "num_block_repeats")
    official = ((3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1), (1,) + (6,) * 6)
    defaults = (*official, (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1))
    columns = [counts(fields, name, default) for name, default in zip(names, defaults, strict=True)]
    inputs = counts(fields, "in_channels", (32, 16, 24, 40, 80, 112, 192))
    if any(len(column) != len(inputs) for column in columns) or inputs[1:] != columns[3][:-1]:
        raise BeholderError(
            f"{fields.name}: in_channels {list(inputs)} are not those that the stages before give"
        )
    expect(fields, "pooling_type", "mean", "mean", "max")
    fields.ignore("batch_norm_momentum", "dropout_rate", "drop_connect_rate")
    config = EfficientNet(
        image_size=side(fields, "image_size", 600),
        stages=tuple(Bottlenecks(*row) for row in zip(*columns, strict=True)),
        width=fields.positive("width_coefficient", 2.0),
        depth=fields.positive("depth_coefficient", 3.1),
        divisor=fields.count("depth_divisor", 8),
        stem=inputs[0],
        head=fields.count("hidden_dim", 2560),
        squeeze=fields.positive("squeeze_expansion_ratio", 0.25),
        act=activation_name(fields, "hidden_act", "swish"),
        norm=BatchNorm(fields.positive("batch_norm_eps", 1e-3)),
        even=indices(fields, "depthwise_padding", ()),
        pool=fields.get("pooling_type", "mean"),
    )
    if config.scaled(1280) != config.head:
        raise BeholderError(
            f"{fields.name}: hidden_dim is {config.head}, but 1280 scaled is {config.scaled(1280)}"
        )
    read = _staged(config, layouts.EFFICIENTNET, fields, "efficientnet.", "classifier", first=True)
    kept = {key: value for key, value in (read.stages or {}).items() if not key.startswith("stage")}
    return replace(read, stages=kept)  # what is recorded of its blocks is numbered by block


def _swin(fields: Fields) -> Read[Swin]:
    expect(fields, "use_absolute_embeddings", False, False)
    config = Swin(
        image_size=side(fields, "image_size", 224, unequal=True),
        patch=side(fields, "patch_size", 4),
        width=fields.count("embed_dim", 96),
        depths=depths(fields, "depths", (2, 2, 6, 2)),
        heads=counts(fields, "num_heads", (3, 6, 12, 24)),
        window=fields.count("window_size", 7),
        ratio=fields.positive("mlp_ratio", 4.0),
        qkv_bias=fields.get("qkv_bias", True),
        act=activation_name(fields, "hidden_act", "gelu"),
        norm=_norm(fields, 1e-5),
    )
    read = _staged(config, layouts.SWIN, fields, f"{fields.raw('model_type')}.", "classifier", first=False)
    last = {
        f"stage {n}": Recorded(f"layer/encoder.layers.{n - 1}.blocks.{depth - 1}")
        for n, depth in enumerate(config.depths, start=1)
    }
    return replace(read, stages={**last, **(read.stages or {})})


def _swinv2(fields: Fields) -> Read[Swin]:
    trained = counts(fields, "pretrained_window_sizes", (0, 0, 0, 0), least=0)
    side(fields, "image_size", 224)
    read = _swin(fields)
    trained = trained[: len(read.config.depths)] if any(trained) else ()
    return replace(read, config=read.config.but(cosine=True, trained_windows=trained))


def _donut_swin(fields: Fields) -> Read[Swin]:
    read = _swin(fields)
    return replace(read, config=read.config.but(last_norm=False, indexed=True), layout=layouts.DONUT_SWIN)


def _florence_vision(fields: Fields) -> Read[DaVit]:
    fields.ignore(
        "projection_dim",
        "max_temporal_embeddings",
        "max_position_embeddings",
        "in_channels",
        "drop_path_rate",
    )
    before = fields.get("patch_prenorm", [False, True, True, True])
    config = DaVit(
        dims=counts(fields, "embed_dim", (128, 256, 512, 1024)),
        depths=depths(fields, "depths", (1, 1, 9, 1)),
        heads=counts(fields, "num_heads", (4, 8, 16, 32)),
        groups=counts(fields, "num_groups", (4, 8, 16, 32)),
        kernels=counts(fields, "patch_size", (7, 3, 3, 3)),
        strides=counts(fields, "patch_stride", (4, 2, 2, 2)),
        paddings=counts(fields, "patch_padding", (3, 1, 1, 1), least=0),
        norm_before=tuple(bool(value) for value in before),
        window=fields.count("window_size", 12),
        ratio=fields.positive("mlp_ratio", 4.0),
        qkv_bias=fields.get("qkv_bias", True),
        act=activation_name(fields, "activation_function", "gelu"),
    )
    stages = {"vision": Recorded("last_hidden_state", channels_first=True)}
    return Read(config, layouts.DAVIT, body=("",), stages=stages)


def _focalnet(fields: Fields) -> Read[FocalNet]:
    fields.raw("hidden_sizes")
    config = FocalNet(
        image_size=side(fields, "image_size", 224),
        patch=side(fields, "patch_size", 4),
        width=fields.count("embed_dim", 96),
        depths=depths(fields, "depths", (2, 2, 6, 2)),
        levels=counts(fields, "focal_levels", (2, 2, 2, 2)),
        kernels=counts(fields, "focal_windows", (3, 3, 3, 3)),
        ratio=fields.positive("mlp_ratio", 4.0),
        act=activation_name(fields, "hidden_act", "gelu"),
        norm=_norm(fields, 1e-5),
        overlap=fields.get("use_conv_embed", False),
        after=fields.get("use_post_layernorm", False),
        scaled=fields.get("use_layerscale", False),
        norm_modulated=fields.get("use_post_layernorm_in_modulation", False),
        mean_levels=fields.get("normalize_modulator", False),
    )
    return _staged(config, layouts.FOCALNET, fields, "focalnet.", "classifier", first=False)


def _expect_steps(fields: Fields, kernel: str) -> None:
    """Hiera's patches and steps are always the same; `kernel`: what a file calls the patches' size."""
    for key, value in ((kernel, 7), ("patch_stride", 4), ("patch_padding", 3), ("query_stride", 2)):
        expect(fields, key, [value] * 2, [value] * 2)


def _hiera(fields: Fields) -> Read[Hiera]:
    fields.ignore(
        "decoder_hidden_size", "decoder_depth", "decoder_num_heads", "normalize_pixel_loss", "mask_ratio"
    )
    fields.ignore("layer_norm_init")
    layers = depths(fields, "depths", (2, 3, 16, 3))
    _expect_steps(fields, "patch_size")
    expect(fields, "num_query_pool", 3, len(layers) - 1)
    unit, width = side(fields, "masked_unit_size", 8), fields.count("embed_dim", 96)
    times = fields.positive("embed_dim_multiplier", 2.0)
    windowed = fields.get("masked_unit_attention", [True, True, False, False])
    if len(windowed) != len(layers) or sorted(windowed, reverse=True) != windowed:
        raise BeholderError(
            f"{fields.name}: masked_unit_attention is {windowed}; expected true up to some stage"
        )
    config = Hiera(
        image_size=side(fields, "image_size", 224),
        dims=tuple(int(width * times**stage) for stage in range(len(layers))),
        depths=layers,
        heads=counts(fields, "num_heads", (1, 2, 4, 8)),
        windows=tuple(unit // 2**stage if inside else 0 for stage, inside in enumerate(windowed)),
        ratio=fields.positive("mlp_ratio", 4.0),
        act=activation_name(fields, "hidden_act", "gelu"),
        norm=_norm(fields, 1e-6),
    )
    read = _staged(config, layouts.hiera(layers), fields, "hiera.", "classifier", first=False)
    rolled = {f"stage {n}": Recorded(f"reshaped_hidden_states.{n}") for n in config.taps}
    return replace(read, numbers={"width": width}, stages={**(read.stages or {}), **rolled})


def _sam2_vision(fields: Fields) -> Read[Hiera]:
    fields.ignore("backbone_channel_list", "backbone_feature_sizes", "hidden_act", "layer_norm_eps")
    for key, official in (("fpn_kernel_size", 1), ("fpn_stride", 1), ("fpn_padding", 0)):
        expect(fields, key, official, official)
    inner = fields.part("backbone_config", "sam2_hiera_det_model")
    inner.ignore("hidden_size", "num_attention_heads")
    _expect_steps(inner, "patch_kernel_size")
    layers = depths(inner, "blocks_per_stage", (1, 2, 7, 2))
    expect(inner, "num_query_pool_stages", 3, len(layers) - 1)
    config = Hiera(
        image_size=side(inner, "image_size", 1024, unequal=True),
        dims=counts(inner, "embed_dim_per_stage", (96, 192, 384, 768)),
        depths=layers,
        heads=counts(inner, "num_attention_heads_per_stage", (1, 2, 4, 8)),
        windows=counts(inner, "window_size_per_stage", (8, 4, 14, 7), least=0),
        whole=indices(inner, "global_attention_blocks", (5, 7, 9)),
        background=side(inner, "window_positional_embedding_background_size", 7),
        ratio=inner.positive("mlp_ratio", 4.0),
        act=activation_name(inner, "hidden_act", "gelu"),
        norm=_norm(inner, 1e-6),
        norm_pooled=False,
        pyramid=Pyramid(
            fields.count("fpn_hidden_size", 256),
            tuple(level + 1 for level in indices(fields, "fpn_top_down_levels", (2, 3))),
            fields.count("num_feature_levels", 3),
        ),
    )
    inner.finish()
    numbers = {"width": config.dims[0], "background": config.background, "window": config.windows[0]}
    maps = {f"stage {n}": Recorded(f"fpn_hidden_states.{n - 1}", channels_first=True) for n in config.taps}
    maps["vision"] = maps[f"stage {config.token_tap + 1}"]
    return Read(config, layouts.SAM2_HIERA, numbers, body=("", "vision_encoder."), stages=maps)


def _plain(fields: Fields, image_size: int, **settings: Any) -> VitDet:
    """What SAM's encoder and ViTDet call alike. image_size: the official default."""
    return VitDet(
        image_size=side(fields, "image_size", image_size),
        patch=side(fields, "patch_size", 16),
        width=fields.count("hidden_size", 768),
        num_layers=fields.layers("num_hidden_layers", 12),
        heads=fields.count("num_attention_heads", 12),
        qkv_bias=fields.get("qkv_bias", True),
        act=activation_name(fields, "hidden_act", "gelu"),
        norm=_norm(fields, 1e-6),
        **settings,
    )


def _sam_vision(fields: Fields) -> Read[VitDet]:
    fields.ignore("num_pos_feats", "scale")
    plain = _plain(fields, 1024, offsets=fields.get("use_rel_pos", True))
    whole = indices(fields, "global_attn_indexes", (2, 5, 8, 11))
    hidden = int(plain.width * fields.positive("mlp_ratio", 4.0))
    if fields.raw("model_type") == "got_ocr2_vision":
        hidden = 3072  # whatever the width
    table = plain.image_size // plain.patch
    config = plain.but(
        hidden=fields.count("mlp_dim", hidden),
        window=fields.count("window_size", 14),
        windowed=tuple(number for number in range(plain.num_layers) if number not in whole),
        table=table if fields.get("use_abs_pos", True) else 0,
        neck=fields.count("output_channels", 256),
    )
    stages = {"vision": Recorded("last_hidden_state", channels_first=True)}
    stages |= {f"stage {n}": Recorded(f"hidden_states.{n}") for n in config.taps}
    return Read(config, layouts.SAM, {"table": table}, body=("vision_encoder.", ""), stages=stages)


def _vitdet(fields: Fields) -> Read[VitDet]:
    fields.ignore("dropout_prob", "out_features", "out_indices", "stage_names", "drop_path_rate")
    plain = _plain(fields, 224, windowed=(), offsets=fields.get("use_relative_position_embeddings", False))
    table = side(fields, "pretrain_image_size", 224) // plain.patch
    config = plain.but(
        hidden=plain.width * fields.count("mlp_ratio", 4),
        window=fields.get("window_size", 0),
        windowed=indices(fields, "window_block_indices", ()),
        convolved=indices(fields, "residual_block_indices", ()),
        table=table if fields.get("use_absolute_position_embeddings", True) else 0,
        spare=True,
        neck=0,
    )
    stages = {"vision": Recorded("last_hidden_state", channels_first=True)}
    stages |= {f"stage {n}": Recorded(f"hidden_states.{n}", channels_first=True) for n in config.taps}
    return Read(config, layouts.VITDET, {"width": config.width}, body=("", "vitdet."), stages=stages)


READERS: Readers = {
    "resnet": _resnet,
    "convnext": _convnext,
    "convnextv2": _convnextv2,
    "dinov3_convnext": _dinov3_convnext,
    "efficientnet": _efficientnet,
    "swin": _swin,
    "swinv2": _swinv2,
    "donut-swin": _donut_swin,
    "florence_vision": _florence_vision,
    "focalnet": _focalnet,
    "hiera": _hiera,
    "sam2_vision_model": _sam2_vision,
    "sam_vision_model": _sam_vision,
    "sam_hq_vision_model": _sam_vision,
    "got_ocr2_vision": _sam_vision,
    "vitdet": _vitdet,
}
