"""Labels of pictures by sentences about them."""

from __future__ import annotations

import numpy as np
import pytest

from beholder.errors import BeholderError, UnknownName
from beholder.parts.heads.similarity import Similarity
from beholder.pipeline import Pipeline
from beholder.prompts.templates import IMAGENET_7, IMAGENET_80, TEMPLATES, templates_of
from tests.dual_toys import made
from tests.toys import DUAL, TEXT

LABELS = ["cat", "dog", "tree"]
TWO = ["a {}.", "the {} here"]


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 56, 3), np.uint8)


@pytest.fixture(scope="module")
def dual() -> Pipeline:
    return made()


def brute_force(pipeline: Pipeline, pictures: list[np.ndarray], templates: list[str]) -> np.ndarray:
    """Cosines with the label's mean sentence, one at a time, times the temperature, as probabilities."""
    scale = pipeline.model.heads[0].scale.exp().item()
    rows = []
    for one in pictures:
        vector = pipeline.embed(images=[one]).images[0]
        scores = []
        for label in LABELS:
            sentences = [pipeline.embed(texts=[t.replace("{}", label)]).texts[0] for t in templates]
            mean = np.mean(sentences, axis=0)
            scores.append(scale * float(vector @ mean) / float(np.sqrt((mean**2).sum())))
        rows.append(scores)
    return np.array(rows)


def test_an_ensemble_is_the_mean_of_unit_vectors(dual: Pipeline) -> None:
    pictures = [picture(seed) for seed in range(3)]
    scores_VL = brute_force(dual, pictures, TWO)
    odds = np.exp(scores_VL) / np.exp(scores_VL).sum(-1, keepdims=True)
    found = dual.classify(pictures, LABELS, templates=TWO)
    assert np.allclose(found.probabilities, odds, atol=1e-4)
    assert found.best == [LABELS[index] for index in odds.argmax(-1)]
    assert [word for word, _ in found.top(2)[0]] == [LABELS[i] for i in np.argsort(-odds[0])[:2]]
    one = dual.classify(pictures, LABELS, templates=TWO[:1])
    assert not np.allclose(one.probabilities, found.probabilities, atol=1e-4)


def test_pairs_of_a_sigmoid_loss_are_judged_alone() -> None:
    pipeline = made(DUAL.but(heads=(Similarity(bias=-1.0),)))
    scores_VL = brute_force(pipeline, [picture()], ["{}"]) + pipeline.model.heads[0].bias.item()
    found = pipeline.classify(picture(), LABELS, templates="label")
    assert np.allclose(found.probabilities, 1 / (1 + np.exp(-scores_VL)), atol=1e-4)
    fewer = pipeline.classify(picture(), LABELS[:2], templates="label")
    assert np.allclose(fewer.probabilities, found.probabilities[:, :2], atol=1e-5)


def test_the_published_templates() -> None:
    assert len(set(IMAGENET_80)) == 80 and set(IMAGENET_7) < set(IMAGENET_80) and len(IMAGENET_7) == 7
    assert all(templates_of(name) == given for name, given in TEMPLATES.items())
    assert templates_of("a {} in the rain") == ("a {} in the rain",)


@pytest.mark.parametrize(
    ("labels", "templates", "said"),
    [
        ([], "label", "at least one"),
        (["cat", " "], "label", "empty one"),
        (["cat", "cat"], "label", "'cat' is given twice"),
        (["cat"], ["a photo"], "must hold {} once"),
        (["cat"], ["{} {}"], "must hold {} once"),
        (["cat"], [], "no template"),
    ],
)
def test_what_cannot_be_classified(dual: Pipeline, labels: list[str], templates: str, said: str) -> None:
    with pytest.raises(BeholderError, match=said):
        dual.classify(picture(), labels, templates=templates)


def test_names_and_systems_that_do_not_fit(dual: Pipeline) -> None:
    with pytest.raises(UnknownName, match="imagenet-80"):
        dual.classify(picture(), LABELS, templates="imagenet")
    with pytest.raises(BeholderError, match="toy-text does not compare pictures with texts"):
        made(TEXT).classify(picture(), LABELS)
