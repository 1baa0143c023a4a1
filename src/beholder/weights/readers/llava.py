"""Official `config.json` files of LLaVA and its kin in the Hugging Face layout.

A reader of a system calls the readers of its parts, so any checkpoint of a known type loads at any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.clips import Frames
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, AnyRes, Fixed, Geometry
from beholder.parts.connectors.pooling import GridPool, TileCap
from beholder.parts.connectors.projections import Mlp
from beholder.parts.connectors.temporal import ClipPool
from beholder.parts.contracts import ConnectorConfig
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.vision.by_kind import ByKind
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts import common
from beholder.weights.layouts.rules import affine
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava_own import own_llava
from beholder.weights.readers.parts import read_decoder, read_vit
from beholder.weights.readers.read import Read, Recorded, activation_name
from beholder.weights.readers.reading import CONNECTOR, VISION, Naming, Reading, language_naming, text_stages

# transformers: models/*/configuration_*.py, what files without such parts mean
CLIP_L_336: Mapping[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 336,
}
SIGLIP_SO400M_384: Mapping[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 384,
    "vision_use_head": False,
}
NEXT_PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


@dataclass(frozen=True)
class Kin:
    """Where a kin of LLaVA differs: its file's defaults, what is around the projector, and what is around frames.

    towers: types of the encoder and the decoder where the file names none; encoder: settings of one that it leaves out.
    pinpoints: (height, width) of what pictures are scaled to where the file names none. around: makes the connector of the
    projector; place: the projector's name inside it. frames: how recordings are read, from their geometry.
    """

    towers: tuple[str, str] = ("clip_vision_model", "llama")
    encoder: Mapping[str, Any] = field(default_factory=lambda: CLIP_L_336)
    pinpoints: tuple[tuple[int, ...], ...] = ()
    layers: tuple[int, ...] = (-2,)
    strategy: str = "default"
    image_token: int = 32000
    newline: bool = False
    norm: bool = False
    around: Callable[[Fields, Mlp], ConnectorConfig] | None = None
    place: str = ""
    frames: Callable[[int], Frames] | None = None


def _llava_language(fields: Fields, vision: ViT, kin: Kin) -> Read[Decoder]:
    read = read_decoder(fields.part("text_config", kin.towers[1]))
    fields.get("vocab_size", read.config.vocab_size)
    tied = fields.get("tie_word_embeddings", False)
    strategy = fields.get("vision_feature_select_strategy", kin.strategy)
    if strategy not in ("default", "full"):
        raise UnknownName("config.json: vision_feature_select_strategy", strategy, ("default", "full"))
    if vision.cls != (strategy == "default"):
        what = "keeps" if strategy == "full" else "drops the first token as"
        raise BeholderError(
            f"vision_feature_select_strategy {strategy!r} {what} a class token; not supported here"
        )
    return replace(read, config=read.config.but(tied=read.config.tied or tied))


NORMED_PROJECTOR = Layout(
    affine({"projector_layernorm": "norm", "linear_1": "layers.0", "linear_2": "layers.1"}),
    name="transformers ViP-LLaVA projector",
)


def _llava(fields: Fields, name: str, geometry: Geometry | None, *, kin: Kin) -> Reading:
    tower = read_vit(fields.part("vision_config", kin.towers[0], absent=kin.encoder))
    vision = tower.config
    layer = fields.raw("vision_feature_layer")
    layers = tuple(layer) if isinstance(layer, list) else kin.layers if layer is None else (layer,)
    if not all(type(number) is int for number in layers):
        raise BeholderError(f"config.json: vision_feature_layer is {layer!r}; expected whole numbers")
    pool = (
        None if vision.pool == "cls" else vision.pool
    )  # SigLIP's pooling head has weights, which files keep
    vision = vision.but(pool=pool, take=Take(layers, norm=False))
    language = _llava_language(fields, vision, kin)
    projector = Mlp(
        depth=2,
        act=activation_name(fields, "projector_hidden_act", "gelu"),
        bias=fields.get("multimodal_projector_bias", True),
        norm=kin.norm,
        eps=fields.positive("projector_layernorm_eps", 1e-5) if kin.norm else 1e-5,
    )
    connector = projector if kin.around is None else kin.around(fields, projector)
    # prompts write recordings with the placeholder of pictures
    fields.ignore("video_token_index", "video_token_id", "video_seq_length")
    pinpoints = fields.get("image_grid_pinpoints", list(kin.pinpoints))  # the processor's decide
    if geometry is None and pinpoints and kin.newline:
        points = tuple((int(height), int(width)) for height, width in pinpoints)
        geometry = AnyRes(tile=vision.image_size, pinpoints=points, mean=CLIP_MEAN, std=CLIP_STD)
    frames = None if kin.frames is None else kin.frames(vision.image_size)
    card = Card(
        name=name,
        branches=(Branch((vision,), geometry, connector, frames=frames),),
        fusion=(Splice(token_id=image_token(fields, kin.image_token), newline=kin.newline),),
        language=language.config,
        heads=(NextToken(),),
    )
    stages = _llava_stages(vision, first=frames is not None)
    return Reading(card, tuple(_llava_namings(tower, language, kin)), stages)


def _llava_namings(vision: Read[ViT], language: Read[Decoder], kin: Kin) -> list[Naming]:
    """Releases up to transformers 4.51 and the files that later versions write, and the module names of later ones."""
    namings: list[Naming] = []
    for outer, body, head in (
        ("", "language_model.model.", "language_model.lm_head."),
        ("model.", "model.language_model.", "lm_head."),
    ):
        layout = NORMED_PROJECTOR if kin.norm else common.LLAVA_PROJECTOR
        rest = [Binding(outer + "multi_modal_projector.", CONNECTOR + kin.place, layout)]
        rest += [Binding(outer, "fusion.0.", common.NEWLINE)] if kin.newline else []
        rest += language_naming(language, body, head)
        for tower in ("vision_tower.vision_model.", "vision_tower."):
            namings.append((Binding(outer + tower, VISION, vision.layout, vision.numbers), *rest))
    return namings


def _llava_stages(vision: ViT, *, first: bool) -> dict[str, Recorded]:
    """Joined depths are recorded apart, so then the connector is the first stage to compare. first: of pictures alone."""
    stages = {"connector": Recorded("hook/model.multi_modal_projector", first=first), **text_stages()}
    if len(vision.take.layers) > 1:
        return stages
    depth = vision.take.layers[0] % (vision.num_layers + 1)
    tower = f"layer/model.vision_tower.encoder.layers.{depth - 1}"
    recorded = Recorded(tower, skip=int(vision.cls), first=first)
    return {"vision": recorded, **stages}


def _capped(fields: Fields, projector: Mlp) -> ConnectorConfig:
    """LLaVA-OneVision: tiles under a cap, frames averaged to a quarter."""
    ratio = fields.get("vision_aspect_ratio", "anyres_max_9")
    most = ratio.removeprefix("anyres_max_")
    if not most.isdecimal() or int(most) < 1:
        raise BeholderError(
            f"config.json: vision_aspect_ratio is {ratio!r}; expected anyres_max_ and a number"
        )
    return TileCap(GridPool(projector, factor=2, way="bilinear", after=True, frames=True), int(most))


def _pooled(fields: Fields, projector: Mlp) -> ConnectorConfig:
    """LLaVA-NeXT-Video: frames averaged before the projector."""
    way = fields.get("spatial_pool_mode", "average")
    if way not in ("average", "max"):
        raise UnknownName("config.json: spatial_pool_mode", way, ("average", "max"))
    return GridPool(projector, factor=fields.count("spatial_pool_stride", 2), way=way, frames=True)


def image_token(fields: Fields, default: int) -> int:
    """`image_token_index`, or `image_token_id` in newer files."""
    return int(fields.get("image_token_index", fields.get("image_token_id", default)))


def _video_llava(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Frames go through a tower of their own and keep its class tokens; the projector is one."""
    kin = Kin(frames=_video_llava_frames, encoder={**CLIP_L_336, "image_size": 224})
    one = _llava(fields, name, geometry, kin=kin)
    branch = one.card.branch()
    pictures = branch.encoders[0]
    assert isinstance(pictures, ViT)
    recordings = pictures.but(take=pictures.take.but(front=True))
    card = one.card.but(branches=(branch.but(encoders=(ByKind(pictures, recordings),)),))
    namings = []
    for first, *rest in one.namings:
        towers = (
            replace(
                first,
                prefix=first.prefix.replace("vision_tower.", f"{tower}."),
                own_prefix=f"{VISION}{own}.",
            )
            for tower, own in (("image_tower", "pictures"), ("video_tower", "recordings"))
        )
        namings.append((*towers, *rest))
    stages = {"connector": Recorded("hook/model.multi_modal_projector", first=True), **text_stages()}
    return Reading(card, tuple(namings), stages)


