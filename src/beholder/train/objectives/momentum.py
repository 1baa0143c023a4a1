"""Contrast with a momentum model and queues of its vectors, and what is trained beside it (ALBEF, 2107.07651; BLIP,
2201.12086).

B pairs, Q vectors of a queue, D their width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.model import Model
from beholder.parts.heads.joint import Matching
from beholder.parts.heads.next_token import NextToken
from beholder.parts.heads.similarity import SimilarityHead
from beholder.train.collate import TrainBatch
from beholder.train.objectives.pairs import (
    SMOOTHING,
    check_pairs,
    matching_loss,
    matching_scores,
    pairings,
    taken,
    texts_of,
    vectors,
)
from beholder.train.objectives.processes import gathered
from beholder.train.objectives.reading import Reading, generator_of, head_of
from beholder.train.objectives.teachers import frozen_copy, own_parameters
from beholder.train.objectives.text import Answered

SHARPEST, BLUNTEST = (
    math.log(1 / 0.001),
    math.log(1 / 0.5),
)  # of 1 / temperature; models/model_pretrain.py of both


class MomentumPairs:
    """For a card with the head `Similarity`. Pictures and texts of a batch are told apart from each other's and from those of
    `size` earlier pairs, in the vectors of a model that follows this one at `momentum`; what that model finds alike counts for
    `alpha` of the target (2107.07651, equations 1, 2 and 6), which it grows to over `warmup` steps. Where the card has
    `Matching`, right pairs and hard wrong ones are told apart as well (equation 4), and where it writes, each caption's words
    are learned with smoothed labels (BLIP, section 3.2; models/blip_pretrain.py and med.py).

    The defaults are BLIP's; ALBEF's queues hold 65536. `warmup` is two epochs in BLIP, one in ALBEF. The state is that model's
    parameters and the queues, which begin as random unit vectors as in both releases.
    """

    def __init__(
        self,
        *,
        size: int = 57600,
        momentum: float = 0.995,
        alpha: float = 0.4,
        warmup: int = 0,
        seed: int = 0,
    ) -> None:
        if size < 1 or not 0 <= momentum < 1 or not 0 <= alpha <= 1:
            raise BeholderError(
                f"a queue of {size}, momentum {momentum:g} and alpha {alpha:g}; give at least 1, [0, 1) and [0, 1]"
            )
        self.size, self.momentum, self.alpha, self.warmup, self.seed = size, momentum, alpha, warmup, seed
        self.follower: Model | None = None
        self.moving: dict[str, nn.Parameter] = {}
        self.queues_2QD, self.counts_2 = torch.zeros(2, 0, 0), torch.zeros(2, dtype=torch.long)
        self.seen: list[tuple[int, Tensor, Tensor]] = []

    @property
    def step(self) -> int:
        """Optimizer steps so far; counts_2 holds vectors that the queues were given, and these."""
        return int(self.counts_2[1])

    def prepare(self, model: Model) -> None:
        """Make the model that follows; once, before the first step."""
        head_of(model, SimilarityHead, "Similarity")
        self.follower = frozen_copy(model)
        self.moving = own_parameters(self.follower, model)

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        batch, generator = item.batch, generator_of(item.batch)
        branches = model.encode(batch)
        language = model.read(batch, branches)
        head = head_of(model, SimilarityHead, "Similarity")
        likeness = model.apply_heads(batch, branches, language, outputs=("similarity",))["similarity"]
        loss, scores_BB = self.contrast(model, item, head, likeness.images_VD, likeness.texts_BD)
        kinds = {type(config) for config in model.card.heads}
        if Matching in kinds:
            check_pairs(len(scores_BB))
            shown, read_B, belongs_B = (each[len(scores_BB) :] for each in pairings(scores_BB, generator))
            right_B2 = model.apply_heads(batch, branches, language, outputs=("matching",))["matching"]
            wrong = type(batch)(**texts_of(batch, read_B))
            wrong_B2 = matching_scores(model, wrong, taken(branches, shown.tolist()))
            belongs_B = torch.cat((torch.ones_like(belongs_B[: len(scores_BB)]), belongs_B))
            loss = loss + matching_loss(model, torch.cat((right_B2, wrong_B2)), belongs_B)
        if NextToken in kinds:
            loss = loss + Answered("token", SMOOTHING)(Reading(model, item, branches, language))
        return loss

    def contrast(
        self, model: Model, item: TrainBatch, head: SimilarityHead, images_BD: Tensor, texts_BD: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss, and scores (B, B) of the batch's own pairs. Raises `BeholderError` before `prepare`."""
        if self.follower is None:
            raise BeholderError("there is no momentum model yet; call prepare(model) before the first step")
        with torch.no_grad():
            _, *old = vectors(self.follower, item.batch)
            old_images, old_texts = (each.float() for each in old)
            queues_2QD = self._queues(old_images)
            all_images, all_texts = (
                torch.cat((new, queue_QD))
                for new, queue_QD in zip((old_images, old_texts), queues_2QD, strict=True)
            )
            own_BQ = torch.eye(len(old_images), len(all_texts), device=all_texts.device)
            alpha = self.alpha * min(1.0, self.step / self.warmup) if self.warmup else self.alpha
            to_texts_BQ = (
                alpha * head.compare(old_images, all_texts).float().softmax(1) + (1 - alpha) * own_BQ
            )
            to_images_BQ = (
                alpha * head.compare(all_images, old_texts).T.float().softmax(1) + (1 - alpha) * own_BQ
            )
        if torch.is_grad_enabled():
            self.seen.append((int(generator_of(item.batch).initial_seed()), old_images, old_texts))
        scores_BQ = head.compare(images_BD, all_texts).float()
        loss = F.cross_entropy(scores_BQ, to_texts_BQ)
        loss = loss + F.cross_entropy(head.compare(all_images, texts_BD).T.float(), to_images_BQ)
        return loss / 2, scores_BQ[:, : len(images_BD)]

    @torch.no_grad()
    def after_step(self, model: Model) -> None:
        """The follower moves, the batches' vectors enter the queues in an order that no thread changes, and the temperature is
        kept between 0.001 and 0.5, as in both releases.
        """
        assert self.follower is not None
        values = dict(model.named_parameters())
        for name, old in self.moving.items():
            old.lerp_(values[name], 1 - self.momentum)
        buffers = dict(model.named_buffers())
        for name, kept in self.follower.named_buffers():
            kept.copy_(buffers[name])
        seen, self.seen = sorted(self.seen, key=lambda each: each[0]), []
        for _, *pair in seen:
            pair_2BD = torch.stack([gathered(old, gradients=False) for old in pair])
            queues_2QD, count = self._queues(pair_2BD), pair_2BD.shape[1]
            places_B = (torch.arange(count) + int(self.counts_2[0])) % self.size
            queues_2QD[:, places_B] = pair_2BD
            self.counts_2[0] = (int(self.counts_2[0]) + count) % self.size
        self.counts_2[1] += 1
        scale = head_of(model, SimilarityHead, "Similarity").scale
        if scale is not None and scale.requires_grad:
            scale.clamp_(BLUNTEST, SHARPEST)

    def _queues(self, like: Tensor) -> Tensor:
        """The queues of pictures and of texts (2, Q, D), random before their first use."""
        if not self.queues_2QD.numel():
            draws = torch.Generator().manual_seed(self.seed)
            shape = (2, self.size, like.shape[-1])
            self.queues_2QD = F.normalize(torch.randn(shape, generator=draws), dim=-1)
        self.queues_2QD = self.queues_2QD.to(like.device)
        return self.queues_2QD

    def state_dict(self) -> dict[str, Tensor]:
        """The queues, their counts and what of the follower is not the model's own."""
        moved = {f"follower.{name}": value.detach() for name, value in self.moving.items()}
        return {"queues": self.queues_2QD.clone(), "counts": self.counts_2.clone(), **moved}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Behind `prepare`."""
        if self.follower is None:
            raise BeholderError(
                "there is no momentum model yet; call prepare(model) before loading its state"
            )
        self.queues_2QD, self.counts_2 = state["queues"].clone(), state["counts"].clone()
        for name, old in self.moving.items():
            old.copy_(state[f"follower.{name}"])
