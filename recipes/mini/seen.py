"""How well the connector sees, before the language model reads: names, colours, boxes, counts and letters of new pictures.

python recipes/mini/seen.py --data DIR --trained FILE [--samples 100]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from shown import mini_with, vocabulary_of

from beholder.cards.mini import MINI
from beholder.data import Scenes
from beholder.parts.connectors.named_things import chosen, overlaps
from beholder.train.things import NONE, LetterCollator, ShownCollator, connector_of

ODDS = (0.25, 0.35, 0.2, 0.2)
SETS = (("new pictures", "train"), ("new style", "test-style"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--trained", required=True, type=Path)
    parser.add_argument("--samples", default=100, type=int)
    args = parser.parse_args()
    model, tokenizer = mini_with(args.data, args.trained)
    connector, model = connector_of(model), model.eval()
    for name, split in SETS:
        scenes = Scenes(
            args.data, split, seed=1000, questions=1, odds=ODDS, held_out_words=True, length=10**6
        )
        vocabulary = vocabulary_of(Scenes(args.data))
        collate = ShownCollator(LetterCollator(MINI, tokenizer), MINI, vocabulary, scenes.concepts)
        right: dict[str, list[float]] = {
            what: [] for what in ("name", "colour", "ground", "box", "count", "letter", "word")
        }
        for start in range(0, args.samples, 20):
            item = collate([scenes[index] for index in range(start, min(start + 20, args.samples))])
            with torch.no_grad():
                (features,) = model.branch("image").encode(item.item.batch.views["image"])
                seen = connector.see(features)
                cells_VK, sure_VK = chosen(seen, connector.config.things)
                letters_VLC = connector.spell(seen, cells_VK, sure_VK)
            wanted = item.targets
            centres = wanted.centres_VN > 0
            for what, scores, numbers in (
                ("name", seen.names_VNW, wanted.names_VN),
                ("colour", seen.colours_VNC, wanted.colours_VN),
            ):
                known = centres & (numbers != NONE)
                right[what] += (scores[known].argmax(-1) == numbers[known]).tolist()
            right["ground"] += (seen.ground_VC.argmax(-1) == wanted.grounds_V).tolist()
            both_M24 = torch.stack((seen.boxes_VN4[centres], wanted.boxes_VN4[centres]), 1)
            right["box"] += (overlaps(both_M24)[:, 0, 1] >= 0.5).tolist()
            right["count"] += (sure_VK.sum(1).round() == centres.sum(1)).tolist()
            spelt_WL = letters_VLC[wanted.written_W].argmax(-1)
            right["letter"] += (spelt_WL == wanted.letters_WL)[wanted.letters_WL < 26].tolist()
            right["word"] += (spelt_WL == wanted.letters_WL).all(1).tolist()
        print(
            name,
            {what: f"{sum(each) / max(1, len(each)):.3f} of {len(each)}" for what, each in right.items()},
        )


if __name__ == "__main__":
    main()
