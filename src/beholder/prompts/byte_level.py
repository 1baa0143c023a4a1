"""A tokenizer for models without one: a token for each byte."""

from __future__ import annotations

from collections.abc import Sequence

from beholder.prompts.tokenizer import Tokenizer

CONTROLS = ("</s>", "<s>", "<image>")


def byte_tokenizer(controls: Sequence[str] = CONTROLS) -> Tokenizer:
    """One token for each byte (byte-level as in GPT-2, without merges), and control tokens: the first (256) is the end, the
    second the beginning.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    letters = [chr(byte if byte in printable else next(spare)) for byte in range(256)]
    types = [1] * 256 + [3] * len(controls)
    return Tokenizer.from_gguf_fields([*letters, *controls], [], types, pre="gpt-2", bos_id=257, eos_id=256)
