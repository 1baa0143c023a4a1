"""Moved to `parts.adapters`; these names stay until nobody asks for them here."""

from beholder.parts.adapters.apply import adapter_tensors, adapters, apply_adapters, merge_adapters
from beholder.parts.adapters.base import AdaptedLinear
from beholder.parts.adapters.low_rank import SUFFIXES

__all__ = ["SUFFIXES", "AdaptedLinear", "adapter_tensors", "adapters", "apply_adapters", "merge_adapters"]
