"""Measures decoding: the compiled step in each format beside PyTorch's, with random weights.

    python tools/bench_decode.py [--card NAME] [--batch 1 8] [--context 128] [--formats bf16 int8 int4] [--rounds 15]

Rounds are interleaved, so that a busy machine disturbs all alike; medians and the best round are shown, and the share that
the bytes of weights and cache would take at `--bandwidth` GB/s.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from beholder.cards import card
from beholder.cards.schema import Card
from beholder.model import Batch, Model, build
from beholder.native import library
from beholder.native.decoder import NativeDecoder
from beholder.native.formats import Formats
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import DecoderModel
from beholder.parts.language.sizes import SMOLLM2_135M
from beholder.parts.language.state import State
from beholder.prompts import formats

STEPS = 8  # of a round
SMOLLM2 = Card(name="smollm2-135m", language=SMOLLM2_135M, heads=(NextToken(),), prompt=formats.PLAIN)


def filled(model: Model, rows: int, context: int) -> State:
    """A state that holds a prompt of `context` tokens in each row."""
    state = State(rows, capacity=context + STEPS + 1)
    ids_BT = torch.arange(rows * context).view(rows, context) % 1000
    with torch.inference_mode():
        model.read(Batch(ids_BT=ids_BT), {}, state)
    return state


def seconds(step: Callable[[list[int], State], torch.Tensor], state: State, context: int) -> float:
    """Of one step, as the mean of a round."""
    state.truncate([context] * state.rows)
    ids = [7] * state.rows
    step(ids, state)
    start = time.perf_counter()
    for _ in range(STEPS - 1):
        step(ids, state)
    return (time.perf_counter() - start) / (STEPS - 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--card", help="SmolLM2-135M alone where not given")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--formats", nargs="+", default=["bf16", "int8", "int4"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--set", help="instruction set; the best one where not given")
    parser.add_argument("--bandwidth", type=float, default=80.0, help="GB/s that the memory gives")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch's steps out")
    options = parser.parse_args()
    model = build(card(options.card) if options.card else SMOLLM2).to(torch.bfloat16)

    @torch.inference_mode()
    def by_torch(ids: list[int], state: State) -> torch.Tensor:
        batch = Batch(ids_BT=torch.tensor(ids)[:, None])
        return model.language.logits(model.read(batch, {}, state).last())

    assert isinstance(model.language, DecoderModel)
    matrices = [p for p in model.language.parameters() if p.ndim == 2]
    steps = {} if options.no_torch else {"torch bf16": (by_torch, 2 * sum(p.numel() for p in matrices))}
    for form in options.formats:
        start = time.perf_counter()
        decoder = NativeDecoder.of(model, Formats(form), threads=options.threads, instruction_set=options.set)
        print(f"{form}: {decoder.nbytes / 1e6:.0f} MB packed in {time.perf_counter() - start:.1f} s")
        steps[form] = (decoder.step, decoder.nbytes)
    print(
        f"{model.card.name}, context {options.context}, {options.threads} threads, {options.set or library.describe()[0]}"
    )
    for rows in options.batch:
        states = {name: filled(model, rows, options.context) for name in steps}
        rounds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(options.rounds):
            for name, (step, _) in steps.items():
                rounds[name].append(seconds(step, states[name], options.context))
        for name, (_, weight_bytes) in steps.items():
            middle, best = statistics.median(rounds[name]), min(rounds[name])
            cache = states[name].nbytes * options.context / (options.context + STEPS + 1)
            bound = (weight_bytes + cache) / options.bandwidth / 1e9
            print(
                f"batch {rows}  {name:10}  median {1e3 * middle:6.2f} ms = {rows / middle:6.0f} tok/s "
                f"({bound / middle:4.0%} of the bound)   best {1e3 * best:6.2f} ms = {rows / best:6.0f} tok/s"
            )


if __name__ == "__main__":
    main()
