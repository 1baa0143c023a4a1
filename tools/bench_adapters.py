#!/usr/bin/env python3
"""What adapters take on `mini`, one kind a process, as docs/adapters.md shows it.

python tools/bench_adapters.py lora              # or dora, mixture, prefix, ..., full, norms
python tools/bench_adapters.py lora int4         # on packed weights
python tools/bench_adapters.py merged            # merged beside unmerged scores
"""

from __future__ import annotations

import resource
import sys
import time

import torch
from torch.nn import functional as F

from beholder.cards.schema import Stage, Trains
from beholder.model import Batch
from beholder.parts.adapters.apply import known_as, merge_adapters, put_on
from beholder.parts.adapters.named import chosen
from beholder.pipeline import load
from beholder.train.stages import prepare_stage, store_frozen

LAYERS = "languages.main.blocks.*"
RANKS = {"prefix": 20, "prompt": 20, "p-tuning": 20, "zero-init": 10, "bottleneck": 64}
THEMSELVES = {"full": LAYERS, "norms": "languages.main.*norm*.weight"}
ROWS, TOKENS, STEPS = 4, 128, 6
STATE = 12  # bytes of a trained value in float32 with AdamW's two moments


def words(rows: int, tokens: int) -> torch.Tensor:
    return torch.randint(0, 1000, (rows, tokens), generator=torch.Generator().manual_seed(1))


def cost(kind: str, precision: str | None) -> str:
    """Trained values, their state, the process's peak and processor seconds of a step."""
    model = load("mini", precision=precision).model
    pattern = THEMSELVES.get(kind)
    rule = (
        Trains(pattern, lr=1e-5)
        if pattern
        else Trains(LAYERS, lr=1e-3, rank=RANKS.get(kind, 16), adapter=kind)
    )
    plan = prepare_stage(model, Stage("bench", rules=(rule,)))
    if precision is None:
        store_frozen(model, torch.bfloat16)
    optimizer = torch.optim.AdamW(plan.optimizer_groups(), fused=True)
    ids_BT, seconds = words(ROWS, TOKENS), []
    model.train()
    for _ in range(STEPS):
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            hidden_BTD = model.read(Batch(ids_BT=ids_BT[:, :-1]), {}).hidden_BTD
            scores_NV = model.language.logits(hidden_BTD).float().flatten(0, 1)
        F.cross_entropy(scores_NV, ids_BT[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - start)
    trained = sum(group.num_values for group in plan.groups)
    share, peak = trained / (trained + plan.frozen), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return (
        f"| {kind} {precision or ''} | {trained:,} | {share:.2%} | {STATE * trained / 1e6:,.1f} MB | {peak:,.0f} MB | "
        f"{min(seconds[1:]):.2f} s |"
    )


@torch.no_grad()
def merged(kind: str) -> str:
    """How far merged scores are from unmerged ones, beside what the adapter changes."""
    model, ids_BT = load("mini", dtype=torch.float32).model, words(2, 64)
    plain = model(Batch(ids_BT=ids_BT)).heads["text"]
    adapter = chosen(kind, 16, LAYERS)
    assert adapter is not None
    put_on(model, adapter)
    new = model(Batch(ids_BT=ids_BT)).heads["text"]
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if known_as(name)[1]:
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    beside = model(Batch(ids_BT=ids_BT)).heads["text"]
    merge_adapters(model)
    inside = model(Batch(ids_BT=ids_BT)).heads["text"]
    new, changed, apart = (float(x.abs().max()) for x in (new - plain, beside - plain, inside - beside))
    return f"{kind}: new {new:.1e}, changed {changed:.1f}, merged {apart:.1e}"


def main() -> None:
    torch.set_num_threads(1)
    kind, *precision = sys.argv[1:] or ["lora"]
    if kind == "merged":
        for each in ("lora", "rslora", "dora", "ia3"):
            print(merged(each))
        return
    print(cost(kind, precision[0] if precision else None))


if __name__ == "__main__":
    main()
