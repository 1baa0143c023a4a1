"""Codebooks: nearest rows (VQ-VAE, 1711.00937), and several one after the other (residual quantization, 2107.03312 and
2203.01941).

N places, D width, K rows of a codebook, Q codebooks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.errors import BeholderError, UnknownName

BLOCK = 8192  # places whose distances are held at once
UNITS = (None, "both", "read")
AVERAGES = (None, "means", "kmeans")


@dataclass(frozen=True)
class Codebooks(Config):
    """size: rows; dim: their width; depth: codebooks, each for what the ones before it left over; shared: one table serves
    all depths.

    unit: `both` compares vectors of length 1 and gives such (ViT-VQGAN, 2110.04627); `read` makes them so on reading
    alone (official `JanusVQVAEVectorQuantizer`). averages: tables follow the running means of what chose them and get no
    gradient (1711.00937, A.1); `kmeans` also keeps the flag that clusters of the first batch have set them (EnCodec).
    spare: a last row that is never chosen (the padding row of official RQ-VAE). pull, commit: weights of the losses that
    draw rows to latents and latents to rows.
    """

    size: int
    dim: int
    depth: int = 1
    shared: bool = False
    unit: str | None = None
    averages: str | None = None
    spare: bool = False
    pull: float = 1.0
    commit: float = 0.25

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise UnknownName("unit length of codes", self.unit or "", [str(name) for name in UNITS])
        if self.averages not in AVERAGES:
            raise UnknownName(
                "running averages of codes", self.averages or "", [str(name) for name in AVERAGES]
            )

    def tiny(self) -> Codebooks:
        return self.but(size=16, dim=8, depth=min(self.depth, 3))

    def build(self) -> Quantizer:
        return Quantizer(self)


@dataclass(frozen=True)
class Quantized:
    """ids_NQ: chosen rows. vectors_ND: their sum, with the latents' gradient (straight-through, 1308.3432). loss: the mean
    over codebooks of `pull` |row - sg(latent)|^2 + `commit` |latent - sg(row)|^2, rows summed up to each depth.
    """

    ids_NQ: Tensor
    vectors_ND: Tensor
    loss: Tensor


class Codebook(nn.Module):
    """One table of code vectors."""

    weight: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, config: Codebooks) -> None:
        super().__init__()
        self.config = config
        weight = torch.empty(config.size + config.spare, config.dim).uniform_(
            -1 / config.size, 1 / config.size
        )
        if config.averages is None:
            self.weight = nn.Parameter(weight)
            return
        self.register_buffer("weight", weight)
        self.register_buffer("counts", torch.zeros(config.size))
        self.register_buffer("sums", weight[: config.size].clone())
        if config.averages == "kmeans":
            self.register_buffer("started", torch.ones(1))

    @torch.no_grad()
    def nearest(self, x_ND: Tensor) -> Tensor:
        """The row nearest to each vector, (N,)."""
        table_KD = self.weight[: self.config.size]
        if self.config.unit == "both":
            table_KD = F.normalize(table_KD, dim=-1)
        squares_K = table_KD.pow(2).sum(1)
        ids = [
            (x.pow(2).sum(1, keepdim=True) + squares_K - 2 * (x @ table_KD.T)).argmin(1)
            for x in x_ND.split(BLOCK)
        ]
        return torch.cat(ids)

    def rows(self, ids_N: Tensor, *, reading: bool = False) -> Tensor:
        """(N, D). reading: from ids alone, not while latents are quantized."""
        chosen_ND = F.embedding(ids_N, self.weight)
        unit = self.config.unit == "both" or (reading and self.config.unit == "read")
        return F.normalize(chosen_ND, dim=-1) if unit else chosen_ND

    @torch.no_grad()
    def follow(self, x_ND: Tensor, ids_N: Tensor, decay: float, eps: float) -> None:
        """Move the rows to the running means of the vectors that chose them."""
        size = self.config.size
        self.counts.lerp_(ids_N.bincount(minlength=size).to(self.counts), 1 - decay)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, ids_N, x_ND.to(self.sums)), 1 - decay)
        total = self.counts.sum()
        smoothed_K = (self.counts + eps) / (total + size * eps) * total
        self.weight[:size] = self.sums / smoothed_K[:, None]


class Quantizer(nn.Module):
    """Latents (N, D) -> codes."""

    def __init__(self, config: Codebooks) -> None:
        super().__init__()
        self.config = config
        tables = (
            [Codebook(config)] * config.depth
            if config.shared
            else [Codebook(config) for _ in range(config.depth)]
        )
        self.codebooks = nn.ModuleList(tables)

    def _tables(self, first: int = 0, last: int | None = None) -> list[Codebook]:
        return [cast(Codebook, codebook) for codebook in self.codebooks[first:last]]

    def forward(self, latents_ND: Tensor, depth: int | None = None) -> Quantized:
        """With the first `depth` codebooks (None: all)."""
        if depth is not None and not 1 <= depth <= self.config.depth:
            raise BeholderError(
                f"depth {depth} of a quantizer of {self.config.depth}; take 1 to {self.config.depth}"
            )
        x_ND = F.normalize(latents_ND, dim=-1) if self.config.unit == "both" else latents_ND
        rest_ND, total_ND = x_ND.detach(), torch.zeros_like(x_ND)
        ids, losses = [], []
        for codebook in self._tables(0, depth):
            ids_N = codebook.nearest(rest_ND)
            chosen_ND = codebook.rows(ids_N)
            pulled_ND = total_ND.detach() + chosen_ND
            pull, commit = F.mse_loss(pulled_ND, x_ND.detach()), F.mse_loss(x_ND, pulled_ND.detach())
            losses.append(self.config.pull * pull + self.config.commit * commit)
            rest_ND, total_ND = rest_ND - chosen_ND.detach(), pulled_ND
            ids.append(ids_N)
        straight_ND = x_ND + (total_ND - x_ND).detach()
        return Quantized(torch.stack(ids, 1), straight_ND, torch.stack(losses).mean())

    def lookup(self, ids_NQ: Tensor, first: int = 0) -> Tensor:
        """The sum of the rows that ids of codebooks `first`, `first` + 1, ... name, (N, D). Raises `BeholderError` for more
        codebooks or larger ids than there are.
        """
        last = first + ids_NQ.shape[1]
        if not 0 <= first < last <= self.config.depth:
            raise BeholderError(
                f"codes of codebooks {first} to {last - 1}, but there are {self.config.depth}"
            )
        if len(ids_NQ) and not 0 <= int(ids_NQ.min()) <= int(ids_NQ.max()) < self.config.size:
            raise BeholderError(
                f"codes {int(ids_NQ.min())} to {int(ids_NQ.max())} of codebooks of {self.config.size} rows"
            )
        tables = self._tables(first, last)
        return torch.stack([t.rows(ids, reading=True) for t, ids in zip(tables, ids_NQ.T, strict=True)]).sum(
            0
        )

    @torch.no_grad()
    def follow(self, latents_ND: Tensor, decay: float = 0.99, eps: float = 1e-5) -> None:
        """One step of the running averages, for codebooks that are trained so; defaults are EnCodec's and RQ-VAE's."""
        if self.config.averages is None:
            raise BeholderError(
                "these codebooks are trained by gradients; set averages='means' to follow means"
            )
        rest_ND = latents_ND
        for codebook in self._tables():
            ids_N = codebook.nearest(rest_ND)
            chosen_ND = codebook.rows(ids_N)
            codebook.follow(rest_ND, ids_N, decay, eps)
            rest_ND = rest_ND - chosen_ND
