"""Alpha-CLIP: masks beside pictures, and its published names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.model import Batch, Model, build
from beholder.parts.vision.vit import ViT
from beholder.pipeline import Pipeline
from beholder.weights.layout import to_published
from beholder.weights.layouts.dual import openai_names
from beholder.weights.load import load_state, state_tensors
from tests.toys import byte_tokenizer

NAMING = openai_names(card("alpha-clip-b-16"))
FULL = (1 - 0.5) / 0.26


def randomised(model: Model) -> Model:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.fixture(scope="module")
def tiny() -> Model:
    torch.manual_seed(0)
    return randomised(build(card("alpha-clip-b-16").tiny()))


def clip_of(model: Model) -> Model:
    """The same weights in a CLIP without masks."""
    plain = build(card("clip-b-16").tiny())
    weights = {name: value for name, value in model.state_dict().items() if ".patch.mask." not in name}
    plain.load_state_dict(weights)
    return plain


def tower(w: dict[str, Tensor], pixels: Tensor, mask: Tensor, heads: int) -> Tensor:
    """SunzeY/AlphaCLIP alpha_clip/model.py `VisionTransformer`, from its published names."""

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"visual.{name}.weight"], w[f"visual.{name}.bias"])

    patch = w["visual.conv1.weight"].shape[-1]
    x = F.conv2d(pixels, w["visual.conv1.weight"], stride=patch)
    x = (x + F.conv2d(mask, w["visual.conv1_alpha.weight"], stride=patch)).flatten(2).transpose(1, 2)
    x = (
        torch.cat((w["visual.class_embedding"].expand(len(x), 1, -1), x), 1)
        + w["visual.positional_embedding"]
    )
    x = norm("ln_pre", x)
    for layer in range(2):
        at = f"transformer.resblocks.{layer}."
        names = ("attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
        maps = {name: (w[f"visual.{at}{name}.weight"], w[f"visual.{at}{name}.bias"]) for name in names}
        q, k, v = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in F.linear(norm(at + "ln_1", x), *maps["attn.in_proj"]).chunk(3, -1)
        )
        seen = ((q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5).softmax(-1) @ v
        x = x + F.linear(seen.transpose(1, 2).flatten(2), *maps["attn.out_proj"])
        y = F.linear(norm(at + "ln_2", x), *maps["mlp.c_fc"])
        x = x + F.linear(y * torch.sigmoid(1.702 * y), *maps["mlp.c_proj"])
    return norm("ln_post", x[:, 0]) @ w["visual.proj"]


@torch.no_grad()
def test_vectors_equal_the_formulas_under_the_published_names(tiny: Model) -> None:
    w = {name: tensor.load() for name, tensor in to_published(state_tensors(tiny), NAMING).items()}
    config = tiny.card.branch().encoders[0]
    assert isinstance(config, ViT)
    views = torch.randn(3, 4, config.image_size, config.image_size)
    want = tower(w, views[:, :3], views[:, 3:], config.attention.num_heads)
    assert torch.allclose(tiny.branch("image")(list(views)).tokens_ND, want, atol=1e-4)
    full = torch.full_like(views[:, 3:], FULL)
    want = tower(w, views[:, :3], full, config.attention.num_heads)
    assert torch.allclose(tiny.branch("image")(list(views[:, :3])).tokens_ND, want, atol=1e-4)


EXPECTED = {
    "alpha-clip-b-16": {"visual.conv1_alpha.weight", "visual.transformer.resblocks.1.attn.in_proj.bias"},
    "clip-b-16": {"visual.proj", "visual.transformer.resblocks.1.attn.in_proj_bias"},
    "clip-rn50": {"visual.attnpool.c_proj.weight", "visual.layer1.0.bn3.running_var"},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_published_names_come_back(name: str) -> None:
    model = randomised(build(card(name).tiny()))
    naming = openai_names(model.card)
    published = to_published(state_tensors(model), naming)
    text = {"transformer.resblocks.1.attn.in_proj_weight", "text_projection", "logit_scale", "ln_final.bias"}
    assert EXPECTED[name] | text <= published.keys()
    again = build(model.card, seed=1)
    load_state(again, published, naming)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())


@torch.no_grad()
def test_before_training_any_mask_gives_the_vectors_of_clip(tiny: Model) -> None:
    """The mask's kernel starts at zero, so a full mask, or any other, equals CLIP bit for bit."""
    model = build(tiny.card)
    weights = {name: value for name, value in tiny.state_dict().items() if ".patch.mask." not in name}
    model.load_state_dict(weights, strict=False)
    views = list(torch.randn(2, 3, 28, 28))
    masked = [torch.cat((view, torch.randn(1, 28, 28))) for view in views]
    want = clip_of(tiny).branch("image")(views).tokens_ND
    for given in (views, masked, [torch.cat((view, torch.full((1, 28, 28), FULL))) for view in views]):
        assert torch.equal(model.branch("image")(given).tokens_ND, want)


@torch.no_grad()
def test_a_mask_moves_the_vector_and_texts_stay(tiny: Model) -> None:
    view = torch.randn(3, 28, 28)
    left, right = torch.full((1, 28, 28), -FULL), torch.full((1, 28, 28), -FULL)
    left[..., :14], right[..., 14:] = FULL, FULL
    vectors = tiny.branch("image")([torch.cat((view, left)), torch.cat((view, right)), view]).tokens_ND
    assert min(float((vectors[a] - vectors[b]).abs().max()) for a, b in ((0, 1), (1, 2), (0, 2))) > 1e-3
    ids = Batch(torch.tensor([[1, 5, 2]]))
    want = clip_of(tiny)(ids).heads["similarity"].texts_BD
    assert torch.equal(tiny(ids).heads["similarity"].texts_BD, want)


def test_masks_go_through_the_geometry_of_their_pictures(tiny: Model) -> None:
    pipeline = Pipeline(tiny, byte_tokenizer())
    pixels = np.random.default_rng(0).integers(0, 256, (56, 112, 3), np.uint8)
    mask = np.zeros((56, 112), bool)
    mask[:, :56] = True
    found = pipeline.embed(images=[pixels], masks=[mask]).images
    plain = pipeline.embed(images=[pixels]).images
    assert np.array_equal(pipeline.embed(images=[pixels], masks=[mask.astype(np.uint8) * 255]).images, found)
    full = pipeline.embed(images=[pixels], masks=[np.ones_like(mask)]).images
    assert np.allclose(full, plain, atol=1e-6) and not np.allclose(found, plain, atol=1e-3)
    outside = mask.copy()
    outside[:, :20] = outside[:, 92:] = False  # the middle 56 columns are all that is cut out
    assert np.array_equal(pipeline.embed(images=[pixels], masks=[outside]).images, found)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ([], "0 masks for 1 pictures"),
        ([np.ones((4, 4), bool)], "a mask of 4 x 4 pixels for a picture of 40 x 30"),
        ([np.ones((30, 40, 3), bool)], "a mask is .height, width."),
        ([np.ones((30, 40))], "float64"),
    ],
)
def test_masks_that_do_not_fit(tiny: Model, masks: list[np.ndarray], said: str) -> None:
    with pytest.raises(BeholderError, match=said):
        Pipeline(tiny).embed(images=[np.zeros((30, 40, 3), np.uint8)], masks=masks)


def test_systems_without_masks_say_so(tiny: Model) -> None:
    with pytest.raises(BeholderError, match="clip-b-16 reads no masks; .*alpha-clip-l-14"):
        Pipeline(clip_of(tiny)).embed(
            images=[np.zeros((30, 40, 3), np.uint8)], masks=[np.ones((30, 40), bool)]
        )
