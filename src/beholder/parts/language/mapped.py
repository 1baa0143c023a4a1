"""Memory of its own for what grows and goes while answers go on.

The heap keeps what is freed between pieces that are in use. Keys and values that outgrow their place leave holes there that
nothing of their new size fits into, and in a crowd of long answers those add up to as much as the keys and values themselves.
A mapping's pages are new ones each time, 2 microseconds each, so it is for where memory is scarce.
"""

from __future__ import annotations

import math
import mmap
import sys

import torch
from torch import Tensor

LEAST = 64 * 1024  # bytes; what is smaller is as well off in the heap
OWN = {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}


def mapped_zeros(like: Tensor, *sizes: int) -> Tensor:
    """Zeros of `sizes`, of the type and on the device of `like`. Large ones in the processor's memory take some only where
    they are written, and give it back to the system when they are freed.
    """
    count = math.prod(sizes)
    if like.device.type != "cpu" or count * like.element_size() < LEAST:
        return like.new_zeros(sizes)
    try:
        room = mmap.mmap(-1, count * like.element_size(), **OWN)
    except OSError:  # a process has but so many mappings
        return like.new_zeros(sizes)
    return torch.frombuffer(room, dtype=like.dtype).view(sizes)
