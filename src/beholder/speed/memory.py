"""Memory that packing has done with goes back to the system: pages of mapped weight files, and what the allocator keeps.

Linux only; elsewhere nothing happens.
"""

from __future__ import annotations

import bisect
import ctypes
import mmap
import sys
from functools import cache
from pathlib import Path

from torch import Tensor


@cache
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Files:
    """Where weight files are mapped now."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        maps = Path("/proc/self/maps")
        if _libc() is None or not maps.exists():
            return
        for line in maps.read_text(encoding="utf-8", errors="replace").splitlines():
            addresses, rights, _, _, inode = line.split()[:5]
            if inode != "0" and "x" not in rights and rights.endswith("p"):
                start, end = (int(address, 16) for address in addresses.split("-"))
                self._starts.append(start)
                self._ends.append(end)

    def forget(self, tensor: Tensor) -> int:
        """Let go the pages that a tensor alone lies in, where they are a file's: who reads it again gets them from there. Gives
        their bytes. What was written to such a tensor is lost.
        """
        libc, begin = _libc(), tensor.data_ptr()
        number = bisect.bisect_right(self._starts, begin) - 1
        if libc is None or number < 0 or begin + tensor.nbytes > self._ends[number]:
            return 0
        page = mmap.PAGESIZE
        first, last = -(-begin // page) * page, (begin + tensor.nbytes) // page * page
        if last <= first or not tensor.is_contiguous():
            return 0
        failed = libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)
        return 0 if failed else last - first


def trim() -> None:
    """Give back what the allocator keeps for later."""
    libc = _libc()
    if libc is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
