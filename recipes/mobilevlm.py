"""MobileVLM 1.7B (2312.16886, section 4.1): LLaVA-1.5's two stages and data for a small language model and LDP.

Meituan-AutoML/MobileVLM run_v1.sh: data, rates 1e-3 and 2e-5 (4e-5 for 3B), batches of 32 and 16 a process, eight of them
(the paper's section), warm-up of 3 %, no decay; nothing is clipped (scripts/deepspeed). The section names LLaVA's first data,
CC-595K and Instruct-158K, with the same rates and batches.
"""

from beholder.cards import card
from beholder.train.recipe import Lesson, Recipe, Start

CARD = card("mobilevlm-1.7b")
ALIGN, INSTRUCT = (stage.but(betas=(0.9, 0.999), clip=0.0) for stage in CARD.stages)

RECIPE = Recipe(
    CARD,
    (
        Lesson(
            ALIGN.but(steps=2181, batch=32, accumulate=8, warmup=66, data="LLaVA-Pretrain 558K"),
            small="tiny/captions.json",
            chat="llava-plain",
            bare=True,
        ),
        Lesson(
            INSTRUCT.but(steps=5198, batch=16, accumulate=8, warmup=156, data="llava_v1_5_mix665k.json"),
            small="tiny/instruct.json",
            alike=True,
        ),
    ),
    start=(
        Start("branches.image.vision", "clip-l-14-336"),
        Start("languages.main", "mtgv/MobileLLaMA-1.4B-Chat"),
    ),
)
