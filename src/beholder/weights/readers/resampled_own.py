"""Files of systems that resample pictures whose code is published beside their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed, Geometry
from beholder.media.slices import Slices
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.abstractor import Abstractor
from beholder.parts.connectors.convolutional import Ldp, Ldp2
from beholder.parts.connectors.cross_resampler import CrossResampler
from beholder.parts.contracts import ConnectorConfig
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.vision import sizes as vision_sizes
from beholder.parts.vision.patches import Patches
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts import resampled as layouts
from beholder.weights.layouts import vision as vision_layouts
from beholder.weights.layouts.visual_experts import OWL_VISION
from beholder.weights.readers.alone import ALONE
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import side
from beholder.weights.readers.parts import LANGUAGE as LANGUAGES
from beholder.weights.readers.parts import read_decoder
from beholder.weights.readers.read import Read, activation_name
from beholder.weights.readers.reading import (
    CONNECTOR,
    VISION,
    Naming,
    Reading,
    language_naming,
    text_stages,
)


def _card(
    name: str,
    vision: ViT,
    connector: ConnectorConfig,
    images: Geometry,
    place: Splice,
    language: Decoder,
) -> Card:
    return Card(
        name=name,
        vision=vision,
        connector=connector,
        images=images,
        fusion=(place,),
        language=language,
        heads=(NextToken(),),
    )


def _qwen_vl(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Qwen, with an encoder of pictures where the file speaks of one. The encoder's table is of 16 x 16 places at any size."""
    if not fields.raw("visual"):
        return ALONE["qwen"](fields, name, geometry)
    eyes = fields.part("visual")
    language: Read[Decoder] = LANGUAGES["qwen"](fields)
    width = eyes.count("width", 1664)
    heads, dim = eyes.count("heads", 16), eyes.count("output_dim", 4096)
    if dim != language.config.dim:
        raise BeholderError(
            f"config.json: visual.output_dim is {dim}, hidden_size {language.config.dim}; pictures must be as wide as words"
        )
    vision = vision_sizes.QWEN_VL.but(
        patch=eyes.count("patch_size", 14),
        image_size=16 * eyes.count("patch_size", 14),
        dim=width,
        num_layers=eyes.layers("layers", 48),
        **{"attention.num_heads": heads, "mlp.hidden": int(width * eyes.positive("mlp_ratio", 4.9231))},
    )
    size = side(eyes, "image_size", 448)
    queries = eyes.count("n_queries", 256)
    start = eyes.count("image_start_id", 151857)
    eyes.finish()
    images = geometry or Fixed(size=(size, size), mean=CLIP_MEAN, std=CLIP_STD)
    card = _card(
        name, vision, CrossResampler(queries=queries), images, Splice(start + 2, "<imgpad>"), language.config
    )
    naming = (
        Binding("transformer.visual.", VISION, vision_layouts.QWEN_VL, {"num_heads": heads}),
        Binding("transformer.visual.", CONNECTOR, layouts.QWEN_VL_RESAMPLER),
        *language_naming(language, "transformer.", "lm_head."),
    )
    return Reading(card, (naming,), text_stages())


# Of training, and what the code decides by itself
MINICPM_UNREAD = (
    *(
        "batch_vision_input",
        "mm_use_im_start_end",
        "slice_mode",
        "use_image_id",
        "vision_batch_size",
        "image_size",
    ),
    *("patch_size", "max_slice_nums", "scale_resolution", "version", "max_window_layers"),
)


