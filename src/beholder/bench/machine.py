"""The machine that is measured on: what it is, and how fast it reads memory and multiplies matrices. No names of hosts,
people or places.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

READ_BYTES = 256 * 2**20  # well above caches of the last level
SIDE = 2048  # of the matrices that are multiplied
ROUNDS = 7
INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "asimd",
    "asimddp",
    "bf16",
    "sve",
)


def describe(device: str = "cpu") -> dict[str, Any]:
    """Processor, instruction sets, memory and versions, JSON-ready; None where unknown."""
    flags = _lines("flags", "Features")
    try:
        memory: int | None = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = None
    names = _lines("model name", "Model name")
    is_cuda = torch.device(device).type == "cuda"
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": [flag for flag in INSTRUCTIONS if flag in flags[0].split()] if flags else None,
        "memory": memory,
        "accelerator": torch.cuda.get_device_name(device) if is_cuda else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def ceilings(threads: int, dtype: torch.dtype, device: str = "cpu") -> dict[str, Any]:
    """Bytes read and products computed in a second, the best of some rounds, and how that was measured."""
    read, how = read_rate(threads) if torch.device(device).type == "cpu" else (_device_read(device), "a sum")
    return {
        "read": read,
        "read_how": f"{how} over {READ_BYTES // 2**20} MiB, {threads} threads, best of {ROUNDS}",
        "products": product_rate(dtype, device),
        "products_how": f"torch matmul {SIDE}^3 in {str(dtype).removeprefix('torch.')}, best of {ROUNDS}",
    }


def read_rate(threads: int) -> tuple[float, str]:
    """Bytes a second, and by what: the better one of the C library's search for a byte that is not there, whose threads read a
    part each, and of torch's sum.
    """
    buffer = torch.empty(READ_BYTES // 4).fill_(0)  # written, so that its pages are there
    found = {"torch sum": READ_BYTES / _best(buffer.sum)}
    search = _search()
    if search is not None:
        size, start = READ_BYTES // threads, buffer.data_ptr()
        with ThreadPoolExecutor(threads) as pool:

            def read_all() -> None:
                list(pool.map(lambda part: search(start + part * size, 1, size), range(threads)))

            found["memchr"] = READ_BYTES / _best(read_all)
    name = max(found, key=lambda each: found[each])
    return found[name], name


def product_rate(dtype: torch.dtype, device: str = "cpu") -> float:
    """Operations a second of a product of two square matrices; an addition and a multiplication are two."""
    factor = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
    return 2 * SIDE**3 / _best(lambda: _waited(factor @ factor))


def _device_read(device: str) -> float:
    buffer = torch.zeros(READ_BYTES, device=device)
    return buffer.nbytes / _best(lambda: _waited(buffer.sum()))


def _waited(result: torch.Tensor) -> None:
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)


def _best(work: Callable[[], Any]) -> float:
    """Seconds of the quickest of some rounds; the first is not counted."""
    seconds = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _search() -> Callable[[int, int, int], Any] | None:
    """`memchr`, during which Python's lock is not held."""
    try:
        search = ctypes.CDLL(None).memchr
    except (OSError, AttributeError, TypeError):
        return None
    search.argtypes, search.restype = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t), ctypes.c_void_p
    return search


def _lines(*names: str) -> list[str]:
    """What `/proc/cpuinfo` says under a name, once for each processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for name, _, value in pairs if name.strip() in names]
