"""What recurrent mixers share: a causal convolution with a memory, linear recurrences, and attention whose past decays.

B rows, T positions, S positions with remembered ones in front, C channels, J key heads, H value heads, R = H / J,
N key width, P value width, L positions of one chunk.

A mixer's memory is `State.recurrent(layer)`: named tensors, replaced at each forward. Rows are padded on the right, and
padding leaves the memory as it is, so that it always stands at each row's own end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.blocks.step import Mixer, MixerConfig, Step

CHUNK = 64  # positions that `decayed_attention` takes at a time
ENDLESS = (
    2**20
)  # tokens: the context of models that name no longest one and whose memory does not grow with the text


class RecurrentConfig(MixerConfig):
    """Settings of a mixer that reads each row from its first token to its last."""

    @property
    def in_segments(self) -> bool:
        return False


class RecurrentMixer(Mixer):
    """A mixer that keeps the past in tensors of a fixed size."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def memory(self, step: Step, parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """What the state keeps for this layer, to be read and replaced; empty before the first token.

        Raises `BeholderError` for what a recurrence cannot do: several texts in one row, and parts that change keys.
        """
        for slot in ("qkv", "prefix"):
            if slot in parts:
                raise BeholderError(
                    f"layer {self.index} has no queries and keys for the slot {slot!r}; choose layers with attention"
                )
        if step.queries is not None and len(step.queries.parents) > 1:
            raise BeholderError(
                f"layer {self.index} reads each row as one text, but rows have {len(step.queries.parents)} segments; "
                "give one row for each"
            )
        return {} if step.state is None else step.state.recurrent(self.index).values


def real_tokens(x_BTC: Tensor, lengths: Sequence[int] | None) -> Tensor | None:
    """(B, T) booleans: False at padding; None where there is none."""
    if lengths is None:
        return None
    ends_B1 = torch.tensor(list(lengths), device=x_BTC.device)[:, None]
    return torch.arange(x_BTC.shape[1], device=x_BTC.device) < ends_B1


def zero_padding(x: Tensor, lengths: Sequence[int] | None) -> Tensor:
    """(B, T, ...) with zeros at padding."""
    real_BT = real_tokens(x, lengths)
    return x if real_BT is None else x * real_BT.view(*real_BT.shape, *(1,) * (x.ndim - 2))


def wide(x: Tensor) -> Tensor:
    """In float32 where it is shorter: recurrences add up rounding errors."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class CausalConv(nn.Module):
    """A filter for each channel over its last `width` values, (B, T, C) -> (B, T, C)."""

    def __init__(self, channels: int, width: int, *, bias: bool = True) -> None:
        super().__init__()
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(channels, 1, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def forward(self, x_BTC: Tensor, memory: dict[str, Tensor], lengths: Sequence[int] | None) -> Tensor:
        """`memory["conv"]` holds the last width - 1 values of each row, (B, width - 1, C)."""
        rows, num_new, channels = x_BTC.shape
        kept = self.weight.shape[-1] - 1
        before = memory.get("conv", x_BTC.new_zeros(rows, kept, channels))
        joined_BSC = torch.cat((before, x_BTC), 1)
        if lengths is None:
            memory["conv"] = joined_BSC[:, num_new:].clone()
        else:
            places_BK = torch.tensor(list(lengths))[:, None] + torch.arange(kept)
            index = places_BK.to(x_BTC.device)[..., None].expand(-1, -1, channels)
            memory["conv"] = joined_BSC.gather(1, index)
        return F.conv1d(joined_BSC.transpose(1, 2), self.weight, self.bias, groups=channels).transpose(1, 2)


def scan(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """h_t = a_t h_(t-1) + b_t from h_0 = `start` (B, ...), elementwise; a, b and the result are (B, T, ...).

    Blocks of about sqrt(T) positions advance side by side as if each began at zero; then what comes before each block is
    added, decayed. That takes 2 sqrt(T) steps in place of T.
    """
    length = a.shape[1]
    size = math.isqrt(length - 1) + 1
    missing = -length % size
    if missing:
        a = torch.cat((a, torch.ones_like(a[:, :1]).expand(-1, missing, *a.shape[2:])), 1)
        b = torch.cat((b, torch.zeros_like(b[:, :1]).expand(-1, missing, *b.shape[2:])), 1)
    a, b = a.unflatten(1, (-1, size)), b.unflatten(1, (-1, size))
    value, decay = b[:, :, 0], a[:, :, 0]
    values, decays = [value], [decay]
    for i in range(1, size):
        value, decay = a[:, :, i] * value + b[:, :, i], a[:, :, i] * decay
        values.append(value)
        decays.append(decay)
    starts = [start]
    for block in range(a.shape[1] - 1):
        starts.append(decay[:, block] * starts[-1] + value[:, block])
    carried = torch.stack(decays, 2) * torch.stack(starts, 1)[:, :, None]
    return (torch.stack(values, 2) + carried).flatten(1, 2)[:, :length]


def decayed_attention(
    q_BTJN: Tensor, k_BTJN: Tensor, v_BTHP: Tensor, log_decay_BTH: Tensor, start_BHNP: Tensor | None
) -> tuple[Tensor, Tensor]:
    """y_t = q_t S_t with S_t = exp(log_decay_t) S_(t-1) + k_t' v_t for each head: (B, T, H, P), and the last S.

    Inside a chunk as attention with decaying weights, between chunks through S: the state space duality of Mamba-2
    (2405.21060, section 6), which is Lightning Attention-2 (2401.04658) where the decay is a constant.
    """
    rows, length, heads, width = v_BTHP.shape
    groups, key_width = k_BTJN.shape[2:]
    state = v_BTHP.new_zeros(rows, heads, key_width, width) if start_BHNP is None else start_BHNP
    state = state.unflatten(1, (groups, -1))
    pieces = []
    for at in range(0, length, CHUNK):
        q, k = (x[:, at : at + CHUNK].transpose(1, 2)[:, :, None] for x in (q_BTJN, k_BTJN))  # B J 1 L N
        v = v_BTHP[:, at : at + CHUNK].transpose(1, 2).unflatten(1, (groups, -1))  # B J R L P
        total = (
            log_decay_BTH[:, at : at + CHUNK].transpose(1, 2).unflatten(1, (groups, -1)).cumsum(-1)
        )  # B J R L
        later = torch.ones(total.shape[-1], total.shape[-1], dtype=torch.bool, device=v.device).triu(1)
        between = (total[..., :, None] - total[..., None, :]).masked_fill(later, -math.inf).exp()
        inside = ((q @ k.transpose(-1, -2)) * between) @ v
        pieces.append((inside + (q * total.exp()[..., None]) @ state).flatten(1, 2))
        end = total[..., -1:]
        added = (k * (end - total).exp()[..., None]).transpose(-1, -2) @ v
        state = state * end.exp()[..., None] + added
    return torch.cat(pieces, 2).transpose(1, 2), state.flatten(1, 2)


def step_bias(size: int, low: float = 1e-3, high: float = 0.1) -> Tensor:
    """(size,) values whose softplus is drawn between `low` and `high` evenly in the logarithm (official Mamba start)."""
    steps = torch.exp(torch.rand(size) * math.log(high / low) + math.log(low))
    return steps + torch.log(-torch.expm1(-steps))
