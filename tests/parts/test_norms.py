"""Norms in training."""

from __future__ import annotations

import pytest
import torch

from beholder.parts.blocks.norms import Norm, _TrainedRms


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(3, 5, 8), (8,)])
def test_the_rms_norm_in_training_has_the_gradients_of_the_formula(
    shape: tuple[int, ...], offset: float
) -> None:
    norm = Norm("rms", eps=1e-3, offset=offset).build(8).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        plain = norm(x)
    assert torch.allclose(norm(x), plain)
    assert torch.autograd.gradcheck(lambda y, w: _TrainedRms.apply(y, w, 1e-3), (x, norm.weight))
    (given,) = torch.autograd.grad(norm(x).sum(), [norm.weight])
    assert given.shape == (8,)
