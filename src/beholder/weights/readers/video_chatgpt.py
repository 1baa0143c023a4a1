"""Video-ChatGPT: a matrix and the words that were trained with it, beside LLaVA's first language model and CLIP's encoder
(`weights/gathered.py`). mbzuai-oryx/Video-ChatGPT video_chatgpt/model/video_chatgpt.py, eval/model_utils.py, inference.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards import card
from beholder.cards.schema import Card
from beholder.media.geometry import Geometry
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.weights.gathered import GATHERED
from beholder.weights.layout import Binding
from beholder.weights.layouts import common
from beholder.weights.layouts.vision import VIT
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava_own import language_of
from beholder.weights.readers.parts import read_decoder
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

BRANCH = card("video-chatgpt-7b").branch()
UNREAD = ("sep_image_conv_front", "sep_video_conv_front")


def _video_chatgpt(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    known = GATHERED["VideoChatGPT"]
    assert known.language is not None
    inner = fields.part(known.language)
    language = read_decoder(language_of(inner, "llama", *UNREAD))
    words = language.config.vocab_size
    config = language.config.but(vocab_size=words + len(known.words))
    system = Card(
        name=name,
        branches=(BRANCH.but(geometry=geometry or BRANCH.geometry),),
        fusion=(Splice(token_id=words, at=known.words[0]),),
        language=config,
        heads=(NextToken(),),
    )
    naming = (
        Binding("vision_tower.vision_model.", VISION, VIT),
        Binding("model.mm_projector.", CONNECTOR + "then.linear.", common.AFFINE),
        *language_naming(language, "model.", "lm_head."),
    )
    return Reading(system, (naming,), text_stages())


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"VideoChatGPT": _video_chatgpt}