def _video_llava_frames(side: int) -> Frames:
    geometry = Fixed(size=(side, side), fit="crop", mean=CLIP_MEAN, std=CLIP_STD)
    return Frames(8, spread="ends", apart=False, run=0, geometry=geometry)


def _pllava(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """PLLaVA (2404.16994), whose files have LLaVA's type; magic-research/PLLaVA tasks/eval/model_utils.py sets frames and cells
    anew. Its processor is CLIP's, whatever the file of the model that it was trained from says.
    """
    way = fields.get("pooling_method", "avg")
    if way != "avg" or not fields.get("use_pooling", True):
        raise UnknownName("config.json: pooling_method", way if way != "avg" else "none", ("avg",))
    fields.ignore("pooling_shape", "frame_shape", "num_frames", "lora_alpha", "image_grid_pinpoints")
    frame = geometry if isinstance(geometry, Fixed) else None
    kin = Kin(around=lambda _, projector: ClipPool(projector), place="then.")
    read = _llava(fields, name, frame, kin=kin)
    branch = read.card.branch()
    (eyes,) = branch.encoders
    assert isinstance(eyes, ViT)
    size = (eyes.image_size, eyes.image_size)
    frame = frame or Fixed(size=size, fit="crop", mean=CLIP_MEAN, std=CLIP_STD)
    branch = branch.but(geometry=frame, frames=Frames(16, apart=False))
    return replace(read, card=read.card.but(branches=(branch,)), stages=text_stages())


def _either(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Files of the authors' first code have the same type, and so have PLLaVA's."""
    if "mm_vision_tower" in fields:
        return own_llava(fields, name, geometry)
    if "pooling_method" in fields:
        return _pllava(fields, name, geometry)
    return _llava(fields, name, geometry, kin=Kin())


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "llava": _either,
    "video_llava": _video_llava,
    "vipllava": partial(_llava, kin=Kin(layers=(-2, -5, -8, -11, 6), norm=True)),
    "llava_next": partial(_llava, kin=Kin(newline=True, pinpoints=NEXT_PINPOINTS)),
    "llava_next_video": partial(
        _llava,
        kin=Kin(
            image_token=32001,
            newline=True,
            pinpoints=NEXT_PINPOINTS,
            around=_pooled,
            place="then.",
            frames=lambda side: Frames(
                8,
                spread="ends",
                apart=False,
                run=0,
                geometry=Fixed(size=(side, side), fit="crop", mean=CLIP_MEAN, std=CLIP_STD),
            ),
        ),
    ),
    "llava_onevision": partial(
        _llava,
        kin=Kin(
            towers=("siglip_vision_model", "qwen2"),
            encoder=SIGLIP_SO400M_384,
            pinpoints=tuple(product(range(384, 2305, 384), repeat=2)),
            layers=(-1,),
            strategy="full",
            image_token=151646,
            newline=True,
            around=_capped,
            place="then.then.",
            frames=lambda side: Frames(
                32, spread="ends", apart=False, run=0, geometry=Fixed(size=(side, side), newline=True)
            ),
        ),
    ),
}
