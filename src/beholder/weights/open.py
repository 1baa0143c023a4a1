"""Names and folders to models with their weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from beholder.cards import card, card_names
from beholder.cards.schema import Card
from beholder.config import from_data
from beholder.errors import BeholderError, UnknownName, WeightsError
from beholder.media.geometry import Geometry
from beholder.media.settings import geometry_from_official
from beholder.media.sound import SoundFront, read_sound_front
from beholder.model import Model, build
from beholder.parts.language.decoder import Decoder
from beholder.prompts.tokenizer import Tokenizer
from beholder.questions import FOLDER
from beholder.weights.accessory import accessory_config, accessory_weights, has_shards
from beholder.weights.beside import (
    APART,
    LANGUAGES,
    told_by_weights,
    weights_apart,
    with_adapters_in,
    with_encoders,
    with_settings,
)
from beholder.weights.files import open_weights
from beholder.weights.gathered import further_words, gathered_weights, kind_of, language_folder
from beholder.weights.gguf_files import read_metadata
from beholder.weights.layout import Binding, Layout, to_own
from beholder.weights.lazy import LazyTensor, LazyTensors, Shape, lazy
from beholder.weights.load import load_state, state_shapes, state_tensors
from beholder.weights.pull import pull
from beholder.weights.readers.gguf import gguf_bindings, gguf_card, gguf_tokenizer
from beholder.weights.readers.read import Recorded
from beholder.weights.readers.reading import Naming, Reading
from beholder.weights.save import CARD_FILE, is_beholder_folder, read_folder
from beholder.weights.sources import resolve

OWN_NAMES = Layout({"*": "*"}, name="beholder")
OFFICIAL_FILE = "official.json"  # in a beholder folder: how the system was published
SETTINGS = (
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "chat_template.json",
    "chat_template.jinja",
)
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    *(f"{FOLDER}/tokenizer{end}.json" for end in ("", "_config")),
)


@dataclass(frozen=True)
class Published:
    """How a system was published: its `config.json`, which of its reading's namings its weights have, and the text of the
    small files beside them.
    """

    config: Mapping[str, Any]
    naming: int
    files: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Published:
        """From an `official.json`; raises `WeightsError` for one that is damaged."""
        data = read_json(path)
        config: Any = data.get("config")
        naming: Any = data.get("naming")
        files: Any = data.get("files")
        whole = isinstance(config, dict) and isinstance(files, dict) and type(naming) is int
        if not whole or not all(isinstance(text, str) for text in files.values()):
            raise WeightsError(f"{path}: damaged: not config, naming and files; copy the folder again")
        published = cls(config, naming, files)
        namings = _read_system(config).namings
        if not 0 <= naming < len(namings):
            raise WeightsError(f"{path}: damaged: naming {naming} of {len(namings)}; copy the folder again")
        return published

    @property
    def bindings(self) -> Naming:
        """Where the weights belong."""
        return self.namings[self.naming]

    @property
    def namings(self) -> tuple[Naming, ...]:
        """All namings under which weights of the system are published."""
        return tuple(_read_system(self.config).namings)

    def to_json(self) -> bytes:
        """The content of `official.json`."""
        data = {"config": self.config, "naming": self.naming, "files": self.files}
        return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class Opened:
    """A model with its weights, read from `folder`. published: None where no publisher's layout is known. widened: the types
    that parameters had before they were made float32 to compute with.
    """

    model: Model
    folder: Path
    published: Published | None = None
    stages: Mapping[str, Recorded] = field(default_factory=dict)
    widened: Mapping[str, torch.dtype] = field(default_factory=dict)

    def tensors(self) -> dict[str, LazyTensor]:
        """The model's state to write, under the types it was read with where that loses nothing."""
        return {
            name: as_read(lazy(name, values), self.widened.get(name))
            for name, values in state_tensors(self.model).items()
        }

    def official_files(self) -> dict[str, bytes | Path]:
        """What belongs beside `config.json` and the weights in the publisher's layout."""
        assert self.published is not None
        tokenizer = {name: self.folder / name for name in TOKENIZER if (self.folder / name).is_file()}
        return {**tokenizer, **{name: text.encode() for name, text in self.published.files.items()}}


