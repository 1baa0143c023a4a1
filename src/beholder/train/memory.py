"""Memory of a process that computes the same step again and again."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8  # glibc's malloc.h
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed for the next step instead of handing it back to the system, which would clear
    every page again: a tenth of a step. The process then stays as large as it once was. False where the library is another
    than glibc. Threads that run already keep areas of their own, so call it before the first.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    wanted = {MMAP_MAX: 0, TRIM_THRESHOLD: LARGEST, TOP_PAD: 2**26, ARENA_MAX: 1}
    taken = [library.mallopt(name, value) for name, value in wanted.items()]
    return all(taken)
