"""Mixtures of experts: each token goes to the few expert MLPs that a router scores highest for it.

N tokens, D width, E experts, A active experts of a token, H inner width. Shazeer et al. (1701.06538), Switch (2101.03961),
Mixtral (2401.04088), DeepSeekMoE (2401.06066), SparseMixer (2409.12136).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.step import Mlp, MlpConfig, Step

SCORES = ("softmax", "sigmoid", "sparsemixer")


@dataclass(frozen=True)
class Routing(Config):
    """active: experts of a token. scores: `softmax` or `sigmoid` over all experts, or `sparsemixer` (Phi-3.5-MoE: each
    choice weighs by a softmax over the experts within `jitter` of it). normalised: the chosen scores add up to 1; scale:
    of them all. corrected: a learned vector is added to the scores for choosing alone (DeepSeek-V3).
    groups, active_groups: experts are chosen within the best groups, which are scored by their `group_best` best experts.
    capacity: an expert takes at most capacity * A * N / E tokens, the earlier ones; None takes all. training_capacity:
    the same while training, where it is another. most: an expert takes at most so many tokens of a row, the earlier ones.
    on_input: weights multiply what experts read, not what they give (Llama 4).
    """

    active: int
    scores: str = "softmax"
    normalised: bool = False
    scale: float = 1.0
    corrected: bool = False
    groups: int = 1
    active_groups: int = 1
    group_best: int = 1
    jitter: float = 0.01
    capacity: float | None = None
    training_capacity: float | None = None
    most: int | None = None
    on_input: bool = False

    def __post_init__(self) -> None:
        if self.scores not in SCORES:
            raise UnknownName("scores of experts", self.scores, SCORES)


@dataclass(frozen=True)
class Experts(MlpConfig):
    """num_experts gated MLPs of inner width `hidden`. shared: inner width of an MLP that sees every token (None: there is
    none); shared_gate: times a learned sigmoid (Qwen2-MoE). bias: of the experts' matrices; router_bias: of the router.
    limit: gates are at most this, what they multiply is between -limit and limit and counts one more (gpt-oss, 2508.10925).
    """

    num_experts: int
    hidden: int
    routing: Routing
    act: str = "silu"
    gated: bool = True
    shared: int | None = None
    shared_gate: bool = False
    bias: bool = False
    router_bias: bool = False
    limit: float | None = None

    def __post_init__(self) -> None:
        active, groups = self.routing.active, self.routing.groups
        if self.limit is not None and not self.gated:
            raise BeholderError("a limit is of gates and what they multiply; set gated=True or leave it out")
        if not 1 <= active <= self.num_experts:
            raise BeholderError(
                f"{active} active experts of {self.num_experts}; expected 1 to {self.num_experts}"
            )
        if self.num_experts % groups or not 1 <= self.routing.active_groups <= groups:
            raise BeholderError(
                f"{self.num_experts} experts in {groups} groups, {self.routing.active_groups} of them active"
            )
        if self.num_experts // groups < self.routing.group_best:
            raise BeholderError(
                f"groups of {self.num_experts // groups} experts have no {self.routing.group_best} best"
            )

    def tiny(self) -> Experts:
        """Four experts, or eight in two groups."""
        grouped = self.routing.groups > 1
        routing = self.routing.but(
            active=min(2, self.routing.active), groups=2 if grouped else 1, active_groups=1
        )
        return self.but(
            num_experts=8 if grouped else 4, hidden=24, shared=self.shared and 24, routing=routing
        )

    def build(self, dim: int, out_dim: int | None = None) -> ExpertsLayer:
        return ExpertsLayer(self, dim, out_dim or dim)


class ExpertsLayer(Mlp):
    """(..., D) -> (..., out_dim). `gate`, `up` (E, H, D) and `down` (E, out_dim, H) hold all experts."""

    def __init__(self, config: Experts, dim: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        count, hidden = config.num_experts, config.hidden
        self.router = nn.Linear(dim, count, bias=config.router_bias)
        self.correction = nn.Parameter(torch.zeros(count)) if config.routing.corrected else None
        self.gate = expert_matrices(count, hidden, dim) if config.gated else None
        self.up = expert_matrices(count, hidden, dim)
        self.down = expert_matrices(count, out_dim, hidden)
        widths = {"gate": hidden if config.gated else 0, "up": hidden, "down": out_dim} if config.bias else {}
        self.biases = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(count, width)) for name, width in widths.items() if width}
        )
        self.act = activation(config.act)
        self.shared = None
        if config.shared is not None:
            self.shared = FeedForward(config.shared, config.act, gated=config.gated, bias=False).build(dim)
        self.shared_gate = nn.Linear(dim, 1, bias=False) if config.shared_gate else None

    def forward(self, x: Tensor, step: Step | None = None) -> Tensor:
        x_ND = x.flatten(0, -2)
        bias_E = None if self.router.bias is None else self.router.bias.float()
        logits_NE = F.linear(x_ND.float(), self.router.weight.float(), bias_E)
        weights_NA, chosen_NA = route(logits_NE, self.config.routing, self.correction)
        if self.config.routing.most is not None:
            weights_NA = within(weights_NA, chosen_NA, self.config.routing.most, x.shape[-2])
        if step is not None and step.fixed and self.config.routing.capacity is None:
            y_ND = self._experts_at_once(x_ND, weights_NA.to(x.dtype), chosen_NA)
        else:
            if step is not None:
                report(logits_NE, chosen_NA, step, x.shape[:-1])
            y_ND = self._experts(x_ND, weights_NA.to(x.dtype), chosen_NA)
        if self.shared is not None:
            shared_ND = self.shared(x_ND)
            y_ND = y_ND + (
                shared_ND if self.shared_gate is None else torch.sigmoid(self.shared_gate(x_ND)) * shared_ND
            )
        return y_ND.view(*x.shape[:-1], -1)

    def _experts(self, x_ND: Tensor, weights_NA: Tensor, chosen_NA: Tensor) -> Tensor:
        """Tokens sorted by expert, so that each expert is one product over its tokens."""
        active = chosen_NA.shape[1]
        experts_M, order_M = chosen_NA.flatten().sort(stable=True)
        tokens_M, weights_M = order_M // active, weights_NA.flatten()[order_M]
        y_ND = x_ND.new_zeros(len(x_ND), self.down.shape[1])
        start = 0
        for expert, count in enumerate(torch.bincount(experts_M, minlength=self.config.num_experts).tolist()):
            kept = min(count, self._room(len(x_ND)))
            if kept:
                tokens_m = tokens_M[start : start + kept]
                share_m1, read_mD = weights_M[start : start + kept, None], x_ND[tokens_m]
                if self.config.routing.on_input:
                    given_mD = self._expert(read_mD * share_m1, expert)
                else:
                    given_mD = self._expert(read_mD, expert) * share_m1
                y_ND = y_ND.index_add(0, tokens_m, given_mD)
            start += count
        return y_ND

    def _experts_at_once(self, x_ND: Tensor, weights_NA: Tensor, chosen_NA: Tensor) -> Tensor:
        """The same in operations of fixed shape, for few tokens: each with the matrices of its own experts, or where that were
        more matrices than there are, with those of all experts.
        """
        count = self.config.num_experts
        experts: Tensor | slice = slice(None)
        if chosen_NA.numel() < count:
            experts, weights_M11 = chosen_NA.flatten(), weights_NA.reshape(-1, 1, 1)
            x_MnD = x_ND.repeat_interleave(chosen_NA.shape[1], 0)[:, None]
        else:
            weights_NE = weights_NA.new_zeros(len(x_ND), count).scatter(1, chosen_NA, weights_NA)
            x_MnD, weights_M11 = x_ND.expand(count, -1, -1), weights_NE.T[..., None]
        if self.config.routing.on_input:
            y_MnD = self._expert(x_MnD * weights_M11, experts) * (weights_M11 != 0)
        else:
            y_MnD = self._expert(x_MnD, experts) * weights_M11
        own = chosen_NA.numel() < count
        return y_MnD.unflatten(0, chosen_NA.shape).sum(1)[:, 0] if own else y_MnD.sum(0)

    def _expert(self, x_mD: Tensor, expert: int | slice | Tensor) -> Tensor:
        """What an expert gives; for several experts x is (M, m, D)."""
        y_mH, limit = self._map("up", x_mD, expert), self.config.limit
        if self.gate is None:
            return self._map("down", self.act(y_mH), expert)
        gate_mH = self._map("gate", x_mD, expert)
        if limit is not None:
            gate_mH, y_mH = gate_mH.clamp(max=limit), y_mH.clamp(-limit, limit) + 1
        y_mH = self.act(gate_mH) * y_mH
        return self._map("down", y_mH, expert)

    def _map(self, name: str, x: Tensor, expert: int | slice | Tensor) -> Tensor:
        weight, bias = getattr(self, name)[expert], self.biases[name][expert] if name in self.biases else None
        if weight.ndim == 2:
            return F.linear(x, weight, bias)
        given = x @ weight.transpose(1, 2)
        return given if bias is None else given + bias[:, None]

    def _room(self, tokens: int) -> int:
        """Most tokens that an expert takes."""
        routing = self.config.routing
        trained = self.training and routing.training_capacity is not None
        capacity = routing.training_capacity if trained else routing.capacity
        if capacity is None:
            return tokens
        return math.ceil(capacity * routing.active * tokens / self.config.num_experts)


def report(logits_NE: Tensor, chosen_NA: Tensor, step: Step, rows: torch.Size) -> None:
    """Each expert's share of the tokens, and while training the losses that even it out; padding does not count."""
    if step.lengths is not None and len(rows) == 2:
        columns_T = torch.arange(rows[1], device=logits_NE.device)
        real_N = (columns_T < torch.tensor(step.lengths, device=columns_T.device)[:, None]).flatten()
        logits_NE, chosen_NA = logits_NE[real_N], chosen_NA[real_N]
    if torch.is_grad_enabled():
        step.aux.setdefault("load balance", []).append(load_balance(logits_NE, chosen_NA))
        step.aux.setdefault("router z", []).append(logits_NE.logsumexp(-1).square().mean())
    counts_E = torch.bincount(chosen_NA.flatten(), minlength=logits_NE.shape[1])
    step.stats.setdefault("expert load", []).append(counts_E / max(1, len(chosen_NA)))


