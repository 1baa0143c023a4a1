"""Cross-entropy in pieces, against the direct formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from beholder.errors import BeholderError
from beholder.train.cross_entropy import answer_loss, answer_losses, trained_leaves
from tests.toys import DECODER

TOKENS, WIDTH, WORDS = 23, 16, 300


class Case:
    def __init__(self, kind: str) -> None:
        torch.manual_seed(0)
        self.hidden_AD = torch.randn(TOKENS, WIDTH, requires_grad=True)
        self.weight_VD = torch.randn(WORDS, WIDTH, requires_grad=True)
        self.bias_V = torch.randn(WORDS, requires_grad=True)
        self.targets_A = torch.randint(0, WORDS, (TOKENS,))
        self.weights_A = torch.rand(TOKENS)
        self.scores = {
            "matrix": self.weight_VD,
            "function": lambda x_CD: 3 * torch.tanh(F.linear(x_CD, self.weight_VD, self.bias_V) / 3),
        }[kind]

    def direct(self) -> Tensor:
        scores = self.scores
        logits = F.linear(self.hidden_AD, scores) if isinstance(scores, Tensor) else scores(self.hidden_AD)
        return F.cross_entropy(logits, self.targets_A, reduction="none")

    def gradients(self, loss: Tensor) -> list[Tensor]:
        leaves = [self.hidden_AD, self.weight_VD, self.bias_V]
        found = torch.autograd.grad(loss, [x for x in leaves if x.requires_grad], allow_unused=True)
        return [each for each in found if each is not None]


@pytest.mark.parametrize("kind", ["matrix", "function"])
@pytest.mark.parametrize("chunk", [1, 7, 23, 100])
def test_losses_are_those_of_the_direct_formula(kind: str, chunk: int) -> None:
    case = Case(kind)
    losses_A = answer_losses(case.hidden_AD, case.scores, case.targets_A, chunk=chunk)
    assert torch.allclose(losses_A, case.direct(), atol=1e-5)
    wanted = case.gradients((case.direct() * case.weights_A).sum())
    given = case.gradients((losses_A * case.weights_A).sum())
    assert len(given) == len(wanted) == (2 if kind == "matrix" else 3)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(given, wanted, strict=True))


@pytest.mark.parametrize("kind", ["matrix", "function"])
@pytest.mark.parametrize("chunk", [1, 7, 23, 100])
def test_the_weighted_sum_has_the_gradients_of_the_direct_formula(kind: str, chunk: int) -> None:
    case = Case(kind)
    loss = answer_loss(case.hidden_AD, case.scores, case.targets_A, case.weights_A, chunk=chunk)
    direct = (case.direct() * case.weights_A).sum()
    assert torch.allclose(loss, direct, atol=1e-4)
    pairs = zip(case.gradients(2 * loss), case.gradients(2 * direct), strict=True)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)


def test_a_frozen_head_and_no_gradients_at_all() -> None:
    case = Case("matrix")
    case.weight_VD.requires_grad_(False)
    loss = answer_loss(case.hidden_AD, case.scores, case.targets_A, case.weights_A, chunk=5)
    (given,) = case.gradients(loss)
    (wanted,) = case.gradients((case.direct() * case.weights_A).sum())
    assert torch.allclose(given, wanted, atol=1e-5)
    with torch.no_grad():
        again = answer_loss(case.hidden_AD, case.scores, case.targets_A, case.weights_A, chunk=5)
    assert not again.requires_grad and torch.allclose(again, loss)


def test_a_tied_head_gets_the_gradients_of_both_its_uses() -> None:
    model = DECODER.but(tied=True).build()
    ids_BT, targets_A = torch.tensor([[5, 6, 7, 8]]), torch.tensor([6, 7, 8, 9])
    weight = model.embedding.weight

    def states() -> Tensor:
        return model.norm(model.embed(ids_BT))[0]

    assert weight in set(trained_leaves(model.logits(states())))
    loss = answer_loss(states(), model.logits, targets_A, torch.ones(4), chunk=3)
    direct = F.cross_entropy(model.logits(states()), targets_A, reduction="sum")
    (given,), (wanted,) = (torch.autograd.grad(each, [weight]) for each in (loss, direct))
    assert torch.allclose(given, wanted, atol=1e-4)


def test_half_the_bits_stay_near() -> None:
    case = Case("matrix")
    with torch.autocast("cpu", torch.bfloat16):
        loss = answer_loss(case.hidden_AD, case.scores, case.targets_A, case.weights_A, chunk=8)
    direct = (case.direct() * case.weights_A).sum()
    assert loss.dtype == torch.float32 and abs(float(loss.detach() / direct.detach()) - 1) < 5e-3
    pairs = zip(case.gradients(loss), case.gradients(direct), strict=True)
    assert all(F.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.999 for a, b in pairs)


class Largest(TorchDispatchMode):
    """The most numbers of a tensor that anything makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        given = func(*args, **(kwargs or {}))
        for each in given if isinstance(given, (tuple, list)) else (given,):
            if isinstance(each, Tensor):
                self.numbers = max(self.numbers, each.numel())
        return given


@pytest.mark.parametrize("way", ["losses", "loss"])
def test_no_table_of_tokens_and_words_is_made(way: str) -> None:
    case = Case("matrix")
    with Largest() as largest:
        loss = (
            answer_losses(case.hidden_AD, case.scores, case.targets_A, chunk=4).sum()
            if way == "losses"
            else answer_loss(case.hidden_AD, case.scores, case.targets_A, case.weights_A, chunk=4)
        )
        case.gradients(loss)
    assert largest.numbers == WORDS * WIDTH  # the matrix and its gradient
    assert largest.numbers < TOKENS * WORDS


def test_wrong_numbers_are_errors() -> None:
    case = Case("matrix")
    with pytest.raises(BeholderError, match="23 states for 22 targets"):
        answer_losses(case.hidden_AD, case.scores, case.targets_A[1:])
    with pytest.raises(BeholderError, match="chunk is 0"):
        answer_loss(case.hidden_AD, case.scores, case.targets_A, case.weights_A, chunk=0)
