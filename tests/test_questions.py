"""Systems whose connector reads the question in words of its own: asking, saving and exporting them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from beholder.data.samples import Sample, Turn
from beholder.errors import BeholderError
from beholder.model import build
from beholder.parts.connectors.qformer import QFormer, QueryStack
from beholder.parts.vision.vit import Take
from beholder.pipeline import Pipeline, load
from beholder.prompts.messages import Picture, Text, assistant, user
from beholder.questions import FOLDER, question_tokenizer, question_words
from beholder.train.collate import Collator
from tests.toys import SEES, byte_tokenizer

CARD = SEES.but(
    name="toy-asked",
    vision=SEES.branches[0].encoders[0].but(cls=True, take=Take(front=True)),
    connector=QFormer(QueryStack(words=True).tiny(), vocab_size=300, context=40),
)
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)


def made(**kwargs) -> Pipeline:
    model = build(CARD, seed=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return Pipeline(model, byte_tokenizer(), **kwargs)


def test_the_last_question_is_read_and_rows_are_padded() -> None:
    first = [user(Picture(), "no"), assistant("a"), user(Text("yes"), Text("?"))]
    words = question_words(CARD, byte_tokenizer(), [first, [user("ab")]])
    assert words is not None
    ids, keep = words
    assert [byte_tokenizer().decode(row[k].tolist()) for row, k in zip(ids, keep, strict=True)] == [
        "yes?",
        "ab",
    ]
    assert ids.shape == (2, 4)
    assert question_words(SEES, None, [first]) is None


def test_questions_change_the_picture_and_rows_do_not_mix() -> None:
    pipeline = made(words=byte_tokenizer())
    prepared = [pipeline.prepare([[user(Picture(PICTURE), text)]]).batch for text in ("where", "count")]
    with torch.inference_mode():
        seen = [pipeline.model.encode(batch)["image"].packed.tokens_ND for batch in prepared]
    assert (seen[0] - seen[1]).abs().max() > 1e-3
    asked = [[user(Picture(PICTURE), text)] for text in ("where", "counted")]
    together = pipeline.answer(asked, max_tokens=4)
    assert [reply.ids for reply in together] == [pipeline.chat(one, max_tokens=4).ids for one in asked]


def test_the_tokenizer_is_needed_saved_and_found_again(tmp_path) -> None:
    with pytest.raises(BeholderError, match=FOLDER):
        made().ask(PICTURE, "what")
    pipeline = made(words=byte_tokenizer())
    pipeline.save(tmp_path / "saved")
    pipeline.save(tmp_path / "saved")  # a folder of ours is replaced, the folder inside with it
    assert question_tokenizer(tmp_path / "saved") is not None
    again = load(tmp_path / "saved")
    assert again.ask(PICTURE, "what", max_tokens=4).ids == pipeline.ask(PICTURE, "what", max_tokens=4).ids
    (tmp_path / "saved" / FOLDER / "mine.txt").write_text("kept")
    with pytest.raises(BeholderError):
        pipeline.save(tmp_path / "saved")


def test_training_reads_each_question_with_the_picture() -> None:
    words = byte_tokenizer()
    collate = Collator(CARD, byte_tokenizer(), words=words)
    turns = (Turn("where", "here", "x"), Turn("counted", "one", "x"))
    given = collate([Sample(PICTURE, turns, "a")])
    assert len(given.batch.ids_BT) == len(given.batch.views["image"]) == 2
    ids, keep = given.batch.words
    assert [words.decode(row[k].tolist()) for row, k in zip(ids, keep, strict=True)] == ["where", "counted"]
    asked = (
        Pipeline(build(CARD), byte_tokenizer(), words=words)
        .prepare([[user(Picture(PICTURE), "where")]])
        .batch
    )
    assert given.batch.prompts[0] == asked.ids_BT.shape[1]
    assert torch.equal(given.batch.ids_BT[0, : given.batch.prompts[0]], asked.ids_BT[0])


def test_training_needs_the_words_of_the_connector() -> None:
    with pytest.raises(BeholderError, match="reads each question with the picture.* give their tokenizer"):
        Collator(CARD, byte_tokenizer())
