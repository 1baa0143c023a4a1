"""Times a training step of a LLaVA of 30 million parameters beside the same one in transformers, taking turns.

    python tools/bench_train.py --official PYTHON_WITH_TRANSFORMERS [--rounds 7] [--threads N] [--json FILE]

Same weights, 32 samples a step, AdamW, bfloat16 autocast. `equal`: 64 tokens behind each picture, of which 48 are answer.
`mix`: half short answers, three tenths descriptions, one fifth long answers. Medians of the turns, and of their ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from beholder.bench.machine import product_rate
from beholder.cards.schema import Stage, Trains
from beholder.data.samples import Sample, Turn
from beholder.media.decode import decode
from beholder.media.geometry import Fixed
from beholder.model import Batch, Model
from beholder.planning import branch_plan
from beholder.prompts.byte_level import byte_tokenizer
from beholder.prompts.chat import ChatFormat
from beholder.prompts.chat import Turn as ChatTurn
from beholder.train.collate import Collator, TrainBatch
from beholder.train.gradients import gradients_of
from beholder.train.loop import Settings, train_stage
from beholder.train.memory import keep_freed_memory
from beholder.train.objectives import next_token
from beholder.train.recompute import recomputed
from beholder.train.rows import Answers, Piece, Tree, table
from beholder.weights.open import open_official

SAMPLES, SIDE, FEATURES, PICTURE, WORDS = 32, 128, 64, 5, 24000
MIX = (
    (0.5, (8, 20), (1, 4)),
    (0.3, (8, 16), (30, 90)),
    (0.2, (15, 40), (100, 300)),
)  # share, question, answer

LENGTHS = ("equal", "mix")
Table = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Text:
    """Ids of a question behind its picture, and of its answer."""

    question: list[int]
    answer: list[int]

    @property
    def ids(self) -> list[int]:
        return [1] + [PICTURE] * FEATURES + self.question + self.answer


def opened(folder: Path) -> Model:
    """The model that transformers wrote, with the pictures' size."""
    model = open_official(folder).model
    model.card = model.card.but(images=Fixed(size=(SIDE, SIDE)))
    return model


def texts(name: str) -> list[Text]:
    """The step's samples."""
    rng = np.random.default_rng(0)

    def words(count: int) -> list[int]:
        return [int(word) for word in rng.integers(10, WORDS, count)]

    if name == "equal":
        return [Text(words(15), words(48)) for _ in range(SAMPLES)]
    found = []
    for share, question, answer in MIX:
        for _ in range(round(share * SAMPLES)):
            found.append(Text(words(int(rng.integers(*question))), words(int(rng.integers(*answer)))))
    return [found[i] for i in rng.permutation(len(found))]


def pictures() -> Tensor:
    return torch.randn(SAMPLES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def padded(samples: Sequence[Text], pixels: Tensor) -> tuple[Tensor, ...]:
    """What transformers reads: ids, mask, labels (-100 where nothing is learned), pixels."""
    width = max(len(text.ids) for text in samples)
    ids = torch.zeros(len(samples), width, dtype=torch.long)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, text in enumerate(samples):
        stop = len(text.ids)
        ids[row, :stop], mask[row, :stop] = torch.tensor(text.ids), 1
        labels[row, stop - len(text.answer) : stop] = torch.tensor(text.answer)
    return ids, mask, labels, pixels


def item(model: Model, samples: Sequence[Text], pixels: Tensor, *, packed: bool) -> TrainBatch:
    """What beholder reads: one row with all samples, or one row each."""
    trees = []
    for text in samples:
        known = len(text.ids) - len(text.answer)
        trees.append(Tree(Piece(text.ids, [False] * known + [True] * len(text.answer))))
    rows = [trees] if packed else [[tree] for tree in trees]
    ids_BT, visibility, answers = table(rows)
    plan = branch_plan(model.card, model.card.branches[0], (SIDE, SIDE))
    plans = tuple((plan,) * len(row) for row in rows)
    lengths = tuple(sum(tree.width for tree in row) for row in rows)
    batch = Batch(ids_BT, lengths, {"image": list(pixels)}, plans, visibility=visibility)
    even = Answers(answers.rows_A, answers.places_A, answers.targets_A, torch.ones_like(answers.weights_A))
    return TrainBatch(batch, even, ((),) * len(rows))


def shares(samples: Sequence[Text], count: int) -> list[list[int]]:
    """The samples in so many parts of nearly as many tokens."""
    parts: list[list[int]] = [[] for _ in range(count)]
    for index in sorted(range(len(samples)), key=lambda i: -len(samples[i].ids)):
        min(parts, key=lambda part: sum(len(samples[i].ids) for i in part)).append(index)
    return parts


class Trainer:
    """beholder's steps, as `train.loop` takes them."""

    def __init__(self, model: Model, threads: int, stack: ExitStack, *, recompute: bool = False) -> None:
        self.model = model.train()
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, fused=True)
        stack.enter_context(recomputed(model, recompute))
        self.gradients = stack.enter_context(
            gradients_of(model, self.parameters, next_token, torch.bfloat16, threads)
        )

    def step(self, items: Sequence[TrainBatch]) -> dict[str, float]:
        began, used = time.perf_counter(), time.process_time()
        loss = self.gradients(items, len(items))
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, 1.0))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "seconds": time.perf_counter() - began,
            "cpu": time.process_time() - used,
            "loss": loss,
            "norm": norm,
        }


