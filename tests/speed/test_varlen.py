"""Pictures of several sizes are attended in one call, each by itself; a model on a GPU is made ready."""

from __future__ import annotations

import pytest
import torch

from beholder.generate.runtime import Runtime
from beholder.model import build
from beholder.parts.blocks.attention import attend
from beholder.parts.blocks.masks import AttentionMask
from beholder.speed.gpu import runtime_of
from beholder.speed.graphs import FixedSteps
from beholder.speed.varlen import attend_packed, use_packed
from tests.generate.test_scheduler import PHOTO
from tests.pretend import Pretended, moved
from tests.test_cards import Tiny
from tests.toys import SEES


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("scale", [None, 0.3])
def test_each_sequence_sees_itself(scale: float | None) -> None:
    q, k, v = (torch.randn(1, 4, 17, 8) for _ in range(3))
    mask = AttentionMask(segments=(5, 9, 3))
    got = attend_packed(q, k, v, mask, scale)
    assert got is not None and torch.allclose(got, attend(q, k, v, mask, scale=scale), atol=1e-6)


def test_what_it_is_not_for() -> None:
    q = torch.randn(1, 4, 10, 8)
    assert attend_packed(q, q, q, AttentionMask(), None) is None
    assert attend_packed(q, q, q, AttentionMask(segments=(5, 5)), None) is None
    assert attend_packed(q, q[:, :2], q[:, :2], AttentionMask(segments=(4, 6)), None) is None
    trained = q.clone().requires_grad_()
    assert attend_packed(trained, q, q, AttentionMask(segments=(4, 6)), None) is None


@pytest.mark.parametrize("name", ["qwen2-vl-2b", "qwen2.5-vl-3b", "pixtral-12b"])
def test_towers_give_the_same(name: str) -> None:
    """Views of two sizes together."""
    tiny = Tiny(name, PHOTO)
    (branch,) = (tiny.model.branch(name) for name in tiny.views)
    (views,) = tiny.views.values()
    sizes = [views[0], views[0][:, : views[0].shape[1] // 2].contiguous(), views[0]]
    with torch.inference_mode():
        want = branch.vision(sizes)
        use_packed(tiny.model.branches)
        assert torch.allclose(branch.vision(sizes).tokens_ND, want.tokens_ND, atol=1e-5)


def test_a_model_is_made_ready_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(SEES)
    assert runtime_of(model) == Runtime()
    with torch.inference_mode(), Pretended():
        moved(model)
        runtime = runtime_of(model)
        assert (
            isinstance(runtime.advance, FixedSteps)
            and runtime.memory is runtime.advance
            and not runtime.rolling
        )
        assert {block.attn.kernel for block in model.branch("image").vision.blocks} == {attend_packed}
        assert all(block.attn.kernel is None for block in model.language.blocks)
        monkeypatch.setenv("BEHOLDER_GRAPHS", "0")
        assert runtime_of(model).advance is None
        mamba = moved(build(Tiny("mamba-130m", PHOTO).card))
        assert runtime_of(mamba).advance is None
