"""MiniGPT-4, MiniGPT-v2 and BLIVA: what their authors trained, beside the language model and the encoder that they took
(`weights/beside.py`). Vision-CAIR/MiniGPT-4 minigpt4/models: minigpt4.py, minigpt_v2.py; mlpc-ucsd/BLIVA bliva/models:
bliva_vicuna7b.py, bliva_flant5xxl.py. Defaults are those of their constructors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed, Geometry
from beholder.parts.connectors.adjacent import Adjacent, QueriesAndPatches
from beholder.parts.connectors.qformer import QFormer, QueryStack
from beholder.parts.contracts import ConnectorConfig
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.encoder_decoder import EncoderDecoder
from beholder.parts.vision import sizes
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.beside import COMPOSED, ENCODER
from beholder.weights.layout import Binding
from beholder.weights.layouts import common
from beholder.weights.layouts import lavis as layouts
from beholder.weights.readers.encoder_decoders import STAGES
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_language
from beholder.weights.readers.reading import (
    CONNECTOR,
    VISION,
    Naming,
    Reading,
    language_naming,
    text_stages,
)

EVA_G: ViT = sizes.EVA_CLIP_G_14_BLIP2.but(post_norm=True)
STACK = QueryStack()  # of `bert-base-uncased`, every other layer of which reads the picture
VOCABULARY = 30523  # of the words that a Q-Former reads: BERT's and the beginning of an answer
RUN = 4  # patches that MiniGPT-v2, and MiniGPT-4 for Llama 2, make one token of
# of training and of the machine, or what prompts are made of
UNREAD = (
    *(
        "arch",
        "drop_path_rate",
        "use_grad_checkpoint",
        "use_grad_checkpoint_llm",
        "vit_precision",
        "freeze_vit",
    ),
    *(
        "freeze_qformer",
        "q_former_model",
        "low_resource",
        "device_8bit",
        "prompt",
        "prompt_path",
        "end_sym",
        "ckpt",
    ),
    *(
        "prompt_template",
        "max_txt_len",
        "max_output_txt_len",
        "max_context_len",
        "chat_template",
        "apply_lemmatizer",
    ),
    *("lora_r", "lora_alpha", "lora_target_modules", "lora_dropout", "load_finetuned", "load_pretrained"),
    *("pretrained", "finetuned", "num_few_shot_examples", "few_shot_prob"),
)


def _composed(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Raises `UnknownName` for another encoder, and `BeholderError` for Q-Formers that were not released."""
    made = COMPOSED[str(fields.raw("model_type"))]
    fields.ignore(*UNREAD)
    if fields.get("vit_model", "eva_clip_g") != "eva_clip_g":
        raise UnknownName(f"{fields.name}: vit_model", fields.raw("vit_model"), ("eva_clip_g",))
    side = fields.count("image_size", made.side)
    queried = made.queried and fields.get("has_qformer", True)
    stack = STACK.but(queries=fields.count("num_query_token", 32))
    language = read_language(fields.part(made.language))
    config = language.config
    if isinstance(config, EncoderDecoder):  # bliva_flant5xxl.py sets `dense_act_fn`
        config = config.but(**{"encoder.mlp.act": "gelu", "decoder.mlp.act": "gelu"})
    positions = EVA_G.positions if side == EVA_G.image_size else GridTable("bicubic")
    take = Take(front=queried, taps=(-2,) if made.patches else ())
    if made.patches:
        connector, parts = _beside_patches(fields, stack, made.projection)
    elif queried:
        connector, parts = QFormer(stack), _queries(CONNECTOR, made.projection, asked=False)
    else:
        connector = Adjacent(RUN)
        parts = (Binding(f"{made.projection}.", CONNECTOR + "then.linear.", common.AFFINE),)
    card = Card(
        name=name,
        vision=EVA_G.but(positions=positions, take=take),
        connector=connector,
        images=geometry or Fixed(size=(side, side), mean=CLIP_MEAN, std=CLIP_STD),
        fusion=(Splice(token_id=config.vocab_size),),
        language=config,
        heads=(NextToken(),),
    )
    naming = (
        Binding(f"{ENCODER}.", VISION, layouts.VISION, drop=(f"blocks.{EVA_G.num_layers}.*",)),
        Binding("ln_vision.", VISION + "post_norm.", common.AFFINE),
        *parts,
        *language_naming(language, f"{made.language}.{language.body[0]}", f"{made.language}.{language.head}"),
    )
    stages = STAGES if isinstance(config, EncoderDecoder) else text_stages()
    return Reading(card, (naming,), stages)


def _beside_patches(fields: Fields, stack: QueryStack, projection: str) -> tuple[ConnectorConfig, Naming]:
    if not fields.get("qformer_text_input", True):
        raise BeholderError(
            f"{fields.name}: qformer_text_input is false; BLIVA was released with queries that read words"
        )
    asked = QFormer(stack.but(words=True), vocab_size=VOCABULARY)
    patches = Binding("vision_project.", CONNECTOR + "patches.linear.", common.AFFINE)
    return QueriesAndPatches(asked), (
        *_queries(CONNECTOR + "queries.", projection, asked=True),
        patches,
    )


def _queries(own: str, projection: str, *, asked: bool) -> Naming:
    """A Q-Former's names; asked: it reads words."""
    words = (Binding("Qformer.bert.", own + "words.", layouts.WORDS),) if asked else ()
    return (
        Binding("", own + "stack.", layouts.QUERY_TOKENS),
        Binding("Qformer.", own + "stack.", layouts.HEAD),
        Binding("Qformer.bert.", own + "stack.", layouts.QFORMER if asked else layouts.QFORMER_ALONE),
        *words,
        Binding(f"{projection}.", own + "linear.linear.", common.AFFINE),
    )


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = dict.fromkeys(COMPOSED, _composed)
