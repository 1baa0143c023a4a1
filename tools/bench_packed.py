"""Measures packed models beside plain ones in bf16 (or float32), with random weights: words one by one, a long prompt, a tile.

    python tools/bench_packed.py [--precisions bf16 int8 int4] [--beside bf16] [--rounds 11] [--threads N]

Rounds alternate, so that a busy machine disturbs both alike; what counts are the ratios of medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from bench_decode import SMOLLM2, filled, seconds

from beholder.cards import card
from beholder.model import Batch, Model, build
from beholder.parts.language.state import State
from beholder.speed.packed import pack

CONTEXT, PROMPT, TILE = 128, 664, 512
Measure = Callable[[], float]


@torch.inference_mode()
def step(model: Model, ids: list[int], state: State) -> torch.Tensor:
    """Scores of the next words."""
    return model.language.logits(model.read(Batch(ids_BT=torch.tensor(ids)[:, None]), {}, state).last())


def decoding(model: Model, rows: int) -> Measure:
    """Seconds a word of `rows` texts at once."""
    state = filled(model, rows, CONTEXT)
    return lambda: seconds(lambda ids, kept: step(model, ids, kept), state, CONTEXT)


def timed(work: Callable[[], object]) -> Measure:
    """Seconds of one call."""

    @torch.inference_mode()
    def once() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return once


def prompt(model: Model) -> Measure:
    """Seconds of a prompt."""
    ids_BT = torch.arange(PROMPT)[None] % 1000

    def read() -> torch.Tensor:
        output = model.read(Batch(ids_BT=ids_BT), {}, State(1, capacity=PROMPT))
        return model.language.logits(output.last())

    return timed(read)


def tile(model: Model) -> Measure:
    """Seconds of the vision tower and the connector for one picture."""
    branch, view = model.branch("image"), torch.randn(3, TILE, TILE)
    return timed(lambda: branch.connect(branch.encode([view])))


def compare(what: str, plain: Measure, packed: Measure, rounds: int, rate: int = 0) -> None:
    """A line with both medians and their ratio. rate: what one call makes, to be told a second."""
    plain(), packed()
    pairs = [(plain(), packed()) for _ in range(rounds)]
    before, after = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    told = f" = {rate / after:6.0f} tok/s" if rate else ""
    print(f"  {what:18} plain {1e3 * before:8.2f} ms  packed {1e3 * after:8.2f} ms{told}  ratio {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precisions", nargs="+", default=["bf16", "int8", "int4"])
    parser.add_argument("--beside", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = torch.float32 if options.beside == "float32" else torch.bfloat16
    text, seeing = (build(which).to(dtype).eval() for which in (SMOLLM2, card("smolvlm-256m")))
    print(f"{options.threads} threads, beside {options.beside}, {options.rounds} rounds")
    for precision in options.precisions:
        packed_text, packed_seeing = build(SMOLLM2), build(card("smolvlm-256m"))
        print(pack(packed_text, precision))
        pack(packed_seeing, precision)
        for rows in (1, 8):
            compare(
                f"words, batch {rows}",
                decoding(text, rows),
                decoding(packed_text, rows),
                options.rounds,
                rows,
            )
        compare(f"prompt of {PROMPT}", prompt(text), prompt(packed_text), options.rounds, PROMPT)
        compare(f"tile of {TILE} px", tile(seeing), tile(packed_seeing), options.rounds)


if __name__ == "__main__":
    main()
