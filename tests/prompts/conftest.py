"""Small tokenizers of every kind that published models use, made on the spot."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from beholder.media.plan import Features, PicturePlan, Tag
from beholder.prompts.tokenizer import Tokenizer

CONTROLS = (
    "<unk>",
    "<s>",
    "</s>",
    "<pad>",
    "<image>",
    "<|im_start|>",
    "<|im_end|>",
    "<end_of_utterance>",
    "<|begin_of_text|>",
    "<fake_token_around_image>",
    "<row_1_col_1>",
    "<global-img>",
)
CORPUS = [
    "What is in this image? The image shows two cups of tea on a table, im_start and im_end.",
    "user: hello assistant: USER: ASSISTANT: System: User: <s <im image> </s </ s> [INST] [/INST] <<SYS>> row_1_col_1",
] * 8
KINDS = ("byte-level", "digits", "llama-legacy", "metaspace-first", "metaspace-always", "unigram")


def raw_tokenizer(kind: str) -> tokenizers.Tokenizer:
    """A trained `tokenizers.Tokenizer` that puts `<s>` before a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if kind in ("byte-level", "digits"):
        raw = tokenizers.Tokenizer(models.BPE())
        steps = [pre_tokenizers.Digits(individual_digits=True)] if kind == "digits" else []
        raw.pre_tokenizer = pre_tokenizers.Sequence(
            [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        raw.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=600, special_tokens=list(CONTROLS), initial_alphabet=alphabet
        )
    elif kind == "unigram":
        raw = tokenizers.Tokenizer(models.Unigram())
        raw.pre_tokenizer = pre_tokenizers.Metaspace()
        raw.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=list(CONTROLS), unk_token="<unk>")
    else:
        raw = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        if kind == "llama-legacy":
            raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        else:
            scheme = kind.removeprefix("metaspace-")
            raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        raw.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        names = [*CONTROLS, *(f"<0x{i:02X}>" for i in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=names)
    raw.train_from_iterator(CORPUS, trainer)
    data = json.loads(raw.to_str())  # bytes are ordinary tokens of the model, not added ones
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in CONTROLS]
    raw = tokenizers.Tokenizer.from_str(json.dumps(data))
    raw.post_processor = processors.TemplateProcessing(
        "<s> $A", special_tokens=[("<s>", raw.token_to_id("<s>"))]
    )
    return raw


_RAW = {kind: raw_tokenizer(kind) for kind in KINDS}


def ours(raw: tokenizers.Tokenizer, **settings: Any) -> Tokenizer:
    """The beholder tokenizer of a raw one."""
    return Tokenizer(
        json.loads(raw.to_str()), **({"bos": "<s>", "eos": ("</s>",), "pad": "<pad>"} | settings)
    )


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """A tokenizer of each kind: ours, and the package's own for comparison."""
    raw = _RAW[request.param]
    return ours(raw), raw


@pytest.fixture
def byte_pair() -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """The byte-level one: ours, and the package's own."""
    return ours(_RAW["byte-level"]), _RAW["byte-level"]


def picture_plan(*pieces: str | int) -> PicturePlan:
    """A plan with tags (strings) and runs of features (counts)."""
    parts: list[Tag | Features] = []
    used = 0
    for piece in pieces:
        if isinstance(piece, str):
            parts.append(Tag(piece))
        else:
            parts.append(Features(np.arange(used, used + piece)))
            used += piece
    return PicturePlan("image", (8, 8), (), (), tuple(parts))


@pytest.fixture
def plan() -> Any:
    """`picture_plan`."""
    return picture_plan
