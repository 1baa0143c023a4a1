"""Learned vectors in front of every text. Prefix tuning (2101.00190; P-tuning v2, 2110.07602) learns keys and values of each
layer; prompt tuning (2104.08691) and P-tuning (2103.10385) learn the tokens that these come from. They take no places in a
model's state: a layer reads them in front of the keys that it keeps, and positions of words begin behind them. Zero-init
attention (LLaMA-Adapter, 2303.16199) learns prompts of layers behind gates that are closed at first.

B rows, P prompts, D width, H heads, J key heads, K head width, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError, UnknownName
from beholder.parts.adapters.base import Adapter
from beholder.parts.blocks.attention import SelfAttention, attend
from beholder.parts.blocks.masks import AttentionMask, Visibility
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import TransformerLayer
from beholder.parts.contracts import BranchOutput, Fusion, LanguageConfig, LanguageInputs, LayerParts
from beholder.parts.language.decoder import Decoder, DecoderModel

ENCODERS = ("", "mlp", "lstm")


class PromptAdapter(Adapter):
    """One that stands in layers of the main language part, all together a `Fusion`."""

    def build(self, language: nn.Module, numbers: tuple[int, ...]) -> Fusion:
        """For the layers of these numbers of a built language part."""
        raise NotImplementedError

    def numbers(self, language: LanguageConfig) -> tuple[int, ...]:
        """The layers that the pattern means."""
        layers = (
            f"languages.main.blocks.{number}.attn.{self.leaves[0]}" for number in range(language.num_layers)
        )
        return tuple(number for number, name in enumerate(layers) if self.matches(name))


@dataclass(frozen=True)
class PrefixTuning(PromptAdapter):
    """`count` keys and values in front of those of each layer. hidden: where it is not 0, they are made of `count` vectors by
    an MLP with so many hidden channels (2101.00190, section 4.3), for training alone: files hold what it gives.
    """

    count: int = 20
    hidden: int = 0

    kind: ClassVar[str] = "prefix"
    leaves: ClassVar[tuple[str, ...]] = (
        "prefix_keys",
        "prefix_values",
        "prefix_up",
        "prefix_bias",
        "prefix_tokens",
        "prefix_inner",
    )

    def __post_init__(self) -> None:
        if self.count < 1:
            raise BeholderError(f"a prefix of {self.count} tokens; there must be at least 1")

    @property
    def virtual_tokens(self) -> int:
        return self.count

    def build(self, language: nn.Module, numbers: tuple[int, ...]) -> Fusion:
        return PrefixFusion(self, attended(language, self.kind), numbers)


@dataclass(frozen=True)
class PromptTokens(PromptAdapter):
    """`count` learned vectors in front of the words. encoder: what makes them of learned vectors, for training alone: nothing,
    an `mlp` or a two-layer `lstm` with an MLP behind it (P-tuning), with `hidden` channels, the model's width where that is 0.
    """

    count: int = 20
    encoder: str = ""
    hidden: int = 0

    kind: ClassVar[str] = "prompt"
    leaves: ClassVar[tuple[str, ...]] = ("prompt_tokens", "prompt_encoder")

    def __post_init__(self) -> None:
        if self.count < 1:
            raise BeholderError(f"a prompt of {self.count} tokens; there must be at least 1")
        if self.encoder not in ENCODERS:
            raise UnknownName("encoder of prompts", self.encoder, ENCODERS)

    @property
    def virtual_tokens(self) -> int:
        return self.count

    def build(self, language: nn.Module, numbers: tuple[int, ...]) -> Fusion:
        decoder = attended(language, self.kind)
        if len(numbers) < decoder.config.num_layers:
            raise BeholderError(
                "prompts stand in front of all layers; match all of languages.main.*, or take a prefix"
            )
        return PromptFusion(self, decoder)


@dataclass(frozen=True)
class ZeroInit(PromptAdapter):
    """`count` prompts of each layer, which its queries also attend to; what they find counts tanh of a number for each head,
    0 at first.
    """

    count: int = 10

    kind: ClassVar[str] = "zero-init"
    leaves: ClassVar[tuple[str, ...]] = ("prompts", "gate")

    def __post_init__(self) -> None:
        if self.count < 1:
            raise BeholderError(f"prompts of {self.count} tokens; there must be at least 1")

    def build(self, language: nn.Module, numbers: tuple[int, ...]) -> Fusion:
        return ZeroInitFusion(self, attended(language, self.kind), numbers)


def attended(language: nn.Module, kind: str) -> DecoderModel:
    """The decoder, whose layers all attend by rotary positions or places in a table. Raises `BeholderError` for others."""
    if not isinstance(language, DecoderModel) or type(language.config) is not Decoder:
        raise BeholderError(
            f"{kind} adapters stand in a decoder's layers; {type(language).__name__} has others"
        )
    for number, layer in enumerate(language.blocks):
        attn = getattr(layer, "attn", None)
        if type(attn) is not SelfAttention:
            raise BeholderError(
                f"{kind} adapters need keys, but layer {number} has a {type(attn).__name__}; use lora there"
            )
        mixer = attn.config
        if mixer.alibi is not None or mixer.relative is not None:
            raise BeholderError(
                f"{kind} adapters have no distance from words, by which layer {number} attends; use lora there"
            )
    return language


class LayersFusion(Fusion):
    """Modules of layers by number, in one slot; what the language part reads is left alone."""

    slot: ClassVar[str] = "prefix"
    layers: nn.ModuleDict

    def layer_parts(self, language: LanguageConfig) -> LayerParts:
        return {int(number): {self.slot: layer} for number, layer in self.layers.items()}

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        return draft


class PrefixFusion(LayersFusion):
    """Owns what each layer's prefix is made of."""

    def __init__(self, config: PrefixTuning, language: DecoderModel, numbers: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        width = config.hidden and language.config.dim
        self.prefix_tokens = learned(config.count, width, std=1.0) if width else None
        self.prefix_inner = nn.Linear(width, config.hidden) if width else None
        self.layers = nn.ModuleDict()
        for number in numbers:
            attn = attention_of(language, number)
            layer = MadePrefix(self, attn) if width else LearnedPrefix(config, attn)
            self.layers[str(number)] = layer

    @torch.no_grad()
    def keys_values(self) -> list[tuple[Tensor, Tensor]]:
        """Of each layer, (J, P, K) twice."""
        return [layer.given() for layer in self.layers.values()]  # type: ignore[operator]


class LearnedPrefix(nn.Module):
    """(J, P, K) twice."""

    def __init__(self, config: PrefixTuning, attn: SelfAttention) -> None:
        super().__init__()
        shape = (attn.config.kv_heads, config.count, attn.head_dim)
        self.prefix_keys, self.prefix_values = learned(*shape), learned(*shape)

    def given(self) -> tuple[Tensor, Tensor]:
        """Keys and values."""
        return self.prefix_keys, self.prefix_values

    def forward(self, step: Step) -> tuple[Tensor, Tensor]:
        assert step.inputs is not None
        rows = len(step.inputs.ids_BT)
        k, v = (x_JPK.to(step.dtype).expand(rows, -1, -1, -1) for x_JPK in self.given())
        return k, v


class MadePrefix(LearnedPrefix):
    """The same, made by a matrix of this layer from what the layers share."""

    def __init__(self, owner: PrefixFusion, attn: SelfAttention) -> None:
        nn.Module.__init__(self)
        self.__dict__["owner"] = owner
        self.heads = attn.config.kv_heads
        width = 2 * self.heads * attn.head_dim
        self.prefix_up = learned(width, owner.config.hidden)
        self.prefix_bias = nn.Parameter(torch.zeros(width))

    def given(self) -> tuple[Tensor, Tensor]:
        owner: PrefixFusion = self.__dict__["owner"]
        assert owner.prefix_inner is not None and owner.prefix_tokens is not None
        low_PH = owner.prefix_inner(owner.prefix_tokens).tanh()
        both = nn.functional.linear(low_PH, self.prefix_up, self.prefix_bias)
        keys, values = both.unflatten(-1, (2 * self.heads, -1)).transpose(0, 1).chunk(2)
        return keys, values


class PromptFusion(Fusion):
    """Owns the tokens; each layer carries them one layer further and reads the keys and values that it makes of them."""

    def __init__(self, config: PromptTokens, language: DecoderModel) -> None:
        super().__init__()
        self.config = config
        width = language.config.embedding.width or language.config.dim
        words = language.embedding.weight.detach()
        self.prompt_tokens = learned(
            config.count, width, std=0.02 if words.is_meta else float(words.float().std())
        )
        self.prompt_encoder = encoder_of(config, width) if config.encoder else None
        self.__dict__["language"] = language
        self.parts = [
            {"sees": Advance(self, number), "prefix": Advanced(number)}
            for number in range(language.config.num_layers)
        ]

    def layer_parts(self, language: LanguageConfig) -> LayerParts:
        return dict(enumerate(self.parts))

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        return draft

    def tokens(self) -> Tensor:
        """(P, D) as they stand in front of words."""
        if self.prompt_encoder is None:
            return self.prompt_tokens
        given: Tensor = self.prompt_encoder(self.prompt_tokens)
        return given

    def entered(self, dtype: torch.dtype) -> Tensor:
        """(1, P, D), what the first layer reads of them."""
        language: DecoderModel = self.__dict__["language"]
        tokens_1PD = self.tokens().to(dtype)[None]
        places_1P = torch.arange(self.config.count, device=tokens_1PD.device)[None]
        return language.embedding.place(tokens_1PD, places_1P)


class Advance(nn.Module):
    """In the slot `sees`: keys and values of the prompts in this layer, and the prompts behind it, once per text."""

    def __init__(self, owner: PromptFusion, index: int) -> None:
        super().__init__()
        self.index = index
        self.__dict__["owner"] = owner

    def forward(self, hidden_BTD: Tensor, layer: TransformerLayer, step: Step) -> None:
        if step.state is not None and kept_prompts(step, self.index):
            return
        owner: PromptFusion = self.__dict__["owner"]
        count, mixer = owner.config.count, layer.attn
        assert isinstance(mixer, SelfAttention)
        before = step.shared.keys.get(f"prompts behind {self.index}")
        prompts_1PD = owner.entered(hidden_BTD.dtype) if before is None else before[0]
        seen = Visibility.causal(1, count, device=hidden_BTD.device)
        own = Step(hidden_BTD.dtype, seen, seen, seen.blocks_BT)
        read_1PD = prompts_1PD if layer.norm1 is None else layer.norm1(prompts_1PD)
        _, keys = mixer.turned(read_1PD, own)
        values = mixer.split(mixer.project(read_1PD)[2])
        behind_1PD = layer(prompts_1PD, own)
        step.shared.keys[f"prompts behind {self.index + 1}"] = (behind_1PD, behind_1PD, own.mask())
        rows = len(hidden_BTD)
        k, v = (x.expand(rows, -1, -1, -1) for x in (keys, values))
        if step.state is not None:
            step.state.cross_attention(self.index).values.update(prompt_keys=k, prompt_values=v)
        else:
            step.shared.keys[f"prompts of {self.index}"] = (k, v, own.mask())


class Advanced(nn.Module):
    """In the slot `prefix`: what `Advance` made in this layer."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, step: Step) -> tuple[Tensor, Tensor]:
        found = kept_prompts(step, self.index)
        assert found is not None
        return found


def kept_prompts(step: Step, index: int) -> tuple[Tensor, Tensor] | None:
    """Keys and values of the prompts in a layer, where they were made before."""
    if step.state is not None:
        values = step.state.cross_attention(index).values
        return (values["prompt_keys"], values["prompt_values"]) if "prompt_keys" in values else None
    made = step.shared.keys.get(f"prompts of {index}")
    return None if made is None else made[:2]


def encoder_of(config: PromptTokens, width: int) -> nn.Module:
    """P-tuning's encoders, (P, D) -> (P, D)."""
    hidden = config.hidden or width
    if config.encoder == "mlp":
        return nn.Sequential(
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, width),
        )
    return Recurrent(width, hidden)


