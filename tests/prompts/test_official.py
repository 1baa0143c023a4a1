"""Ids equal to those of the official processors, and templates rendered by them, on recorded cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from beholder.media.plan import PicturePlan
from beholder.prompts.chat import complete, render
from beholder.prompts.formats import PLAIN
from beholder.prompts.messages import Picture
from beholder.prompts.tokenizer import Tokenizer

pytestmark = pytest.mark.parity

TILE = "<fake_token_around_image>"


def split_picture(plan: Any, rows: int, columns: int, length: int) -> PicturePlan:
    """A picture cut in tiles with the whole one after them, as Idefics3 writes it."""
    pieces: list[str | int] = []
    for row in range(rows):
        for column in range(columns):
            pieces += [f"{TILE}<row_{row + 1}_col_{column + 1}>", length]
        pieces.append("\n")
    return plan(*pieces, f"\n{TILE}<global-img>", length, TILE)


# family -> the pictures of its cases: a number of features, or rows and columns of tiles of 4 features.
CASES: dict[str, list[Any]] = {
    "llava": [4, 4],
    "llava_next": [24, 16, 14],
    "idefics3": [(2, 2), (2, 1)],
}


@pytest.mark.parametrize("family", CASES)
def test_ids_equal_the_official_processor(oracle: Callable[[str], Path], plan: Any, family: str) -> None:
    folder = oracle(family)
    tokenizer = Tokenizer.from_folder(folder)
    recorded = load_file(folder / "processor.safetensors")
    cases = [
        case for case in json.loads((folder / "processor_cases.json").read_text())["cases"] if "text" in case
    ]
    assert len(cases) == len(CASES[family])
    for i, (case, shape) in enumerate(zip(cases, CASES[family], strict=True)):
        before, after = case["text"].split("<image>")
        picture = plan(shape) if isinstance(shape, int) else split_picture(plan, *shape, 4)
        prompt = render(complete(before, Picture(), after), PLAIN, tokenizer, [picture])
        want = recorded[f"case_{i}/input_ids"][0]
        np.testing.assert_array_equal(prompt.ids, want)
        marked = [j for span in prompt.spans for j in range(span.start, span.stop)]
        np.testing.assert_array_equal(marked, np.flatnonzero(want == tokenizer.token_id("<image>")))
