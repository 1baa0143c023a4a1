"""Trains `mini` from its two base models.

    python recipes/mini/train.py --data DIR --base DIR --out runs/mini [--minutes N]

--data is what prepare.py made. --base holds vision.safetensors, language.safetensors and tokenizer.json. A run that was
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from beholder.cards.mini import MINI
from beholder.data import EasyVQA, Mixture, Scenes
from beholder.data.canvas import COLOURS
from beholder.model import Model, build
from beholder.prompts.tokenizer import Tokenizer
from beholder.train.collate import Collator
from beholder.train.objectives import Words
from beholder.train.run import Task, run
from beholder.weights.files import open_weights

ONLY_SINGLE = (1.0, 0.0, 0.0, 0.0)
ALIGN, INSTRUCT = MINI.stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--base", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--minutes", type=float, help="training time in all; the schedules end with it")
    args = parser.parse_args()

    model, tokenizer = build(MINI), Tokenizer.from_folder(args.base)
    load_part(model, "branches.image.vision", args.base / "vision.safetensors")
    load_part(model, "languages.main", args.base / "language.safetensors")

    single = Scenes(args.data, seed=1, questions=5, odds=ONLY_SINGLE)
    names = {"naming": single.names, "category": sorted(single.by_kind), "colour": sorted(COLOURS)}
    scenes = Mixture([Scenes(args.data), EasyVQA(args.data, "train", questions=4)], [0.84, 0.16])
    tasks = (
        Task(ALIGN, single, Words(model, tokenizer, names), share=0.25),
        Task(INSTRUCT, scenes, share=0.75),
    )
    run(model, Collator(MINI, tokenizer), tasks, args.out, minutes=args.minutes)


def load_part(model: Model, name: str, path: Path) -> None:
    """Fill one part of the model; the ImageNet classifier is not used."""
    tensors = {key: value.load().clone() for key, value in open_weights(path).items()}
    tensors = {key: value for key, value in tensors.items() if not key.startswith("classifier.")}
    model.get_submodule(name).load_state_dict(tensors, strict=True)


if __name__ == "__main__":
    main()
