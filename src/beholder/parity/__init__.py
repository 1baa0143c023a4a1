"""Does a checkpoint give what its official implementation gave? Compared stage by stage with a recorded reference.

A folder holds `config.json`, `model.safetensors`, `inputs.safetensors` (the official forward's arguments, placeholders
already expanded) and `reference.safetensors` (its outputs). Tolerance: largest difference over the reference's spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.media.pixels import load_views
from beholder.media.several import Several
from beholder.model import Batch, Model, Output
from beholder.parity.found import found_stages, own_areas, spoken
from beholder.parity.inputs import planned_batch
from beholder.parity.pages import page
from beholder.parity.patches import recorded_picture
from beholder.parity.prompted import several_masks
from beholder.parity.rows import canvases, pictures
from beholder.parity.streams import mixed_stages
from beholder.parts.codecs.contract import Codec
from beholder.parts.contracts import Packed
from beholder.parts.heads.queried import Matched
from beholder.parts.language.state import State
from beholder.weights.files import open_weights
from beholder.weights.open import Opened, open_official
from beholder.weights.readers.read import Recorded

TOLERANCE = 1e-4
BY_TOKEN = ("logits", "hidden states", "memory")  # stages of one row per sequence, whose padding says nothing
PIXELS = ("high_res_pixel_values", "pixel_values", "images", "flattened_patches")
AS_GIVEN = (
    "cells",
    "ctc",
    "foretold",
    "labels",
    "answers",
    "matching",
    "vectors",
)  # stages that are a head's tensor


@dataclass(frozen=True)
class StageResult:
    """One stage: `error` is max |ours - theirs| / std(theirs); for ids, the share that differ."""

    stage: str
    reference: str
    shape: tuple[int, ...]
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


def compare_folder(folder: str | Path, *, tolerance: float = TOLERANCE) -> list[StageResult]:
    """All stages that the folder records and its reader names. Raises `BeholderError` where nothing can be compared."""
    folder = Path(folder)
    for pattern in ("config.json", "model*.safetensors", "inputs.safetensors", "reference.safetensors"):
        if not any(folder.glob(pattern)):
            raise BeholderError(
                f"{folder} has no {pattern}; a parity folder needs config, model, inputs and reference"
            )
    opened = open_official(folder, dtype=torch.float32)
    inputs = {name: tensor.load() for name, tensor in open_weights(folder / "inputs.safetensors").items()}
    reference = open_weights(folder / "reference.safetensors")
    if any(recorded.whole for recorded in opened.stages.values()):
        inputs.pop("attention_mask", None)
    results = [*_pixels(folder, opened), *_fronts(folder, opened)]
    with torch.inference_mode():
        ours = _codec_stages(opened.model, inputs) if opened.model.card.codecs else {}
        if opened.model.card.branches or opened.model.card.languages:
            batch = planned_batch(opened.model, inputs)
            ours |= _stages(opened.model, batch, reference)
            if "embeddings" in opened.stages:
                ours["embeddings"] = opened.model.prepare(batch, opened.model.encode(batch)).embeddings_BTD
    for stage, recorded in opened.stages.items():
        if recorded.name in reference and stage in ours:
            theirs = reference[recorded.name].load()
            side = "decoder_" if "decoder_input_ids" in inputs and stage == "logits" else ""
            mask_BT = _tokens_mask(inputs, side, theirs)
            results.append(_compare(stage, recorded, ours[stage], theirs, mask_BT, tolerance))
    if not results:
        raise BeholderError(f"{folder}: the reference holds none of the stages {', '.join(opened.stages)}")
    return results


def _tokens_mask(inputs: Mapping[str, Tensor], side: str, theirs: Tensor) -> Tensor | None:
    """Which tokens are no padding, features that stand behind the words included."""
    mask_BT = inputs.get(f"{side}attention_mask")
    regions_BN = inputs.get("visual_attention_mask")
    if mask_BT is None or side:
        return mask_BT
    behind = theirs.shape[1] - mask_BT.shape[1] if theirs.ndim == 3 else 0
    if (
        regions_BN is None and behind > 0 and inputs.keys() & {"pixel_mask", "bbox"}
    ):  # patches behind, without padding
        regions_BN = mask_BT.new_ones(len(mask_BT), behind)
    return mask_BT if regions_BN is None else torch.cat((mask_BT, regions_BN), 1)


def _stages(model: Model, batch: Batch, reference: Mapping[str, object]) -> dict[str, Tensor | Packed]:
    """Our tensors by stage name; packed where padding may be recorded behind each view's tokens."""
    ours: dict[str, Tensor | Packed] = {}
    for name, views in batch.views.items():
        branch = model.branch(name)
        encoded = branch.encode(views, batch.columns.get(name), model.context(batch, name).plans)
        if branch.config.modality == "audio":
            ours["sound"] = encoded[0]
        even = len({grid.num_tokens for grid in encoded[0].grids}) == 1
        ours["vision"] = _by_view(encoded[0]) if even else encoded[0]
        ours |= {f"stage {number}": _by_view(tap) for number, tap in encoded[0].taps.items()}
        if encoded[0].pooled_VD is not None:
            ours["pooled"] = encoded[0].pooled_VD
        ours["connector"] = _by_view(branch.connect(encoded, model.context(batch, name)))
        ours[f"{name} features"] = ours["connector"]  # where several branches have some
    output = model(batch)
    if output.language is not None:
        ours["hidden states"] = output.language.hidden_BTD
        if output.language.memory is not None:
            ours["memory"] = output.language.memory
        if output.language.pooled_BD is not None:
            ours["text vectors"] = output.language.pooled_BD
    ours |= {name: output.heads[name] for name in AS_GIVEN if name in output.heads}
    if "words" in output.heads:
        ours["logits"] = output.heads["words"]
    if "text" in output.heads:
        ours["logits"] = output.heads["text"]
        if "gen/gen_logits" in reference:
            ours["greedy logits"], ours["greedy"] = _greedy(model, batch, reference)
    if "mixed" in output.heads:
        ours |= mixed_stages(output.heads["mixed"])
    if "masks" in output.heads:
        ours |= several_masks(output.heads["masks"], len(batch.views["image"]))
    if "areas" in output.heads:
        ours["areas"] = own_areas(output.heads["areas"])
    if "depth" in output.heads:
        ours["depth"] = torch.stack(output.heads["depth"])
    if "objects" in output.heads:
        ours["boxes"], ours["classes"] = output.heads["objects"]
    if "boxes" in output.heads:
        ours |= found_stages(output.heads["boxes"], len(batch.views["image"]))
    likeness = output.heads.get("similarity")
    if likeness is not None and likeness.scores_VB is not None:
        ours |= {
            "connector": likeness.images_VD,
            "text vectors": likeness.texts_BD,
            "similarity": likeness.scores_VB,
        }
        if isinstance(likeness, Matched) and likeness.matching_B2 is not None:
            ours["matching"] = likeness.matching_B2
    return ours


