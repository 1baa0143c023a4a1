"""CLAP (2211.06687): sounds and texts, without fusion of long sounds. Defaults are those of the official config classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.parts.audio.spectrogram_swin import SpectrogramSwin
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.projections import Mlp, OfPooled
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.two_ways import TwoWaySimilarity
from beholder.parts.vision.swin import Swin
from beholder.weights.layout import Binding
from beholder.weights.layouts import clap as layouts
from beholder.weights.readers.dual import STAGES
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import counts, depths, expect
from beholder.weights.readers.read import Recorded, activation_name
from beholder.weights.readers.reading import AUDIO, LANGUAGE, Reading
from beholder.weights.readers.text import READERS as TEXTS

UNREAD = ("projection_hidden_act", "projection_dim", "num_hidden_layers", "hidden_size", "initializer_factor")


def _clap(fields: Fields, name: str, _: Geometry | None) -> Reading:
    sound, words = (
        fields.part("audio_config", "clap_audio_model"),
        fields.part("text_config", "clap_text_model"),
    )
    width = fields.count("projection_dim", 512)
    act = activation_name(fields, "projection_hidden_act", "relu")
    for part in (sound, words):
        if part.count("projection_dim", 512) != width:
            raise BeholderError(f"{part.name}: projection_dim is not {width}, as in config.json")
        expect(part, "projection_hidden_act", act, act)
        part.ignore(*UNREAD)
    encoder = _encoder(sound)
    words = words.assuming(
        layer_norm_eps=1e-12, vocab_size=50265, max_position_embeddings=514, type_vocab_size=1
    )
    places = words.count("max_position_embeddings", 514)
    tower = TEXTS["roberta"](words).config
    for part in (sound, words):
        part.ignore(*UNREAD)
        part.finish()
    mlp, start = Mlp(act=act), math.log(fields.positive("logit_scale_init_value", 1 / 0.07))
    fields.ignore(*UNREAD)
    card = Card(
        name=name,
        branches=(Branch((encoder,), connector=OfPooled(mlp, width), name="audio", modality="audio"),),
        fusion=(Towers(),),
        language=tower,
        heads=(
            TwoWaySimilarity(
                branch="audio",
                scale=start,
                back=start,
                texts=mlp,
                dim=tower.feature_dim,
                width=width,
                counted=places,
            ),
        ),
    )
    naming = (
        Binding("audio_model.audio_encoder.", AUDIO, layouts.SOUND),
        Binding("audio_projection.", "branches.audio.connector.then.", layouts.PROJECTION),
        Binding("text_model.", LANGUAGE, layouts.TEXT),
        Binding("text_model.embeddings.", "heads.0.", layouts.COUNTED),
        Binding("text_projection.", "heads.0.texts.", layouts.PROJECTION),
        Binding("", "heads.0.", layouts.SCALES),
    )
    stages = {
        "sound": Recorded("audio_model_output.last_hidden_state", channels_first=True),
        "connector": Recorded("audio_embeds"),
        "text vectors": STAGES["text vectors"],
        "similarity": Recorded("logits_per_audio"),
    }
    return Reading(card, (naming,), stages)


def _encoder(fields: Fields) -> SpectrogramSwin:
    expect(fields, "enable_fusion", False, False)
    expect(fields, "enable_patch_layer_norm", True, True)
    expect(fields, "flatten_patch_embeds", True, True)
    patch = fields.count("patch_size", 4)
    strides = fields.get("patch_stride", [4, 4])
    if strides != [patch, patch]:
        raise BeholderError(
            f"{fields.name}: patch_stride is {strides}; only patches that do not overlap are supported"
        )
    fields.ignore("aff_block_r", "fusion_type", "num_classes", "patch_embed_input_channels", "drop_path_rate")
    swin = Swin(
        image_size=fields.count("spec_size", 256),
        patch=patch,
        width=fields.count("patch_embeds_hidden_size", 96),
        depths=depths(fields, "depths", (2, 2, 6, 2)),
        heads=counts(fields, "num_attention_heads", (4, 8, 16, 32)),
        window=fields.count("window_size", 8),
        ratio=fields.positive("mlp_ratio", 4.0),
        qkv_bias=fields.get("qkv_bias", True),
        act=activation_name(fields, "hidden_act", "gelu"),
        norm=Norm("layer", fields.positive("layer_norm_eps", 1e-5)),
        indexed=True,
        channels=1,
    )
    if fields.count("hidden_size", swin.dim) != swin.dim:
        raise BeholderError(
            f"{fields.name}: hidden_size is {fields.raw('hidden_size')}; these stages end at {swin.dim}"
        )
    return SpectrogramSwin(swin, fields.count("num_mel_bins", 64))


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"clap": _clap}
