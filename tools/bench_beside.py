"""Measures beholder beside transformers and llama.cpp in one run, taking turns: SmolLM2-135M, SmolVLM-256M's tower with a tile.

    python tools/bench_beside.py --official PYTHON_WITH_TRANSFORMERS [--llama PYTHON_WITH_LLAMA_CPP --gguf SMOLLM2.gguf]
        [--precisions bf16 int8 int4] [--rounds 15] [--threads N]

Random weights; transformers in bf16, beholder packed, with compiled steps. Medians, the best, and the medians of all rounds'
ratios.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from bench_decode import SMOLLM2, filled, seconds
from bench_packed import CONTEXT, prompt, tile

from beholder.bench.machine import read_rate
from beholder.cards import card
from beholder.model import Model, build
from beholder.parts.language.state import State
from beholder.speed.compiled import CompiledSteps, pack_with_steps
from beholder.speed.precision import Precision

Measure = Callable[[], float]
LAYERS, HEAD = 106.2e6, 28.3e6  # weights that a token reads
BYTES = {"bf16": 2 * (LAYERS + HEAD), "int8": LAYERS + HEAD, "int4": 4.5 / 8 * LAYERS + HEAD}


def decoding(model: Model, steps: CompiledSteps, rows: int) -> Measure:
    """Seconds of one step of so many rows."""
    state = filled(model, rows, CONTEXT)

    def step(ids: list[int], kept: State) -> torch.Tensor:
        return steps(model, ids, kept, None)

    return lambda: seconds(step, state, CONTEXT)


class Other:
    """Another library, in its own process."""

    def __init__(self, python: str, worker: str, *arguments: object) -> None:
        command = [python, str(Path(__file__).with_name(worker)), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, name: str) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def beside_llama(llama: Other, own: dict[str, dict[str, Measure]], rounds: int) -> None:
    """A word at a time, each precision beside llama.cpp's of the same class; and the bytes read a second."""
    assert llama.process.stdout is not None
    while llama.process.stdout.readline().strip() != "ready":
        pass
    for precision, measure in own["batch 1"].items():
        turns = [
            (llama.measure(precision), measure(), read_rate(torch.get_num_threads())[0])
            for _ in range(rounds + 1)
        ]
        theirs, ours, rates = zip(*turns[1:], strict=True)
        ratio = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
        share = statistics.median(
            BYTES[precision] / second / rate for second, rate in zip(ours, rates, strict=True)
        )
        print(
            f"batch 1  llama.cpp {precision} {1e3 * statistics.median(theirs):.2f} ms (best {1e3 * min(theirs):.2f}), beholder "
            f"{1e3 * statistics.median(ours):.2f} ms (best {1e3 * min(ours):.2f}): {ratio:.2f} times as fast; memory gave "
            f"{statistics.median(rates) / 1e9:.0f} GB/s, of which the weights took {100 * share:.0f} %",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--official", default=sys.executable, help="a Python with transformers")
    parser.add_argument("--llama", help="a Python with llama-cpp-python")
    parser.add_argument("--gguf", help="SmolLM2-135M for it")
    parser.add_argument("--precisions", nargs="+", default=["bf16", "int8", "int4"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    official = Other(options.official, "official_worker.py", options.threads)
    own: dict[str, dict[str, Measure]] = {name: {} for name in ("batch 1", "batch 8", "prompt", "tile")}
    for name in options.precisions:
        model = build(SMOLLM2)
        _, steps = pack_with_steps(model, Precision.parse(name))
        assert isinstance(steps, CompiledSteps), steps
        own["batch 1"][name] = decoding(model, steps, 1)
        own["batch 8"][name] = decoding(model, steps, 8)
        own["prompt"][name] = prompt(model)
        if name != "int4":
            sees = build(card("smolvlm-256m"))
            pack_with_steps(sees, Precision.parse(f"vision={name},language=bf16"))
            own["tile"][name] = tile(sees)
    if options.llama is not None:
        beside_llama(
            Other(options.llama, "llama_worker.py", options.gguf, options.threads), own, options.rounds
        )
    for name, ours in own.items():
        theirs: list[float] = []
        found: dict[str, list[float]] = {precision: [] for precision in ours}
        for number in range(options.rounds + 1):
            official_seconds = official.measure(name)
            measured = {precision: measure() for precision, measure in ours.items()}
            if number:
                theirs.append(official_seconds)
                for precision, value in measured.items():
                    found[precision].append(value)
        print(
            f"{name:8} transformers bf16 {1e3 * statistics.median(theirs):8.2f} ms (best {1e3 * min(theirs):.2f})"
        )
        for precision, values in found.items():
            ratios = [a / b for a, b in zip(theirs, values, strict=True)]
            told = f"{1e3 * statistics.median(values):8.2f} ms (best {1e3 * min(values):.2f})"
            print(
                f"         {precision:12} {told}, {statistics.median(ratios):.2f} times as fast", flush=True
            )


if __name__ == "__main__":
    main()
