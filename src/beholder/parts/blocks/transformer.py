"""The layer that encoders and decoders share: a mixer and an MLP, joined by residual paths and norms.

B rows, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.config import Config
from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.step import NO_PARTS, MixerConfig, MlpConfig, Step
from beholder.parts.contracts import LayerParts

PLACEMENTS = ("pre", "post", "after", "both", "normed")
PARALLEL = (None, "one norm", "two norms")


@dataclass(frozen=True)
class Arrangement(Config):
    """How a layer's halves f (mixer, then MLP) join the residual path x; n is a norm.

    placement: `pre` x + f(n(x)); `post` n(x + f(x)) (2017's transformer, BERT); `after` x + n(f(x)) (OLMo 2);
    `both` x + n'(f(n(x))) (Gemma 2); `normed` n(x) + f(n(x)) (MiniMax).
    parallel: both halves read the layer's input (GPT-J), through one norm or each through its own (GPT-NeoX).
    skip, scale: x counts `skip` times, what a half gives `scale` times. layer_scale: the latter by a learned vector
    (CaiT, 2103.17239) that starts at this value; gate: by tanh of a learned number that does.
    bare_mixer: the mixer reads x without a norm (ModernBERT's first layer). mixer_norm: one of what the mixer gives, before
    all else (TinyGPT-V), and one of what attention to a memory does (OFA). laurel: the rank of a learned residual path around
    the mixer, which joins the usual one (LAuReL, 2411.07501).
    """

    placement: str = "pre"
    parallel: str | None = None
    skip: float = 1.0
    scale: float = 1.0
    layer_scale: float | None = None
    gate: float | None = None
    bare_mixer: bool = False
    mixer_norm: Norm | None = None
    laurel: int | None = None

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS:
            raise UnknownName("placement of norms", self.placement, PLACEMENTS)
        if self.parallel not in PARALLEL:
            raise UnknownName("parallel halves", str(self.parallel), [str(name) for name in PARALLEL])
        if self.laurel is not None and (self.parallel is not None or not self.norms_input):
            raise BeholderError(
                "a learned residual path reads what the mixer does, normed; see placement and parallel"
            )
        if self.gate is not None and self.layer_scale is not None:
            raise BeholderError("halves are scaled by a gate or by a vector; set one of gate and layer_scale")

    def scales(self, dim: int) -> nn.Parameter | None:
        """What a half is multiplied with, where anything learned is."""
        if self.gate is not None:
            return nn.Parameter(torch.full((1,), self.gate))
        return None if self.layer_scale is None else nn.Parameter(torch.full((dim,), self.layer_scale))

    @property
    def norms_input(self) -> bool:
        return self.placement in ("pre", "both", "normed")

    @property
    def norms_output(self) -> bool:
        return self.placement in ("post", "after", "both")


@dataclass(frozen=True)
class LayerKind(Config):
    """Where some layers differ from a stack's usual one; None keeps what is usual."""

    mixer: MixerConfig | None = None
    mlp: MlpConfig | None = None
    arrangement: Arrangement | None = None


def layer_kinds(
    usual: LayerKind, others: Sequence[LayerKind], pattern: Sequence[int], count: int
) -> tuple[LayerKind, ...]:
    """What each of `count` layers is: layer i the usual one where pattern[i] is 0, else others[pattern[i] - 1] with what is
    usual where that says nothing. A shorter pattern repeats. Raises `BeholderError` for a kind that there is not.
    """
    wrong = [kind for kind in pattern if not 0 <= kind <= len(others)]
    if wrong:
        raise BeholderError(f"a pattern names kind {wrong[0]} of layer, but there are {len(others)} others")
    filled = (
        LayerKind(kind.mixer or usual.mixer, kind.mlp or usual.mlp, kind.arrangement or usual.arrangement)
        for kind in others
    )
    kinds, pattern = (usual, *filled), pattern or (0,)
    return tuple(kinds[pattern[layer % len(pattern)]] for layer in range(count))


def build_layers(
    dim: int, kinds: Sequence[LayerKind], norm: Norm, cross: MixerConfig | None = None
) -> list[TransformerLayer]:
    """The layers of a stack, whose kinds say everything."""
    layers = []
    for index, kind in enumerate(kinds):
        assert kind.mixer is not None and kind.arrangement is not None
        layers.append(
            TransformerLayer(dim, kind.mixer, kind.mlp, kind.arrangement, norm=norm, cross=cross, index=index)
        )
    return layers


def normed(norm: nn.Module, slot: str, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module]) -> Tensor:
    """What a layer's norm gives, or the module that a fusion has put in its place."""
    given: Tensor = parts[slot](x_BTD, norm, step.inputs) if slot in parts else norm(x_BTD)
    return given


class TransformerLayer(nn.Module):
    """A mixer, then an MLP (or none), joined as `arrangement` says. `parts` are a fusion's modules, by slot.

    norm1, norm2 act on the halves' inputs; after1, after2 on their outputs, or on the sums where placement is `post`.
    cross: a mixer between the two that reads an encoder's memory, joined in the same way.
    """

    def __init__(
        self,
        dim: int,
        mixer: MixerConfig,
        mlp: MlpConfig | None,
        arrangement: Arrangement = Arrangement(),
        *,
        norm: Norm,
        cross: MixerConfig | None = None,
        index: int = 0,
    ) -> None:
        super().__init__()
        if cross is not None and arrangement.parallel is not None:
            raise BeholderError(
                "parallel halves leave no place for cross-attention between them; use one of the two"
            )
        self.arrangement = arrangement
        halves = 1 if mlp is None else 2
        self.norm1 = norm.build(dim) if arrangement.norms_input and not arrangement.bare_mixer else None
        self.attn = mixer.build(dim, index)
        self.mixer_norm = arrangement.mixer_norm.build(dim) if arrangement.mixer_norm else None
        self.laurel = Laurel(dim, arrangement.laurel, norm) if arrangement.laurel else None
        self.after1 = norm.build(dim) if arrangement.norms_output else None
        self.cross_norm = norm.build(dim) if cross is not None and arrangement.norms_input else None
        self.cross = cross.build(dim, index) if cross is not None else None
        self.cross_mixer_norm = (
            arrangement.mixer_norm.build(dim) if cross is not None and arrangement.mixer_norm else None
        )
        self.cross_after = norm.build(dim) if cross is not None and arrangement.norms_output else None
        own_norm2 = arrangement.norms_input and halves == 2 and arrangement.parallel != "one norm"
        self.norm2 = norm.build(dim) if own_norm2 else None
        self.mlp = mlp.build(dim) if mlp is not None else None
        self.after2 = norm.build(dim) if arrangement.norms_output and halves == 2 else None
        self.scale1 = arrangement.scales(dim)
        self.scale2 = arrangement.scales(dim) if halves == 2 else None

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        if "sees" in parts:
            parts["sees"](x_BTD, self, step)
        if "before" in parts:
            x_BTD = parts["before"](x_BTD, step.inputs, step.state)
        y_BTD = x_BTD if self.norm1 is None else normed(self.norm1, "norm1", x_BTD, step, parts)
        step.norm, step.mixer = self.norm1, self.attn
        mixed_BTD = self.attn(y_BTD, step, parts)
        mixed_BTD = mixed_BTD if self.mixer_norm is None else self.mixer_norm(mixed_BTD)
        if self.arrangement.parallel is not None:
            z_BTD = y_BTD if self.norm2 is None else normed(self.norm2, "norm2", x_BTD, step, parts)
            x_BTD = self._join(
                x_BTD, y_BTD, mixed_BTD + self._mlp(z_BTD, step, parts), self.after1, self.scale1
            )
        else:
            x_BTD = self._join(x_BTD, y_BTD, mixed_BTD, self.after1, self.scale1)
            x_BTD = x_BTD if self.laurel is None else (x_BTD + self.laurel(y_BTD)) * 0.5**0.5
            x_BTD = parts["between"](x_BTD, step) if "between" in parts else x_BTD
            if self.cross is not None and not step.alone:
                y_BTD = x_BTD if self.cross_norm is None else self.cross_norm(x_BTD)
                read_BTD = self.cross(y_BTD, step)
                read_BTD = read_BTD if self.cross_mixer_norm is None else self.cross_mixer_norm(read_BTD)
                x_BTD = self._join(x_BTD, y_BTD, read_BTD, self.cross_after, None)
            if self.mlp is not None:
                y_BTD = x_BTD if self.norm2 is None else normed(self.norm2, "norm2", x_BTD, step, parts)
                given_BTD = self._mlp(y_BTD, step, parts)
                x_BTD = self._join(x_BTD, y_BTD, given_BTD, self.after2, self.scale2)
        return parts["after"](x_BTD, step.inputs, step.state) if "after" in parts else x_BTD

    def _mlp(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module]) -> Tensor:
        mlp = self.mlp
        assert mlp is not None
        if "mlp" not in parts:
            return mlp(x_BTD, step)
        given: Tensor = parts["mlp"](x_BTD, lambda x, **more: mlp(x, step, **more), step.inputs)
        return given

    def _join(
        self,
        x_BTD: Tensor,
        normed_BTD: Tensor,
        given_BTD: Tensor,
        after: nn.Module | None,
        scale: Tensor | None,
    ) -> Tensor:
        how = self.arrangement
        if after is not None and how.placement != "post":
            given_BTD = after(given_BTD)
        if scale is not None:
            given_BTD = given_BTD * (scale if how.gate is None else scale.tanh())
        if how.scale != 1.0:
            given_BTD = given_BTD * how.scale
        path_BTD = normed_BTD if how.placement == "normed" else x_BTD
        total_BTD = (path_BTD if how.skip == 1.0 else path_BTD * how.skip) + given_BTD
        return after(total_BTD) if after is not None and how.placement == "post" else total_BTD


class Laurel(nn.Module):
    """(..., D) -> (..., D): the input and a change of it of low rank, normed."""

    def __init__(self, dim: int, rank: int, norm: Norm) -> None:
        super().__init__()
        self.down = nn.Linear(dim, rank, bias=False)
        self.up = nn.Linear(rank, dim, bias=False)
        self.norm = norm.build(dim)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.norm(self.up(self.down(x)))
        return y


def run_layers(
    blocks: nn.ModuleList,
    x_BTD: Tensor,
    step: Step,
    layer_parts: LayerParts | None = None,
    taps: Sequence[int] = (),
) -> tuple[Tensor, dict[int, Tensor]]:
    """What the last layer gives, and what is wanted of others (0: the input; i: after layer i)."""
    kept = {0: x_BTD} if 0 in taps else {}
    for number, block in enumerate(blocks):
        x_BTD = block(x_BTD, step, layer_parts.get(number, NO_PARTS) if layer_parts else NO_PARTS)
        if number + 1 in taps:
            kept[number + 1] = x_BTD
    return x_BTD, kept
