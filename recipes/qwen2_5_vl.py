"""Qwen2.5-VL 7B (2502.13923) tuned on one's own clips and pictures, as its publisher's script does: merger and language model.

QwenLM/Qwen2.5-VL qwen-vl-finetune/scripts/sft_7b.sh, compared with a copy of it: rate 2e-7, batches of 4 a process with 4
accumulated, cosine with a warm-up of 3 %, no decay, clipping at 1, the encoder frozen. The number of steps is ours: that of
half an epoch of some 64,000 rows on eight processes. The script looks at 4 to 8 frames of a clip, this at those of answering.
"""

from beholder.cards import card
from beholder.train.recipe import Lesson, Recipe

CARD = card("qwen2.5-vl-7b")
TUNE = CARD.stages[-1]

RECIPE = Recipe(
    CARD,
    (
        Lesson(
            TUNE.but(
                rules=tuple(rule.but(lr=2e-7, weight_decay=0.0) for rule in TUNE.rules),
                steps=250,
                warmup=8,
                batch=4,
                accumulate=32,
                betas=(0.9, 0.999),
                clip=1.0,
                data="rows with clips and pictures",
            ),
            small="tiny/clips.json",
            alike=True,
        ),
    ),
    source="Qwen/Qwen2.5-VL-7B-Instruct",
    recompute=True,
)