def open_official(folder: str | Path, *, dtype: torch.dtype | None = None, device: str = "cpu") -> Opened:
    """Build the system that a folder's `config.json` describes and load its weights strictly.

    Raises `BeholderError` for a folder that lacks a file or holds an unknown type, `WeightsError` for weights that do not
    fit. Nothing in the folder is executed.
    """
    folder = Path(folder)
    config = folder_config(folder)
    reading = read_folder_config(folder, config)
    weights = folder_weights(folder, config)
    model = build(reading.card, device="meta")
    naming = choose_naming(reading, weights, state_shapes(model))
    load_state(model, weights, reading.namings[naming], dtype=dtype, device=device)
    files = {name: read_text(folder / name) for name in SETTINGS if (folder / name).is_file()}
    return Opened(model.eval(), folder, Published(config, naming, files), reading.stages)


def open_beholder(folder: str | Path, *, dtype: torch.dtype | None = None, device: str = "cpu") -> Opened:
    """Build the card that a beholder folder holds and load its weights strictly."""
    folder = Path(folder)
    saved = read_folder(folder)
    system = from_data(saved.card, at=f"{folder.name}/{CARD_FILE}")
    if not isinstance(system, Card):
        raise WeightsError(f"{folder / CARD_FILE}: holds a {type(system).__name__}, not a card")
    model = build(system, device="meta")
    load_state(model, saved.tensors, (Binding("", "", OWN_NAMES),), dtype=dtype, device=device)
    official = Published.read(folder / OFFICIAL_FILE) if OFFICIAL_FILE in saved.files else None
    return Opened(model.eval(), folder, official)


