"""Classification by texts (2103.00020, section 3.1): the label whose sentences are most like the picture. And by the labels
that a system was trained for.

V pictures, L labels, B sentences, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from beholder.errors import BeholderError
from beholder.parts.contracts import HeadInputs
from beholder.parts.heads.labels import LabelsHead
from beholder.parts.heads.similarity import SimilarityHead
from beholder.prompts.templates import sentences, templates_of

if TYPE_CHECKING:
    from beholder.pipeline import Pipeline

TEXTS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Classes:
    """probabilities (V, L): of each label for each picture. Where systems were trained to tell pairs apart (SigLIP), or to
    give several labels, each is a probability of its own; elsewhere those of a picture add up to 1.
    """

    labels: tuple[str, ...]
    probabilities: np.ndarray

    @property
    def best(self) -> list[str]:
        """Each picture's most probable label."""
        return [self.labels[index] for index in self.probabilities.argmax(-1)]

    def top(self, count: int) -> list[list[tuple[str, float]]]:
        """Each picture's `count` most probable labels, best first."""
        orders_VL = np.argsort(-self.probabilities, axis=-1, kind="stable")[:, :count]
        return [
            [(self.labels[index], float(row[index])) for index in order]
            for row, order in zip(self.probabilities, orders_VL, strict=True)
        ]


def text_vectors(pipeline: Pipeline, texts: Sequence[str]) -> np.ndarray:
    """Unit vectors (B, D) of any number of texts."""
    starts = range(0, len(texts), TEXTS_AT_ONCE)
    vectors = [pipeline.embed(texts=texts[start : start + TEXTS_AT_ONCE]).texts for start in starts]
    return np.concatenate([each for each in vectors if each is not None])


def label_vectors(pipeline: Pipeline, labels: Sequence[str], templates: str | Sequence[str]) -> np.ndarray:
    """One unit vector (L, D) for each label: the mean of its sentences' unit vectors, brought to length 1 again, as in
    openai/CLIP notebooks/Prompt_Engineering_for_ImageNet.ipynb.
    """
    wanted = templates_of(templates)
    texts = [sentence for label in labels for sentence in sentences(label, wanted)]
    means_LD = text_vectors(pipeline, texts).reshape(len(labels), len(wanted), -1).mean(1)
    return means_LD / np.linalg.norm(means_LD, axis=-1, keepdims=True)


def classify(
    pipeline: Pipeline,
    pictures: Sequence[object],
    labels: Sequence[str] | None,
    templates: str | Sequence[str],
) -> Classes:
    """How probable each label is for each picture; see `Pipeline.classify`."""
    own = next((head for head in pipeline.model.heads if isinstance(head, LabelsHead)), None)
    if own is not None and labels is None:
        return _by_its_own(pipeline, pictures, own)
    if own is not None:
        raise BeholderError(f"{pipeline.card.name} has {own.config.count} labels of its own; give no others")
    if labels is None:
        raise BeholderError(f"{pipeline.card.name} has no labels of its own; give some")
    labels = tuple(labels)
    if not labels or not all(isinstance(label, str) and label.strip() for label in labels):
        raise BeholderError("labels are words, at least one of them; an empty one says nothing")
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise BeholderError(f"label {twice!r} is given twice; give each once")
    head = next((head for head in pipeline.model.heads if isinstance(head, SimilarityHead)), None)
    if head is None:
        raise BeholderError(
            f"{pipeline.card.name} does not compare pictures with texts; choose a dual encoder such as clip-b-32"
        )
    images_VD = pipeline.embed(images=list(pictures)).images
    assert images_VD is not None
    texts_LD = label_vectors(pipeline, labels, templates)
    with torch.inference_mode():
        device, dtype = pipeline.model.device, pipeline.model.dtype
        images, texts = (torch.from_numpy(each).to(device, dtype) for each in (images_VD, texts_LD))
        scores_VL = head.compare(images, texts).float()
        odds_VL = scores_VL.sigmoid() if head.bias is not None else scores_VL.softmax(-1)
    return Classes(labels, odds_VL.cpu().numpy())


def _by_its_own(pipeline: Pipeline, pictures: Sequence[object], head: LabelsHead) -> Classes:
    """By the labels that the system was trained for."""
    with torch.inference_mode():
        branches = pipeline.encode_pictures(pictures)
        odds_VL = head.probabilities(head(HeadInputs(branches=branches)).float())
    return Classes(head.config.words, odds_VL.cpu().numpy())
