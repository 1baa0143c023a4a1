"""Looks for what test pictures share with training: concepts, icon sets, written words, whole pictures.

python recipes/mini/contamination.py --data DIR [--pictures 2000]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from beholder.data import Dataset, EasyVQA, Scenes

SEEDS = (1, 2)  # of `train.py`
ODDS = (0.25, 0.35, 0.2, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--pictures", type=int, default=2000, help="of each set")
    args = parser.parse_args()
    sys.exit(bool(list(found(args.data, args.pictures))))


def found(data: Path, pictures: int) -> Iterable[str]:
    """Prints what each test set shares with training, and gives what it should not."""
    train = [Scenes(data, seed=seed, questions=1, odds=ODDS) for seed in SEEDS]
    seen = digests([*train, EasyVQA(data, "train")], pictures)
    rows = {row.row for rows in train[0].pool.values() for row in rows}
    for split in ("train", "test-style", "test-concepts"):
        test = Scenes(data, split, seed=1000, questions=1, odds=ODDS, held_out_words=True, length=10**6)
        shared = {
            "concepts": set(test.names) & set(train[0].names) if split == "test-concepts" else set(),
            "cut-outs": {row.row for rows in test.pool.values() for row in rows} & rows
            if split != "train"
            else set(),
            "words": set(test.words) & set(train[0].words),
            "pictures": digests([test], pictures) & seen,
        }
        print(f"{split}: " + ", ".join(f"{len(each)} {what}" for what, each in shared.items()) + " shared")
        yield from (f"{split}: {what}" for what, each in shared.items() if each)
    easy = digests([EasyVQA(data, "test")], pictures) & seen
    print(f"easy-vqa: {len(easy)} pictures shared")


def digests(datasets: Iterable[Dataset], count: int) -> set[bytes]:
    """Of the pixels of the first pictures of each set."""
    return {
        hashlib.sha256(dataset[index].pixels.tobytes()).digest()
        for dataset in datasets
        for index in range(min(count, len(dataset)))
    }


if __name__ == "__main__":
    main()