def _codec_stages(model: Model, inputs: Mapping[str, Tensor]) -> dict[str, Tensor | Packed]:
    """A codec's latents, codes and restored views, channels and codebooks before places as officially."""
    recorded = inputs.get("pixel_values", inputs.get("input_values"))
    codec = next(codec for codec in model.codecs.values() if isinstance(codec, Codec))
    if recorded is None:
        return {}
    views = list(recorded if recorded.ndim == 4 else recorded[:, :, None])
    depth = codec.config.depth_at(float(inputs["bandwidth"])) if "bandwidth" in inputs else None
    codes = codec.encode(views, depth)
    stages: dict[str, Tensor | Packed] = {
        "latents": _by_view(codec.latents(views)).transpose(1, 2),
        "codes": torch.stack(codes.split()).transpose(1, 2),
    }
    if codec.decodes:
        stages["restored"] = torch.stack(codec.decode(codes))
    return stages


def _by_view(packed: Packed) -> Tensor:
    counts = {grid.num_tokens for grid in packed.grids}
    return torch.stack(packed.split()) if len(counts) == 1 else packed.tokens_ND


def _greedy(model: Model, batch: Batch, reference: Mapping[str, object]) -> tuple[Tensor, Tensor]:
    """Logits (B, S, vocabulary) and ids (B, S) of as many greedy steps as were recorded. A decoder that reads memory starts
    from the first ids that were recorded, an encoder-decoder from its own start token.
    """
    steps = reference["gen/gen_logits"].shape[1]  # type: ignore[attr-defined]
    if getattr(model.card.main, "cross", None) is not None:
        begun = reference["gen/generated_ids"].load()[:, :-steps]  # type: ignore[attr-defined]
        batch = replace(batch, ids_BT=begun, lengths=None)
    batch = replace(batch, target_BT=None, target_lengths=None)
    assert batch.ids_BT is not None
    state = State(len(batch.ids_BT))
    output: Output = model(batch, state)
    assert output.language is not None
    kept = [model.language.logits(output.language.last())]
    for _ in range(steps - 1):
        output = model(Batch(kept[-1].argmax(-1, keepdim=True)), state)
        kept.append(output.heads["text"][:, -1])
    logits_BSV = torch.stack(kept, 1)
    return logits_BSV, logits_BSV.argmax(-1)


