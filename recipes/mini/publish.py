"""Joins what runs of `train.py` have trained into the file that `beholder pull mini` adds to the base models.

    python recipes/mini/publish.py RUN [RUN ...] [--to DIR]

RUN: folders with `trained.safetensors`; what a later one trained takes the place of what an earlier one did.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from beholder.files import write_text_atomic
from beholder.train.run import TRAINED
from beholder.weights.files import open_weights, write_safetensors
from beholder.weights.pull import ASSEMBLIES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--to", type=Path, default=ASSEMBLIES["mini"].trained.parent, help="folder")
    args = parser.parse_args()
    tensors = {}
    for run in args.runs:
        tensors |= {name: tensor.load() for name, tensor in open_weights(run / TRAINED).items()}
    args.to.mkdir(parents=True, exist_ok=True)
    write_safetensors(args.to / TRAINED, tensors, {"card": "mini"})
    facts = {
        "card": "mini",
        "recipe": "recipes/mini/train.py",
        "dtype": "bfloat16",
        "runs": [progress(run) for run in args.runs],
    }
    write_text_atomic(args.to / "trained.json", json.dumps(facts, indent=1) + "\n")
    size = (args.to / TRAINED).stat().st_size
    print(f"{len(tensors)} tensors, {size / 2**20:.1f} MiB in {args.to / TRAINED}")


def progress(run: Path) -> dict[str, object]:
    """Steps, pictures and minutes of each stage of a run."""
    stages = {}
    for state in sorted(run.glob("*/checkpoint*/state.json")):
        facts = json.loads(state.read_text(encoding="utf-8"))
        stages[state.parts[-3]] = {
            "steps": facts["step"],
            "pictures": facts["samples"],
            "minutes": round(facts["seconds"] / 60, 1),
        }
    return stages


if __name__ == "__main__":
    main()
