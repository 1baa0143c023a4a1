"""The next patch of a picture, by a causal decoder over its patches and the text behind them (AIMv2, 2411.14402, 2.1).

N patches, P pixel values of a patch (three colours), D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig
from beholder.parts.language.state import State


@dataclass(frozen=True)
class NextPatch(HeadConfig):
    """patch: pixels per side. The first patch of a picture is not foretold, and what stands behind the last one is text."""

    output: ClassVar[str] = "patches"
    patch: int
    branch: str = "image"

    def tiny(self) -> NextPatch:
        return self.but(patch=14)

    def build(self, language: LanguageConfig | None) -> Head:
        if language is None:
            raise BeholderError("NextPatch needs a language part, which reads the patches")
        return NextPatchHead(self, language.dim)


class NextPatchHead(Head):
    """Hidden states at the pictures' places -> (N, P): row i is what patch i + 1 of the same picture should be."""

    def __init__(self, config: NextPatch, dim: int) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(dim, 3 * config.patch**2)

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Tensor:
        assert inputs.hidden_BTD is not None
        spans = [span for span in inputs.token_spans if span.branch == self.config.branch]
        places = [inputs.hidden_BTD[span.row, span.start : span.stop] for span in spans]
        return self.linear(torch.cat(places) if places else inputs.hidden_BTD[0, :0])

    def loss(self, foretold_NP: Tensor, views: Sequence[Tensor]) -> Tensor:
        """Mean squared error over all patches but each view's first; views (3, h, w) as the encoder saw them."""
        targets = [normed_patches(view, self.config.patch) for view in views]
        given = foretold_NP.split([len(target_NP) for target_NP in targets])
        ahead = torch.cat([each_NP[:-1] for each_NP in given])
        return F.mse_loss(ahead, torch.cat([target_NP[1:] for target_NP in targets]).to(ahead.dtype))


def normed_patches(view: Tensor, patch: int) -> Tensor:
    """The patches of a view in raster order, (N, P), each with mean 0 and variance 1 (MAE, 2111.06377, section 3)."""
    height, width = (side // patch * patch for side in view.shape[-2:])
    values_NP = F.unfold(view[None, :, :height, :width].float(), patch, stride=patch)[0].T
    var_N1, mean_N1 = torch.var_mean(values_NP, -1, correction=0, keepdim=True)
    return (values_NP - mean_N1) / (var_N1 + 1e-6).sqrt()
