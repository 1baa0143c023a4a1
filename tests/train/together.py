"""What a process of several does in tests: `torchrun -m tests.train.together FOLDER WAY STEPS`; also called in one process.

WAY is `copied` (each process has all weights) or `sharded`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from beholder.data.samples import Conversation, Item
from beholder.model import Model
from beholder.prompts.messages import assistant, user
from beholder.train.loop import Result, train_stage
from beholder.train.processes import World, joined
from tests.train.test_loop import COLLATE, STAGE, Plain, fresh, settings

BATCH = 4
LASTING = STAGE.but(steps=50, schedule="constant", batch=BATCH)


class Mixed(Plain):
    """Pictures of one colour in every other batch, and words alone in those between."""

    def __getitem__(self, index: int) -> Item:  # type: ignore[override]
        if index // BATCH % 2:
            return Conversation(
                (user("say " + "abc"[index % 3]), assistant("abc"[index % 3])), (), f"words/{index}"
            )
        return super().__getitem__(index)


def train_some(folder: Path, steps: int, world: World, model: Model | None = None) -> Result:
    """Train up to step `steps` of the lasting stage."""
    chosen = settings(folder, world=world, workers=1)
    return train_stage(model or fresh(), LASTING.but(steps=steps), Mixed(), COLLATE, chosen)


def main() -> None:
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    folder, ways, steps = Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3])
    world = joined(shard=False)
    for way in ways:
        result = train_some(folder / way, steps, replace(world, shards=way == "sharded"))
        if world.leads:
            torch.save(result.model.state_dict(), folder / f"{way}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
