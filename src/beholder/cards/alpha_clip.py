"""Alpha-CLIP (2312.03818): CLIP whose picture tower also reads a mask that says where to look."""

from beholder.cards import clip
from beholder.cards.schema import Stage, Trains
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.patches import Patches

MASKED = Patches(bias=False, mask=True)

# SunzeY/AlphaCLIP: alpha_clip/model.py; its checkpoints hold the picture tower alone, in pickles
ALPHA_CLIP_B_16 = clip.CLIP_B_16.but(
    name="alpha-clip-b-16",
    system="alpha-clip",
    paper="2312.03818",
    licence="Apache-2.0",
    vision=vision.CLIP_B_16.but(patches=MASKED),
    weights=(),
    stages=(
        # train/train/train_grit_1m.py and its command: the new kernel learns faster, texts do not
        Stage(
            "mask",
            rules=(
                Trains("branches.image.vision.patch.mask.*", lr=4e-5, weight_decay=0.01),
                Trains("branches.image.*", lr=4e-7, weight_decay=0.01),
            ),
            objective="contrast",
        ),
    ),
)
ALPHA_CLIP_L_14 = ALPHA_CLIP_B_16.but(
    name="alpha-clip-l-14",
    vision=vision.CLIP_L_14.but(patches=MASKED),
    language=clip.CLIP_L_14.main,
)
ALPHA_CLIP_L_14_336 = ALPHA_CLIP_L_14.but(
    name="alpha-clip-l-14-336",
    vision=vision.CLIP_L_14_336.but(patches=MASKED),
    images=clip.CLIP_L_14_336.branch().geometry,
)
