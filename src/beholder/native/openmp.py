"""The OpenMP that PyTorch computes with, where it is GNU's: to share its threads, and to give them back."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch

HARD = 2  # omp_pause_hard: threads end


@cache
def _library() -> ctypes.CDLL | None:
    try:
        maps = Path("/proc/self/maps").read_text().splitlines()
        (path,) = {line.split()[-1] for line in maps if "libgomp" in line}
        return ctypes.CDLL(path)
    except (OSError, ValueError):
        return None


@cache
def parallel() -> int | None:
    """The address of GOMP_parallel; None where there is none. Work that it runs does not meet PyTorch's spinning threads."""
    library = _library()
    return None if library is None else ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value


def alone() -> None:
    """Let the calling thread compute by itself, and no other: `torch.set_num_threads` is for all that come later."""
    library = _library()
    if library is not None:
        torch.get_num_threads()  # which sets it once for each thread
        library.omp_set_num_threads(1)


def give_back() -> bool:
    """End the workers that the calling thread has; the next product makes new ones. Where several threads have workers, more
    than there are cores, none of them waits for work awake, and each small product costs a wake-up more.
    """
    library = _library()
    if library is None or not hasattr(library, "omp_pause_resource_all"):
        return False
    return library.omp_pause_resource_all(HARD) == 0
