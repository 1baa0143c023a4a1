"""Trains `mini` from its two base models.

    python recipes/mini/train.py --data DIR --out runs/mini [--minutes N]

--data is what prepare.py made. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from beholder.cards.mini import MINI
from beholder.data import EasyVQA, Mixture, Scenes
from beholder.data.canvas import COLOURS
from beholder.model import build
from beholder.train.collate import Collator
from beholder.train.objectives import Grounded, Words
from beholder.train.run import Task, run
from beholder.weights.pull import base_weights

# odds of scenes with one thing, several, one thing several times, a word
ONLY_SINGLE = (1.0, 0.0, 0.0, 0.0)
MORE_COUNTING = (0.42, 0.20, 0.36, 0.02)
ALIGN, INSTRUCT = MINI.stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--minutes", type=float, help="training time in all; the schedules end with it")
    args = parser.parse_args()

    base, tokenizer = base_weights("mini")
    model = build(MINI)
    model.load_state_dict(base, strict=False)

    single = Scenes(args.data, seed=1, questions=5, odds=ONLY_SINGLE)
    names = {"naming": single.names, "category": sorted(single.by_kind), "colour": sorted(COLOURS)}
    scenes = Mixture(
        [Scenes(args.data, odds=MORE_COUNTING), EasyVQA(args.data, "train", questions=4)], [0.84, 0.16]
    )
    words = Words(model, tokenizer, names)
    model.get_submodule("branches.image.connector").fill(*words.table())
    tasks = (
        Task(ALIGN, single, words, share=0.25),
        Task(INSTRUCT, scenes, Grounded(words), share=0.75),
    )
    run(model, Collator(MINI, tokenizer), tasks, args.out, minutes=args.minutes)


if __name__ == "__main__":
    main()
