"""beholder: published vision-language systems as short cards over one set of shared parts.

Names are imported when first used, so that `import beholder` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beholder.cards import card as card
    from beholder.catalogue import system as system
    from beholder.catalogue import systems as systems
    from beholder.engine import Engine as Engine
    from beholder.errors import BeholderError as BeholderError
    from beholder.errors import MediaError as MediaError
    from beholder.errors import UnknownName as UnknownName
    from beholder.errors import WeightsError as WeightsError
    from beholder.generate.sampling import Sampling as Sampling
    from beholder.media.plan import Box as Box
    from beholder.model import build as build
    from beholder.pipeline import Pipeline as Pipeline
    from beholder.pipeline import load as load
    from beholder.reply import Reply as Reply
    from beholder.seeing import plan as plan

__version__ = "0.1.0"

_HOMES = {
    "BeholderError": "beholder.errors",
    "Box": "beholder.media.plan",
    "Engine": "beholder.engine",
    "MediaError": "beholder.errors",
    "Pipeline": "beholder.pipeline",
    "Reply": "beholder.reply",
    "Sampling": "beholder.generate.sampling",
    "UnknownName": "beholder.errors",
    "WeightsError": "beholder.errors",
    "build": "beholder.model",
    "card": "beholder.cards",
    "load": "beholder.pipeline",
    "plan": "beholder.seeing",
    "system": "beholder.catalogue",
    "systems": "beholder.catalogue",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'beholder' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
