"""Labels that a checkpoint was trained for: names, probabilities, and the classifiers of every kind of encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.geometry import Fixed
from beholder.media.plan import Grid
from beholder.model import build
from beholder.parts.contracts import BranchOutput, HeadInputs, Packed
from beholder.parts.heads.labels import Labels
from beholder.pipeline import Pipeline, load
from beholder.weights.readers.systems import read_system

from .toys import VIT

NAMES = ("tench", "goldfish", "great white shark")
SEEN = VIT.but(cls=True, pool="cls")
CARD = Card(
    name="labelled", vision=SEEN, images=Fixed(size=(28, 28)), heads=(Labels(SEEN.dim, 3, names=NAMES),)
)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def pooled(vectors_VD: torch.Tensor) -> dict[str, BranchOutput]:
    tokens = Packed(vectors_VD, (Grid(1, 1, 1),) * len(vectors_VD), pooled_VD=vectors_VD)
    return {"image": BranchOutput(tokens, ((),))}


def test_scores_are_an_affine_map_of_the_pooled_vector() -> None:
    head, vectors_VD = Labels(4, 3).build(None), torch.randn(2, 4)
    want = vectors_VD @ head.linear.weight.T + head.linear.bias
    assert torch.allclose(head(HeadInputs(branches=pooled(vectors_VD))), want, atol=1e-6)
    with pytest.raises(BeholderError, match="set pool="):
        head(HeadInputs(branches={"image": BranchOutput(Packed(vectors_VD, (Grid(1, 1, 2),)), ((),))}))


def test_probabilities_add_up_to_one_or_are_each_its_own() -> None:
    scores_VC = torch.randn(2, 3)
    one, several = (Labels(4, 3, several=several).build(None) for several in (False, True))
    assert torch.allclose(one.probabilities(scores_VC).sum(-1), torch.ones(2))
    assert torch.allclose(several.probabilities(scores_VC), 1 / (1 + torch.exp(-scores_VC)))


def test_a_classifier_names_what_it_sees() -> None:
    pipeline = Pipeline(build(CARD, seed=3))
    nn.init.normal_(pipeline.model.heads[0].linear.weight)
    found = pipeline.classify([picture(0), picture(1)])
    assert found.labels == NAMES and found.probabilities.shape == (2, 3)
    with torch.inference_mode():
        vectors = pipeline.encode_pictures([picture(1)])["image"].packed.pooled_VD
        scores = pipeline.model.heads[0].linear(vectors)[0]
    assert np.allclose(found.probabilities[1], scores.softmax(-1), atol=1e-5)
    top = found.top(2)[1]
    assert [word for word, _ in top] == [NAMES[index] for index in scores.argsort(descending=True)[:2]]
    with pytest.raises(BeholderError, match="3 labels of its own"):
        pipeline.classify(picture(0), ["cat"])


def test_labels_without_names_have_numbers() -> None:
    assert Labels(4, 2).words == ("label 0", "label 1")
    with pytest.raises(BeholderError, match="3 labels have 2 names"):
        Labels(4, 3, names=("a", "b"))


@pytest.mark.parametrize("family", ["vit_cls", "dinov2_cls", "beit_cls", "data2vec_vision_cls", "resnet_cls"])
def test_checkpoints_give_the_official_scores(family: str, oracle: Callable[[str], Path]) -> None:
    from beholder.weights.files import open_weights

    folder = oracle(family)
    pipeline = load(folder)
    (config,) = pipeline.card.heads
    named = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
    assert isinstance(config, Labels) and list(config.names) == list(named.values())
    pixels = open_weights(folder / "inputs.safetensors")["pixel_values"].load()
    theirs = open_weights(folder / "reference.safetensors")["logits"].load()
    branch, head = pipeline.model.branch("image"), pipeline.model.heads[0]
    with torch.inference_mode():
        ours = head(HeadInputs(branches={"image": BranchOutput(branch(list(pixels)), ((),))}))
    assert (ours - theirs).abs().max() / theirs.std() < 1e-4


@pytest.mark.parametrize(
    ("kind", "classes"),
    [
        ("convnext", "ConvNextForImageClassification"),
        ("convnextv2", "ConvNextV2ForImageClassification"),
        ("swin", "SwinForImageClassification"),
        ("swinv2", "Swinv2ForImageClassification"),
        ("focalnet", "FocalNetForImageClassification"),
        ("hiera", "HieraForImageClassification"),
        ("efficientnet", "EfficientNetForImageClassification"),
    ],
)
@pytest.mark.filterwarnings("error::UserWarning")
def test_every_encoder_with_stages_may_have_labels(kind: str, classes: str) -> None:
    named = {str(number): f"word {number}" for number in range(5)}
    reading = read_system({"model_type": kind, "architectures": [classes], "id2label": named}, name="x")
    (head,) = reading.card.heads
    assert isinstance(head, Labels) and head.names == tuple(named.values())
    model = build(reading.card, device="meta")
    keys = {key for binding in reading.namings[0] for key in binding.layout.rules}
    assert any("weight" in key and ("classifier" in key or "head" in key) for key in keys)
    pooled_VD = torch.zeros(1, head.dim, device="meta")
    assert model.heads[0](HeadInputs(branches=pooled(pooled_VD))).shape == (1, 5)


def test_labels_that_skip_a_number_are_refused() -> None:
    data: dict[str, Any] = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}
    with pytest.raises(BeholderError, match="id2label numbers its 2 labels otherwise"):
        read_system(data | {"id2label": {"0": "a", "2": "b"}}, name="x")
    assert read_system(data, name="x").card.heads[0].count == 2
    many = read_system(data | {"problem_type": "multi_label_classification"}, name="x")
    assert many.card.heads[0].several
