"""The official forward's arguments as a batch. Families that record them in a form of their own have a function in `FORMS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from beholder.errors import BeholderError
from beholder.media.canvas import Canvas
from beholder.media.geometry import plan_picture
from beholder.media.plan import Box, PicturePlan, View, in_order
from beholder.model import Batch, Model
from beholder.parity.crops import batch_of_crops
from beholder.parity.heard import sounds_in_text
from beholder.parity.marked_rows import whole_and_tiles
from beholder.parity.marks import marked_pictures
from beholder.parity.page_words import on_page
from beholder.parity.pages import batch_of_pages
from beholder.parity.patches import batch_of_patches
from beholder.parity.prompted import prompted
from beholder.parity.rows import (
    canvases,
    clips,
    features_first,
    left_aligned,
    marked,
    patches,
    per_row,
    pictures,
    question,
    regions,
    without_question,
    words_alone,
    written,
)
from beholder.parity.several import two_sizes
from beholder.parity.streams import with_places
from beholder.parity.strips import batch_of_strips
from beholder.parity.videos import recordings
from beholder.parts.contracts import AudioConfig
from beholder.parts.vision.vit import ViT
from beholder.planning import placed

RENAMED = {"image_pixel_values": "pixel_values", "audio_input_features": "input_features"}
SOUND_MASKS = ("feature_attention_mask", "input_features_mask", "attention_mask")

Form = Callable[[Model, Mapping[str, Tensor]], Batch | None]
FORMS: tuple[Form, ...] = (
    recordings,
    marked_pictures,
    whole_and_tiles,
    batch_of_crops,
    batch_of_patches,
    batch_of_pages,
    batch_of_strips,
    two_sizes,
    prompted,
    sounds_in_text,
)  # each gives None for arguments that are not of its form; the first batch is taken


def planned_batch(model: Model, inputs: Mapping[str, Tensor]) -> Batch:
    """The official forward's arguments as a batch: rows are moved to the left, pictures get plans."""
    inputs = {RENAMED.get(name, name): tensor for name, tensor in inputs.items()}
    if "input_ids" not in inputs and "pixel_values_videos" in inputs:  # of an encoder alone
        inputs["pixel_values"] = inputs.pop("pixel_values_videos")
    if "bbox" in inputs:
        return on_page(
            planned_batch(model, {name: inputs[name] for name in inputs.keys() - {"bbox"}}), inputs
        )
    if "pixel_values" in inputs and "input_features" in inputs:
        return _seen_and_heard(model, inputs)
    inputs = features_first(model, words_alone(model, marked(model, with_places(written(model, inputs)))))
    for form in FORMS:
        if (batch := form(model, inputs)) is not None:
            return batch
    return _plain(model, inputs)


def _seen_and_heard(model: Model, inputs: Mapping[str, Tensor]) -> Batch:
    """Pictures and sounds in one text: what is planned without the others, put together."""
    apart = [
        {name: tensor for name, tensor in inputs.items() if name not in left_out}
        for left_out in (("input_features", *SOUND_MASKS[:2]), ("pixel_values", "image_grid_thw"))
    ]
    seen, heard = (planned_batch(model, part) for part in apart)
    return replace(
        seen,
        views={**seen.views, **heard.views},
        columns={**seen.columns, **heard.columns},
        plans=tuple((*one, *other) for one, other in zip(seen.plans, heard.plans, strict=True)),
    )


