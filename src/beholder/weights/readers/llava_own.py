"""`config.json` files of LLaVA's own code and of those that grew from it: the language model's settings with `mm_...` beside.

The encoder is a name in them. Its weights stand in the file where they were trained, else in the encoder's own release.
Names: haotian-liu/LLaVA llava/model (llava_arch.py, multimodal_projector/builder.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, HALF, AnyRes, Fixed, Geometry
from beholder.parts.connectors.dense import LayerMeans, LayerTokens
from beholder.parts.connectors.pooling import GridPool, TileCap
from beholder.parts.connectors.projections import Linear, Mlp
from beholder.parts.contracts import ConnectorConfig, VisionConfig
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision.multi_scale import MultiScale
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts import common
from beholder.weights.layouts.rules import affine
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_decoder, read_encoder
from beholder.weights.readers.read import Read
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming

IMAGE_TOKEN = -200  # llava/constants.py
CLIP_L = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
SO400M = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
    "vision_use_head": False,
}
SIGLIP_B = {"model_type": "siglip_vision_model", "patch_size": 16, "vision_use_head": False}
CLIP_H = {
    **CLIP_L,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "hidden_act": "gelu",
}
# alibaba/conv-llava: the fifth stage of `add_stage`
FIVE_STAGES = {
    "model_type": "convnext",
    "hidden_sizes": [192, 384, 768, 1536, 3072],
    "depths": [3, 3, 27, 3, 6],
    "num_stages": 5,
    "layer_norm_eps": 1e-6,
}
# how a tower's name ends or what it holds -> config.json of the encoder's release
TOWERS: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"clip-vit-large-patch14-336$", {**CLIP_L, "image_size": 336}),
    (r"vit-large336", {**CLIP_L, "image_size": 336}),
    (r"clip-vit-large-patch14$", {**CLIP_L, "image_size": 224}),
    (r"clip-vit-H-14-.*-448$", {**CLIP_H, "image_size": 448}),
    (r"siglip-so400m-patch14-384$", {**SO400M, "image_size": 384}),
    (r"siglip-so400m-patch14-224$", {**SO400M, "image_size": 224}),
    (r"siglip-base-patch16-256-multilingual$", {**SIGLIP_B, "image_size": 256}),
    (r"siglip-base-patch16-224$", {**SIGLIP_B, "image_size": 224}),
    *((rf"ConvLLaVA-ConvNeXt-{side}$", {**FIVE_STAGES, "image_size": side}) for side in (768, 1024, 1536)),
)
# `model_type` of the file -> that of its language model
LANGUAGES: Mapping[str, str] = {
    "llava": "llama",
    "llava_llama": "llama",
    "llava_mistral": "mistral",
    "llava_mixtral": "mixtral",
    "llava_phi": "phi",
    "llava_qwen": "qwen2",
    "llava_qwen2": "qwen2",
    "llava-qwen2": "qwen2",
    "qwen2": "qwen2",
    "llava_cohere": "cohere",
    "llava_jamba": "jamba",
    "tiny_llava_phi": "phi",
    "tiny_llava_llama": "llama",
    "tiny_llava_stablelm": "stablelm",
    "share4v": "llama",
    "bunny-phi": "phi",
    "bunny-phi3": "phi3",
    "bunny-llama": "llama",
    "bunny-qwen2": "qwen2",
    "bunny-stablelm": "stablelm",
    "bunny-minicpm": "minicpm",
    "imp": "phi",
    "imp_phi3": "phi3",
    "imp_qwen1.5": "qwen2",
}
# the first of `architectures` -> the same, where files of several language models have one type
ARCHITECTURES: Mapping[str, str] = {
    "LlavaLlamaForCausalLM": "llama",
    "LlavaMistralForCausalLM": "mistral",
    "LlavaMixtralForCausalLM": "mixtral",
    "LlavaQwenForCausalLM": "qwen2",
    "LlavaQwen2ForCausalLM": "qwen2",
}
SHARED = ("llava", "qwen2")
# of training, or said by the tower's name
UNREAD = re.compile(
    r"(mm_|add_time|force_sample|use_pos_|faster_|image_|tune_|tokenizer_|freeze_|vision_tower|use_mm_proj|unfreeze_|s2_|use_s2|num_experts_mm|add_faster"
    r"|max_num|pos_skipping|delay_load|train_).*"
)


DENSE = ("dci", "sci", "sti")  # of `mm_dense_connector_type`; others read one depth


class Tower(NamedTuple):
    """An encoder as its branch has it, what reads it, where its weights stand, and the colours of its pictures."""

    vision: VisionConfig
    read: Read[Any]
    prefix: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def own_llava(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Raises `UnknownName` for an encoder or a projector that is not known."""
    kind = str(fields.raw("model_type"))
    tower = tower_of(fields)
    words = ARCHITECTURES.get(architecture(fields), LANGUAGES[kind]) if kind in SHARED else LANGUAGES[kind]
    language = read_decoder(language_of(fields, words, "resamplePooling"))
    merge = fields.get("mm_patch_merge_type", "flat")
    newline = "unpad" in merge
    connector, layout, place = projector_of(fields)
    vision, inner = tower.vision, VISION
    dense = fields.get("mm_dense_connector_type", None)
    if kind == "llava_jamba":
        connector, place = _averaged(fields, connector), "then." + place
    if dense in DENSE and isinstance(tower.vision, ViT):
        vision, connector, within = _depths(dense, tower.vision, connector)
        place = within + place
    elif fields.get("mm_hidden_size", vision.out_dim) == 3 * vision.out_dim:  # several sizes of the picture
        vision, inner = MultiScale(tower.vision), VISION + "encoder."
    card = Card(
        name=name,
        vision=vision,
        connector=connector,
        images=geometry or geometry_of(fields, tower, vision.image_size),
        fusion=(Splice(token_id=IMAGE_TOKEN, newline=newline),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding(tower.prefix, inner, tower.read.layout, tower.read.numbers),
        Binding("model.mm_projector.", CONNECTOR + place, layout),
        *((Binding("model.", "fusion.0.", common.NEWLINE),) if newline else ()),
        *language_naming(language, "model.", "lm_head."),
    )
    return Reading(card, (naming,), {})


def _depths(kind: str, vision: ViT, then: ConnectorConfig) -> tuple[ViT, ConnectorConfig, str]:
    """Encoder, connector and the projector's place in it where several depths of the encoder are read (HJYao00/DenseConnector
    dc/model/multimodal_projector/dense_connector.py).
    """
    (last,) = vision.take.layers
    half = 12 if vision.cls else 13
    taken = (last, *range(2 * half)) if kind == "dci" else (last, 7, 15)
    vision = vision.but(take=Take(taken, norm=False))
    if kind == "sci":
        return vision, then, ""
    connector = LayerMeans((1, half, half), then) if kind == "dci" else LayerTokens(then)
    return vision, connector, "then."


def architecture(fields: Fields) -> str:
    """The first of `architectures`, or nothing."""
    written = fields.raw("architectures")
    return str(written[0]) if isinstance(written, list) and written else ""


def _averaged(fields: Fields, projector: ConnectorConfig) -> ConnectorConfig:
    """FreedomIntelligence/LongLLaVA llava/model/multimodal_encoder/clip_encoder.py: 24 x 24 patches become 12 x 12."""
    way = fields.get("resamplePooling", "2d")
    if way != "2d":
        raise UnknownName("config.json: resamplePooling", way, ("2d",))
    return GridPool(projector, factor=2, way="bilinear")


def tower_of(fields: Fields, wanted: str | None = "patch") -> Tower:
    """The encoder that `mm_vision_tower` names; raises `UnknownName` for one that is not known. wanted: what must be
    selected of it, `cls_patch` with the class token in front; None where files do not say.
    """
    fields.need("mm_vision_tower")
    called = str(fields.get("mm_vision_tower", "")).rstrip("/")
    settings = next((settings for ends, settings in TOWERS if re.search(ends, called)), None)
    if settings is None:
        raise UnknownName("config.json: mm_vision_tower", called, [ends for ends, _ in TOWERS])
    feature = fields.get("mm_vision_select_feature", "patch")
    if wanted is not None and feature != wanted:
        raise UnknownName("config.json: mm_vision_select_feature", feature, (wanted,))
    layer = fields.get("mm_vision_select_layer", -2)
    read = read_encoder(Fields(settings, "config.json: mm_vision_tower"))
    prefix = "model.vision_tower.vision_tower."
    if not isinstance(read.config, ViT):
        if layer != -1:
            raise BeholderError(
                f"config.json: mm_vision_select_layer is {layer}; a ConvNeXt is read whole, by -1"
            )
        assert isinstance(read.config, VisionConfig)
        return Tower(read.config, read, prefix, CLIP_MEAN, CLIP_STD)
    take = Take(layers=(layer,), norm=False, front=wanted == "cls_patch")
    clip = settings["model_type"] == "clip_vision_model"
    colours = (CLIP_MEAN, CLIP_STD) if clip else (HALF, HALF)
    return Tower(read.config.but(pool=None, take=take), read, prefix + "vision_model.", *colours)


def language_of(fields: Fields, kind: str, *others: str) -> Fields:
    """The settings that are the language model's own, of type `kind`. others: further fields that are not."""
    fields.ignore(*others, *(key for key in fields if UNREAD.fullmatch(key)))
    own = {key: fields.raw(key) for key in list(fields) if not UNREAD.fullmatch(key) and key not in others}
    return Fields({**own, "model_type": kind}, fields.name)


def projector_of(fields: Fields) -> tuple[ConnectorConfig, Layout, str]:
    """The connector, its layout, and where the projector stands in it."""
    kind = fields.get("mm_projector_type", "linear")
    if kind == "linear":
        return Linear(), common.AFFINE, "linear."
    found = re.fullmatch(r"mlp(\d+)x_gelu(_Norm)?", kind)
    if found is None or not 1 <= int(found[1]) <= 9:
        raise UnknownName("config.json: mm_projector_type", kind, ("linear", "mlp2x_gelu", "mlp2x_gelu_Norm"))
    depth, norms = int(found[1]), found[2] is not None
    step = 3 if norms else 2
    names = {str(step * number): f"layers.{number}" for number in range(depth)}
    if norms:
        names |= {str(step * number + 1): f"norms.{number}" for number in range(depth)}
    projector = Mlp(depth=depth, norms=norms)
    layout = Layout(affine(names), name="LLaVA's own projector")
    ratio = fields.get("image_aspect_ratio", "square") or "square"
    most = ratio.removeprefix("anyres_max_")
    if most != ratio:
        if not most.isdecimal() or int(most) < 1:
            raise BeholderError(f"config.json: image_aspect_ratio is {ratio!r}; expected a number at its end")
        return TileCap(projector, int(most)), layout, "then."
    return projector, layout, ""


def geometry_of(fields: Fields, tower: Tower, side: int) -> Geometry:
    """What `image_aspect_ratio` says (llava/mm_utils.py, process_images)."""
    colours: dict[str, Any] = {"mean": tower.mean, "std": tower.std}
    ratio = fields.get("image_aspect_ratio", "square") or "square"
    if ratio.startswith("anyres"):
        points = fields.get("image_grid_pinpoints", [])
        if not points:
            raise BeholderError(
                "config.json: image_grid_pinpoints is missing, but image_aspect_ratio is anyres"
            )
        pairs = tuple((int(height), int(width)) for width, height in points)
        return AnyRes(tile=side, pinpoints=pairs, **colours)
    if ratio == "pad":
        red, green, blue = (int(value * 255) for value in tower.mean)
        return Fixed(size=(side, side), fit="pad", background=(red, green, blue), **colours)
    if ratio != "square":
        raise UnknownName(
            "config.json: image_aspect_ratio", ratio, ("square", "pad", "anyres", "anyres_max_9")
        )
    return Fixed(size=(side, side), fit="crop" if tower.mean == CLIP_MEAN else "stretch", **colours)


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    kind: own_llava
    for kind in LANGUAGES
    if kind not in SHARED  # whose other files other readers read
}
