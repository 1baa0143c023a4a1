"""Likeness and matching by a Q-Former: three ways of reading with the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.model import Batch, Model, build
from beholder.parts.heads.queried import Captioned, Matched
from beholder.pipeline import Pipeline
from tests.toys import byte_tokenizer

WORDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 0]])


def made(name: str = "blip-2-itm-vit-l") -> Model:
    model = build(card(name).tiny(), seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def views(count: int = 2) -> list[torch.Tensor]:
    return list(torch.randn(count, 3, 28, 28, generator=torch.Generator().manual_seed(1)))


def read(model: Model, ids: torch.Tensor = WORDS, lengths=(4, 3), pictures: int = 2) -> Matched | Captioned:
    with torch.inference_mode():
        return model(Batch(ids, lengths, {"image": views(pictures)})).heads["similarity"]


def test_likeness_is_the_best_querys_cosine() -> None:
    """max over queries of cos(query, text) (2301.12597, section 3.2), pictures and texts read apart."""
    model = made()
    given, head = read(model), model.heads[0]
    with torch.inference_mode():
        memory = model.encode(Batch(views={"image": views()}))["image"].packed.split()
        queries = F.normalize(head.image(head.stack(torch.stack(memory))), dim=-1)
        words = model.language.embedding.place(model.language.embed(WORDS), torch.arange(4).expand(2, 4))
        texts = [head.stack(None, words[:1]), head.stack(None, words[1:, :3])]
        vectors = F.normalize(head.text(torch.cat([text[:, 0] for text in texts])), dim=-1)
    assert torch.allclose(given.images_VD, queries, atol=1e-5)
    assert torch.allclose(given.texts_BD, vectors, atol=1e-5)
    for picture in range(2):
        for text in range(2):
            want = max(float(query @ vectors[text]) for query in queries[picture])
            assert abs(float(given.scores_VB[picture, text]) - want) < 1e-5


def test_matching_reads_both_together_and_likeness_does_not() -> None:
    """Other words change whether the picture belongs to them, and the picture's vectors not at all."""
    model = made()
    first, second = read(model), read(model, torch.tensor([[3, 4, 5, 6], [7, 8, 11, 0]]))
    assert torch.equal(first.images_VD, second.images_VD)
    assert torch.allclose(first.matching_B2[0], second.matching_B2[0], atol=1e-6)
    assert (first.matching_B2[1] - second.matching_B2[1]).abs().max() > 1e-4
    assert read(model, pictures=1).matching_B2 is None


def test_captions_follow_the_picture_and_the_words_before() -> None:
    """Scores of what follows a word (2301.12597, section 3.2: queries and words before, and none after), by BERT's head."""
    model = made("blip-2-pretrain-vit-l")
    first, other = read(model), read(model, torch.tensor([[3, 4, 9, 6], [7, 8, 9, 0]]))
    assert first.captions_BWT.shape == (2, 4, 512)
    assert torch.allclose(first.captions_BWT[0, :2], other.captions_BWT[0, :2], atol=1e-5)
    assert (first.captions_BWT[0, 2:] - other.captions_BWT[0, 2:]).abs().amax(-1).min() > 1e-4
    with torch.inference_mode():
        swapped = model(Batch(WORDS, (4, 3), {"image": views()[::-1]})).heads["similarity"]
        assert (first.captions_BWT[0] - swapped.captions_BWT[0]).abs().amax(-1).min() > 1e-4
        head, table = model.heads[0], model.language.embedding
        memory = model.encode(Batch(views={"image": views()}))["image"].packed.split()[0]
        words = table.place(model.language.embed(WORDS[:1]), torch.arange(4)[None])
        seen = head.stack(memory[None], words, objective="itg")[:, -4:]
        direct = head.words.norm(F.gelu(head.words.dense(seen))) @ table.weight.T + head.words.bias
    assert torch.allclose(first.captions_BWT[:1], direct, atol=1e-4)


def test_a_temperature_divides_cosines_alone() -> None:
    model = made("blip-2-pretrain-vit-l")
    before = read(model)
    with torch.no_grad():
        model.heads[0].temperature.mul_(2)
    after = read(model)
    assert torch.allclose(before.scores_VB, 2 * after.scores_VB, atol=1e-5)
    assert torch.equal(before.matching_B2, after.matching_B2)


def test_words_of_another_width_are_named() -> None:
    one = card("blip-2-itm-vit-l")
    with pytest.raises(BeholderError, match=r"Q-Former of width 768.*has 512"):
        build(one.but(language=one.main.but(dim=512)), device="meta")


@pytest.mark.parametrize("name", ["blip-2-itm-vit-l", "blip-2-pretrain-vit-l"])
def test_padding_changes_nothing(name: str) -> None:
    model = made(name)
    alone, padded = read(model, WORDS[1:, :3], (3,), 1), read(model, WORDS[1:], (3,), 1)
    for one, other in zip(alone[:4], padded[:4], strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    if len(alone) == 5:
        assert torch.allclose(alone.captions_BWT, padded.captions_BWT[:, :3], atol=1e-5)


def test_vectors_of_pictures_and_texts_apart_are_those_together() -> None:
    pipeline = Pipeline(made(), byte_tokenizer())
    picture = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    both = pipeline.embed(images=[picture], texts=["a cat", "two"])
    assert both.images.shape == (1, 4, 16) and both.texts.shape == (2, 16)
    assert np.allclose(pipeline.embed(texts="two").texts, both.texts[1:], atol=1e-5)
    assert np.allclose(pipeline.embed(images=picture).images, both.images, atol=1e-5)
