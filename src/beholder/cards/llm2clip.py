"""LLM2CLIP (2411.04997): a language model that reads both ways in place of CLIP's text tower."""

from beholder.cards.schema import Card, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.connectors.projections import Pooled
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.similarity import Similarity
from beholder.parts.language import sizes as language
from beholder.parts.language.two_way import TextAdapter, TwoWayDecoder
from beholder.parts.vision import sizes as vision
from beholder.prompts import formats

# microsoft/LLM2CLIP: llm2clip/eva_clip/model_configs/OpenaiCLIP-L-14-336.json and EVA02-CLIP-L-14-336.json (embed_dim),
# eva_clip/model.py (adapter), data/extract_embedding.py (Llama 3 8B Instruct, 512 tokens, means) and llm2vec/llm2vec.py
# (the prompt, of which bos, three of the header and the line break are not in the mean)
LLM2CLIP_OPENAI_L_14_336 = Card(
    name="llm2clip-openai-l-14-336",
    system="llm2clip",
    paper="2411.04997",
    licence="MIT, and the Llama 3 Community License",
    vision=vision.CLIP_L_14_336,
    connector=Pooled(project=True),
    images=Fixed(size=(336, 336), fit="crop", mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Towers(),),
    language=TwoWayDecoder(language.LLAMA_3_8B.but(tied=True), TextAdapter(width=1280), skip=5),
    heads=(Similarity(),),
    prompt=formats.LLAMA_3.but(name="llm2clip", generation="", stops=()),
    stages=(  # llm_caption_contrastive/run_supervised.py and llm2clip/run.sh
        Stage(
            "captions",
            rules=(Trains("languages.main.decoder.blocks.*", lr=2e-4, rank=16),),
            objective="contrast, texts",
        ),
        Stage(
            "pictures",
            rules=(
                Trains("languages.main.decoder.*"),
                Trains("*", lr=1e-5, weight_decay=0.05),
            ),
            objective="contrast",
        ),
    ),
)
LLM2CLIP_EVA02_L_14_336 = LLM2CLIP_OPENAI_L_14_336.but(
    name="llm2clip-eva02-l-14-336",
    vision=vision.EVA02_CLIP_L_14_336,
    connector=Pooled(project=True, bias=True),
)
