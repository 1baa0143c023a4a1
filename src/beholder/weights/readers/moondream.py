"""Moondream 2's files since 2025: settings under `config`, where they differ from the defaults of moondream/torch/config.py of
vikhyat/moondream, which the released ones never do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.media.overlap import OverlapCrops
from beholder.parts.connectors.crops import CropPool
from beholder.parts.connectors.projections import Mlp
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.heads.places import PlaceNumbers
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.sizes_decoders import PHI_1_5
from beholder.parts.vision import sizes
from beholder.parts.vision.vit import ViT
from beholder.weights.layout import Binding
from beholder.weights.layouts import common
from beholder.weights.layouts import moondream as layouts
from beholder.weights.layouts.decoders import OLD_PHI
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.reading import CONNECTOR, LANGUAGE, VISION, Naming, Reading, text_stages


def _moondream(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Raises `BeholderError` for revisions of 2024, whose pictures go in another way, and for packed weights."""
    if "text_config" in fields or "phi_config" in fields:
        raise BeholderError(
            f"{fields.name}: a Moondream of 2024; its code reads pictures otherwise. Take a revision of 2025 or later"
        )
    settings = fields.part("config")
    eyes, words, region = (settings.part(key) for key in ("vision", "text", "region"))
    settings.ignore("tokenizer")
    vision, language, places = _vision(eyes), _language(words), _places(region)
    for part, key, width in ((eyes, "proj_out_dim", 2048), (region, "dim", 2048)):
        if part.count(key, width) != language.dim:
            raise BeholderError(
                f"{part.name}: {key} is {part.count(key, width)}, the text's dim {language.dim}; they must be the same"
            )
    inner, margin = eyes.count("proj_inner_dim", 8192), eyes.count("overlap_margin", 4)
    images = OverlapCrops(
        crop=vision.image_size,
        cell=vision.patch,
        margin=margin,
        most=eyes.count("max_crops", 12),
        tiling="covering",
        chained=True,
    )
    for part in (eyes, words, region, settings):
        part.finish()
    card = Card(
        name=name,
        vision=vision,
        connector=CropPool(Mlp(hidden=inner, act="gelu_tanh"), margin=margin),
        images=geometry or images,
        fusion=(Splice(token_id=language.vocab_size, sees="front"),),
        language=language,
        heads=(NextToken(), places),
    )
    return Reading(card, _namings({"patch_values": 3 * vision.patch**2}), text_stages())


def _namings(numbers: Mapping[str, int]) -> tuple[Naming, ...]:
    """The usual names, those of the model without transformers' frame, and those of the code before."""
    places = "heads.1."
    usual = tuple(
        (
            Binding(f"{outer}vision.", VISION, layouts.VISION, numbers),
            Binding(f"{outer}vision.proj_mlp.", CONNECTOR + "then.", layouts.PROJECTION),
            Binding(f"{outer}text.", LANGUAGE, layouts.TEXT),
            Binding(f"{outer}region.", places, layouts.REGION),
        )
        for outer in ("model.", "")
    )
    older = (
        Binding("vision_encoder.encoder.model.visual.", VISION, layouts.OLDER_VISION, numbers),
        Binding("vision_encoder.projection.mlp.", CONNECTOR + "then.", layouts.PROJECTION),
        Binding("text_model.", LANGUAGE, OLD_PHI),
        Binding("text_model.lm_head.linear.", LANGUAGE + "head.", common.AFFINE),
        Binding("region_model.", places, layouts.OLDER_REGION),
    )
    return (*usual, older)


def _vision(eyes: Fields) -> ViT:
    eyes.ignore("in_channels")
    return sizes.SIGLIP_SO400M_14.but(
        image_size=eyes.count("crop_size", 378),
        patch=eyes.count("enc_patch_size", 14),
        dim=eyes.count("enc_dim", 1152),
        num_layers=eyes.layers("enc_n_layers", 27),
        pool=None,
        **{
            "attention.num_heads": eyes.count("enc_n_heads", 16),
            "mlp.hidden": eyes.count("enc_ff_dim", 4304),
            "norm.eps": 1e-5,  # of layers.py, where SigLIP's own is 1e-6
        },
    )


def _language(words: Fields) -> Decoder:
    words.ignore("prefix_attn")  # as many as a picture and the token before it
    if words.raw("group_size") is not None:
        raise BeholderError(
            f"{words.name}: group_size is {words.raw('group_size')}; packed weights are not read, take the release in bfloat16"
        )
    heads = words.count("n_heads", 32)
    shared = words.count("n_kv_heads", heads)
    return PHI_1_5.but(
        vocab_size=words.count("vocab_size", 51200),
        dim=words.count("dim", 2048),
        num_layers=words.layers("n_layers", 24),
        context=words.count("max_context", 2048),
        **{
            "attention.num_heads": heads,
            "attention.num_kv_heads": None if shared == heads else shared,
            "mlp.hidden": words.count("ff_dim", 8192),
        },
    )


def _places(region: Fields) -> PlaceNumbers:
    region.ignore("group_size")
    return PlaceNumbers(
        bins=region.count("coord_out_dim", 1024),
        size_bins=region.count("size_out_dim", 2048) // 2,
        hidden=region.count("inner_dim", 8192),
        features=(region.count("coord_feat_dim", 256), region.count("size_feat_dim", 512)),
    )


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"moondream1": _moondream}