def _plain(model: Model, inputs: Mapping[str, Tensor]) -> Batch:
    """Tiles of pictures of `image_sizes` are planned by the geometry; else every view counts as a picture of its own, of its
    size where padded.
    """
    ids_BT, lengths = left_aligned(inputs.get("input_ids"), inputs.get("attention_mask"))
    target_BT, target_lengths = left_aligned(
        inputs.get("decoder_input_ids"), inputs.get("decoder_attention_mask")
    )
    kinds_BT, _ = left_aligned(inputs.get("token_type_ids"), inputs.get("attention_mask"))
    pixels, sizes = inputs.get("pixel_values"), inputs.get("image_sizes")
    if "visual_embeds" in inputs:
        pixels, sizes = regions(inputs)
    if pixels is not None and "spatial_shapes" in inputs:
        pixels, sizes = pictures(pixels, inputs["spatial_shapes"])
    if pixels is None:
        words = Batch(ids_BT, lengths, target_BT=target_BT, target_lengths=target_lengths, kinds_BT=kinds_BT)
        return _heard(words, _sounds(model, inputs, target_BT))
    branch = model.card.branches[0]
    grids = (branch.view_grid, branch.grids)
    plans, views = list[PicturePlan](), list[Tensor]()
    if pixels.ndim == 3:
        pixels = patches(pixels)
    if sizes is not None and pixels.ndim == 5:
        if branch.geometry is None:
            raise BeholderError(
                "the inputs give picture sizes but the checkpoint has no preprocessor_config.json"
            )
        for size, tiles in zip(sizes.tolist(), pixels, strict=True):
            plan = placed(model.card, plan_picture((size[0], size[1]), branch.geometry, *grids, branch.name))
            plans.append(plan)
            views.extend(tiles[: len(plan.views)])
    else:
        encoder = branch.encoders[0]
        whole = isinstance(encoder, ViT) and encoder.patches.joint and pixels.ndim == 5
        views.extend(clips(pixels) if whole else pixels.flatten(0, -4))
        if sizes is not None:
            views = [view[:, :rows, :columns] for view, (rows, columns) in zip(views, sizes, strict=True)]
        if "aspect_ratio_ids" in inputs:
            views = canvases(branch.encoders[0], pixels, inputs["aspect_ratio_ids"])
        for view in views:
            size = (view.shape[-2], view.shape[-1])
            view_plan = View(
                size, (), Box(0, 0, size[1], size[0]), numbers=tuple(range(view.shape[1] * whole))
            )
            out = branch.grids((view_plan,), (branch.view_grid(view_plan),))
            canvas = branch.geometry if isinstance(branch.geometry, Canvas) else None
            pieces = (in_order(out),) if canvas is None else canvas.pieces((view_plan,), out)
            plans.append(placed(model.card, PicturePlan(branch.name, size, (view_plan,), out, pieces)))
    rows = 1 if ids_BT is None else len(ids_BT)
    return Batch(
        ids_BT,
        lengths,
        {branch.name: views},
        per_row(model, plans, ids_BT, rows),
        target_BT=target_BT,
        target_lengths=target_lengths,
        kinds_BT=kinds_BT,
        words=question(inputs),
        prompts=without_question(model, inputs, ids_BT),
    )


def _heard(words: Batch, heard: Batch | None) -> Batch:
    """Sounds that are written down, or stand beside texts."""
    if heard is not None and words.ids_BT is not None and words.target_BT is None:
        return replace(words, views=heard.views)
    return heard or words


def _sounds(model: Model, inputs: Mapping[str, Tensor], ids_BT: Tensor | None) -> Batch | None:
    """Waveforms (V, samples), or spectrograms with frames in either of their last axes; masks say what is padding. ids_BT:
    what a decoder that reads them as its memory has written.
    """
    recorded = inputs.get("input_features", inputs.get("input_values"))
    branch = next((branch for branch in model.card.branches if branch.modality == "audio"), None)
    if recorded is None or branch is None:
        return None
    (encoder,) = branch.encoders
    assert isinstance(encoder, AudioConfig)
    if recorded.ndim == 4:
        recorded = recorded[:, 0]
    if recorded.ndim == 2:
        recorded = recorded[:, None]
    elif recorded.shape[1] != encoder.size[0]:
        recorded = recorded.transpose(1, 2)
    masks = [inputs[name] for name in SOUND_MASKS if name in inputs]
    columns = {branch.name: masks[0].sum(1).tolist()} if masks else {}
    return Batch(ids_BT, views={branch.name: list(recorded[:, None])}, columns=columns)
