"""SimVLM: a prefix of patches and words that is seen both ways, and what follows it step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from beholder.cards import card
from beholder.media.plan import Box, PicturePlan, View, in_order
from beholder.model import Batch, Model, build
from beholder.planning import placed


def run(model: Model, pixels: Tensor, words: list[int], answer: list[int]) -> tuple[Tensor, Tensor]:
    """The prefix's states (S, D), and the scores of the answer (T, V)."""
    size = (pixels.shape[1], pixels.shape[2])
    grids = (model.card.branch().encoders[0].grid(size),)
    view = View(size, (), Box(0, 0, size[1], size[0]))
    plan = placed(model.card, PicturePlan("image", size, (view,), grids, (in_order(grids),)))
    ids = [5] * plan.num_tokens + words
    batch = Batch(
        torch.tensor([ids]), views={"image": [pixels]}, plans=((plan,),), target_BT=torch.tensor([answer])
    )
    with torch.inference_mode():
        output = model(batch)
    assert output.language is not None and output.language.memory is not None
    return output.language.memory[0], output.heads["text"][0]


def moved(first: Tensor, second: Tensor) -> list[bool]:
    return ((first - second).abs().amax(-1) > 1e-6).tolist()


def test_the_prefix_is_seen_both_ways_and_the_rest_is_causal() -> None:
    torch.manual_seed(0)
    model, pixels = build(card("simvlm-b").tiny()), torch.randn(3, 32, 32)
    prefix, scores = run(model, pixels, [7, 8], [0, 9, 11, 13])
    other_prefix, other_scores = run(model, pixels, [7, 6], [0, 9, 11, 13])
    assert all(moved(prefix, other_prefix)) and len(prefix) == 6  # patches see the last word
    assert all(moved(scores, other_scores))  # and so does all that follows
    same_prefix, later_scores = run(model, pixels, [7, 8], [0, 9, 12, 13])
    assert not any(moved(prefix, same_prefix))  # the prefix sees nothing of what follows
    assert moved(scores, later_scores) == [False, False, True, True]


def test_words_see_the_picture() -> None:
    torch.manual_seed(0)
    model = build(card("simvlm-b").tiny())
    first, other = (run(model, torch.randn(3, 32, 32), [7, 8], [0, 9])[0] for _ in range(2))
    assert all(moved(first, other)[-2:])
