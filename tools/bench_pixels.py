"""Times from decoded pictures to the tensors that encoders take, with compiled code, with Pillow, and of transformers.

    python tools/bench_pixels.py [--rounds 15] [--threads 2] [--official .venv-oracle/bin/python]

Rounds alternate between all that is measured; medians are printed, the least in brackets. --official: an interpreter that has
transformers, which runs apart; its pixels are compared with ours.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PHOTO = (768, 1024)
SMOLVLM = {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}, "resample": 1}
# name -> (card, pixels per side where they differ from the card's, official processor, its settings)
CASES = {
    "smolvlm-256m, split": ("smolvlm-256m", None, "SmolVLMImageProcessorPil", SMOLVLM),
    "smolvlm-256m, whole": (
        *("smolvlm-256m", None, "SmolVLMImageProcessorPil"),
        SMOLVLM | {"do_image_splitting": False},
    ),
    "llava-1.6": (
        *("llava-1.6-vicuna-7b", None, "LlavaNextImageProcessorPil"),
        {
            "size": {"shortest_edge": 336},
            "crop_size": {"height": 336, "width": 336},
            "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
        },
    ),
    "internvl-2.5": (
        *("internvl-2.5-1b", None, "GotOcr2ImageProcessorPil"),
        {
            "size": {"height": 448, "width": 448},
            "crop_to_patches": True,
            "max_patches": 12,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        },
    ),
    "clip 336": (
        *("clip-l-14-336", None, "CLIPImageProcessorPil"),
        {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}},
    ),
    "siglip 512": (
        *("siglip-b-16-224", 512, "SiglipImageProcessorPil"),
        {"size": {"height": 512, "width": 512}, "resample": 3},
    ),
}


def photo(height: int, width: int) -> np.ndarray:
    """A picture with edges, gradients and noise (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).normal(0, 12, (height, width, 3))
    waves = 128 + 90 * np.sin(x / 17)[..., None] * np.cos(y / 23)[..., None] * np.array([1, 0.7, -0.8])
    return (waves + 60 * ((x // 64 + y // 64) % 2)[..., None] + noise).clip(0, 255).astype(np.uint8)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def answer_for_transformers(threads: int) -> None:
    """The other side of `Official`: a case a line on standard input, milliseconds on standard output."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    picture, processors = photo(*PHOTO), {}
    print("ready", flush=True)
    for line in sys.stdin:
        case, path = json.loads(line)
        if case not in processors:
            _, _, kind, settings = CASES[case]
            processors[case] = getattr(transformers, kind)(**settings)
        start = time.perf_counter()
        found = processors[case](picture, return_tensors="pt")["pixel_values"]
        spent = (time.perf_counter() - start) * 1000
        if path:
            np.save(path, found.numpy())
        print(spent, flush=True)


class Official:
    """Transformers in a process of its own."""

    def __init__(self, python: str, threads: int) -> None:
        command = [python, __file__, "--answer", "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the official processors ended; see their error above")
        return line

    def time(self, case: str, path: str = "") -> float:
        assert self.process.stdin is not None
        print(json.dumps([case, path]), file=self.process.stdin, flush=True)
        return float(self._line())

    def pixels(self, case: str) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "pixels.npy"))
            self.time(case, path)
            return np.load(path)


def ours(case: str) -> Callable[[], list[np.ndarray]]:
    """What makes the views (3, height, width) of a case."""
    from beholder.cards import card
    from beholder.media.pixels import load_views
    from beholder.planning import image_branches

    name, side, _, settings = CASES[case]
    geometry = image_branches(card(name))[0].geometry
    assert geometry is not None
    geometry = geometry.at(side) if side else geometry
    if settings.get("do_image_splitting") is False:
        geometry = geometry.but(splits=False)
    picture, views = photo(*PHOTO), geometry.views(PHOTO)
    return lambda: [view.numpy() for view in load_views(picture, views, geometry)]


def switched(work: Callable[[], object], compiled: bool) -> Callable[[], object]:
    """`work` with or without compiled code."""

    def run() -> object:
        os.environ["BEHOLDER_NATIVE"] = "1" if compiled else "0"
        return work()

    return run


def measure(case: str, rounds: int, official: Official | None) -> None:
    """Print a row of the table, and a line on pixels that differ."""
    work = ours(case)
    runs = {"compiled": switched(work, True), "Pillow": switched(work, False)}
    times: dict[str, list[float]] = {name: [] for name in (*runs, "official")}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(timed(run))
        if official is not None:
            times["official"].append(official.time(case))
    medians = {name: statistics.median(found) for name, found in times.items() if found}
    quicker = " | ".join(
        f"{medians[name] / medians['compiled']:.1f}x" for name in medians if name != "compiled"
    )
    print(
        f"| {case} | "
        + " | ".join(f"{ms:.1f} ({min(times[name]):.1f})" for name, ms in medians.items())
        + f" | {quicker} |"
    )
    views = np.stack(runs["compiled"]())
    assert np.array_equal(views, np.stack(runs["Pillow"]())), "compiled code and Pillow differ"
    if official is not None:
        theirs = official.pixels(case).reshape(views.shape)
        gap = np.abs(views - theirs)
        print(
            f"  {(gap > 1e-5).sum()} of {gap.size} values differ from the official ones; at most by {gap.max():.2g}"
        )


def several(rounds: int, count: int = 8) -> None:
    """Print a line on files of pictures, decoded and resized one by one and together."""
    from PIL import Image

    from beholder.cards import card
    from beholder.media.decode import decode, decode_many
    from beholder.planning import branch_plan, image_branches
    from beholder.prompts.messages import Picture
    from beholder.seeing import load_media

    system = card("clip-l-14-336")
    branch, buffer = image_branches(system)[0], io.BytesIO()
    Image.fromarray(photo(*PHOTO)).save(buffer, "JPEG", quality=88)
    files = [buffer.getvalue()] * count

    def pixels(pictures: list[np.ndarray]) -> None:
        plans = [branch_plan(system, branch, picture.shape[:2]) for picture in pictures]
        load_media(branch, [(Picture(), picture) for picture in pictures], plans)

    apart, together = [], []
    for _ in range(rounds):
        apart.append(timed(lambda: [pixels([decode(file)]) for file in files]))
        together.append(timed(lambda: pixels(decode_many(files))))
    alone, all_at_once = statistics.median(apart), statistics.median(together)
    print(
        f"{count} JPEG files to the pixels of clip 336: {alone:.1f} ms one by one, {all_at_once:.1f} ms together"
    )


def main() -> None:
    """Measure and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument(
        "--threads", type=int, default=2, help="of transformers; ours starts a second where it pays"
    )
    options.add_argument("--official")
    options.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.answer:
        answer_for_transformers(given.threads)
        return
    official = Official(given.official, given.threads) if given.official else None
    print("| case | compiled, ms | Pillow, ms | official, ms | Pillow / compiled | official / compiled |")
    print("|---|---|---|---|---|---|")
    for case in CASES:
        measure(case, given.rounds, official)
    several(given.rounds)


if __name__ == "__main__":
    main()
