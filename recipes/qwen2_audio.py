"""Qwen2-Audio 7B (2407.10759) tuned on one's own sounds: low-rank changes of the language model, and the connector.

What trains and every figure are ours: the publisher's stages have no rates and no script for tuning.
"""

from beholder.cards import card
from beholder.cards.schema import Trains
from beholder.train.recipe import Lesson, Recipe

CARD = card("qwen2-audio-7b")

RECIPE = Recipe(
    CARD,
    (
        Lesson(
            CARD.stages[-1].but(
                rules=(
                    Trains("branches.audio.connector.*", lr=1e-4),
                    Trains("languages.main.blocks.*", lr=1e-4, rank=16),
                ),
                steps=1000,
                warmup=30,
                batch=8,
                data="rows with sounds",
            ),
            small="tiny/sounds.json",
            alike=True,
        ),
    ),
    source="Qwen/Qwen2-Audio-7B-Instruct",
)
