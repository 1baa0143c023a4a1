"""Measures long prompts on one thread: SmolLM2-135M's shape with random weights and a context of 16k, read in pieces of 512.

    python tools/bench_context.py [--precisions bf16 int8] [--sizes 1024 ... 16384] [--plot docs/sweep-16k.png]

Seconds are those that this process computes, so that other programs disturb them less than those of a clock; a prompt is
measured once at each size. Memory is the most that the process has over what it has before the prompt. Linux only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from bench_decode import SMOLLM2

from beholder.bench.report import plotting
from beholder.model import Batch, Model, build
from beholder.parts.language.state import State
from beholder.speed.compiled import CompiledSteps, pack_with_steps
from beholder.speed.memory import trim
from beholder.speed.precision import Precision

PIECE, STEPS, MIB = 512, 15, 2**20
Row = tuple[int, float, float, float]  # tokens, seconds of the prompt, milliseconds of a token, MiB


def resident(kind: str) -> int:
    """Bytes of this process: `VmRSS`, now; `VmHWM`, at their most since `clear_refs` was last told."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(kind))


@torch.inference_mode()
def measured(model: Model, steps: CompiledSteps, tokens: int) -> Row:
    """A prompt of so many tokens and some steps behind it."""
    ids_BT, state = torch.arange(tokens)[None] % 1000, State(1, capacity=tokens + STEPS)
    trim()
    Path("/proc/self/clear_refs").write_text("5")
    before, start = resident("VmRSS"), time.process_time()
    for begin in range(0, tokens, PIECE):
        output = model.read(Batch(ids_BT=ids_BT[:, begin : begin + PIECE]), {}, state)
    model.language.logits(output.last())
    prompt, of_steps = time.process_time() - start, []
    for _ in range(STEPS):
        start = time.process_time()
        steps(model, [7], state, None)
        of_steps.append(time.process_time() - start)
    return tokens, prompt, 1e3 * statistics.median(of_steps), (resident("VmHWM") - before) / MIB


def draw(found: dict[str, list[Row]], path: Path) -> None:
    """Seconds of prompts, with what they would be if every token took as long as in the first one, and of tokens."""
    pyplot = plotting()
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    titles = ("a prompt, s of one thread", "a token behind it, ms", "memory over the weights', MiB")
    for column, (axis, title) in enumerate(zip(axes, titles, strict=True), 1):
        for name, rows in found.items():
            axis.plot([row[0] for row in rows], [row[column] for row in rows], marker="o", label=name)
        axis.set(title=title, xlabel="tokens", ylim=(0, None))
    for name, rows in found.items():
        tokens, seconds = rows[0][:2]
        axes[0].plot([0, rows[-1][0]], [0, seconds / tokens * rows[-1][0]], "--", label=f"{name}, linear")
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precisions", nargs="+", default=["bf16", "int8"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[Row]] = {}
    for precision in options.precisions:
        model = build(SMOLLM2.but(**{"language.context": max(options.sizes) + STEPS}))
        _, steps = pack_with_steps(model, Precision.parse(precision))
        assert isinstance(steps, CompiledSteps), steps
        measured(model, steps, 2 * PIECE)
        found[precision] = [measured(model, steps, size) for size in options.sizes]
        for tokens, prompt, step, held in found[precision]:
            print(
                f"{precision} {tokens:6} tokens: {prompt:7.2f} s, {step:6.2f} ms a token, {held:6.0f} MiB",
                flush=True,
            )
    if options.plot is not None:
        draw(found, options.plot)


if __name__ == "__main__":
    main()
