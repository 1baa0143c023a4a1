"""What an official `config.json` says: a card, the bindings of its weights, and where a recorded reference holds its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from beholder.cards.schema import Card
from beholder.parts.contracts import LanguageConfig
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.encoder_decoder import EncoderDecoder
from beholder.weights.layout import Binding
from beholder.weights.layouts import common
from beholder.weights.layouts.encoder_decoders import FINAL_BIAS
from beholder.weights.readers.read import Read, Recorded

VISION, CONNECTOR, LANGUAGE = "branches.image.vision.", "branches.image.connector.", "languages.main."
AUDIO = "branches.audio.vision."

Naming = tuple[Binding, ...]


@dataclass(frozen=True)
class Reading:
    """What an official config says. namings: the ways releases name the same weights, the usual one first.
    stages: stage name -> where a recorded reference holds it.
    """

    card: Card
    namings: tuple[Naming, ...]
    stages: Mapping[str, Recorded]


def language_naming(read: Read[LanguageConfig], body: str, head: str) -> Naming:
    """Where a language model and its output matrix stand under the prefixes `body` and `head`."""
    naming: Naming = (Binding(body, LANGUAGE, read.layout, read.numbers),)
    config = read.config
    if isinstance(config, EncoderDecoder):
        return (*naming, *_decoder_head(config.decoder, head))
    if not isinstance(config, Decoder):
        return naming
    if config.tied:
        bias = (Binding(head, LANGUAGE, common.HEAD_BIAS),) if config.head_bias else ()
        return (*naming, Binding(head, LANGUAGE, common.TIED_HEAD), *bias)
    return (*naming, Binding(head, LANGUAGE + "head.", common.AFFINE if config.head_bias else common.WEIGHT))


def _decoder_head(decoder: Decoder, head: str) -> Naming:
    """The output matrix of an encoder-decoder: the token table, or one of its own, and the bias of the logits."""
    bias = (Binding("", LANGUAGE + "decoder.", FINAL_BIAS),) if decoder.head_bias else ()
    if decoder.tied:
        return (Binding(head, LANGUAGE + "encoder.", common.TIED_HEAD), *bias)
    return (Binding(head, LANGUAGE + "decoder.head.", common.WEIGHT), *bias)


def text_stages() -> dict[str, Recorded]:
    """Of a model that writes text."""
    return {
        "logits": Recorded("logits"),
        "greedy logits": Recorded("gen/gen_logits"),
        "greedy": Recorded("gen/new_ids"),
    }
