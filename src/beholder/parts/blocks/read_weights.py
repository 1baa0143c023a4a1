"""Linear maps of which a part reads the weight itself, so that nothing may take their place."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from beholder.parts.blocks.kind_experts import KindExpertsLayer
from beholder.parts.blocks.latent_attention import LatentSelfAttention
from beholder.parts.blocks.moe import ExpertsLayer

WEIGHT_READ: Mapping[type[nn.Module], tuple[str, ...]] = {
    LatentSelfAttention: ("k", "v"),
    ExpertsLayer: ("router",),
    KindExpertsLayer: ("routers",),
}


def read_elsewhere(modules: Mapping[str, nn.Module]) -> set[str]:
    """Their names among all modules of a model; those inside them count too."""
    return {
        f"{name}.{child}" for name, module in modules.items() for child in WEIGHT_READ.get(type(module), ())
    }
