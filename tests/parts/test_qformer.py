"""The Q-Former: who sees whom under its objectives, and which layers read the picture."""

from __future__ import annotations

import torch

from beholder.media.plan import Grid
from beholder.parts.connectors.qformer import QFormer, QueryStack, QueryTransformer
from beholder.parts.contracts import Packed

Q, W = 4, 3


def stack() -> QueryTransformer:
    torch.manual_seed(0)
    return QueryStack(words=True).tiny().build(16)


def moved(model: QueryTransformer, objective: str, word: int) -> torch.Tensor:
    """Which of the T outputs change with one word."""
    torch.manual_seed(1)
    memory, words = torch.randn(1, 5, 16), torch.randn(1, W, 32)
    other = words.clone()
    other[0, word] = torch.randn(32)
    with torch.inference_mode():
        first, second = (model(memory, w, objective=objective) for w in (words, other))
    return (first - second)[0].abs().amax(-1) > 1e-6


def test_contrast_keeps_queries_and_words_apart() -> None:
    assert moved(stack(), "itc", 1).tolist() == [False] * Q + [True] * W


def test_matching_lets_all_see_all() -> None:
    assert moved(stack(), "itm", 1).all()


def test_generation_lets_words_see_queries_and_the_words_before() -> None:
    assert moved(stack(), "itg", 1).tolist() == [False] * Q + [False, True, True]


def test_words_alone_read_no_picture_and_contrast_agrees() -> None:
    model, memory, words = stack(), torch.randn(2, 5, 16), torch.randn(2, W, 32)
    with torch.inference_mode():
        apart = model(memory, words, objective="itc")
        assert torch.allclose(apart[:, :Q], model(memory), atol=1e-6)
        assert torch.allclose(apart[:, Q:], model(None, words), atol=1e-6)


def test_padding_of_words_changes_nothing() -> None:
    model, memory, words = stack(), torch.randn(1, 5, 16), torch.randn(1, W, 32)
    padded = torch.cat((words, torch.randn(1, 2, 32)), 1)
    keep = torch.tensor([[True] * W + [False] * 2])
    with torch.inference_mode():
        assert torch.allclose(
            model(memory, padded, keep_VW=keep)[:, : Q + W], model(memory, words), atol=1e-6
        )


def test_every_second_layer_reads_the_picture() -> None:
    blocks = QueryStack(num_layers=5, every=2).tiny().but(num_layers=5).build(16).blocks
    assert [block.cross is not None for block in blocks] == [True, False, True, False, True]


def test_views_of_any_size_give_as_many_tokens() -> None:
    connector = QFormer(QueryStack().tiny()).build(16, 24)
    grids = (Grid(1, 2, 3), Grid(1, 1, 5), Grid(1, 2, 3))
    tokens = torch.randn(17, 16)
    with torch.inference_mode():
        together = connector(Packed(tokens, grids))
        alone = connector(Packed(tokens[6:11], grids[1:2]))
    assert together.tokens_ND.shape == (3 * Q, 24)
    assert torch.allclose(together.split()[1], alone.tokens_ND, atol=1e-6)
