"""Codebooks: nearest rows, residuals, unit vectors, gradients, losses and running means."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Grid
from beholder.parts.codecs.contract import Codes
from beholder.parts.codecs.quantizers import BLOCK, Codebooks

X = torch.linspace(-1, 1, 40 * 6).sin().view(40, 6) * 3


def drawn(**fields):
    """A quantizer with rows far from each other."""
    quantizer = Codebooks(**{"size": 12, "dim": 6, **fields}).build()
    with torch.no_grad():
        for codebook in quantizer.codebooks:
            codebook.weight.copy_(torch.randn(codebook.weight.shape))
    return quantizer


@pytest.mark.parametrize("shared", [False, True])
def test_residual_codes_one_after_the_other(shared):
    """Each codebook takes what is nearest to what the ones before left over."""
    quantizer = drawn(depth=3, shared=shared)
    tables = [codebook.weight.detach() for codebook in quantizer.codebooks]
    assert (tables[0] is tables[1] or torch.equal(tables[0], tables[1])) == shared
    rest, total, ids = X.clone(), torch.zeros_like(X), []
    for table in tables:
        distances = torch.stack([(rest - row).pow(2).sum(1) for row in table], 1)
        ids.append(distances.argmin(1))
        total += table[ids[-1]]
        rest = X - total
    quantized = quantizer(X)
    assert torch.equal(quantized.ids_NQ, torch.stack(ids, 1))
    assert torch.allclose(quantized.vectors_ND, total, atol=1e-5)
    assert torch.allclose(quantizer.lookup(quantized.ids_NQ), total, atol=1e-5)
    assert torch.equal(quantizer(X, 2).ids_NQ, quantized.ids_NQ[:, :2])
    later = quantizer.lookup(quantized.ids_NQ[:, 1:], first=1)
    assert torch.allclose(later, tables[1][ids[1]] + tables[2][ids[2]], atol=1e-6)


def test_unit_vectors_are_compared_by_angle():
    both, read, plain = (drawn(unit=unit) for unit in ("both", "read", None))
    for other in (read, plain):
        other.load_state_dict(both.state_dict())
    table = both.codebooks[0].weight.detach()
    angles = F.cosine_similarity(X[:, None], table[None], dim=-1)
    assert torch.equal(both(X).ids_NQ[:, 0], angles.argmax(1))
    assert torch.allclose(both(X).vectors_ND, F.normalize(table[angles.argmax(1)], dim=-1), atol=1e-6)
    assert torch.equal(read(X).ids_NQ, plain(X).ids_NQ)
    ids = plain(X).ids_NQ
    assert torch.allclose(plain.lookup(ids), table[ids[:, 0]])
    assert torch.allclose(read.lookup(ids), F.normalize(table[ids[:, 0]], dim=-1))
    assert torch.allclose(read(X).vectors_ND, table[ids[:, 0]], atol=1e-6)


def test_gradients_go_straight_through_and_losses_follow_the_formula():
    """|sg(z) - e|^2 pulls rows, |z - sg(e)|^2 latents; what is decoded gives its gradient to the latents alone."""
    quantizer = drawn(depth=2, pull=0.7, commit=0.2)
    x = X.clone().requires_grad_()
    quantized = quantizer(x)
    (quantized.vectors_ND * X.cos()).sum().backward()
    assert torch.allclose(x.grad, X.cos())
    assert all(codebook.weight.grad is None for codebook in quantizer.codebooks)
    x.grad = None
    quantizer(x).loss.backward()
    ids = quantized.ids_NQ
    rows = [codebook.weight.detach()[ids[:, depth]] for depth, codebook in enumerate(quantizer.codebooks)]
    errors = [X - rows[0], X - rows[0] - rows[1]]
    assert quantized.loss.item() == pytest.approx(sum(0.9 * float(e.pow(2).mean()) for e in errors) / 2)
    assert torch.allclose(x.grad, 0.2 * sum(errors) / X.numel(), atol=1e-7)
    for depth, codebook in enumerate(quantizer.codebooks):
        want = torch.zeros(12, 6).index_add_(0, ids[:, depth], -0.7 * errors[depth] / X.numel())
        assert torch.allclose(codebook.weight.grad, want, atol=1e-6)


def test_running_means():
    """counts and sums decay by 0.9; rows are sums over counts smoothed so that none is zero (1711.00937, A.1)."""
    quantizer = drawn(averages="means", spare=True, depth=2)
    assert not list(quantizer.parameters())
    tables = [codebook.weight[:12].clone() for codebook in quantizer.codebooks]
    for codebook in quantizer.codebooks:
        codebook.counts.fill_(2.0)
        codebook.sums.copy_(2 * codebook.weight[:12])
    ids, rest = quantizer(X).ids_NQ, X
    quantizer.follow(X, decay=0.9, eps=1e-3)
    for depth, (table, codebook) in enumerate(zip(tables, quantizer.codebooks, strict=True)):
        chose = F.one_hot(ids[:, depth], 12).float()
        counts, sums = 0.9 * 2 + 0.1 * chose.sum(0), 0.9 * 2 * table + 0.1 * chose.T @ rest
        smoothed = (counts + 1e-3) / (counts.sum() + 12e-3) * counts.sum()
        assert torch.allclose(codebook.weight[:12], sums / smoothed[:, None], atol=1e-5)
        rest = rest - table[ids[:, depth]]
    with pytest.raises(BeholderError, match="trained by gradients"):
        drawn().follow(X)


def test_a_spare_row_is_never_chosen():
    quantizer = drawn(spare=True)
    with torch.no_grad():
        quantizer.codebooks[0].weight[-1] = X[0]
    assert int(quantizer(X).ids_NQ.max()) < 12


def test_many_places_are_taken_in_blocks():
    quantizer, x = drawn(), torch.randn(BLOCK + 3, 6)
    assert torch.equal(quantizer(x).ids_NQ[-3:], quantizer(x[-3:]).ids_NQ)
    assert quantizer(x[:0]).ids_NQ.shape == (0, 1)


def test_what_cannot_be():
    quantizer = drawn(depth=2)
    with pytest.raises(BeholderError, match="depth 3 of a quantizer of 2"):
        quantizer(X, 3)
    with pytest.raises(BeholderError, match="codes 0 to 12 of codebooks of 12 rows"):
        quantizer.lookup(torch.tensor([[0], [12]]))
    with pytest.raises(BeholderError, match="codebooks 1 to 2, but there are 2"):
        quantizer.lookup(torch.zeros(1, 2, dtype=torch.long), first=1)
    with pytest.raises(BeholderError, match=r"1 grids hold 4 codes, but the ids are \(3, 1\)"):
        Codes(torch.zeros(3, 1), (Grid(1, 2, 2),))
    with pytest.raises(UnknownName, match="both"):
        Codebooks(4, 4, unit="bot")
    with pytest.raises(UnknownName, match="kmeans"):
        Codebooks(4, 4, averages="k-means")
