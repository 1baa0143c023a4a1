"""Qwen-VL (2308.12966), Monkey (2311.06607), which sees four tiles with changes of its own beside the whole picture, and
TextMonkey (2403.04473), whose tiles look at each other.

Numbers: config.json of Qwen/Qwen-VL-Chat; visual.py and modeling_monkey.py of Yuliang-Liu/Monkey. Rates and batches: table 8 of
the first paper and section 4.1 of the second; finetune/finetune_textmonkey.sh of that repository. 151859 fills what lies
between <img> and </img>.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.media.slices import Cut
from beholder.parts.connectors.cross_resampler import CrossResampler
from beholder.parts.connectors.kept_tokens import KeptTokens
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_llama as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.tile_lora import TileLora
from beholder.parts.vision.tile_windows import TileWindows
from beholder.prompts.formats_resamplers import MONKEY, QWEN_VL, QWEN_VL_TASKS, TEXTMONKEY

QWEN_VL_CHAT = Card(
    name="qwen-vl-chat",
    system="qwen-vl",
    paper="2308.12966",
    licence="Tongyi Qianwen License",
    vision=vision.QWEN_VL,
    connector=CrossResampler(queries=256),
    images=Fixed(size=(448, 448), mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Splice(token_id=151859, at="<imgpad>"),),
    language=language.QWEN_7B_2K,
    heads=(NextToken(),),
    prompt=QWEN_VL,
    tasks=QWEN_VL_TASKS,
    stages=(
        Stage("align", rules=(Trains("branches.image.*", lr=2e-4),), batch=30720, steps=50000),
        Stage("multi-task", rules=(Trains("*", lr=5e-5),), batch=4096, steps=19000),
        Stage(
            "instruct",
            rules=(Trains("branches.image.connector.*", lr=1e-5), Trains("languages.main.*", lr=1e-5)),
            batch=128,
            steps=8000,
        ),
    ),
    weights=(
        Source("hub", "Qwen/Qwen-VL-Chat"),
        Source("hub", "Qwen/Qwen-VL", "not trained on instructions"),
    ),
)
MONKEY_10B = QWEN_VL_CHAT.but(
    name="monkey-10b",
    system="monkey",
    paper="2311.06607",
    vision=TileLora(base=vision.QWEN_VL),
    images=Cut(tile=448, last=True, mean=CLIP_MEAN, std=CLIP_STD),
    prompt=MONKEY,
    tasks=(),
    stages=(Stage("instruct", rules=(Trains("*", lr=1e-5),), batch=1024),),
    weights=(Source("hub", "echo840/Monkey"), Source("hub", "echo840/Monkey-Chat")),
)
TEXTMONKEY_10B = MONKEY_10B.but(
    name="textmonkey-10b",
    paper="2403.04473",
    vision=TileWindows(base=vision.QWEN_VL),
    connector=KeptTokens(),
    prompt=TEXTMONKEY,
    stages=(
        Stage(
            "instruct",
            rules=(
                Trains("branches.image.vision.windows.*", lr=1e-5),
                Trains("branches.image.connector.*", lr=1e-5),
                Trains("languages.main.*", lr=1e-5),
            ),
            batch=128,
        ),
    ),
    weights=(Source("folder", "TextMonkey", "released at modelscope.cn/models/lvskiller/TextMonkey"),),
)
