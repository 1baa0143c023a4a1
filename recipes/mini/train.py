"""Trains `mini` from its two base models.

    python recipes/mini/train.py --data DIR --out runs/mini [--minutes N] [--start FILE]

--data is what prepare.py made. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from shown import mini_with, vocabulary_of

from beholder.cards.mini import MINI
from beholder.data import EasyVQA, Mixture, Scenes
from beholder.train.run import Task, run
from beholder.train.things import LetterCollator, ShownCollator, Told, shown

SEE, TELL = MINI.stages
# odds of scenes with one thing, several, one thing several times, a word
CROWDED = (0.18, 0.42, 0.22, 0.18)
RECOLOURED = 0.5  # share of coloured drawings that are seen in slightly other colours
ASKED = (0.30, 0.36, 0.22, 0.12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--start", type=Path, help="trained tensors to begin from")
    parser.add_argument("--texts", type=Path, help="what texts.py made")
    parser.add_argument(
        "--true", type=float, default=0.0, help="share of batches told of what is there, not of what is seen"
    )
    parser.add_argument("--minutes", type=float, help="training time in all; the schedules end with it")
    parser.add_argument("--only", choices=[stage.name for stage in MINI.stages], help="one stage alone")
    args = parser.parse_args()

    model, tokenizer = mini_with(args.data, args.start)
    crowded = Scenes(args.data, seed=1, questions=1, odds=CROWDED, recolour=RECOLOURED)
    asked = Scenes(args.data, seed=2, questions=8, odds=ASKED)
    easy = [EasyVQA(args.data, "train", questions=number) for number in (1, 8)]
    tasks = (
        Task(SEE, Mixture([crowded, easy[0]], [0.94, 0.06], length=10**9), shown, share=0.4),
        Task(
            TELL,
            Mixture([asked, easy[1]], [0.82, 0.18], length=10**9),
            Told(args.texts, true=args.true),
            share=0.6,
        ),
    )
    collate = ShownCollator(LetterCollator(MINI, tokenizer), MINI, vocabulary_of(crowded), crowded.concepts)
    chosen = [task for task in tasks if args.only in (None, task.stage.name)]
    run(model, collate, chosen, args.out, minutes=args.minutes)


if __name__ == "__main__":
    main()
