"""A model by its name, ready to compute: opened, with adapters on it, packed."""

from __future__ import annotations

from pathlib import Path

import torch

from beholder.errors import BeholderError
from beholder.generate.runtime import Runtime
from beholder.parts.adapters.apply import merge_adapters
from beholder.prompts.tokenizer import Tokenizer
from beholder.speed.gpu import runtime_of
from beholder.weights.open import Opened, open_named


def open_ready(
    name: str | Path,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    precision: str | None = None,
    adapter: str | Path | None = None,
    merge: bool = False,
) -> tuple[Opened, Tokenizer | None, Runtime]:
    """What `beholder.load` says. Adapters go on weights that are packed already, which is what they were trained beside, or
    with `merge` into weights before these are packed; compiled steps have no place for adapters.
    """
    if merge and adapter is None:
        raise BeholderError("merge=True puts an adapter into the weights; give adapter=FOLDER too")
    if precision is None:
        opened, tokenizer = open_named(name, device=device, dtype=dtype)
        _adapt(opened, adapter, merge)
        return opened, tokenizer, runtime_of(opened.model)
    from beholder.speed.compiled import pack_with_steps
    from beholder.speed.packed import check_precision, pack

    chosen = check_precision(precision, device, dtype)
    opened, tokenizer = open_named(name, device=device, dtype=dtype)
    if adapter is not None and not merge:
        pack(opened.model, chosen)
        _adapt(opened, adapter, merge)
        return opened, tokenizer, runtime_of(opened.model)
    _adapt(opened, adapter, merge)
    _, compiled = pack_with_steps(opened.model, chosen)
    runtime = runtime_of(opened.model) if isinstance(compiled, str) else Runtime(advance=compiled)
    return opened, tokenizer, runtime


def _adapt(opened: Opened, folder: str | Path | None, merge: bool) -> None:
    """Put a folder's adapters on an opened model."""
    if folder is None:
        return
    from beholder.weights.adapter_files import load_adapter

    load_adapter(opened.model, folder, opened)
    if merge:
        merge_adapters(opened.model)
    opened.model.eval()
