"""MetaCLIP (2309.16671): CLIP, with OpenAI's activation, trained on pairs that were balanced by what their texts name."""

from beholder.cards import clip
from beholder.cards.schema import Source
from beholder.parts.language import sizes as language
from beholder.parts.vision import sizes as vision

# Text towers of the two largest: mlfoundations/open_clip model_configs, ViT-H-14 and ViT-bigG-14.
METACLIP_B_32 = clip.CLIP_B_32.but(
    name="metaclip-b-32",
    system="metaclip",
    paper="2309.16671",
    licence="CC-BY-NC-4.0",
    weights=(Source("hub", "facebook/metaclip-b32-fullcc2.5b"),),
)
METACLIP_B_16 = METACLIP_B_32.but(
    name="metaclip-b-16",
    vision=vision.CLIP_B_16,
    weights=(Source("hub", "facebook/metaclip-b16-fullcc2.5b"),),
)
METACLIP_L_14 = METACLIP_B_32.but(
    name="metaclip-l-14",
    vision=vision.CLIP_L_14,
    language=language.CLIP_TEXT_768,
    weights=(Source("hub", "facebook/metaclip-l14-fullcc2.5b"),),
)
METACLIP_H_14 = METACLIP_B_32.but(
    name="metaclip-h-14",
    vision=vision.METACLIP_H_14,
    language=language.CLIP_TEXT_1024.but(num_layers=24),
    weights=(Source("hub", "facebook/metaclip-h14-fullcc2.5b"),),
)
METACLIP_BIGG_14 = METACLIP_B_32.but(
    name="metaclip-bigg-14",
    vision=vision.METACLIP_BIGG_14,
    language=language.CLIP_TEXT_1024.but(
        dim=1280, num_layers=32, projection=1280, **{"attention.num_heads": 20, "mlp.hidden": 5120}
    ),
    weights=(Source("hub", "facebook/metaclip-bigG14-fullcc2.5b"),),
)
