"""VILA 1.5's `config.json` (NVlabs/VILA, branch vila1.5, llava/model): a section for each part, whose weights are apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, IMAGENET_STD, Fixed, Geometry
from beholder.parts.connectors.projections import Folded, Linear, Mlp
from beholder.parts.contracts import ConnectorConfig
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision.vit import Take
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts import llava_kin as layouts
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava_own import IMAGE_TOKEN
from beholder.weights.readers.llava_several import READERS as LLAVA
from beholder.weights.readers.parts import read_decoder, read_vit
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

# `mm_projector_type` -> connector and names
PROJECTORS: Mapping[str, tuple[ConnectorConfig, Layout]] = {
    "linear": (Linear(), layouts.VILA_LINEAR),
    "mlp2x_gelu": (Mlp(), layouts.VILA_MLP),
    "mlp_downsample": (Folded(Mlp(norm=True), pad=True, by_columns=True), layouts.VILA_DOWNSAMPLE),
}
# type of the encoder -> what stands before its names, and its pictures' colours
EYES = {
    "clip_vision_model": ("vision_model.", (CLIP_MEAN, CLIP_STD)),
    "siglip_vision_model": ("vision_model.", (HALF, HALF)),
    "intern_vit_6b": ("", (IMAGENET_MEAN, IMAGENET_STD)),
}
UNREAD = (
    *(
        "drop_path_rate",
        "hidden_size",
        "interpolate_mode",
        "mm_hidden_size",
        "mm_projector_lr",
        "mm_use_im_patch_token",
    ),
    *(
        "mm_use_im_start_end",
        "model_dtype",
        "resume_path",
        "tune_language_model",
        "tune_mm_projector",
        "tune_vision_tower",
    ),
    *(
        "vision_resolution",
        "s2",
        "s2_scales",
        "s2_max_split_size",
        "num_video_frames",
        "fps",
        "min_tiles",
        "max_tiles",
    ),
    *("mm_projector", "vision_tower", "loss_scale"),
)


def _vila(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    fields.ignore(*UNREAD)
    if fields.raw("s2"):
        raise BeholderError("config.json: s2 is on; pictures of several sizes are not known of VILA")
    seen = fields.part("vision_tower_cfg", "siglip_vision_model")
    kind = str(seen.raw("model_type"))
    if kind not in EYES:
        raise UnknownName("config.json: vision_tower_cfg: model_type", kind, EYES)
    inner, (mean, std) = EYES[kind]
    tower = read_vit(seen)
    mapped = fields.part("mm_projector_cfg")
    projector = mapped.get("mm_projector_type", "mlp_downsample")
    if projector not in PROJECTORS:
        raise UnknownName("config.json: mm_projector_cfg: mm_projector_type", projector, PROJECTORS)
    connector, layout = PROJECTORS[projector]
    feature, layer = fields.get("mm_vision_select_feature", "patch"), fields.get("mm_vision_select_layer", -2)
    front = feature == "cls_patch" and tower.config.cls  # SigLIP has no class token
    vision = tower.config.but(pool=None, take=Take((layer,), norm=False, front=front))
    ratio, side = fields.get("image_aspect_ratio", "resize") or "resize", vision.image_size
    if ratio not in ("resize", "pad"):
        raise UnknownName("config.json: image_aspect_ratio", ratio, ("resize", "pad"))
    red, green, blue = (int(value * 255) for value in mean)
    whole = Fixed(size=(side, side), mean=mean, std=std)
    if ratio == "pad":
        whole = whole.but(fit="pad", background=(red, green, blue))
    language = read_decoder(fields.part("llm_cfg", "llama"))
    mapped.ignore("mm_hidden_size")
    mapped.finish()
    card = Card(
        name=name,
        vision=vision,
        connector=connector,
        images=geometry or whole,
        fusion=(Splice(token_id=IMAGE_TOKEN),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding(f"vision_tower.{inner}", VISION, tower.layout, tower.numbers, drop=("head.*",)),
        Binding("mm_projector.", CONNECTOR, layout),
        *language_naming(language, "llm.model.", f"llm.{language.head}"),
    )
    return Reading(card, (naming,), text_stages())


def _llava_llama(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """VILA's files have LLaVA's type."""
    return (_vila if "llm_cfg" in fields else LLAVA["llava_llama"])(fields, name, geometry)


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"llava_llama": _llava_llama}
