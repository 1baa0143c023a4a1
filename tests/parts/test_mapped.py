"""Memory of its own for what grows and goes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from beholder.parts.language.layer_states import SelfKeyValues
from beholder.parts.language.mapped import LEAST, mapped_zeros


def resident() -> int:
    """KiB of the process in memory."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int64, torch.bool])
@pytest.mark.parametrize("count", [0, 3, 2 * LEAST])
def test_zeros_of_any_size_and_type(dtype: torch.dtype, count: int) -> None:
    given = mapped_zeros(torch.ones(1, dtype=dtype), count, 2)
    assert given.shape == (count, 2) and given.dtype == dtype and not given.any()
    given[count // 2 :] = 1
    assert int(given.sum()) == 2 * (count - count // 2)


def test_the_heap_does_where_no_mapping_is_to_be_had(monkeypatch) -> None:
    def none_left(*_: int, **__: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("beholder.parts.language.mapped.mmap.mmap", none_left)
    given = mapped_zeros(torch.ones(1), 3, LEAST)
    assert given.shape == (3, LEAST) and not given.any()


def test_other_devices_have_memory_of_their_own() -> None:
    assert mapped_zeros(torch.empty(1, device="meta"), LEAST).device.type == "meta"


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux tells them")
def test_memory_is_taken_where_it_is_written_and_given_back_when_it_is_freed() -> None:
    size = 64 * 2**20
    start = resident()
    held = mapped_zeros(torch.empty(1, dtype=torch.uint8), size)
    untouched = resident()
    held[: size // 2] = 1
    half = resident()
    del held
    freed = resident()
    assert untouched - start < 2**11
    assert abs(half - untouched - size // 2**11) < 2**11
    assert freed - start < 2**11


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("tokens", [4, 3000])
def test_keys_move_and_join_as_they_would_in_the_heap(tokens: int, mapped: bool) -> None:
    one, other = (SelfKeyValues(tokens, mapped=mapped) for _ in range(2))
    keys, values = torch.randn(2, 2, 3, tokens, 16).unbind()
    one.append(keys, values, [0, 0])
    other.append(keys[:1] + 1, values[:1] + 1, [0])
    one.append(values[:, :, :1], keys[:, :, :1], [tokens, tokens])
    one.join(other, padded=False, spare=1)
    assert one.keys is not None and one.values is not None and one.rooms is not None
    assert len(one.rooms[0]) == 4 and one.keys.shape[2] > tokens
    assert torch.equal(one.keys[:2, :, :tokens], keys) and torch.equal(one.values[:2, :, :tokens], values)
    assert torch.equal(one.keys[:2, :, tokens], values[:, :, 0])
    assert torch.equal(one.keys[2, :, :tokens], keys[0] + 1) and not one.keys[2, :, tokens:].any()
    head = one.head(1, tokens, tokens + 2)
    assert head.keys is not None
    assert torch.equal(head.keys[0, :, :tokens], keys[1]) and not head.keys[0, :, tokens:].any()
