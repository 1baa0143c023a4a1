"""Residual nets without norms: NF-ResNet (2101.08692) and NFNet-F (2102.06171). Activations are scaled to keep the
variance of what they get, and the branches of a stage are divided by the deviation that a signal has gathered.

V views, h w rows and columns of a map, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import UnknownName
from beholder.parts.blocks.activations import activation
from beholder.parts.vision.convnets import ChannelGate, StandardConv, same_padding
from beholder.parts.vision.stages import Maps, StagedConfig, StagedEncoder, each, last_dim

# deepmind/deepmind-research: nfnets/base.py `nonlinearities`; jax's GELU is the tanh form
GAINS = {
    "gelu": 1.7015043497085571,
    "gelu_tanh": 1.7015043497085571,
    "relu": 1.7139588594436646,
    "silu": 1.7881293296813965,
}
RESIDUAL_SCALE = 0.2  # alpha of both papers


@dataclass(frozen=True)
class NfNet(StagedConfig):
    """dims, depths: width and blocks of each stage. inner: width of a block's middle over its width. group: channels of one
    group of the 3x3 convolutions, 0 for one group. twice: two of them in a block. gate: width of a block's channel gate
    over its width, 0 for no gate.

    deep_stem: four 3x3 convolutions in front, not one of 7x7 and a maximum. averages: shortcuts step by averages, not by
    their convolution's stride. head: channels of a last convolution, 0 for none. start: of the learned gains of branches.
    """

    image_size: int = 224
    dims: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    stem: int = 64
    inner: float = 0.25
    group: int = 0
    twice: bool = False
    gate: float = 0.0
    deep_stem: bool = False
    averages: bool = False
    head: int = 0
    act: str = "relu"
    classes: int = 0
    start: float = 0.0
    dim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", self.head or self.dims[-1])
        self.need_each("dims", "depths")
        if self.act not in GAINS:
            raise UnknownName("activation with a known gain", self.act, GAINS)

    def sides(self, length: int) -> tuple[int, ...]:
        return tuple(-(-length // 2 ** (stage + 2)) for stage in range(len(self.dims)))

    def tiny(self) -> NfNet:
        dims = tuple(16 + 16 * stage for stage in range(len(self.dims)))
        small = self.but(image_size=64, dims=dims, depths=(2,) + (1,) * (len(dims) - 1), stem=16)
        return small.but(group=self.group and 4, head=self.head and 40, start=0.5)

    def build(self) -> NfNetModel:
        return NfNetModel(self)


class ScaledActivation(nn.Module):
    """An activation times the gain that keeps the variance of normal inputs."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.act, self.gain = activation(name), GAINS[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x) * self.gain


class NfBlock(nn.Module):
    """shortcut + alpha gain branch(act(x) / deviation); the shortcut of a block that steps or widens starts from that too."""

    def __init__(self, config: NfNet, inputs: int, outputs: int, stride: int, deviation: float) -> None:
        super().__init__()
        middle, self.stride, self.deviation = int(outputs * config.inner), stride, deviation
        groups = middle // config.group if config.group else 1
        self.act, self.averages = ScaledActivation(config.act), config.averages
        changes = stride > 1 or inputs != outputs
        step = 1 if config.averages else stride
        self.shortcut = StandardConv(inputs, outputs, 1, step) if changes else None
        inner = [StandardConv(middle, middle, 3, stride, groups)]
        inner += [StandardConv(middle, middle, 3, 1, groups)] if config.twice else []
        self.layers = nn.ModuleList((StandardConv(inputs, middle), *inner, StandardConv(middle, outputs)))
        self.gate = ChannelGate(outputs, max(1, int(outputs * config.gate)), F.relu) if config.gate else None
        self.gain = nn.Parameter(torch.full((), config.start))

    def forward(self, x_VChw: Tensor) -> Tensor:
        y = self.act(x_VChw) / self.deviation
        if self.shortcut is not None:
            x_VChw = self.shortcut(average(y) if self.averages and self.stride > 1 else y)
        y = self.layers[0](y)
        for layer in self.layers[1:]:
            y = layer(self.act(y))
        if self.gate is not None:
            y = 2 * self.gate(y)  # a gate halves what it gets, on average
        return x_VChw + RESIDUAL_SCALE * self.gain * y


def average(x_VChw: Tensor) -> Tensor:
    """Means of 2x2 cells; of an odd length, the last cells alone."""
    return F.avg_pool2d(x_VChw, 2, ceil_mode=True, count_include_pad=False)


class NfNetModel(StagedEncoder):
    """`Vision` by convolutions without norms; tokens are the last map's cells."""

    config: NfNet

    def __init__(self, config: NfNet) -> None:
        super().__init__()
        self.config, self.act = config, ScaledActivation(config.act)
        eighth, stem = config.stem // 8, config.stem
        widths, strides = (3, eighth, 2 * eighth, 4 * eighth, stem), (2, 1, 1, 2)
        deep = [(*widths[number : number + 2], 3, stride) for number, stride in enumerate(strides)]
        shapes = deep if config.deep_stem else [(3, stem, 7, 2)]
        self.stem = nn.ModuleList(StandardConv(*shape) for shape in shapes)
        self.stages = nn.ModuleList()
        variance, channels = 1.0, stem
        for number, (dim, depth) in enumerate(zip(config.dims, config.depths, strict=True)):
            stage = nn.Sequential()
            for index in range(depth):
                stride = 2 if number and index == 0 else 1
                stage.append(NfBlock(config, channels, dim, stride, variance**0.5))
                variance = (1.0 if index == 0 else variance) + RESIDUAL_SCALE**2
                channels = dim
            self.stages.append(stage)
        self.last = StandardConv(channels, config.head) if config.head else None
        self.classifier = nn.Linear(config.dim, config.classes) if config.classes else None

    def maps(self, pixels_V3HW: Tensor) -> Maps:
        x_VChw = self.stem[0](pixels_V3HW)
        for layer in self.stem[1:]:
            x_VChw = layer(self.act(x_VChw))
        if not self.config.deep_stem:
            rows, columns = (same_padding(length, 3, 2) for length in x_VChw.shape[-2:])
            x_VChw = F.max_pool2d(F.pad(x_VChw, (*columns, *rows), value=-torch.inf), 3, 2)
        taps = each(self.stages, x_VChw)
        last = last_dim(self.act(taps[-1] if self.last is None else self.last(taps[-1])))
        return Maps([last_dim(tap) for tap in taps], last, last.mean((1, 2)))
