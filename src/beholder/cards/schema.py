"""What a card is: the names and numbers of one system, and nothing that computes."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

from beholder.config import Config
from beholder.errors import BeholderError, UnknownName
from beholder.media.clips import EvenClips, Frames
from beholder.media.geometry import Geometry
from beholder.media.plan import Grid, View
from beholder.media.sound import SoundFront
from beholder.media.stretches import Stretches
from beholder.parts.adapters.base import Adapter, deep_enough
from beholder.parts.codecs.contract import CodecConfig
from beholder.parts.contracts import (
    AudioConfig,
    ConnectorConfig,
    EncoderConfig,
    FusionConfig,
    HeadConfig,
    LanguageConfig,
    VisionConfig,
)
from beholder.prompts.chat import ChatFormat
from beholder.prompts.drawing import Drawing
from beholder.prompts.tasks import Task


@dataclass(frozen=True)
class Branch(Config):
    """One modality's way to the language model. encoders: several look at the same views, the connector joins them.
    geometry, front: what makes views of pictures, of sounds. clips: what of a long recording is looked at;
    frames: which pictures of a video are; stretches: how a long sound is heard.
    """

    encoders: tuple[EncoderConfig, ...]
    geometry: Geometry | None = None
    connector: ConnectorConfig | None = None
    name: str = "image"
    modality: str = "image"
    front: SoundFront | None = None
    clips: EvenClips | None = None
    frames: Frames | None = None
    stretches: Stretches = Stretches()

    def __post_init__(self) -> None:
        if not self.encoders:
            raise BeholderError(f"branch {self.name} has no encoder; give it at least one")

    def view_grid(self, view: View) -> Grid:
        """The token grid that the first encoder that looks at a view gives for it."""
        number = view.encoder or 0
        if number >= len(self.encoders):
            raise BeholderError(
                f"branch {self.name} has views for encoder {number + 1} but only {len(self.encoders)}; give it a geometry for "
                "its own encoders"
            )
        return self.encoders[number].view_grid(view)

    def grids(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Grid, ...]:
        """What the connector makes of the grids of a picture's views."""
        return grids if self.connector is None else self.connector.grids_over(self.encoders, views, grids)

    def tiny(self) -> Self:
        """Tiny encoders, and a geometry or front end that makes views of their size."""
        small = super().tiny()
        first = small.encoders[0]
        if self.front is not None and isinstance(first, AudioConfig):
            return small.but(front=self.front.at(first.size))
        if self.geometry is None or not isinstance(first, (VisionConfig, AudioConfig)):
            return small
        if isinstance(first, AudioConfig):
            return small.but(geometry=self.geometry.at(min(first.size)))
        sides = [encoder.image_size for encoder in small.encoders if isinstance(encoder, VisionConfig)]
        return small.but(geometry=self.geometry.at_each(sides))


@dataclass(frozen=True)
class LanguagePart(Config):
    """A language model and what it is to the system: `main` answers, others have a name of their own."""

    config: LanguageConfig
    name: str = "main"


@dataclass(frozen=True)
class CodecPart(Config):
    """A tokenizer of pictures or sound, under a name of its own where a system has several."""

    config: CodecConfig
    name: str = "image"


@dataclass(frozen=True)
class Trains(Config):
    """How parameters whose name matches `pattern` (as in `fnmatch`) train. lr 0 freezes them. above: of layers (`blocks.{}`),
    those from this number on alone. layer_decay: a layer's rate is lr times this to the power of the number of layers
    above it in its stack; what stands in front of all layers counts as one layer more (2106.08254, section 3.2).

    adapter: what trains in place of what matches, by name (`lora`, `rslora`, `dora`, `mixture`, `ia3`, `bottleneck`, `prefix`,
    `prompt`, `p-tuning`, `zero-init`) or as a config of `parts.adapters`; `lora` where there is a rank and no name. rank: of
    an adapter that is given by name, or its number of channels or tokens; of LoRA alpha is twice the rank.
    """

    pattern: str
    lr: float = 0.0
    weight_decay: float = 0.0
    rank: int = 0
    above: int = 0
    adapter: str | Adapter = ""
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise BeholderError(
                f"rule {self.pattern!r}: layer_decay {self.layer_decay}; it must be above 0 and at most 1"
            )
        if isinstance(self.adapter, Adapter) and self.rank:
            raise BeholderError(
                f"rule {self.pattern!r}: rank {self.rank} beside a {type(self.adapter).__name__}; set the adapter's own"
            )

    def matches(self, name: str) -> bool:
        """Whether the rule speaks of the parameter called `name`."""
        return deep_enough(name, self.above) and fnmatchcase(name, self.pattern)

    def tiny(self) -> Trains:
        return self.but(above=min(self.above, 1))


SCHEDULES = ("cosine", "linear", "constant", "wsd")


@dataclass(frozen=True)
class Stage(Config):
    """One stage of training. rules: the first that matches a parameter decides; what none matches is frozen.

    steps, batch (samples of a batch), accumulate (batches a step), clip (largest gradient norm), seed (of the order of samples
    and of random draws). side: pixels per side of pictures in this stage, 0 for the card's own.
    schedule: how learning rates go after `warmup` steps of linear rise: `cosine` and `linear` fall from the first step on to
    `floor` of the rates, `constant` stays, `wsd` (warm-up, stable, decay: 2404.06395, section 4) stays and falls linearly in
    the last `decay` of the schedule. betas, eps: of AdamW. ema: decay of an exponential moving average of what trains, which
    then is what the stage gives; 0 for none.
    """

    name: str
    rules: tuple[Trains, ...]
    data: str = ""
    objective: str = "next-token"
    steps: int = 1000
    batch: int = 32
    accumulate: int = 1
    warmup: int = 100
    clip: float = 1.0
    schedule: str = "cosine"
    decay: float = 0.1
    floor: float = 0.0
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    ema: float = 0.0
    side: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise UnknownName(f"schedule of stage {self.name}", self.schedule, SCHEDULES)
        for field in ("steps", "batch", "accumulate"):
            if getattr(self, field) < 1:
                raise BeholderError(
                    f"stage {self.name}: {field} {getattr(self, field)}; it must be at least 1"
                )
        if not 0 <= self.ema < 1 or not 0 < self.decay <= 1:
            raise BeholderError(
                f"stage {self.name}: ema {self.ema} must be in [0, 1) and decay {self.decay} in (0, 1]"
            )