def useful_operations(model: Model, whole: TrainBatch) -> int:
    """Multiplications and additions of a step's products on what is no padding, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        next_token(model, whole).backward()
    model.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


class Official:
    """transformers, in its own process."""

    def __init__(self, python: str, folder: Path, threads: int) -> None:
        command = [python, str(Path(__file__).with_name("official_trainer.py")), str(folder), str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self._line().strip() != "ready":
            raise SystemExit(f"{python} could not make the model; run {' '.join(command)} to see why")

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def step(self, name: str) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        found: dict[str, float] = json.loads(self._line())
        return found


def compare(
    official: Official, trainers: dict[str, Callable[[], dict[str, float]]], name: str, rounds: int
) -> Table:
    """Medians of the turns, and of each turn's ratios to transformers'. The first turn is not counted."""
    turns: list[dict[str, dict[str, float]]] = []
    for _ in range(rounds + 1):
        turns.append({"transformers": official.step(name)})
        turns[-1] |= {way: step() for way, step in trainers.items()}
    first, *counted = turns
    rows: Table = {}
    for way in first:
        rows[way] = {
            "seconds": statistics.median(turn[way]["seconds"] for turn in counted),
            "best": min(turn[way]["seconds"] for turn in counted),
            "cpu": statistics.median(turn[way]["cpu"] for turn in counted),
            "times": statistics.median(
                turn["transformers"]["seconds"] / turn[way]["seconds"] for turn in counted
            ),
            "times_cpu": statistics.median(
                turn["transformers"]["cpu"] / turn[way]["cpu"] for turn in counted
            ),
            "first_loss": first[way]["loss"],
        }
    return rows


def peak(folder: Path, way: str, threads: int) -> dict[str, float]:
    """The most memory of a process that takes three steps, and what it held before, in MiB."""
    command = [sys.executable, __file__, "--peak", way, "--folder", str(folder), "--threads", str(threads)]
    given = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(given)
    return found


def measure_peak(folder: Path, way: str, threads: int) -> None:
    """`peak`'s process. way: `kept`, or `recomputed` in the backward pass."""
    model = opened(folder / "model")
    samples, pixels = texts("equal"), pictures()
    items = [
        item(model, [samples[i] for i in part], pixels[part], packed=True)
        for part in shares(samples, threads)
    ]
    before = most_held()
    with ExitStack() as stack:
        trainer = Trainer(model, threads, stack, recompute=way == "recomputed")
        seconds = [trainer.step(items)["seconds"] for _ in range(3)]
    print(json.dumps({"before": before, "most": most_held(), "seconds": min(seconds)}))