def _compare(
    stage: str,
    recorded: Recorded,
    ours: Tensor | Packed,
    theirs: Tensor,
    mask_BT: Tensor | None,
    tolerance: float,
) -> StageResult:
    if recorded.skip:
        theirs = theirs[:, recorded.skip :]
    if recorded.padded and isinstance(ours, Tensor):
        theirs = theirs[:, : ours.shape[1]]
    if recorded.channels_first:
        theirs = theirs.flatten(2).transpose(1, 2)
    if recorded.times != 1.0:
        theirs = theirs * recorded.times
    if stage == "phrases" and isinstance(ours, Tensor):
        ours, theirs = spoken(ours, theirs)
    if isinstance(ours, Packed):
        kept = [grid.num_tokens for grid in ours.grids]
        if theirs.ndim == 3 and len(theirs) == len(kept):
            theirs = torch.cat([row[:count] for row, count in zip(theirs, kept, strict=True)])
        ours = ours.tokens_ND
    if stage in BY_TOKEN and mask_BT is not None and not bool(mask_BT.all()):
        counts = mask_BT.sum(1).tolist()
        theirs = torch.cat([row[keep.bool()] for row, keep in zip(theirs, mask_BT, strict=True)])
        ours = torch.cat([row[:count] for row, count in zip(ours, counts, strict=True)])
    if stage == "greedy":  # some record the prompt's ids before
        assert isinstance(ours, Tensor)
        theirs = theirs[:, -ours.shape[1] :]
    if recorded.first:
        ours = ours.reshape(-1, ours.shape[-1])[: theirs.numel() // ours.shape[-1]]
    if ours.numel() != theirs.numel():
        raise BeholderError(f"{stage}: ours is {tuple(ours.shape)}, {recorded.name} is {tuple(theirs.shape)}")
    ours = ours.reshape(theirs.shape)
    if not theirs.is_floating_point():
        return StageResult(
            stage, recorded.name, tuple(theirs.shape), float((ours != theirs).float().mean()), 0.0
        )
    shape, silent = tuple(theirs.shape), theirs == torch.finfo(theirs.dtype).min  # ids that are never written
    if not torch.equal(ours[silent], theirs[silent]):
        return StageResult(stage, recorded.name, shape, float("inf"), tolerance)
    if bool(silent.any()):
        ours, theirs = ours[~silent], theirs[~silent]
    error = float((ours - theirs).abs().max() / theirs.std().clamp(min=1e-12))
    return StageResult(stage, recorded.name, shape, error, tolerance)


def _pixels(folder: Path, opened: Opened) -> list[StageResult]:
    """The recorded pictures through our media path, in grey levels of 1/255."""
    path = folder / "preprocess.safetensors"
    geometry = opened.model.card.branches[0].geometry if opened.model.card.branches else None
    if geometry is None or not path.is_file():
        return []
    recorded = open_weights(path)
    if isinstance(geometry, Several):  # the last part's pixels are made of the picture itself
        geometry = geometry.parts[-1]
    worst, shape = 0.0, tuple[int, ...]()
    for index in range(sum(name.startswith("image_") for name in recorded)):
        picture = recorded[f"image_{index}"].load().numpy()
        names = tuple(f"out_{index}/{name}" for name in PIXELS)
        theirs = recorded[next(name for name in names if name in recorded)].load()
        if f"out_{index}/image_grid_thw" in recorded:
            outputs = {name: tensor.load() for name, tensor in recorded.items()}
            theirs = recorded_picture(opened.model, outputs, index)
        if f"out_{index}/flattened_patches" in recorded:
            theirs = page(theirs[0])[None]
        shapes = f"out_{index}/spatial_shapes"
        theirs = pictures(theirs, recorded[shapes].load())[0] if shapes in recorded else theirs.flatten(0, -4)
        views = load_views(picture, geometry.views(picture.shape[:2]), geometry)
        shape_ids = f"out_{index}/aspect_ratio_ids"
        if shape_ids in recorded:
            encoder = opened.model.card.branches[0].encoders[0]
            theirs = torch.stack(canvases(encoder, theirs[None, None], recorded[shape_ids].load()))
        ours = torch.stack(views)
        if f"out_{index}/images" in recorded:  # padded to the largest picture, which the model does not see
            theirs = theirs[..., : ours.shape[-2], : ours.shape[-1]]
        if ours.shape != theirs.shape:
            raise BeholderError(f"picture {index}: ours is {tuple(ours.shape)}, theirs {tuple(theirs.shape)}")
        grey_levels = (
            (ours - theirs).abs()
            * torch.tensor(geometry.coloured(picture).std).view(3, 1, 1)
            / (geometry.scale * 255)
        )
        worst, shape = max(worst, float(grey_levels.max())), tuple(theirs.shape)
    return [StageResult("pixels", "preprocess.safetensors", shape, worst, 1 / 255)]


def _fronts(folder: Path, opened: Opened) -> list[StageResult]:
    """The recorded sounds through our front end."""
    path = folder / "preprocess.safetensors"
    front = next((branch.front for branch in opened.model.card.branches if branch.front is not None), None)
    if front is None or not path.is_file():
        return []
    recorded = open_weights(path)
    errors, shape = [0.0], tuple[int, ...]()
    for index in range(sum(name.startswith("audio_") for name in recorded)):
        ours = front.view(recorded[f"audio_{index}"].load().numpy())
        names = (f"out_{index}/input_features", f"out_{index}/input_values")
        theirs = recorded[next(name for name in names if name in recorded)].load()
        theirs = theirs if theirs.shape[-1] == ours.shape[-1] else theirs.transpose(-1, -2)
        errors.append(float((ours - theirs.reshape(ours.shape)).abs().max() / theirs.std()))
        shape = tuple(theirs.shape)
    return [StageResult("front", "preprocess.safetensors", shape, max(errors), TOLERANCE)]
