"""A decoder whose layers each read something of their own of every token, over one residual stream (Gemma 4) or over several
of which a layer computes one and corrects all (Gemma 3n; AltUp, 2301.13310).

B rows, T positions, D width, L layers, P width of what a layer reads, N streams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.step import NO_PARTS, Step
from beholder.parts.blocks.transformer import LayerKind, TransformerLayer
from beholder.parts.contracts import LayerParts
from beholder.parts.language.decoder import Decoder, DecoderModel


@dataclass(frozen=True)
class LayerInputs(Config):
    """What each layer reads of a token: `width` channels, half of them meant to come from a table of `words` rows, one token
    of which every layer has its own part, half from the token's vector. Words beyond the table have those of token 0. act:
    of the gate through which a layer reads them.
    """

    width: int
    words: int
    act: str = "gelu_tanh"

    def tiny(self) -> LayerInputs:
        return self.but(width=8, words=512)


@dataclass(frozen=True)
class Streams(Config):
    """How many residual streams there are, and which one layers compute. clip: bound of the maps that predict and correct,
    while training. scaled: what was computed is scaled channel by channel before the layer's own input is added to the others.
    """

    count: int
    active: int = 0
    clip: float | None = None
    scaled: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.active < self.count:
            raise BeholderError(f"stream {self.active} of {self.count}; count them from 0")


@dataclass(frozen=True)
class LayerInputDecoder(Decoder):
    """A decoder with `inputs` for each layer and, where there are several, `streams`. layer_scalar: what a layer gives is
    multiplied by a number that released files hold and training leaves alone.
    """

    inputs: LayerInputs | None = None
    streams: Streams | None = None
    layer_scalar: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.streams is not None and self.inputs is None:
            raise BeholderError("several streams differ by what layers read; set inputs")

    def build(self) -> LayerInputModel:
        return LayerInputModel(self)


class LayerInputModel(DecoderModel):
    """`Language` as `DecoderModel` is one."""

    def __init__(self, config: LayerInputDecoder) -> None:
        super().__init__(config)
        self.settings, dim = config, config.dim
        inputs = config.inputs
        self.layer_inputs = (
            None if inputs is None else InputTable(inputs, dim, config.num_layers, config.norm)
        )
        self.streams = None if config.streams is None else StreamEnds(config.streams, dim)

    def make_layers(self) -> list[TransformerLayer]:
        assert isinstance(self.config, LayerInputDecoder)
        return [InputLayer(self.config, kind, index) for index, kind in enumerate(self.config.layers)]

    def run(
        self, x_BTD: Tensor, step: Step, layer_parts: LayerParts | None, taps: Sequence[int]
    ) -> tuple[Tensor, dict[int, Tensor]]:
        if self.layer_inputs is not None:
            assert step.inputs is not None
            step.shared.layer_inputs = self.layer_inputs(step.inputs.ids_BT, x_BTD)
        if self.streams is None:
            return super().run(x_BTD, step, layer_parts, taps)
        x_NBTD, kept = super().run(self.streams.enter(x_BTD), step, layer_parts, taps)
        active = self.streams.config.active
        return self.streams.leave(x_NBTD), {depth: tap[active] for depth, tap in kept.items()}


class InputTable(nn.Module):
    """ids (B, T), vectors (B, T, D) -> (B, T, L, P)."""

    def __init__(self, config: LayerInputs, dim: int, layers: int, norm: Norm) -> None:
        super().__init__()
        self.config, self.dim = config, dim
        self.weight = nn.Parameter(torch.empty(config.words, layers * config.width).normal_())
        self.project = nn.Linear(dim, layers * config.width, bias=False)
        self.norm = norm.build(config.width)

    def forward(self, ids_BT: Tensor, x_BTD: Tensor) -> Tensor:
        words, width = self.config.words, self.config.width
        known_BT = ids_BT.masked_fill((ids_BT >= words) | (ids_BT < 0), 0)
        own_BTLP = nn.functional.embedding(known_BT, self.weight).unflatten(-1, (-1, width)) * width**0.5
        told_BTLP = self.norm((self.project(x_BTD) * self.dim**-0.5).unflatten(-1, (-1, width)))
        mixed: Tensor = (told_BTLP + own_BTLP) * 0.5**0.5
        return mixed


class StreamEnds(nn.Module):
    """One vector to N streams and back. All but the first are mapped, and are as long as the first one is."""

    def __init__(self, config: Streams, dim: int) -> None:
        super().__init__()
        self.config = config
        self.entry, self.exit = (
            nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(config.count - 1)) for _ in range(2)
        )

    def enter(self, x_BTD: Tensor) -> Tensor:
        """(N, B, T, D)."""
        return torch.stack([x_BTD, *(_as_long(linear(x_BTD), x_BTD) for linear in self.entry)])

    def leave(self, x_NBTD: Tensor) -> Tensor:
        """Their mean, (B, T, D)."""
        first_BTD, *others = x_NBTD
        back = [_as_long(linear(x), first_BTD) for linear, x in zip(self.exit, others, strict=True)]
        return torch.stack([first_BTD, *back]).mean(0)


def _as_long(x: Tensor, like: Tensor) -> Tensor:
    """`x` scaled so that its mean square is that of `like`."""
    length, wanted = (y.square().mean(-1, keepdim=True) for y in (x, like))
    return x * wanted.sqrt() / length.clamp(min=1e-5).sqrt()


class StreamMix(nn.Module):
    """What a layer expects of all streams, and how what it computed corrects them."""

    def __init__(self, config: Streams, dim: int, norm: Norm) -> None:
        super().__init__()
        self.config, self.dim, count = config, dim, config.count
        self.norm = norm.build(dim)
        self.router = nn.Linear(dim, count, bias=False)
        self.predictor = nn.Linear(count, count * count, bias=False)
        self.corrector = nn.Linear(count, count, bias=False)
        self.scale = nn.Parameter(torch.ones(dim)) if config.scaled else None

    def predict(self, x_NBTD: Tensor) -> Tensor:
        """Each stream with a mixture of all, (N, B, T, D)."""
        count = self.config.count
        weights_BTNM = self._mapped(self.predictor, self._routed(x_NBTD[self.config.active]))
        weights_BTNM = weights_BTNM.unflatten(-1, (count, count))
        return x_NBTD + torch.einsum("btnm,mbtd->nbtd", weights_BTNM, x_NBTD)

    def correct(self, x_NBTD: Tensor, computed_BTD: Tensor) -> Tensor:
        """Each stream moved by what the active one turned out to be, (N, B, T, D)."""
        share_BTN = self._mapped(self.corrector, self._routed(computed_BTD)) + 1.0
        news_BTD = computed_BTD - x_NBTD[self.config.active]
        return x_NBTD + share_BTN.permute(2, 0, 1)[..., None] * news_BTD

    def _routed(self, x_BTD: Tensor) -> Tensor:
        return torch.tanh(self.router(self.norm(x_BTD) / self.dim).float()).type_as(x_BTD)

    def _mapped(self, linear: nn.Linear, x: Tensor) -> Tensor:
        clip = self.config.clip if self.training else None
        weight = linear.weight if clip is None else linear.weight.clamp(-clip, clip)
        return nn.functional.linear(x, weight)


class InputLayer(TransformerLayer):
    """A layer that adds what it reads of its own input behind both halves; with streams, (N, B, T, D) -> (N, B, T, D)."""

    def __init__(self, config: LayerInputDecoder, kind: LayerKind, index: int) -> None:
        dim = config.dim
        assert kind.mixer is not None and kind.arrangement is not None
        super().__init__(
            dim, kind.mixer, kind.mlp, kind.arrangement, norm=config.norm, cross=config.cross, index=index
        )
        self.index = index
        self.reader = None if config.inputs is None else InputReader(config.inputs, dim, config.norm)
        self.mix = None if config.streams is None else StreamMix(config.streams, dim, config.norm)
        self.scalar = nn.Buffer(torch.ones(1)) if config.layer_scalar else None

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        if self.mix is None:
            x_BTD = super().forward(x_BTD, step, parts)
            if self.reader is not None:
                x_BTD = x_BTD + self.reader(x_BTD, self._input(step))
        else:
            expected_NBTD = self.mix.predict(x_BTD)
            active = self.mix.config.active
            computed_BTD = super().forward(expected_NBTD[active], step, parts)
            x_BTD = self.mix.correct(expected_NBTD, computed_BTD)
            assert self.reader is not None
            first_BTD = x_BTD[active] if self.mix.scale is None else x_BTD[active] * self.mix.scale
            read_BTD = self.reader(first_BTD, self._input(step))
            x_BTD = torch.cat((x_BTD[:1], x_BTD[1:] + read_BTD))
        return x_BTD if self.scalar is None else x_BTD * self.scalar

    def _input(self, step: Step) -> Tensor:
        """(B, T, P)."""
        assert step.shared.layer_inputs is not None
        return step.shared.layer_inputs[:, :, self.index]


class InputReader(nn.Module):
    """x (B, T, D), a layer's input (B, T, P) -> (B, T, D): the input through a gate that x opens."""

    def __init__(self, config: LayerInputs, dim: int, norm: Norm) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, config.width, bias=False)
        self.act = activation(config.act)
        self.project = nn.Linear(config.width, dim, bias=False)
        self.norm = norm.build(dim)

    def forward(self, x_BTD: Tensor, input_BTP: Tensor) -> Tensor:
        given: Tensor = self.norm(self.project(self.act(self.gate(x_BTD)) * input_BTP))
        return given
