"""Towers side by side: nothing is mixed until a head compares their vectors (CLIP, 2103.00020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from beholder.parts.contracts import BranchOutput, Fusion, FusionConfig, LanguageConfig, LanguageInputs


@dataclass(frozen=True)
class Towers(FusionConfig):
    """anchor: the part all others are compared with, `text` or a branch; others: the branches beside it."""

    anchor: str = "text"
    others: tuple[str, ...] = ("image",)

    def build(self, language: LanguageConfig | None) -> Fusion:
        return TowersFusion()


class TowersFusion(Fusion):
    """Leaves the text tower's inputs as they are."""

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        return draft