def _minicpm_v(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """2.0 has MiniCPM and timm's SigLIP without its last layer; 2.5 Llama 3, 2.6 Qwen2, both with SigLIP at any size."""
    slices = fields.part("slice_config")
    area = slices.count("scale_resolution", fields.count("scale_resolution", 448))
    most = slices.count("max_slice_nums", fields.count("max_slice_nums", 9))
    slices.ignore("model_type", "patch_size")
    slices.finish()
    queries, dropped = fields.count("query_num", 64), fields.get("drop_vision_last_layer", True)
    version = fields.raw("version") or (2.0 if fields.raw("vision_encoder") else 2.5)
    kinds = {2.0: "minicpm", 2.5: "llama", 2.6: "qwen2"}
    if version not in kinds:
        raise UnknownName("config.json: version of MiniCPM-V", str(version), [str(known) for known in kinds])
    fields.ignore(*MINICPM_UNREAD)
    language: Read[Decoder] = LANGUAGES[kinds[version]](fields)
    layout: Layout = vision_layouts.TIMM_VIT
    if version == 2.0:
        kind = fields.raw("vision_encoder")
        if kind != "vit_so400m_patch14_siglip_384.webli":
            raise UnknownName(
                "config.json: vision_encoder", str(kind), ("vit_so400m_patch14_siglip_384.webli",)
            )
        vision = vision_sizes.SIGLIP_SO400M_14.but(
            image_size=384, pool=None, positions=vision_sizes.SMOOTH, **{"mlp.act": "gelu"}
        )
    else:
        layout = vision_layouts.VIT
        vision = _native_siglip(fields.part("vision_config"))
    vision = vision.but(num_layers=vision.num_layers - bool(dropped))
    slice_tags = ("<slice>", "</slice>") if version == 2.6 else ("<image>", "</image>")
    images = geometry or Slices(
        side=area,
        most=most,
        cell=vision.patch,
        whole=("<image>", "</image>"),
        slice=slice_tags,
        slices=("", "") if version == 2.6 else ("<slice>", "</slice>"),
    )
    connector = CrossResampler(queries=queries, places="resized" if version == 2.0 else "waves")
    place = Splice(language.config.vocab_size, "<unk>")
    card = _card(name, vision, connector, images, place, language.config)
    naming = (
        Binding("vpm.", VISION, layout),
        Binding("resampler.", CONNECTOR, layouts.MINICPM_RESAMPLER),
        *language_naming(language, "llm.model.", "llm.lm_head."),
    )
    return Reading(card, (naming,), text_stages())


def _native_siglip(fields: Fields) -> ViT:
    """SigLIP with places found by share; files call its type by several names."""
    fields.ignore("model_type")
    heads, hidden = fields.count("num_attention_heads", 16), fields.count("intermediate_size", 4304)
    vision = vision_sizes.SIGLIP_SO400M_14.but(
        image_size=side(fields, "image_size", 980),
        patch=side(fields, "patch_size", 14),
        dim=fields.count("hidden_size", 1152),
        num_layers=fields.layers("num_hidden_layers", 27),
        pool=None,
        positions=GridTable("bucketed"),
        **{"attention.num_heads": heads, "mlp.hidden": hidden},
    )
    fields.finish()
    return vision


def _mplug_owl(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    eyes = fields.part("vision_config")
    eyes.ignore("use_flash_attn", "num_channels", "projection_dim", "attention_dropout", "initializer_factor")
    eyes.ignore("initializer_range", "model_type")
    vision = ViT(
        image_size=side(eyes, "image_size", 224),
        patch=side(eyes, "patch_size", 14),
        dim=eyes.count("hidden_size", 1024),
        num_layers=eyes.layers("num_hidden_layers", 24),
        attention=Attention(eyes.count("num_attention_heads", 16), qkv_bias=True, out_bias=True),
        mlp=FeedForward(
            eyes.count("intermediate_size", 4096), activation_name(eyes, "hidden_act", "quick_gelu")
        ),
        norm=Norm("layer", eyes.positive("layer_norm_eps", 1e-6)),
        cls=True,
        patches=Patches(bias=False),
        pre_norm=True,
        take=Take(front=True),
    )
    eyes.finish()
    parts = fields.part("visual_abstractor_config")
    parts.ignore("attention_probs_dropout_prob", "initializer_range", "model_type", "hidden_size")
    parts.ignore("encoder_hidden_size")
    connector = Abstractor(
        attention=Attention(parts.count("num_attention_heads", 16), qkv_bias=True, out_bias=True),
        mlp=FeedForward(
            parts.count("intermediate_size", 4096),
            "silu",
            gated=True,
            inner_norm=Norm("layer", parts.positive("layer_norm_eps", 1e-6)),
        ),
        queries=fields.count("num_query_tokens", 64),
        depth=parts.layers("num_hidden_layers", 6),
        places=False,
    )
    parts.finish()
    language = read_decoder(fields.part("text_config", "llama"))
    size = (vision.image_size, vision.image_size)
    images = geometry or Fixed(size=size, mean=CLIP_MEAN, std=CLIP_STD)
    place = Splice(language.config.vocab_size)
    card = _card(name, vision, connector, images, place, language.config)
    naming: Naming = (
        Binding("vision_model.", VISION, OWL_VISION, {"heads": vision.attention.num_heads}),
        Binding("abstractor.", CONNECTOR, layouts.OWL1_ABSTRACTOR),
        Binding("", CONNECTOR, layouts.OWL1_QUERIES),
        *language_naming(language, "language_model.model.", "language_model.lm_head."),
    )
    return Reading(card, (naming,), text_stages())


PROJECTORS: Mapping[str, tuple[ConnectorConfig, Layout]] = {
    "ldpnet": (Ldp(), layouts.LDP),
    "ldpnetv2": (Ldp2(), layouts.LDP2),
}
MOBILE_UNREAD = (
    *(
        "image_aspect_ratio",
        "max_sequence_length",
        "mm_use_im_patch_token",
        "mm_use_im_start_end",
        "use_mm_proj",
    ),
    *("mm_vision_select_feature", "vision_tower_type", "freeze_mm_mlp_adapter", "tune_mm_mlp_adapter"),
    *("n_head", "n_query_groups", "norm_eps", "vision_tower", "mm_hidden_size"),
)


def _mobilevlm(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    fields.ignore(*MOBILE_UNREAD)
    kind, tower = fields.get("mm_projector_type", "ldpnet"), fields.raw("mm_vision_tower")
    if kind not in PROJECTORS:
        raise UnknownName("config.json: mm_projector_type", kind, PROJECTORS)
    if not str(tower).endswith("clip-vit-large-patch14-336"):
        raise UnknownName("config.json: mm_vision_tower", str(tower), ("openai/clip-vit-large-patch14-336",))
    connector, layout = PROJECTORS[kind]
    layer = fields.get("mm_vision_select_layer", -2)
    vision = vision_sizes.CLIP_L_14_336.but(pool=None, take=Take(layers=(layer,), norm=False))
    language: Read[Decoder] = LANGUAGES["llama"](fields)
    images = geometry or Fixed(
        size=(336, 336), fit="pad", background=(122, 116, 104), mean=CLIP_MEAN, std=CLIP_STD
    )
    place = Splice(language.config.vocab_size)
    card = _card(name, vision, connector, images, place, language.config)
    naming = (
        Binding("model.vision_tower.vision_tower.vision_model.", VISION, vision_layouts.VIT),
        Binding("model.mm_projector.", CONNECTOR, layout),
        *language_naming(language, "model.", "lm_head."),
    )
    return Reading(card, (naming,), text_stages())


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "qwen": _qwen_vl,
    "minicpmv": _minicpm_v,
    "mplug-owl": _mplug_owl,
    "mobilevlm": _mobilevlm,
}
