"""Qwen2.5-Omni's thinker (2503.20215): Qwen2.5-VL that hears as well. Defaults are those of the official config classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.media.stretches import Stretches
from beholder.parts.audio.chunks import Chunks
from beholder.parts.audio.positions import SinePositions
from beholder.parts.connectors.merger import Merger
from beholder.parts.connectors.projections import Linear
from beholder.parts.fusion.grid_positions import GridPositions
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts import common
from beholder.weights.layouts import native as native_layouts
from beholder.weights.layouts.audio import OMNI_ENCODER
from beholder.weights.layouts.vision import QWEN2_5_OMNI
from beholder.weights.readers import many_axes
from beholder.weights.readers.audio import whisper_encoder
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Read, Recorded
from beholder.weights.readers.reading import (
    AUDIO,
    CONNECTOR,
    VISION,
    Naming,
    Reading,
    language_naming,
    text_stages,
)
from beholder.weights.readers.vision import READERS as EYES

SOUND_CONNECTOR = "branches.audio.connector."
WORDS: Mapping[str, Any] = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
}
UNREAD = (  # said by the processor, or of sound within recordings
    *(
        "video_token_index",
        "audio_start_token_id",
        "audio_end_token_id",
        "user_token_id",
        "seconds_per_chunk",
    ),
    *("vision_start_token_id", "vision_end_token_id", "vision_token_id", "ignore_index"),
)


def thinker(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """The part of the system that reads and writes text; what speaks is no part of it."""
    return _thinker(fields, name, geometry, "")


def omni(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """The released files hold the talker and its codec besides, which are left out by name."""
    fields.ignore("talker_config", "token2wav_config", "enable_audio_output", "enable_talker")
    inner = fields.part("thinker_config", "qwen2_5_omni_thinker")
    reading = _thinker(inner, name, geometry, "thinker.")
    inner.finish()
    rest: Naming = tuple(Binding(prefix, "", SPEECH) for prefix in ("talker.", "token2wav."))
    return Reading(reading.card, tuple((*naming, *rest) for naming in reading.namings), reading.stages)


SPEECH = Layout({"*": None}, name="Qwen2.5-Omni's speech")


def _thinker(fields: Fields, name: str, geometry: Geometry | None, prefix: str) -> Reading:
    fields.ignore(*UNREAD)
    eyes = fields.part("vision_config", "qwen2_5_omni_vision_encoder")
    square = eyes.count("spatial_merge_size", 2)
    vision = EYES["qwen2_5_vl_vision"](eyes)
    eyes.finish()
    ears = fields.part("audio_config", "qwen2_5_omni_audio_encoder")
    words = fields.part("text_config", "qwen2_5_omni_text").assuming(**WORDS)
    language = many_axes.READERS["qwen2_5_vl_text"](words)
    words.finish()
    decoder = language.config.but(tied=fields.get("tie_word_embeddings", False))
    language = Read(decoder, language.layout, language.numbers)
    card = Card(
        name=name,
        branches=(
            Branch((vision.config,), geometry, Merger(vision.config.norm, factor=square)),
            Branch(
                (_ears(ears, decoder.dim),),
                connector=Linear(),
                name="audio",
                modality="audio",
                stretches=Stretches(most=1, padded=False),
            ),
        ),
        fusion=(
            Splice(token_id=fields.count("image_token_index", 151655), at="<|IMAGE|>"),
            GridPositions(per_second=float(fields.count("position_id_per_seconds", 25))),
            Splice(token_id=fields.count("audio_token_index", 151646), at="<|AUDIO|>", branch="audio"),
        ),
        language=decoder,
        heads=(NextToken(),),
    )
    naming = (
        Binding(f"{prefix}visual.", VISION, QWEN2_5_OMNI, vision.numbers),
        Binding(f"{prefix}visual.", CONNECTOR, native_layouts.QWEN_MERGER),
        Binding(f"{prefix}audio_tower.", AUDIO, OMNI_ENCODER),
        Binding(f"{prefix}audio_tower.proj.", SOUND_CONNECTOR + "linear.", common.AFFINE),
        *language_naming(language, f"{prefix}model.", f"{prefix}lm_head."),
    )
    stages = {
        "connector": Recorded("hook/model.audio_tower/last_hidden_state"),
        "image features": Recorded("hook/model.visual/pooler_output"),
        "hidden states": Recorded("hook/model.language_model/last_hidden_state"),
        **text_stages(),
    }
    return Reading(card, (naming,), stages)


def _ears(fields: Fields, width: int) -> Chunks:
    """Whisper's encoder over two seconds at a time, with sine waves, every two tokens as one."""
    encoder = whisper_encoder(fields, bins=128, dim=1280, layers=32, heads=20)
    half = fields.count("n_window", 100)
    if half % 2:
        raise BeholderError(
            f"{fields.name}: n_window is {half}; pairs of tokens would cross chunks, so it must be even"
        )
    if fields.count("output_dim", 3584) != width:
        raise BeholderError(f"{fields.name}: output_dim is not the {width} channels of the language model")
    fields.finish()
    return Chunks(
        encoder.but(shrink=2, positions=SinePositions(), size=(encoder.size[0], 2 * half)),
        2 * half,
        (2, width),
    )


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "qwen2_5_omni_thinker": thinker,
    "qwen2_5_omni": omni,
}
