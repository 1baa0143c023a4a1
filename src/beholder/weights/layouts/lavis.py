"""Systems made from LAVIS's BLIP-2: names of salesforce/LAVIS lavis/models/blip2_models/Qformer.py and eva_vit.py."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.qformer import QFORMER_OF_WORDS, QUESTION
from beholder.weights.layouts.vision import EVA_CLIP
from beholder.weights.ops import Leading

# The encoder's file has a layer more, and what reads it there
VISION = Layout(
    {
        **{key: op for key, op in EVA_CLIP.rules.items() if not key.startswith("norm.")},
        **{f"{name}.*": None for name in ("norm", "fc_norm", "head")},
        "mask_token": None,
    },
    name="LAVIS EVA-CLIP g",
)
_RENAMED = {
    "attention.attention.": "attention.self.",
    "crossattention.attention.": "crossattention.self.",
    "embeddings.layernorm.": "embeddings.LayerNorm.",
}


def _named(key: str) -> str:
    for theirs, ours in _RENAMED.items():
        key = key.replace(theirs, ours)
    return key


QFORMER = Layout(
    {
        **{_named(key): op for key, op in QFORMER_OF_WORDS.rules.items()},
        "embeddings.position_ids": None,
    },
    name="LAVIS Q-Former",
)
# Of a file whose Q-Former read words, for a system whose does not
NO_WORDS = {
    "embeddings.word_embeddings.weight": None,
    "embeddings.position_embeddings.weight": None,
    "encoder.layer.{}.intermediate.dense.*": None,
    "encoder.layer.{}.output.*": None,
}
QFORMER_ALONE = Layout(
    {
        **{
            key: op
            for key, op in QFORMER.rules.items()
            if not key.startswith(("encoder.layer.{}.intermediate.", "encoder.layer.{}.output."))
        },
        **NO_WORDS,
    },
    name="LAVIS Q-Former without words",
)
WORDS = Layout(
    {key: op for key, op in QUESTION.rules.items() if op is not None}, name="LAVIS words of a Q-Former"
)
QUERY_TOKENS = Layout({"query_tokens": Leading("queries")}, name="LAVIS queries")
HEAD = Layout({"cls.*": None}, name="LAVIS head over words, of the first stage alone")
