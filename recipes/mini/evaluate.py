"""Scores `mini` on what it has not seen: easy-VQA's test questions, new pictures, a new style of drawing, new concepts, and the
text that its language model reads as well.

    python recipes/mini/evaluate.py --data DIR [--model mini | --trained FILE] [--samples 400] [--out results.json]

--data is what prepare.py made. Prints a table; `prior` answers by the question alone, `blind` is the model on grey pictures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from perplexity import base_perplexity, perplexity, rows_of_text
from rich.console import Console
from shown import mini_with

import beholder
from beholder.data import Dataset, EasyVQA, Mixture, Sample, Scenes, Turn
from beholder.data.cutouts import Concept
from beholder.evals import Answerer, EvalSet, Prior, answer_with, evaluate
from beholder.evals.judges import OR
from beholder.evals.run import markdown, table, write_json
from beholder.pipeline import Pipeline

PRIOR_SAMPLES = 3000
SEED = 1000  # of pictures that training does not show
LONGEST = 48  # tokens of an answer: a description of six things
ASKED = (0.25, 0.35, 0.28, 0.12)


class WithAliases:
    """A data set whose naming turns are asked once more, under `naming/or-alias`, where the concept's tags are right too."""

    def __init__(self, scenes: Scenes) -> None:
        self.scenes = scenes
        self.concepts: dict[str, Concept] = scenes.concepts

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Sample:
        sample = self.scenes[index]
        (concept, *_) = (thing.cutout.concept for thing in sample.scene.placed)
        named = [turn for turn in sample.turns if turn.task == "naming"]
        right = OR.join((concept, *self.concepts[concept].tags)) if named else ""
        also = tuple(Turn(turn.question, right, "naming/or-alias") for turn in named)
        return Sample(sample.pixels, sample.turns + also, sample.key)


def remembering(answerer: Answerer) -> Answerer:
    """The same answerer, which is asked each question about a picture once."""
    known: dict[tuple[bytes, str], str] = {}

    def answer(pictures: Sequence[np.ndarray], questions: Sequence[str]) -> list[str]:
        keys = [(pixels.tobytes(), question) for pixels, question in zip(pictures, questions, strict=True)]
        new = [number for number, key in enumerate(keys) if key not in known]
        if new:
            given = answerer([pictures[number] for number in new], [questions[number] for number in new])
            known.update({keys[number]: each for number, each in zip(new, given, strict=True)})
        return [known[key] for key in keys]

    return answer


def sets_of(data: Path, samples: int) -> tuple[EvalSet, ...]:
    """The test sets. easy-VQA's questions come ordered by picture, so the first are as good as any."""

    def scenes(split: str, seed: int) -> Dataset:
        return WithAliases(
            Scenes(data, split, seed=seed, questions=8, odds=ASKED, held_out_words=True, length=10**6)
        )

    none: frozenset[str] = frozenset()
    return (
        EvalSet("easy-vqa", EasyVQA(data, "test", questions=8), samples),
        EvalSet("new pictures", scenes("train", SEED), samples, none),
        EvalSet("new style", scenes("test-style", SEED), samples, none),
        EvalSet("new concepts", scenes("test-concepts", SEED), samples, none),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default="mini", help="a name or a folder")
    parser.add_argument("--trained", type=Path, help="trained tensors of a run, in place of a model")
    parser.add_argument("--samples", default=400, type=int, help="pictures of each set")
    parser.add_argument("--sets", nargs="*", help="names of sets; all where not given")
    parser.add_argument("--no-blind", action="store_true", help="do not ask about grey pictures")
    parser.add_argument("--out", type=Path, help="JSON file for the results, and a page's table beside it")
    args = parser.parse_args()

    if args.trained is None:
        pipeline = beholder.load(args.model)
    else:
        model, tokenizer = mini_with(args.data, args.trained)
        pipeline = Pipeline(model.to(torch.bfloat16), tokenizer)
    asked = Scenes(args.data, seed=2, questions=8, odds=ASKED)
    train = Mixture([asked, EasyVQA(args.data, "train", questions=8)], [0.8, 0.2])
    prior = Prior.fit(turn for index in range(PRIOR_SAMPLES) for turn in train[index].turns)
    sets = [each for each in sets_of(args.data, args.samples) if not args.sets or each.name in args.sets]
    answerer = remembering(answer_with(pipeline, max_tokens=LONGEST))
    rows = evaluate(answerer, sets, prior=prior, with_blind=not args.no_blind)
    console = Console()
    console.print(table(rows))
    own = perplexity(pipeline.model, rows_of_text(pipeline.tokenizer))
    base = base_perplexity()
    console.print(f"perplexity of plain text: {own:.3f}, of the language model alone {base:.3f}")
    if args.out is not None:
        write_json(rows, args.out)
        args.out.with_suffix(".md").write_text(markdown(rows), encoding="utf-8")
        args.out.with_suffix(".text.json").write_text(
            json.dumps({"perplexity": own, "base": base}) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