def open_gguf_file(
    path: Path, *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> tuple[Opened, Tokenizer]:
    """A language model in a GGUF file, with its tokenizer. Quantized values are expanded, to bfloat16 where dtype is None."""
    metadata, tensors = read_metadata(path), open_weights(path)
    model = build(gguf_card(path, metadata, tensors), device="meta")
    decoder = model.card.main
    assert isinstance(decoder, Decoder)
    bindings = gguf_bindings(decoder, str(metadata["general.architecture"]), tensors)
    load_state(model, tensors, bindings, dtype=dtype or torch.bfloat16, device=device)
    return Opened(model.eval(), path), gguf_tokenizer(metadata)


def open_named(
    name: str | Path, *, device: str = "cpu", dtype: torch.dtype | None = None, exact: bool = False
) -> tuple[Opened, Tokenizer | None]:
    """A system by a card's name, a beholder folder, a folder in an official layout, a GGUF file, or a hub id.

    A card's weights are fetched where they are not at hand. dtype None keeps what the files hold, but for half precision
    on a processor that would emulate it, unless `exact`. Raises `BeholderError` in one line for a name that stands for
    nothing.
    """
    folder = Path(name)
    chosen = None
    if folder.suffix == ".gguf" and folder.is_file():
        opened, tokenizer = open_gguf_file(folder, dtype=dtype, device=device)
        if dtype is None and not exact:
            opened = replace(opened, widened=slow_half_to_float(opened.model))
        return opened, tokenizer
    if not folder.is_dir():
        if name in card_names():
            chosen = card(str(name))
            folder = pull(str(name))
        elif "/" in str(name) or folder.exists():
            folder = resolve(name)
        else:
            raise UnknownName("model (a card, a folder or a hub id)", str(name), card_names())
    if not folder.is_dir():
        raise WeightsError(f"{folder}: a file; name the folder that holds it with its config.json")
    is_ours = is_beholder_folder(folder)
    opened = (open_beholder if is_ours else open_official)(folder, dtype=dtype, device=device)
    if chosen is not None and not is_ours:
        opened.model.card = labelled(opened.model.card, chosen)
    if dtype is None and not exact:
        opened = replace(opened, widened=slow_half_to_float(opened.model))
    places = (folder, *(folder / name for name in LANGUAGES))
    words = next((place for place in places if (place / "tokenizer.json").is_file()), None)
    added = further_words(opened.published.config) if opened.published else ()
    return opened, None if words is None else Tokenizer.from_folder(words, words=added)


def labelled(read: Card, chosen: Card) -> Card:
    """A card read from official files, which know the numbers, with the names, prompt, tasks and ways to look of the card
    that was asked for. Raises `WeightsError` where the two have other branches.
    """
    if [branch.name for branch in read.branches] != [branch.name for branch in chosen.branches]:
        raise WeightsError(f"{chosen.name}: the released files describe another system, {read.name}")
    branches = tuple(
        branch.but(geometry=like.geometry or branch.geometry, frames=like.frames or branch.frames)
        for branch in read.branches
        for like in [chosen.branch(branch.name)]
    )
    names = ("name", "system", "paper", "licence", "prompt", "tasks", "stages", "weights")
    return read.but(branches=branches, **{name: getattr(chosen, name) for name in names})


def as_read(tensor: LazyTensor, dtype: torch.dtype | None) -> LazyTensor:
    """`tensor` under the type it was read with, unless its values have changed to others that the type cannot hold."""
    if dtype is None:
        return tensor
    values = tensor.load()
    if not torch.equal(values.to(dtype).to(values.dtype), values):
        return tensor
    return LazyTensor(tensor.name, tensor.shape, dtype, lambda _: values.to(dtype), tensor.origin)


def slow_half_to_float(model: Model) -> dict[str, torch.dtype]:
    """Turn half-precision parameters into float32, in place, on processors that have no instructions for them; gives the
    types they had by name.
    """
    widened: dict[str, torch.dtype] = {}
    if model.device.type != "cpu":
        return widened
    flags = torch.backends.cpu.get_cpu_capability()
    has_bfloat16 = flags == "AVX512" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    for name, parameter in model.named_parameters():
        slow = parameter.dtype == torch.float16 or (parameter.dtype == torch.bfloat16 and not has_bfloat16)
        if slow:
            widened[name] = parameter.dtype
            parameter.data = parameter.data.float()
    return widened


OPEN_CLIP = "open_clip_config.json"
META = "meta.json"  # of LLaMA2-Accessory


def folder_config(folder: Path) -> dict[str, Any]:
    """A folder's `config.json`, with the language model's that lies beside it where it was released alone; the settings of
    open_clip where there are such and no `config.json` with a type.
    """
    own, other = folder / "config.json", folder / OPEN_CLIP
    if other.is_file() and not (own.is_file() and "model_type" in read_json(own)):
        return {"model_type": "open_clip", **read_json(other)}
    config = read_json(own)
    if "model_type" not in config and (folder / META).is_file():
        return accessory_config(folder, config, read_json(folder / META))
    config = kind_of(config) or told_by_weights(folder, config)
    key = language_folder(str(config.get("model_type")))
    if key is None:
        return config
    language = folder / key / "config.json"
    return with_settings(folder, config, key, read_json(language) if language.is_file() else None)


def folder_weights(folder: Path, config: Mapping[str, Any]) -> LazyTensors:
    """What in a folder holds its weights: open_clip's have a file of their own beside those of other libraries."""
    gathered = gathered_weights(folder, config)
    if gathered is not None:
        return gathered
    if set(APART) <= set(config):
        return weights_apart(folder)
    if has_shards(folder):
        return accessory_weights(folder, config)
    own = folder / "open_clip_model.safetensors"
    weights = open_weights(own if "model_cfg" in config and own.is_file() else folder)
    return with_encoders(folder, config, with_adapters_in(config, weights))


def read_folder_config(folder: Path, config: Mapping[str, Any]) -> Reading:
    """The reading of a folder's `config.json`, with the geometry or front end of its processor settings."""
    config = {**config, **sentence_settings(folder)}
    reading = _read_system(config, folder.resolve().name, folder_geometry(folder, config))
    front = folder_front(folder)
    if front is None:
        return reading
    branches = tuple(
        branch.but(front=front) if branch.modality == "audio" else branch for branch in reading.card.branches
    )
    return replace(reading, card=reading.card.but(branches=branches))


POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}
SENTENCE_MODULES = ("Transformer", "Pooling", "Normalize")