class Recurrent(nn.Module):
    """An LSTM in both directions and an MLP (2103.10385, section 3.2)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.then = nn.Sequential(nn.Linear(2 * hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, width))

    def forward(self, x_PD: Tensor) -> Tensor:
        given: Tensor = self.then(self.lstm(x_PD[None])[0][0])
        return given


class ZeroInitFusion(LayersFusion):
    """Owns prompts and gates."""

    slot = "heads"

    def __init__(self, config: ZeroInit, language: DecoderModel, numbers: tuple[int, ...]) -> None:
        super().__init__()
        dim = language.config.dim
        self.layers = nn.ModuleDict(
            {
                str(n): GatedPrompts(config.count, dim, attention_of(language, n).config.num_heads)
                for n in numbers
            }
        )


class GatedPrompts(nn.Module):
    """What self-attention's heads give, (B, H, T, K), with what they find in prompts, as `fusion.prompts` has it of systems."""

    def __init__(self, count: int, dim: int, heads: int) -> None:
        super().__init__()
        self.prompts = learned(count, dim)
        self.gate = nn.Parameter(torch.zeros(heads, 1, 1))

    def forward(self, heads_BHTK: Tensor, q_BHTK: Tensor, x_BTD: Tensor, step: Step) -> Tensor:
        mixer = step.mixer
        assert isinstance(mixer, SelfAttention)
        _, k, v = mixer.project(self.prompts.to(x_BTD.dtype)[None])
        keys, values = (mixer.split(x).expand(len(x_BTD), -1, -1, -1) for x in (k, v))
        found_BHTK = attend(q_BHTK, keys, values, AttentionMask(), scale=mixer.config.scale)
        return heads_BHTK + self.gate.tanh().to(heads_BHTK.dtype) * found_BHTK


def attention_of(language: DecoderModel, number: int) -> SelfAttention:
    """A layer's attention."""
    attn = language.blocks[number].attn
    assert isinstance(attn, SelfAttention)
    return attn
