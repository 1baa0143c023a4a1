"""Views of unequal sizes and of long recordings through encoders that take stacks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from beholder.parts.vision import views as views_module
from beholder.parts.vision.views import by_size, stacked


def test_views_of_a_size_go_together_and_long_runs_in_pieces(monkeypatch: Any) -> None:
    """One result for each view in order, whatever went together; nothing is cut where there are gradients."""
    views = [torch.full((3, 4, size), float(n)) for n, size in enumerate((4, 6, 4, 4, 6, 4, 4))]
    stacks: list[tuple[int, ...]] = []

    def encode(stack_n3hw: Tensor) -> Tensor:
        stacks.append(tuple(stack_n3hw.shape))
        return stack_n3hw.mean((1, 2, 3))

    monkeypatch.setattr(views_module, "VALUES_AT_ONCE", 2 * 3 * 4 * 4)
    assert [float(x) for x in by_size(views, encode)] == list(range(7))
    assert [stack[0] for stack in stacks] == [5, 2]
    stacks.clear()
    with torch.inference_mode():
        assert [float(x) for x in by_size(views, encode)] == list(range(7))
    assert [stack[0] for stack in stacks] == [2, 2, 1, 1, 1]


def test_views_that_lie_together_are_not_copied() -> None:
    """A stack has the views' memory where they follow each other in one tensor, and is a copy otherwise."""
    room_V3HW = torch.randn(4, 3, 5, 6)
    views, base = list(room_V3HW), room_V3HW.data_ptr()
    assert stacked(views).data_ptr() == base and torch.equal(stacked(views), room_V3HW)
    inner = stacked(views[1:3])
    assert inner.data_ptr() == views[1].data_ptr() and torch.equal(inner, room_V3HW[1:3])
    assert stacked(views[:1]).data_ptr() == base
    for odd in (
        [views[1], views[0]],
        [views[0], views[2]],
        [views[0], views[1].clone()],
        [view.mT for view in room_V3HW.mT.contiguous()],
        [view.requires_grad_() for view in torch.randn(2, 3, 5, 6).unbind()],
        [torch.randn(3, 5, 6), torch.randn(3, 5, 6)],
    ):
        got = stacked(odd)
        assert torch.equal(got, torch.stack(odd)) and got.data_ptr() not in {view.data_ptr() for view in odd}
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        assert stacked(list(torch.empty(2, 3, 5, 6))).shape == (2, 3, 5, 6)
    meta = stacked(list(torch.empty(2, 3, 5, 6, device="meta")))
    assert meta.shape == (2, 3, 5, 6) and meta.device.type == "meta"
