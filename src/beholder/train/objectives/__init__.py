"""What stages minimise. An objective takes the model and a batch and gives one scalar; `NAMED` has those that a card's stages
name. One with a state also has `prepare(model)`, called before the first step, `after_step(model)`, and `state_dict` and
`load_state_dict` for checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from beholder.errors import BeholderError, UnknownName
from beholder.prompts.tokenizer import Tokenizer
from beholder.train.objectives.momentum import MomentumPairs
from beholder.train.objectives.pairs import (
    Contrast,
    MaskedAndMatched,
    Represented,
    Sigmoids,
    TextContrast,
    bound,
    contrasted,
    represented,
    sigmoid_pairs,
)
from beholder.train.objectives.pictures import (
    CODES,
    labelled,
    next_code,
    next_feature,
    pixels_and_text,
)
from beholder.train.objectives.reading import AUX_SHARES, Objective, Reading, Sum, Term
from beholder.train.objectives.regions import OBJECTS, boxes, masks, object_round_trip
from beholder.train.objectives.teachers import Distilled, Grounded, Preferred, Words, aligned
from beholder.train.objectives.text import (
    Answered,
    MaskedWords,
    PrefixLm,
    captions_both_ways,
    next_token,
)

__all__ = [
    "AUX_SHARES",
    "NAMED",
    "PROGRAMS",
    "Made",
    "Answered",
    "Contrast",
    "Distilled",
    "Grounded",
    "MaskedAndMatched",
    "MaskedWords",
    "MomentumPairs",
    "Objective",
    "Preferred",
    "PrefixLm",
    "Reading",
    "Represented",
    "Sigmoids",
    "Sum",
    "Term",
    "TextContrast",
    "Words",
    "aligned",
    "bound",
    "boxes",
    "captions_both_ways",
    "contrasted",
    "labelled",
    "masks",
    "named",
    "next_code",
    "next_feature",
    "next_token",
    "pixels_and_text",
    "represented",
    "sigmoid_pairs",
]


@dataclass(frozen=True)
class Made:
    """An objective that is made anew for each run, with ids of the tokenizer or with a state."""

    make: Callable[[Tokenizer | None], Objective]


def _words(_tokenizer: Tokenizer | None) -> Objective:
    raise BeholderError(
        "only the data know all answers of each task; give objective=Words(model, tokenizer, words)"
    )


def _things(_tokenizer: Tokenizer | None) -> Objective:
    raise BeholderError(
        "only composed pictures are known to show what they do; give objective=beholder.train.things.shown"
    )


# the names that `Stage.objective` may have
NAMED: dict[str, Objective | Made] = {
    "next-token": next_token,
    "next-token, prefix": PrefixLm(),
    "next-token, previous-token": captions_both_ways,
    "next-token, contrast": contrasted,
    "next-token, teacher": aligned,
    "next-token, patches": pixels_and_text,
    "next-token, features": Sum((Answered(), next_feature)),
    "next-token, codes": Sum((Answered(), next_code), (1.0, CODES)),
    "next-token, objects": Sum((Answered(), object_round_trip), (1.0, OBJECTS)),
    "next-token, boxes": Sum((Answered(), boxes)),
    "next-token, masks": Sum((Answered(), masks)),
    "next-token, masks, boxes": Sum((Answered(), masks, boxes)),
    "contrast": Contrast(),
    "contrast, bound": bound,
    "contrast, texts": TextContrast(),
    "contrast, matching, captions": represented,
    "sigmoids": sigmoid_pairs,
    "labels": labelled,
    "masked-words": Made(MaskedWords.of),
    "masked-words, matching": Made(lambda tokenizer: MaskedAndMatched(MaskedWords.of(tokenizer))),
    "contrast, momentum": Made(lambda _: MomentumPairs()),
    "distillation": Made(lambda _: Distilled(adapters=False)),
    "preferences": Made(lambda _: Preferred()),
    "words": Made(_words),
    "things": Made(_things),
}
PROGRAMS = {  # names of stages that no loss of a batch describes -> what is missing
    "rewards": "it needs answers that the model writes while it trains, and a scorer for them (GRPO, 2402.03300)",
}


def named(name: str, tokenizer: Tokenizer | None = None) -> Objective:
    """The objective of this name, a new one each time where it has a state. Raises `UnknownName` for another name,
    `BeholderError` for a program that is no loss and where the tokenizer lacks what the objective needs.
    """
    if name in PROGRAMS:
        raise BeholderError(f"objective {name!r} is no loss of a batch; {PROGRAMS[name]}")
    if name not in NAMED:
        raise UnknownName("objective", name, NAMED)
    found = NAMED[name]
    return found.make(tokenizer) if isinstance(found, Made) else found
