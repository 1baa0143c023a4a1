"""A row gives the same numbers alone and among others, bit for bit, so that company changes no answer."""

from __future__ import annotations

import pytest
import torch

from beholder.native import library
from beholder.native.decoder import NativeDecoder
from beholder.native.formats import FORMATS, Formats
from tests.native.toys import PLAIN, made, prefilled

SET, REASON = library.describe()
pytestmark = pytest.mark.skipif(SET is None, reason=REASON)
SETS = list(library.kernels().sets) if SET else []


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("form", FORMATS)
def test_a_row_alone_and_among_others(instruction_set: str, form: str) -> None:
    model = made(PLAIN)
    lengths = (9, 4, 12, 5, 70, 3, 8, 1, 33)
    for threads in (1, 2):
        decoder = NativeDecoder.of(model, Formats(form), threads=threads, instruction_set=instruction_set)
        kept = prefilled(model, lengths)
        alone = [decoder.step([7], kept.reorder([row]))[0] for row in range(len(lengths))]
        for count in (2, 3, 7, len(lengths)):
            together = decoder.step([7] * count, kept.reorder(list(range(count))))
            assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=False))
