"""The memory in which one step of some rows is told to the kernels; used again by each later step of as many rows."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch

from beholder.native import library


class Call:
    """`step` and the arrays that it points to. tables: kinds of rotary positions."""

    def __init__(self, rows: int, layers: int, tables: int, scratch_bytes: int) -> None:
        self.ids = (ctypes.c_int64 * rows)()
        self.lengths = (ctypes.c_int64 * rows)()
        self.keys = (ctypes.c_void_p * layers)()
        self.values = (ctypes.c_void_p * layers)()
        self.capacities = (ctypes.c_int64 * layers)()
        self.cosines = (ctypes.c_void_p * max(1, tables))()
        self.sines = (ctypes.c_void_p * max(1, tables))()
        self.places = (ctypes.c_int64 * max(1, tables * rows))()
        self.scratch = torch.empty(scratch_bytes, dtype=torch.uint8)
        self.step = library.Step(
            *(_address(each) for each in (self.ids, self.lengths, self.keys, self.values, self.capacities)),
            *(_address(each) for each in (self.cosines, self.sines, self.places)),
            None,
            self.scratch.data_ptr(),
            rows,
        )

    def turn(self, table: int, cosines: torch.Tensor, sines: torch.Tensor, places: Sequence[int]) -> None:
        """Row i finds its angles of a kind in row `places[i]` of these tables, which must outlive the step."""
        self.cosines[table], self.sines[table] = cosines.data_ptr(), sines.data_ptr()
        self.places[table * len(places) : (table + 1) * len(places)] = list(places)


def _address(array: Any) -> int:
    return ctypes.addressof(array)
