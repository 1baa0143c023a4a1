"""Sa2VA's `config.json` (magic-research/Sa2VA projects/llava_sam2/hf/models): InternVL 2.5's, and SAM 2 of the
code's size beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards import card
from beholder.cards.schema import Branch
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.parts.fusion.regions import RegionTokens, TokensInside
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.masks import PromptedMasks
from beholder.parts.language.decoder import Decoder
from beholder.parts.vision.hiera import Hiera
from beholder.weights.layout import Binding
from beholder.weights.layouts import masks as layouts
from beholder.weights.layouts.hierarchical import SEGMENT_ANYTHING_2
from beholder.weights.layouts.llava_kin import PERCEPTRON
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.reading import Reading
from beholder.weights.readers.tiled import READERS as TILED

FIRST_IDS = {"internlm2": 92553, "qwen2": 151674}  # of [SEG]; <p>, </p>, <vp> and </vp> follow
SAM, HEAD = "grounding_encoder.sam2_model.", "heads.1."


def _sa2va(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    seen = TILED["internvl_chat"](fields, name, geometry)
    first = FIRST_IDS[str(fields.part("llm_config", "internlm2").raw("model_type"))]
    language = seen.card.main
    assert isinstance(language, Decoder)
    if language.vocab_size < first + 5:
        raise BeholderError(
            f"config.json: llm_config: vocab_size is {language.vocab_size}; [SEG] and four others end at {first + 5}"
        )
    known = card("sa2va-8b")
    masks, sam = known.heads[1], known.branch("sam")
    (place,) = (each for each in seen.card.fusion if isinstance(each, Splice))
    assert isinstance(masks, PromptedMasks) and masks.tracking is not None
    regions = RegionTokens(TokensInside(), token_ids=(place.token_id,), behind=first + 3)
    system = seen.card.but(
        branches=(*seen.card.branches, sam),
        fusion=(regions, *seen.card.fusion),
        heads=(*seen.card.heads, masks.but(token_ids=(first,))),
    )
    naming = (*seen.namings[0], *_sam2(sam, masks.tracking.dim))
    return Reading(system, (naming,), seen.stages)


def _sam2(branch: Branch, memory: int) -> tuple[Binding, ...]:
    eyes = branch.encoders[0]
    assert isinstance(eyes, Hiera)
    numbers = {"width": eyes.dims[0], "background": eyes.background, "window": eyes.windows[0]}
    return (
        Binding(f"{SAM}image_encoder.", "branches.sam.vision.", SEGMENT_ANYTHING_2, numbers),
        Binding(f"{SAM}sam_mask_decoder.", f"{HEAD}decoder.", layouts.OWN_SAM2_DECODER),
        Binding(f"{SAM}sam_prompt_encoder.", HEAD, layouts.OWN_SAM2_STATES),
        Binding(SAM, HEAD, layouts.OWN_NO_MEMORY),
        Binding(SAM, f"{HEAD}memory.", layouts.OWN_SAM2_MEMORY, {"memory": memory}),
        Binding("text_hidden_fcs.", f"{HEAD}project.", PERCEPTRON),
    )


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"sa2va_chat": _sa2va}