def most_held() -> float:
    """The most memory this process has held so far, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


class Photos:
    """Conversations about photos that are decoded from JPEG files each time, with texts as long as those of `mix`."""

    def __init__(self) -> None:
        self.files = sorted(Path("docs/samples").glob("*.jpg"))
        self.texts = texts("mix")

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, index: int) -> Sample:
        text = self.texts[index % len(self.texts)]
        turn = Turn("q" * len(text.question), "a" * len(text.answer), "all")
        return Sample(decode(self.files[index % len(self.files)]), (turn,), str(index))


def waiting(folder: Path, steps: int, threads: int) -> dict[str, float]:
    """The share of the real loop's time that waits for data, and its seconds a step."""
    chat = ChatFormat("bench", user=ChatTurn("", ""), assistant=ChatTurn("", "</s>"))
    model = opened(folder / "model")
    model.card = model.card.but(prompt=chat)
    stage = Stage(
        "all", (Trains("*", lr=1e-4),), steps=steps, batch=SAMPLES // threads, accumulate=threads, warmup=0
    )
    collate = Collator(model.card, byte_tokenizer(), tokens=1024)
    with redirect_stdout(sys.stderr):
        result = train_stage(model, stage, Photos(), collate, Settings(folder / "run", workers=threads))
    progress = result.progress
    return {"waited": progress.waited / progress.seconds, "seconds": progress.seconds / progress.step}


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, as far as asked for."""
    threads: int = options.threads
    pixels = pictures()
    official = Official(options.official, folder, threads)
    model = opened(folder / "model")
    torch.save({name: [padded(texts(name), pixels)] for name in LENGTHS}, folder / "batches.pt")
    rate = product_rate(torch.bfloat16)
    found: dict[str, Any] = {"threads": threads, "samples": SAMPLES, "products_a_second": rate}
    for name in LENGTHS:
        samples = texts(name)
        whole = item(model, samples, pixels, packed=True)
        operations = useful_operations(model, whole)
        with ExitStack() as stack:
            ways: dict[str, Callable[[], dict[str, float]]] = {}
            for packed in (False, True):
                own = opened(folder / "model")
                trainer = Trainer(own, threads, stack)
                items = [
                    item(own, [samples[i] for i in part], pixels[part], packed=packed)
                    for part in shares(samples, threads)
                ]
                ways["packed" if packed else "padded"] = partial(trainer.step, items)
            rows = compare(official, ways, name, options.rounds)
        for row in rows.values():
            row["share"] = operations / row["seconds"] / rate
        found[name] = {
            "tokens": sum(len(text.ids) for text in samples),
            "padded": SAMPLES * max(len(text.ids) for text in samples),
            "operations": operations,
            "packing": rows["padded"]["seconds"] / rows["packed"]["seconds"],
            "ways": rows,
        }
    found["peak"] = {way: peak(folder, way, threads) for way in ("kept", "recomputed")}
    found["data"] = waiting(folder, options.steps, threads)
    return found


def show(found: dict[str, Any]) -> None:
    """All figures, for people."""
    print(
        f"{found['products_a_second'] / 1e9:.0f} G operations a second in products of bfloat16, {found['threads']} threads"
    )
    for name in LENGTHS:
        own = found[name]
        print(
            f"{name}: {own['tokens']} tokens, {own['padded']} with padding, {own['operations'] / 1e9:.0f} G operations; "
            f"packing gains {own['packing']:.2f} times"
        )
        for way, row in own["ways"].items():
            print(
                f"  {way:12} {row['seconds']:.2f} s (best {row['best']:.2f}, {row['cpu']:.2f} s of processors), "
                f"{row['times']:.2f} times as fast ({row['times_cpu']:.2f} by processors' time), {100 * row['share']:.0f} % of "
                f"products' ceiling; first loss {row['first_loss']:.4f}"
            )
    for way, row in found["peak"].items():
        print(
            f"memory, layers {way}: {row['most']:.0f} MiB at most, {row['before']:.0f} before; {row['seconds']:.2f} s a step"
        )
    data = found["data"]
    print(f"data: {100 * data['waited']:.1f} % of {data['seconds']:.2f} s a step is waiting")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--official", default=sys.executable, help="a Python with transformers")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12, help="of the run that reads files")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    if options.peak:
        measure_peak(options.folder, options.peak, options.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, Path(folder))
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
