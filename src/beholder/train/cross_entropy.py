"""Cross-entropy of the answers' tokens in pieces, so that scores over the vocabulary exist for a few tokens at a time.

A answer tokens, C those of a piece, D width, V words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from beholder.errors import BeholderError

Scores = Callable[[Tensor], Tensor]
PIECE = 512  # tokens; at 24,000 words their bfloat16 scores take 25 MB
CACHED = 2**19  # scores that a core's cache holds in float32


def answer_losses(
    hidden_AD: Tensor, scores: Scores | Tensor, targets_A: Tensor, *, chunk: int = PIECE
) -> Tensor:
    """-log softmax(scores(hidden))[target] of each token, (A,) in float32. The backward pass computes each piece's scores
    again, so that no table of tokens and words is kept.

    scores: of words for states (C, D), (C, V); or a matrix (V, D) of the words' directions.
    """
    check_pieces(hidden_AD, targets_A, chunk)
    score = as_function(scores)
    pieces = zip(hidden_AD.split(chunk), targets_A.split(chunk), strict=True)
    kept = torch.is_grad_enabled() and len(targets_A) > chunk
    losses = [
        checkpoint(piece_losses, score, hidden_CD, targets_C, use_reentrant=False, preserve_rng_state=False)
        if kept
        else piece_losses(score, hidden_CD, targets_C)
        for hidden_CD, targets_C in pieces
    ]
    return torch.cat(losses)


def answer_loss(
    hidden_AD: Tensor,
    scores: Scores | Tensor,
    targets_A: Tensor,
    weights_A: Tensor,
    *,
    chunk: int = PIECE,
) -> Tensor:
    """The sum of `answer_losses` times `weights_A`, a scalar. Each piece's gradients are computed with its scores, which are
    then dropped: nothing is computed twice, and no table of tokens and words is kept. For losses whose weights are known
    beforehand.
    """
    check_pieces(hidden_AD, targets_A, chunk)
    score = as_function(scores)
    if not torch.is_grad_enabled():
        return (answer_losses(hidden_AD, score, targets_A, chunk=chunk) * weights_A).sum()
    leaves = list(trained_leaves(score(hidden_AD[:1].detach())))
    if not (leaves or hidden_AD.requires_grad):
        return (answer_losses(hidden_AD, score, targets_A, chunk=chunk) * weights_A).sum()
    loss: Tensor = _WithGradients.apply(score, targets_A, weights_A, chunk, hidden_AD, *leaves)
    return loss


class _WithGradients(torch.autograd.Function):
    """`answer_loss`, whose backward pass only multiplies gradients that the forward pass has computed."""

    @staticmethod
    def forward(
        ctx: Any,
        score: Scores,
        targets_A: Tensor,
        weights_A: Tensor,
        chunk: int,
        hidden_AD: Tensor,
        *leaves: nn.Parameter,
    ) -> Tensor:
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        total = torch.zeros((), device=hidden_AD.device)
        given_AD = torch.empty_like(hidden_AD)
        sums: list[Tensor | None] = [None] * len(wanted)
        for start in range(0, len(targets_A), chunk):
            piece = slice(start, start + chunk)
            with torch.enable_grad():
                hidden_CD = hidden_AD[piece].detach().requires_grad_()
                logits_CV = score(hidden_CD)
            losses_C, given_CV = losses_and_gradients(logits_CV.detach(), targets_A[piece], weights_A[piece])
            total += (losses_C * weights_A[piece]).sum()
            given_CD, *made = torch.autograd.grad(
                logits_CV, [hidden_CD, *wanted], given_CV, allow_unused=True, retain_graph=True
            )
            given_AD[piece] = given_CD
            for number, gradient in enumerate(made):
                if gradient is not None:
                    before = sums[number]
                    sums[number] = gradient if before is None else before.add_(gradient)
        ctx.save_for_backward(given_AD, *sums)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        given_AD, *sums = ctx.saved_tensors
        scaled = [None if each is None else each * factor.to(each.dtype) for each in sums]
        return None, None, None, None, given_AD * factor.to(given_AD.dtype), *scaled


def losses_and_gradients(logits_CV: Tensor, targets_C: Tensor, weights_C: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (C,) in float32, and the gradient of their weighted sum by the scores, (C, V) in the type of these. On a
    processor a few rows at a time, as many as a core's cache holds.
    """
    given_CV = torch.empty_like(logits_CV)
    columns_C1, weights_C1 = targets_C[:, None], weights_C[:, None].float()
    rows = max(1, CACHED // logits_CV.shape[1] if logits_CV.device.type == "cpu" else len(targets_C))
    losses = []
    for each in range(0, len(targets_C), rows):
        own = slice(each, each + rows)
        shares_RV = logits_CV[own].to(torch.float32, copy=True)
        scores_R1 = shares_RV.gather(1, columns_C1[own])
        most_R1 = shares_RV.amax(-1, keepdim=True)
        sums_R1 = shares_RV.sub_(most_R1).exp_().sum(-1, keepdim=True)
        shares_RV.mul_(weights_C1[own] / sums_R1)
        given_CV[own] = shares_RV.scatter_add_(1, columns_C1[own], -weights_C1[own])
        losses.append(sums_R1.log() + most_R1 - scores_R1)
    return torch.cat(losses)[:, 0], given_CV


def piece_losses(score: Scores, hidden_CD: Tensor, targets_C: Tensor) -> Tensor:
    """`answer_losses` of one piece."""
    return F.cross_entropy(score(hidden_CD).float(), targets_C, reduction="none")


def as_function(scores: Scores | Tensor) -> Scores:
    """A matrix (V, D) as what multiplies states with it."""
    return (lambda hidden_CD: F.linear(hidden_CD, scores)) if isinstance(scores, Tensor) else scores


def trained_leaves(given: Tensor) -> Iterator[nn.Parameter]:
    """The tensors that get gradients from what was computed, each once."""
    seen, ahead = set(), [given.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        ahead += [before for before, _ in node.next_functions]


def check_pieces(hidden_AD: Tensor, targets_A: Tensor, chunk: int) -> None:
    """Raises `BeholderError` where states and targets are not as many, or pieces would be empty."""
    if len(hidden_AD) != len(targets_A):
        raise BeholderError(f"{len(hidden_AD)} states for {len(targets_A)} targets; give one state for each")
    if chunk < 1:
        raise BeholderError(f"chunk is {chunk}; score one token or more at a time")
