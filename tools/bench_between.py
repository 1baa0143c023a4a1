"""Measures what compiled code does between and in products, beside PyTorch: norms, turned heads, activations, maps of few bits.

    python tools/bench_between.py parts [--threads 1]     # microseconds of each, taking turns
    python tools/bench_between.py whole [--threads 2]     # seconds of the processor of a prompt and of towers, as they are now

`whole` is for comparing two revisions of this repository.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from bench_decode import SMOLLM2
from bench_packed import prompt
from torch.nn import functional as F

from beholder.cards import card
from beholder.model import build
from beholder.native import library, rows
from beholder.native.packing import pack as packed
from beholder.native.products import NativeLinear
from beholder.parts.blocks.activations import quick_gelu
from beholder.parts.blocks.positions import turn_pairs
from beholder.speed.compiled import pack_with_steps
from beholder.speed.linears import Int4Linear, Int8Linear, OneDnnLinear
from beholder.speed.packed import pack
from beholder.speed.precision import Precision

Work = Callable[[], object]
ROUNDS = 60
TOWERS = (("smolvlm-256m", 512), ("clip-l-14-336", 336), ("qwen2-vl-2b", 448))


def medians(works: Sequence[Work], rounds: int, clock: Callable[[], float]) -> list[float]:
    """Seconds of each, which take turns."""
    taken: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 2):
        for work, times in zip(works, taken, strict=True):
            start = clock()
            work()
            if number > 1:
                times.append(clock() - start)
    return [statistics.median(times) for times in taken]


def compare(what: str, **works: Work) -> None:
    """A line of microseconds."""
    found = medians(list(works.values()), ROUNDS, time.perf_counter)
    told = ", ".join(f"{name} {1e6 * value:.0f}" for name, value in zip(works, found, strict=True))
    print(f"{what:36} {told}", flush=True)


def parts() -> None:
    """Each by itself."""
    kernel = library.quickest()
    assert kernel is not None, library.describe()[1]
    x, weight, bias = torch.randn(1024, 768).bfloat16(), torch.randn(768), torch.randn(768)
    layer, rms = rows.Norm("layer", 1e-6, weight, bias), rows.Norm("rms", 1e-6, weight)
    narrow = (weight.bfloat16(), bias.bfloat16())
    compare(
        "LayerNorm, 1024 x 768",
        torch=lambda: F.layer_norm(x, (768,), *narrow, 1e-6),
        compiled=lambda: rows.normed(x, layer),
    )
    compare(
        "RMSNorm, 1024 x 768",
        torch=lambda: F.rms_norm(x, (768,), narrow[0], 1e-6),
        compiled=lambda: rows.normed(x, rms),
    )
    heads_MD, cos = torch.randn(664, 768).bfloat16(), torch.rand(1, 1, 664, 64).bfloat16()
    heads_1HTK = heads_MD.view(1, 664, 12, 64).transpose(1, 2)
    compare(
        "12 heads of 664 tokens turned",
        torch=lambda: turn_pairs(heads_1HTK, cos, cos, "half"),
        compiled=lambda: rows.turn(heads_MD, 12, rows.NO_NORM, 1, (cos, cos), "half"),
    )
    inner, number = torch.randn(577, 4096).bfloat16(), rows.ACTIVATIONS.index("quick_gelu")
    compare(
        "CLIP's GELU, 577 x 4096",
        torch=lambda: quick_gelu(inner),
        compiled=lambda: rows.activated(inner, number),
    )
    weight_NK = torch.randn(1024, 1024)
    maps: dict[str, torch.nn.Module] = {
        "bf16": OneDnnLinear(weight_NK, None, torch.bfloat16),
        "int8_torch": Int8Linear(weight_NK, None),
        "int8": NativeLinear(packed(weight_NK, "int8"), None, kernel, wide=True),
        "int4_torch": Int4Linear(weight_NK, None),
        "int4": NativeLinear(packed(weight_NK, "int4"), None, kernel, wide=True),
    }
    for count in (1, 4, 16, 64, 256):
        given = torch.randn(count, 1024).bfloat16()
        compare(
            f"1024 x 1024, {count} rows",
            **{name: lambda each=each, given=given: each(given) for name, each in maps.items()},
        )


def whole() -> None:
    """A prompt of SmolLM2's shape and three towers; of those systems' decoders one layer is built."""
    for precision in ("bf16", "int8"):
        model = build(SMOLLM2)
        pack_with_steps(model, Precision.parse(precision))
        told(f"prompt of 664 tokens, {precision}", prompt(model))
    for name, side in TOWERS:
        for precision in ("bf16", "int8"):
            one = card(name)
            model = build(one.but(language=one.main.but(num_layers=1)) if name != "clip-l-14-336" else one)
            pack(model, precision)
            branch, view = model.branch(model.card.branches[0].name), torch.randn(3, side, side)
            told(
                f"{name}, {side} pixels, {precision}", lambda branch=branch, view=view: branch.encode([view])
            )


@torch.inference_mode()
def told(what: str, work: Work) -> None:
    """A line of seconds of the processor."""
    print(f"{what:36} {medians([work], 9, time.process_time)[0]:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("parts", "whole"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    {"parts": parts, "whole": whole}[options.what]()


if __name__ == "__main__":
    main()
