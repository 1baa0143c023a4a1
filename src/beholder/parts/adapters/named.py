"""Adapters by the names that rules give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from beholder.errors import UnknownName
from beholder.parts.adapters.base import Adapter
from beholder.parts.adapters.bottlenecks import BottleneckAdapter
from beholder.parts.adapters.low_rank import Lora
from beholder.parts.adapters.mixtures import LoraMixture
from beholder.parts.adapters.prompts import PrefixTuning, PromptTokens, ZeroInit
from beholder.parts.adapters.scales import Scaled

KINDS: tuple[type[Adapter], ...] = (
    Lora,
    LoraMixture,
    Scaled,
    BottleneckAdapter,
    PrefixTuning,
    PromptTokens,
    ZeroInit,
)
# name -> its settings of a rank (a number of channels or of tokens), the usual ones where that is 0
NAMED: Mapping[str, Callable[[int], Adapter]] = {
    "lora": lambda rank: Lora(rank=rank or 8),
    "rslora": lambda rank: Lora(rank=rank or 8, by_root=True),
    "dora": lambda rank: Lora(rank=rank or 8, magnitudes=True),
    "mixture": lambda rank: LoraMixture(rank=rank or 8),
    "ia3": lambda _: Scaled(),
    "bottleneck": lambda rank: BottleneckAdapter(rank=rank or 64),
    "prefix": lambda rank: PrefixTuning(count=rank or 20),
    "prompt": lambda rank: PromptTokens(count=rank or 20),
    "p-tuning": lambda rank: PromptTokens(count=rank or 20, encoder="mlp"),
    "zero-init": lambda rank: ZeroInit(count=rank or 10),
}


def chosen(adapter: str | Adapter, rank: int, pattern: str, above: int = 0) -> Adapter | None:
    """The adapter that a rule means; None where it means none. Raises `UnknownName`."""
    if isinstance(adapter, Adapter):
        return adapter if adapter.layers else replace(adapter, pattern=pattern, above=above)
    if not adapter and not rank:
        return None
    name = adapter or "lora"
    if name not in NAMED:
        raise UnknownName("adapter", name, NAMED)
    return replace(NAMED[name](rank), pattern=pattern, above=above)