def within(weights_NA: Tensor, chosen_NA: Tensor, most: int, row: int) -> Tensor:
    """The weights, 0 for tokens that find their expert taken by `most` earlier ones of their row of `row` tokens."""
    places_NE = F.one_hot(chosen_NA).sum(1).unflatten(0, (-1, row)).cumsum(1).flatten(0, 1)
    return weights_NA * (places_NE.gather(1, chosen_NA) <= most)


def expert_matrices(count: int, rows: int, columns: int) -> nn.Parameter:
    """(count, rows, columns), each drawn as `nn.Linear` draws its weight."""
    return nn.Parameter(torch.empty(count, rows, columns).uniform_(-(columns**-0.5), columns**-0.5))


def route(logits_NE: Tensor, routing: Routing, correction_E: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Weights and numbers of each token's experts, (N, A) each."""
    if routing.scores == "sparsemixer":
        return sparsemixer(logits_NE, routing)
    scores_NE = logits_NE.softmax(-1) if routing.scores == "softmax" else logits_NE.sigmoid()
    choosing_NE = scores_NE if correction_E is None else scores_NE + correction_E
    if routing.groups > 1:
        grouped_NGE = choosing_NE.unflatten(-1, (routing.groups, -1))
        best_NG = grouped_NGE.topk(routing.group_best, -1).values.sum(-1)
        open_NG = torch.zeros_like(best_NG, dtype=torch.bool)
        open_NG.scatter_(1, best_NG.topk(routing.active_groups, -1).indices, True)
        choosing_NE = grouped_NGE.masked_fill(~open_NG[..., None], float("-inf")).flatten(1)
    chosen_NA = choosing_NE.topk(routing.active, -1).indices
    weights_NA = scores_NE.gather(1, chosen_NA)
    if routing.normalised:
        weights_NA = weights_NA / (weights_NA.sum(-1, keepdim=True) + 1e-20)
    return weights_NA * routing.scale, chosen_NA


def sparsemixer(logits_NE: Tensor, routing: Routing) -> tuple[Tensor, Tensor]:
    """SparseMixer-v2's choice without its sampling (2409.12136, official `PhimoeTopKRouter` when not training): an expert
    weighs by a softmax over those not chosen yet whose relative distance from it is at most 2 jitter.
    """
    left_NE, weights, chosen = logits_NE, [], []
    for _ in range(routing.active):
        best_N1, index_N1 = left_NE.max(-1, keepdim=True)
        distance_NE = (best_N1 - logits_NE) / logits_NE.abs().maximum(best_N1)
        rivals_NE = left_NE.masked_fill(distance_NE > 2 * routing.jitter, float("-inf"))
        weights.append(rivals_NE.softmax(-1).gather(1, index_N1))
        chosen.append(index_N1)
        left_NE = left_NE.scatter(1, index_N1, float("-inf"))
    return torch.cat(weights, -1), torch.cat(chosen, -1)


def load_balance(logits_NE: Tensor, chosen_NA: Tensor) -> Tensor:
    """E sum_e f_e p_e: f_e tokens sent to expert e over N, p_e its mean probability (Switch, 2101.03961, equation 4;
    with A experts a token the least value is A).
    """
    count = logits_NE.shape[1]
    shares_E = F.one_hot(chosen_NA, count).sum(1).to(logits_NE.dtype).mean(0)
    return count * (shares_E * logits_NE.softmax(-1).mean(0)).sum()
