"""Settings of mlfoundations/open_clip (`open_clip_config.json`), under which OpenAI's own checkpoints are released as
safetensors too: CLIP with a plain ViT or a residual net.
"""

from __future__ import annotations

from typing import Any

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed, Geometry
from beholder.parts.connectors.projections import Pooled
from beholder.parts.contracts import VisionConfig
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.similarity import Similarity
from beholder.parts.language.sizes import CLIP_TEXT_512
from beholder.parts.language.text_encoder import TextEncoder
from beholder.parts.vision.sizes import CLIP_B_16
from beholder.parts.vision.sizes_hierarchical import CLIP_RN50
from beholder.parts.vision.vit import ViT
from beholder.weights.layouts.dual import openai_names
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Recorded
from beholder.weights.readers.reading import Reading

STAGES = {
    "connector": Recorded("image_embeds"),
    "text vectors": Recorded("text_embeds"),
    "similarity": Recorded("logits_per_image"),
}
STEPS = (1, 2, 4, 8)  # widths of a residual net's stages over the first's


def open_clip(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """The defaults are those of `CLIPVisionCfg` and `CLIPTextCfg` in open_clip's model.py. Raises `BeholderError` for towers
    of other libraries.
    """
    model = fields.part("model_cfg")
    model.need("embed_dim")
    width, act = model.count("embed_dim", 512), "quick_gelu" if model.get("quick_gelu", False) else "gelu"
    model.ignore("init_logit_scale", "init_logit_bias", "nonscalar_logit_scale")
    vision = _vision(model.part("vision_cfg"), act, width)
    text = _text(model.part("text_cfg"), act, width)
    seen = _geometry(fields.part("preprocess_cfg"), vision.image_size) if geometry is None else geometry
    model.finish()
    card = Card(
        name=name,
        vision=vision,
        connector=Pooled(project=isinstance(vision, ViT)),
        images=seen,
        fusion=(Towers(),),
        language=text,
        heads=(Similarity(),),
    )
    return Reading(card, (openai_names(card),), STAGES)


def _vision(fields: Fields, act: str, width: int) -> VisionConfig:
    for key in ("timm_model_name", "attentional_pool", "ls_init_value"):
        if fields.raw(key):
            raise BeholderError(
                f"{fields.name}: {key} is {fields.raw(key)!r}; only CLIP's own towers are read here"
            )
    fields.ignore(
        "patch_dropout", "input_patchnorm", "output_tokens", "head_width", "mlp_ratio", "patch_size"
    )
    size, dim = fields.count("image_size", 224), fields.count("width", 768)
    depths: Any = fields.raw("layers")
    if isinstance(depths, list):
        if len(depths) != len(STEPS) or not all(type(depth) is int and depth > 0 for depth in depths):
            raise BeholderError(f"{fields.name}: layers is {depths}; expected four whole numbers above 0")
        net = CLIP_RN50.but(
            image_size=size, stem=dim, dims=tuple(4 * dim * step for step in STEPS), depths=tuple(depths)
        )
        fields.finish()
        return net.but(pool_heads=32 * dim // fields.count("head_width", 64), pool_dim=width)
    tower = CLIP_B_16.but(
        image_size=size,
        patch=fields.count("patch_size", 16),
        dim=dim,
        num_layers=fields.layers("layers", 12),
        **{
            "attention.num_heads": max(1, dim // fields.count("head_width", 64)),
            "mlp.hidden": int(dim * fields.positive("mlp_ratio", 4.0)),
            "mlp.act": act,
        },
    )
    fields.finish()
    return tower


def _text(fields: Fields, act: str, width: int) -> TextEncoder:
    for key in ("hf_model_name", "embed_cls", "ls_init_value"):
        if fields.raw(key):
            raise BeholderError(
                f"{fields.name}: {key} is {fields.raw(key)!r}; only CLIP's own towers are read here"
            )
    fields.ignore("hf_tokenizer_name", "tokenizer_kwargs")
    dim = fields.count("width", 512)
    tower = CLIP_TEXT_512.but(
        vocab_size=fields.count("vocab_size", 49408),
        dim=dim,
        num_layers=fields.layers("layers", 12),
        context=fields.count("context_length", 77),
        projection=width,
        **{"attention.num_heads": fields.count("heads", 8), "mlp.hidden": 4 * dim, "mlp.act": act},
    )
    fields.finish()
    return tower


def _geometry(fields: Fields, side: int) -> Geometry:
    """Of `preprocess_cfg`, whose defaults are OpenAI's."""
    mode = fields.get("resize_mode", "shortest")
    if mode not in ("shortest", "squash"):
        raise BeholderError(f"{fields.name}: resize_mode is {mode!r}; known: shortest, squash")
    fields.ignore("size", "mode", "fill_color")
    fixed = Fixed(
        size=(side, side),
        fit="crop" if mode == "shortest" else "stretch",
        mean=_three(fields, "mean", CLIP_MEAN),
        std=_three(fields, "std", CLIP_STD),
        filter=fields.get("interpolation", "bicubic"),
    )
    fields.finish()
    return fixed


def _three(fields: Fields, key: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
    values = fields.get(key, list(default))
    if len(values) != 3 or not all(type(value) in (int, float) for value in values):
        raise BeholderError(f"{fields.name}: {key} is {values}; expected three numbers")
    first, second, third = (float(value) for value in values)
    return first, second, third


READERS = {"open_clip": open_clip}
