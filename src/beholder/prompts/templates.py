"""Sentences around a label, for classification by texts (2103.00020, section 3.1.4). {} stands for the label."""

from __future__ import annotations

from collections.abc import Sequence

from beholder.errors import BeholderError, UnknownName

# openai/CLIP notebooks/Prompt_Engineering_for_ImageNet.ipynb: the list that the paper used on ImageNet
IMAGENET_80 = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)
# The same notebook, at its end: what forward selection took from the 80, in its order
IMAGENET_7 = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
TEMPLATES: dict[str, tuple[str, ...]] = {
    "imagenet-80": IMAGENET_80,
    "imagenet-7": IMAGENET_7,
    "photo": ("a photo of a {}.",),
    "label": ("{}",),
}


def templates_of(given: str | Sequence[str]) -> tuple[str, ...]:
    """The templates of a name, or those given themselves. Raises `UnknownName` for a name of none, `BeholderError` for
    a sentence that does not hold {} once.
    """
    if isinstance(given, str) and given in TEMPLATES:
        return TEMPLATES[given]
    if isinstance(given, str) and "{}" not in given:
        raise UnknownName("templates (a name, or sentences with {} where the label goes)", given, TEMPLATES)
    sentences = (given,) if isinstance(given, str) else tuple(given)
    if not sentences:
        raise BeholderError("no template was given; one that is the label alone is '{}'")
    for sentence in sentences:
        if sentence.count("{}") != 1:
            raise BeholderError(f"template {sentence!r} must hold {{}} once, where the label goes")
    return sentences


def sentences(label: str, templates: Sequence[str]) -> list[str]:
    """Each template with the label in its place."""
    return [template.replace("{}", label) for template in templates]
