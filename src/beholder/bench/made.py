"""A card at its full size with random weights: what it costs can be measured without its files. Its answers mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from beholder.cards import card
from beholder.generate.runtime import Runtime
from beholder.model import build
from beholder.pipeline import Pipeline
from beholder.prompts import formats
from beholder.prompts.registry import format_named
from beholder.prompts.tokenizer import Tokenizer
from beholder.speed.gpu import runtime_of

if TYPE_CHECKING:
    from beholder.bench.own import Opening

ENDS = ("</s>", "<s>")
CONTROL, PLAIN = 3, 1  # kinds of tokens in GGUF files


def made(opening: Opening) -> Pipeline:
    """The card's model, in bfloat16 unless the precision says float32, with a tokenizer of single bytes and a prompt without
    turns, so that all tokens of the question are its own.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32 if opening.precision == "float32" else torch.bfloat16)
    try:
        model = build(card(opening.model))
    finally:
        torch.set_default_dtype(before)
    model = model.to(opening.device) if opening.device != "cpu" else model
    runtime = Runtime()
    if opening.precision is not None:
        from beholder.speed.compiled import pack_with_steps
        from beholder.speed.packed import check_precision

        _, compiled = pack_with_steps(model, check_precision(opening.precision, opening.device))
        runtime = Runtime() if isinstance(compiled, str) else Runtime(advance=compiled)
    runtime = runtime if opening.device == "cpu" else runtime_of(model)
    written = formats.PLAIN if opening.chat is None else format_named(opening.chat)
    return Pipeline(model, byte_tokenizer(), chat=written, runtime=runtime)


def byte_tokenizer() -> Tokenizer:
    """A token for each byte, and the two that end and begin texts."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    letters = [chr(byte if byte in printable else next(spare)) for byte in range(256)]
    kinds = [PLAIN] * 256 + [CONTROL] * len(ENDS)
    return Tokenizer.from_gguf_fields([*letters, *ENDS], [], kinds, pre="gpt-2", bos_id=257, eos_id=256)