def sentence_settings(folder: Path) -> dict[str, str]:
    """`sentence_pooling` of a sentence-transformers folder: which vector stands for a text; nothing in other folders. Raises
    `BeholderError` for modules and poolings other than the usual ones.
    """
    pooling = folder / "1_Pooling" / "config.json"
    if not pooling.is_file():
        return {}
    settings = read_json(pooling)
    chosen = [mode for mode, on in settings.items() if mode.startswith("pooling_mode_") and on]
    kinds = []
    if (folder / "modules.json").is_file():
        kinds = re.findall(r'"type":\s*"(?:\w+\.)*(\w+)"', read_text(folder / "modules.json"))
    others = [kind for kind in kinds if kind not in SENTENCE_MODULES]
    if others or len(chosen) != 1 or chosen[0] not in POOLINGS:
        raise BeholderError(
            f"{folder.name}: sentences are pooled by {', '.join(chosen + others)}; known: {', '.join(POOLINGS)}"
        )
    return {"sentence_pooling": POOLINGS[chosen[0]]}


def _read_system(config: Mapping[str, Any], name: str = "", geometry: Geometry | None = None) -> Reading:
    """`read_system`, whose hundreds of readers and layouts are loaded for official files alone, not for our own folders."""
    from beholder.weights.kin import completed
    from beholder.weights.readers.systems import read_system

    reading = read_system(config, name=name, geometry=geometry)
    return replace(reading, card=completed(reading.card, str(config.get("model_type"))))


def folder_geometry(folder: Path, config: Mapping[str, Any]) -> Geometry | None:
    """From `preprocessor_config.json` or `processor_config.json`; None where neither speaks of pictures."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            settings = read_json(folder / name)
            pictures = name.startswith("pre") and read_sound_front(settings) is None
            if pictures or "image_processor" in settings:
                return geometry_from_official(settings, config)
    return None


def folder_front(folder: Path) -> SoundFront | None:
    """From `preprocessor_config.json` or `processor_config.json`; None where neither speaks of sound."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            front = read_sound_front(read_json(folder / name))
            if front is not None:
                return front
    return None


def choose_naming(reading: Reading, weights: LazyTensors, shapes: Mapping[str, Shape]) -> int:
    """The number of the naming whose prefixes all occur among the keys of `weights`, and whose rules know every key where
    several do, and whose tensors have the shapes of ours where still several do; else the usual one, whose strict load will
    say what is wrong.
    """
    keys = list(weights)
    fitting = []
    for number, naming in enumerate(reading.namings):
        required = [
            b.prefix for b in naming if b.prefix and any(op is not None for op in b.layout.rules.values())
        ]
        optional = {b.prefix for b in naming if b.layout.name.startswith("tied")}
        if all(any(key.startswith(prefix) for key in keys) for prefix in required if prefix not in optional):
            fitting.append(number)
    if len(fitting) > 1:
        fitting = [n for n in fitting if all(_known(key, reading.namings[n]) for key in keys)] or fitting[:1]
    if len(fitting) > 1:
        fitting = [n for n in fitting if _fits(weights, reading.namings[n], shapes)] or fitting
    return fitting[0] if fitting else 0


def _fits(weights: LazyTensors, naming: Naming, shapes: Mapping[str, Shape]) -> bool:
    """Whether a naming fills everything; nothing is read."""
    try:
        to_own(weights, naming, shapes)
    except WeightsError:
        return False
    return True


def _known(key: str, naming: Naming) -> bool:
    """Whether some rule of a naming speaks of a published key."""
    own = (
        (binding.layout, key[len(binding.prefix) :]) for binding in naming if key.startswith(binding.prefix)
    )
    return any(rule.key_regex.fullmatch(rest) for layout, rest in own for rule in layout.parsed)


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file; raises `WeightsError` in one line where there is none."""
    text = read_text(path)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise WeightsError(f"{path}: not valid JSON ({error})") from None
    except RecursionError:
        raise WeightsError(f"{path}: not a settings file; it is nested too deeply") from None
    if not isinstance(data, dict):
        raise WeightsError(f"{path}: expected an object, got a {type(data).__name__}")
    return data


def read_text(path: Path) -> str:
    """A UTF-8 file; raises `WeightsError` in one line where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise WeightsError(f"{path.parent}: no {path.name}; is it a checkpoint folder?") from None
    except UnicodeDecodeError:
        raise WeightsError(f"{path}: not UTF-8 text; download it again") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
