"""What is known of 220 published vision-language systems: facts, filters, evidence and the views over them.

Plain data: nothing here needs torch, and the files are read on first use.
"""

from beholder.catalogue.facts import (
    Mechanism,
    PublishedConfig,
    System,
    all_systems,
    component,
    components,
    configs,
    entry,
    mechanism,
    mechanisms,
    system,
)
from beholder.catalogue.filters import FILTERS, choices, systems

__all__ = [
    "FILTERS",
    "Mechanism",
    "PublishedConfig",
    "System",
    "all_systems",
    "choices",
    "component",
    "components",
    "configs",
    "entry",
    "mechanism",
    "mechanisms",
    "system",
    "systems",
]