@dataclass(frozen=True)
class Source(Config):
    """Where released weights of a card are found. kind: `hub` (an id), `package` (files of registry packages, assembled
    by `beholder pull`) or `folder`.
    """

    kind: str
    location: str
    note: str = ""


@dataclass(frozen=True)
class Card(Config):
    """A system as data. `vision`, `connector`, `images` and `language` are short for the one-branch, one-language case.

    system: the exact id in the catalogue; paper: arXiv number. tasks: what fixed prompts select. drawing: prompts for another
    model that its answers hold. adapters: what is put on the built parts.
    """

    name: str
    system: str = ""
    paper: str = ""
    licence: str = ""
    branches: tuple[Branch, ...] = ()
    fusion: tuple[FusionConfig, ...] = ()
    languages: tuple[LanguagePart, ...] = ()
    codecs: tuple[CodecPart, ...] = ()
    heads: tuple[HeadConfig, ...] = ()
    prompt: ChatFormat | None = None
    tasks: tuple[Task, ...] = ()
    drawing: Drawing | None = None
    stages: tuple[Stage, ...] = ()
    weights: tuple[Source, ...] = ()
    adapters: tuple[Adapter, ...] = ()
    vision: InitVar[EncoderConfig | None] = None
    connector: InitVar[ConnectorConfig | None] = None
    images: InitVar[Geometry | None] = None
    language: InitVar[LanguageConfig | None] = None

    def __post_init__(
        self,
        vision: EncoderConfig | None,
        connector: ConnectorConfig | None,
        images: Geometry | None,
        language: LanguageConfig | None,
    ) -> None:
        if isinstance(self.fusion, FusionConfig):
            object.__setattr__(self, "fusion", (self.fusion,))
        if vision is not None:
            branch = Branch(encoders=(vision,), geometry=images, connector=connector)
            object.__setattr__(self, "branches", (branch, *self.branches))
        elif connector is not None or images is not None:
            raise BeholderError(
                f"card {self.name}: connector= and images= belong to a branch; give vision= too"
            )
        if language is not None:
            object.__setattr__(self, "languages", (LanguagePart(language), *self.languages))
        names = {
            "branches": [branch.name for branch in self.branches],
            "language parts": [part.name for part in self.languages],
            "codecs": [part.name for part in self.codecs],
        }
        for what, given in names.items():
            if len(set(given)) < len(given):
                raise BeholderError(f"card {self.name}: two {what} have one name: {given}")

    def branch(self, name: str = "image") -> Branch:
        """The branch called `name`."""
        for branch in self.branches:
            if branch.name == name:
                return branch
        raise UnknownName(f"branch of {self.name}", name, [branch.name for branch in self.branches])

    @property
    def main(self) -> LanguageConfig | None:
        """The language part that answers, None where a card has none."""
        return next((part.config for part in self.languages if part.name == "main"), None)

    @property
    def virtual_tokens(self) -> int:
        """Places that adapters take in front of every text."""
        return sum(adapter.virtual_tokens for adapter in self.adapters)

    def room(self, prompt: int) -> int:
        """Most tokens of an answer to a prompt of so many tokens; 0 for a system without a language part."""
        return 0 if self.main is None else self.main.room(prompt + self.virtual_tokens)

    def but(self, **changes: Any) -> Self:
        """A variant. Besides the fields, the short names change the one branch (`vision`, `connector`, `images`) or the
        main language part (`language`).
        """
        heads = {"vision": "encoders", "connector": "connector", "images": "geometry"}
        branch_changes: dict[str, Any] = {}
        for path in [path for path in changes if path.partition(".")[0] in heads]:
            name, _, rest = path.partition(".")
            value = changes.pop(path)
            if name == "vision":
                encoder = branch_changes.get("encoders", self._only_branch().encoders)[0]
                value = (encoder.but(**{rest: value}) if rest else value,)
                branch_changes["encoders"] = value
            else:
                branch_changes[heads[name] + ("." + rest if rest else "")] = value
        if branch_changes:
            changes["branches"] = (self._only_branch().but(**branch_changes),)
        for path in [path for path in changes if path.partition(".")[0] == "language"]:
            value, rest = changes.pop(path), path.partition(".")[2]
            changes["languages"] = tuple(
                part.but(config=part.config.but(**{rest: value}) if rest else value)
                if part.name == "main"
                else part
                for part in changes.get("languages", self.languages)
            )
        return super().but(**changes)

    def entry(self, name: str) -> tuple[Any, Any]:
        """Of a field, or of the part that a short name stands for."""
        if name == "vision":
            return self._only_branch().encoders[0], EncoderConfig
        if name in ("connector", "images"):
            return self._only_branch().entry("connector" if name == "connector" else "geometry")
        if name == "language":
            return self.main, LanguageConfig
        return super().entry(name)

    def _only_branch(self) -> Branch:
        if len(self.branches) != 1:
            names = [branch.name for branch in self.branches]
            raise BeholderError(f"card {self.name} has branches {names}; change them with branches=")
        return self.branches[0]
