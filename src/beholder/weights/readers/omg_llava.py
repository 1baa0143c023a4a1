"""OMG-LLaVA: its `config.json` here has the type and the language model's settings alone (`weights/omg_llava.py`); all else is
in the authors' Python settings, and here on the card (lxtGH/OMG-Seg omg_llava/omg_llava/configs/finetune).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from beholder.cards import card
from beholder.media.geometry import Geometry
from beholder.parts.fusion.regions import RegionTokens
from beholder.parts.heads.query_masks import QueryMasks
from beholder.weights.layout import Binding
from beholder.weights.layouts import omg_llava as layouts
from beholder.weights.omg_llava import ANSWERS, EYES, HEAD, LANGUAGE, REGIONS, WORDS
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_decoder
from beholder.weights.readers.reading import CONNECTOR, VISION, Naming, Reading, language_naming, text_stages

CARD = card("omg-llava-7b")
REGION, MASKS = "fusion.0.encoder.", "heads.1."


def _omg_llava(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    fields.ignore("lora_alpha")
    language = read_decoder(fields.part(LANGUAGE))
    words = language.config.vocab_size
    language = replace(language, config=language.config.but(vocab_size=words + len(WORDS)))
    (regions, *others), (answers, masks) = CARD.fusion, CARD.heads
    assert isinstance(regions, RegionTokens) and isinstance(masks, QueryMasks)
    branch = CARD.branch()
    system = CARD.but(
        name=name,
        branches=(branch.but(geometry=geometry or branch.geometry),),
        fusion=(regions.but(token_ids=(words + WORDS.index("<region>"),)), *others),
        language=language.config,
        heads=(answers, masks.but(token_ids=(words + WORDS.index("[SEG]"),))),
        stages=(),
        weights=(),
    )
    naming: Naming = (
        Binding(EYES + "backbone.", VISION + "backbone.", layouts.BACKBONE),
        Binding(HEAD + "pixel_decoder.", VISION + "pixels.", layouts.PIXELS),
        Binding(HEAD, VISION + "decoder.", layouts.DECODER),
        Binding(HEAD, VISION, layouts.OBJECTS),
        Binding("projector.model.", CONNECTOR, layouts.PROJECTOR),
        Binding(HEAD, REGION, layouts.REGION_PLACE),
        Binding(REGIONS, REGION + "decoder.", layouts.ALONE),
        Binding(REGIONS, REGION, layouts.REGION),
        Binding("projector_text2vision.model.", MASKS, layouts.TO_QUERIES),
        Binding(ANSWERS, MASKS + "decoder.", layouts.ALONE),
        *language_naming(language, "llm.model.", "llm.output."),
    )
    return Reading(system, (naming,), text_stages())


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"omg_llava": _omg_llava}
