"""xGen-MM's `config.json` (BLIP-3; modeling_xgenmm.py beside its releases, branch xgen-mm of salesforce/LAVIS): SigLIP by name,
a resampler, and Phi-3, whose added words of tags are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import HALF, AnyRes, Geometry
from beholder.parts.blocks.attention import Attention
from beholder.parts.connectors.bands import Bands
from beholder.parts.connectors.resampler import Resampler
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts.cross_attention import FLAMINGO_RESAMPLER
from beholder.weights.layouts.rules import affine
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava_own import SO400M
from beholder.weights.readers.parts import read_decoder, read_vit
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

ENCODERS = {"google/siglip-so400m-patch14-384": {**SO400M, "image_size": 384}}
GRIDS = ((384, 768), (768, 384), (768, 768), (1152, 384), (384, 1152))  # (width, height)
RESAMPLER = Layout(
    {**FLAMINGO_RESAMPLER.rules, **affine({"projection": "project.linear"})}, name="xGen-MM resampler"
)
ADDED = Layout(
    {"model.embed_tokens.additional_embedding.weight": None, "lm_head.additional_fc.weight": None},
    name="xGen-MM words of tags",
)
ATTENTION = Attention(16, head_dim=96)


def _xgen_mm(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    seen, tokens = fields.part("vision_encoder_config"), fields.part("vision_tokenizer_config")
    called = seen.get("model_name", next(iter(ENCODERS)))
    if called not in ENCODERS:
        raise UnknownName("config.json: vision_encoder_config: model_name", called, ENCODERS)
    for part in (seen, tokens):
        ratio = part.get("image_aspect_ratio", "anyres")
        if ratio != "anyres" or not part.get("anyres_patch_sampling", True):
            raise BeholderError(
                f"{part.name}: image_aspect_ratio {ratio!r} or anyres_patch_sampling; only anyres of tiles is known"
            )
    tower = read_vit(Fields(ENCODERS[called], seen.name))
    vision = tower.config.but(pool=None)
    text = fields.part("text_config", "phi3")
    text.ignore("initial_tokenizer_len")
    language = read_decoder(text)
    widths = (
        tokens.count("vis_feature_dim", vision.dim),
        tokens.count("lang_embedding_dim", language.config.dim),
    )
    if widths != (vision.dim, language.config.dim):
        raise BeholderError(f"{tokens.name}: widths {widths}; expected {(vision.dim, language.config.dim)}")
    grids = seen.get("anyres_grids", [list(grid) for grid in GRIDS])
    pinpoints = tuple((int(height), int(width)) for width, height in grids)
    latents = tokens.count("num_vis_tokens", 128)
    for part in (seen, tokens):
        part.finish()
    card = Card(
        name=name,
        vision=vision,
        connector=Bands(base=Resampler(latents=latents, attention=ATTENTION, project=True)),
        images=geometry
        or AnyRes(tile=vision.image_size, pinpoints=pinpoints, newline=False, mean=HALF, std=HALF),
        fusion=(Splice(token_id=language.config.vocab_size),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding("vlm.vision_encoder.", VISION, tower.layout, tower.numbers, drop=("head.*",)),
        Binding("vlm.vision_tokenizer.", CONNECTOR + "base.", RESAMPLER),
        Binding("vlm.lang_model.", "", ADDED),
        *language_naming(language, "vlm.lang_model.model.", "vlm.lang_model.lm_head."),
    )
    return Reading(card, (naming,), text_stages())


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"xgenmm": _xgen_mm}
