"""Measures what fewer bits do to answers: the figures of docs/quantised.md.

    python tools/quantised_quality.py embeddings              # MiniLM inside mini-search: sentences of this repository
    python tools/quantised_quality.py speech FOLDER           # Whisper tiny.en: the WAV files of a folder, and a speech
    python tools/quantised_quality.py text                    # SmolLM2, whose weights come in 4 bits: a check alone
    python tools/quantised_quality.py mini                    # mini, trained on top of those: a check alone

Everything is compared with the same weights in bf16.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from beholder.generate.loop import answers, generate
from beholder.generate.sampling import Sampling
from beholder.media.waves import read_wav, resample
from beholder.model import Batch
from beholder.pipeline import load
from beholder.speed.packed import pack
from beholder.weights.open import open_named

ROOT = Path(__file__).resolve().parents[1]
FEWER = ("int8", "int4")
ALL_INT4 = "vision=int4,language=int4,head=int4"
RATE = 16_000
QUESTIONS = ("What is this?", "What colour is it?", "How many things are there?", "Is there a cat?")


def sentences(count: int) -> list[str]:
    """Of the pages in docs, each once."""
    text = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    found = re.findall(r"[A-Z][a-z]+ [a-z][^.|`*\[\]()<>#]{40,200}\.", text)
    return [" ".join(one.split()) for one in dict.fromkeys(found)][:count]


def embeddings() -> None:
    """Cosine with bf16, how far likenesses move, and whether the nearest sentences stay."""
    texts = sentences(500)
    before = load("mini-search", precision="bf16").embed(texts=texts).texts
    print(f"{len(texts)} sentences")
    for bits in FEWER:
        after = load("mini-search", precision=bits).embed(texts=texts).texts
        cosines, tables = (before * after).sum(1), [x @ x.T - 2 * np.eye(len(x)) for x in (before, after)]
        nearest = [np.argsort(-table, 1)[:, :10] for table in tables]
        first = float((nearest[0][:, 0] == nearest[1][:, 0]).mean())
        shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*nearest, strict=True)])
        cross = before @ after.T
        found = float((cross.argmax(1) == np.arange(len(texts))).mean())
        moved = np.abs(tables[0] - tables[1]).mean()
        print(
            f"{bits}: cosine mean {cosines.mean():.4f} least {cosines.min():.4f}; likenesses move {moved:.4f}; "
            f"itself first {found:.1%}; same nearest {first:.1%}; of ten nearest {shared:.1%}"
        )


def speech(folder: Path) -> None:
    """Word errors against the transcripts in bf16."""
    sys.path.insert(0, str(ROOT))
    from tests.test_whisper import END, PLAIN_TEXT, SPEECH, START, fetch_file, official_folder

    paths = sorted(folder.rglob("*.wav"), key=lambda path: -path.stat().st_size)[:40]
    sounds = [
        (samples if rate == RATE else resample(samples, rate, RATE))
        for samples, rate in map(read_wav, [fetch_file(SPEECH), *paths])
    ]
    sounds = [samples[: 30 * RATE] for samples in sounds]
    print(f"{len(sounds)} sounds, {sum(map(len, sounds)) / RATE:.0f} seconds")

    def written(precision: str) -> list[list[str]]:
        opened, tokenizer = open_named(official, dtype=torch.float32)
        pack(opened.model, precision)
        front = opened.model.card.branches[0].front
        given = []
        for start in range(0, len(sounds), 8):
            views = [front.view(sound) for sound in sounds[start : start + 8]]
            batch = Batch(torch.tensor([[START, PLAIN_TEXT]] * len(views)), views={"audio": views})
            greedy = [Sampling(max_tokens=100)] * len(views)
            pieces = generate(opened.model, batch, greedy, eos_ids=[END], decode=tokenizer.stream)
            given += [re.findall(r"[a-z']+", result.text.lower()) for result in answers(pieces)]
        return given

    with tempfile.TemporaryDirectory() as scratch:
        official = official_folder(Path(scratch))
        before = written("bf16")
        words = sum(map(len, before))
        for bits in ("float32", *FEWER, "vision=int4,language=int4", ALL_INT4):
            wrong = sum(edits(a, b) for a, b in zip(before, written(bits), strict=True))
            print(f"{bits}: {wrong} of {words} words differ from bf16, {wrong / words:.1%}")


def edits(one: list[str], other: list[str]) -> int:
    """Words to put in, take out or change (Levenshtein's distance)."""
    row = list(range(len(other) + 1))
    for number, word in enumerate(one, start=1):
        last, row[0] = row[0], number
        for place, against in enumerate(other, start=1):
            last, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, last + (word != against))
    return row[-1]


@torch.inference_mode()
def text() -> None:
    """Perplexity of a page, and how often the likeliest next word is the same."""
    from beholder.weights.pull import ASSEMBLIES
    from beholder.weights.sources import fetch_file

    path = fetch_file(ASSEMBLIES["mini"].language)
    page = " ".join(sentences(120))

    def scores(precision: str) -> tuple[Any, float]:
        pipeline = load(path, precision=precision)
        ids_T = torch.tensor(pipeline.tokenizer.encode(page))[: 4 * 512]
        ids_BT = ids_T[: len(ids_T) // 512 * 512].view(-1, 512)
        logits = pipeline.model(Batch(ids_BT=ids_BT)).heads["text"][:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids_BT[:, 1:].flatten())
        return logits.argmax(-1), float(loss.exp())

    best, perplexity = scores("bf16")
    print(f"bf16: perplexity {perplexity:.2f} of {best.numel()} words")
    for bits in (*FEWER, "language=int4,head=int4"):
        other, changed = scores(bits)
        same = float((best == other).float().mean())
        print(
            f"{bits}: perplexity {changed:.2f} ({changed / perplexity - 1:+.1%}); same likeliest word {same:.1%}"
        )


def mini() -> None:
    """How many answers about the sample pictures stay, word for word."""
    pictures = sorted((ROOT / "docs" / "samples").glob("*.jpg"))

    def said(precision: str) -> list[str]:
        pipeline = load("mini", precision=precision)
        return [str(pipeline.ask(one, asked, max_tokens=12)) for one in pictures for asked in QUESTIONS]

    before = said("bf16")
    for bits in (*FEWER, "language=int4,head=int4"):
        same = sum(a == b for a, b in zip(before, said(bits), strict=True))
        print(f"{bits}: {same} of {len(before)} answers are those of bf16")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("embeddings", "speech", "text", "mini"))
    parser.add_argument("folder", nargs="?", type=Path, help="of WAV files, for speech")
    options = parser.parse_args()
    if options.what == "speech":
        if options.folder is None:
            parser.error("speech needs a folder of WAV files")
        speech(options.folder)
    else:
        {"embeddings": embeddings, "text": text, "mini": mini}[options.what]()


if __name__ == "__main__":
    main()
