"""Official settings of single parts, by `model_type`."""

from __future__ import annotations

from typing import Any

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.parts.audio.transformer import SignalTransformer
from beholder.parts.contracts import EncoderConfig, LanguageConfig
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.text_encoder import TextEncoder
from beholder.parts.vision.vit import ViT
from beholder.weights.readers import (
    audio,
    clips,
    cohere,
    deberta,
    decoders,
    encoder_decoders,
    experts,
    gemma,
    gemma_layers,
    gpt,
    hierarchical,
    hybrids,
    many_axes,
    mpt,
    native_vision,
    olmo,
    own_code,
    phi,
    recurrent,
    segformer,
    text,
    vision,
    yolos,
)
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Read, Readers, read_part

LANGUAGE: Readers = {
    **decoders.READERS,
    **gpt.READERS,
    **mpt.READERS,
    **cohere.READERS,
    **gemma.READERS,
    **gemma_layers.READERS,
    **many_axes.READERS,
    **olmo.READERS,
    **phi.READERS,
    **own_code.READERS,
    **experts.READERS,
    **recurrent.READERS,
    **hybrids.READERS,
    **text.READERS,
    **deberta.READERS,
    **encoder_decoders.READERS,
}
AUDIO: Readers = {**audio.READERS}
VISION: Readers = {
    **vision.READERS,
    **native_vision.READERS,
    **phi.VISION,
    **clips.READERS,
    **hierarchical.READERS,
    **segformer.READERS,
    **yolos.READERS,
}
INSIDE: Readers = {**VISION, **vision.INSIDE}  # encoders as the files of systems name them


def read_language(fields: Fields) -> Read[LanguageConfig]:
    """A language model or text encoder; raises `UnknownName` for a type that is none."""
    return read_part(fields, LANGUAGE)


def read_decoder(fields: Fields) -> Read[Decoder]:
    """A decoder-only language model; raises `UnknownName` for a type that is none."""
    return _only(fields, LANGUAGE, Decoder, "a decoder")


def read_text_encoder(fields: Fields) -> Read[TextEncoder]:
    """A text tower; raises `UnknownName` for a type that is none."""
    return _only(fields, LANGUAGE, TextEncoder, "a text tower")


def read_encoder(fields: Fields) -> Read[EncoderConfig]:
    """An encoder of pictures; raises `UnknownName` for an unknown type."""
    return read_part(fields, INSIDE)


def read_audio(fields: Fields) -> Read[SignalTransformer]:
    """An encoder of sounds; raises `UnknownName` for an unknown type."""
    return read_part(fields, AUDIO)


def read_vit(fields: Fields) -> Read[ViT]:
    """A vision transformer; raises `UnknownName` for a type that is none."""
    return _only(fields, INSIDE, ViT, "a plain ViT")


def _only(fields: Fields, readers: Readers, kind: type[Config], words: str) -> Read[Any]:
    """What `readers` make of `fields` where it is of that kind."""
    read = read_part(fields, readers)
    if not isinstance(read.config, kind):
        raise BeholderError(f"{fields.name}: model_type {fields.raw('model_type')!r} is not {words}")
    return read
