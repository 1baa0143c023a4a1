"""Measures llama.cpp for `bench_beside.py`: formats come in (bf16, int8, int4), seconds of a step go out, a line each.

Runs in a Python that has llama-cpp-python. The formats are BF16, Q8_0 and Q4_0 of one GGUF file, requantised for speed's sake
alone, in a scratch folder.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
import time
from pathlib import Path

import llama_cpp

CONTEXT, STEPS = 128, 8
KINDS = {
    "bf16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "int8": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "int4": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
}


def converted(source: str, folder: str, name: str) -> str:
    target = str(Path(folder, f"{name}.gguf"))
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.allow_requantize, settings.pure = KINDS[name], True, True
    given = llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(settings))
    if given != 0:
        raise SystemExit(f"{name}: llama.cpp could not convert {source}")
    return target


def step_seconds(model: llama_cpp.Llama) -> float:
    """Of one token behind `CONTEXT` tokens, the mean of a round."""
    model.reset()
    model.eval([7 + i % 1000 for i in range(CONTEXT)])
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        model.eval([7])
        seconds.append(time.perf_counter() - start)
    return sum(seconds[1:]) / (STEPS - 1)


def main() -> None:
    source, threads = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        models = {
            name: llama_cpp.Llama(
                converted(source, folder, name),
                n_ctx=512,
                n_threads=threads,
                n_threads_batch=threads,
                verbose=False,
            )
            for name in KINDS
        }
        print("ready", flush=True)
        for line in sys.stdin:
            print(step_seconds(models[line.strip()]), flush=True)


if __name__ == "__main__":
    main()
