"""What `mini` has words for, and the model before training."""

from __future__ import annotations

from pathlib import Path

from beholder.cards.mini import MINI
from beholder.data import Scenes
from beholder.data.canvas import COLOURS, TEXT
from beholder.data.truth import SEVERAL, SHAPES
from beholder.model import Model, build
from beholder.prompts.tokenizer import Tokenizer
from beholder.train.things import Vocabulary, fill
from beholder.weights.files import open_weights
from beholder.weights.pull import base_weights, with_trained


def vocabulary_of(scenes: Scenes) -> Vocabulary:
    """Names of training, easy-VQA's shapes, and what written words are called; kinds and colours."""
    names = (*scenes.names, *(shape for shape in SHAPES if shape not in scenes.names), TEXT)
    return Vocabulary(names, tuple(sorted(scenes.by_kind)), (*COLOURS, SEVERAL))


def mini_with(data: Path, start: Path | None) -> tuple[Model, Tokenizer]:
    """The base models joined, with words filled in; where `start` is given, with what was trained before."""
    base, tokenizer = base_weights("mini")
    model = build(MINI)
    model.load_state_dict(base, strict=False)
    fill(model, tokenizer, vocabulary_of(Scenes(data)))
    if start is not None:
        trained = {name: tensor.load() for name, tensor in open_weights(start).items()}
        model.load_state_dict(with_trained(base, trained), strict=False)
    return model, tokenizer
