import pytest
import torch

from beholder.errors import BeholderError
from beholder.speed.quantise import dequantise_int4, dequantise_int8, quantise_int4, quantise_int8


def random(*shape: int, scale: float = 0.02) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * scale


def error(weight: torch.Tensor, back: torch.Tensor) -> float:
    return float((weight - back).norm() / weight.norm())


def test_int8_is_near_and_exact_at_the_largest():
    weight_NK = random(48, 96)
    q_NK, scales_N = quantise_int8(weight_NK)
    back_NK = dequantise_int8(q_NK, scales_N)
    assert q_NK.dtype == torch.int8 and int(q_NK.abs().amax()) == 127
    assert error(weight_NK, back_NK) < 0.008
    assert bool(((weight_NK - back_NK).abs() <= scales_N[:, None] * 0.5001).all())


def test_int4_is_near_and_its_scales_fit_both_half_types():
    weight_NK = random(48, 96)
    q_NK, scales_NG = quantise_int4(weight_NK)
    assert q_NK.shape == (48, 96) and scales_NG.shape == (48, 3)
    assert int(q_NK.amax()) <= 15
    assert error(weight_NK, dequantise_int4(q_NK, scales_NG)) < 0.09
    assert torch.equal(scales_NG, scales_NG.bfloat16().half())


def test_int4_keeps_what_has_four_bits_already():
    steps_NGI = torch.randint(-8, 8, (8, 2, 32), generator=torch.Generator().manual_seed(1))
    steps_NGI[..., 0] = -8
    steps_NGI[4:] *= -1
    weight_NK = (steps_NGI * 0.0625).flatten(1)
    assert torch.equal(dequantise_int4(*quantise_int4(weight_NK)), weight_NK)


@pytest.mark.parametrize("value", [0.0, 3.25, -1e-7])
def test_constant_rows(value):
    weight_NK = torch.full((2, 64), value)
    assert torch.allclose(dequantise_int8(*quantise_int8(weight_NK)), weight_NK, rtol=0, atol=1e-7)
    assert torch.allclose(dequantise_int4(*quantise_int4(weight_NK)), weight_NK, rtol=0, atol=1e-7)


def test_int4_refuses_what_it_cannot_hold():
    with pytest.raises(BeholderError, match="40 inputs are no whole groups of 32"):
        quantise_int4(random(4, 40))
    with pytest.raises(BeholderError, match="too large"):
        quantise_int4(torch.full((1, 32), 1e6))
