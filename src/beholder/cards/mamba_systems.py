"""Cobra (2403.14520), VL-Mamba (2403.13600) and LongLLaVA (2409.02889): systems whose language models are state spaces.

Cobra: h-zhao1997/cobra cobra/conf/models.py, cobra/models/vlms/cobra.py (pictures in front of all words),
cobra/models/backbones/vision/dinosiglip_vit.py (timm's encoders: both see 384 pixels, DINOv2's table is of 518, SigLIP has the
exact GELU); mamba-2.8b-zephyr's vocabulary is padded to 50280. VL-Mamba: two and four directions of scans in front of an MLP;
nothing was released, and the width of scans is ours. LongLLaVA: FreedomIntelligence/LongLLaVA
llava/model (bilinear pooling to 12 x 12, the `2d` of resamplePooling), cli.py (marks; the one behind the last frame is left out
there) and utils/dense_downcycling.py (the 9B has one expert, an MLP).
"""

from beholder.cards.schema import Branch, Card, LanguagePart, Source, Stage, Trains
from beholder.media.clips import Frames
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, IMAGENET_STD, Fixed
from beholder.parts.blocks.mamba import Mamba
from beholder.parts.blocks.transformer import LayerKind
from beholder.parts.connectors.pooling import GridPool
from beholder.parts.connectors.projections import Mlp
from beholder.parts.connectors.scans import Scans
from beholder.parts.connectors.several import Concat, Way
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_recurrent as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.rescaled import Rescaled
from beholder.parts.vision.vit import Take
from beholder.prompts import formats, formats_adapters

OF_PATCHES = GridTable("bicubic", antialias=True, patches=True)
LAST_BUT_ONE = Take((-2,), norm=False)
ALIGN = Stage("align", rules=(Trains("branches.image.connector.*", lr=1e-3),), batch=256)
BOTH = (Trains("branches.image.connector.*", lr=2e-5), Trains("languages.main.*", lr=2e-5))
INSTRUCT = Stage("instruct", rules=BOTH, batch=128)
DECAYED = (BOTH[0].but(weight_decay=0.1), BOTH[1].but(weight_decay=0.1))
SLOWLY = (Trains("branches.image.connector.*", lr=1e-5), Trains("languages.main.*", lr=1e-5))
COBRA = Card(
    name="cobra-3.5b",
    system="cobra",
    paper="2403.14520",
    licence="MIT",
    branches=(
        Branch(
            encoders=(
                Rescaled(
                    vision.DINOV2_L_14_REGISTERS.but(
                        pool=None, mask_token=False, positions=OF_PATCHES, take=LAST_BUT_ONE
                    ),
                    mean=IMAGENET_MEAN,
                    std=IMAGENET_STD,
                    seen_mean=HALF,
                    seen_std=HALF,
                ),
                vision.SIGLIP_SO400M_14.but(
                    image_size=384, pool=None, take=LAST_BUT_ONE, **{"mlp.act": "gelu"}
                ),
            ),
            geometry=Fixed(size=(384, 384)),
            connector=Concat((Way((0,)), Way((1,))), then=Mlp(depth=3, first=4)),
        ),
    ),
    fusion=(Splice(token_id=50280),),
    languages=(LanguagePart(language.MAMBA_2_8B),),
    heads=(NextToken(),),
    prompt=formats.ZEPHYR.but(name="cobra", image_place="front"),
    stages=(Stage("instruct", rules=DECAYED, batch=128),),
    weights=(Source("hub", "han1997/cobra"),),
)
VL_MAMBA = Card(
    name="vl-mamba-2.8b",
    system="vl-mamba",
    paper="2403.13600",
    vision=vision.SIGLIP_SO400M_14.but(image_size=384, pool=None, take=LAST_BUT_ONE),
    connector=Scans(Mlp(), Mamba(inner=1152, rank=72)),
    images=Fixed(size=(384, 384)),
    fusion=(Splice(token_id=50280),),
    language=language.MAMBA_2_8B,
    heads=(NextToken(),),
    prompt=formats.VICUNA_V1,
    stages=(ALIGN, INSTRUCT),
)
VL_MAMBA_CROSS = VL_MAMBA.but(
    name="vl-mamba-2.8b-cross-scan",
    vision=vision.CLIP_L_14_336.but(pool=None, take=LAST_BUT_ONE),
    connector=Scans(Mlp(), Mamba(inner=1024, rank=64), directions=4),
    images=Fixed(size=(336, 336), fit="pad", mean=CLIP_MEAN, std=CLIP_STD, background=(122, 116, 104)),
)
LONGLLAVA_53B = Card(
    name="longllava-53b",
    system="longllava",
    paper="2409.02889",
    licence="Apache-2.0",
    branches=(
        Branch(
            encoders=(vision.CLIP_L_14_336.but(pool=None, take=LAST_BUT_ONE),),
            geometry=VL_MAMBA_CROSS.branch().geometry,
            connector=GridPool(Mlp(), factor=2, way="bilinear"),
            frames=Frames(count=128, rate=1.0, apart=False, label="<img>", end="</img><t>"),
        ),
    ),
    fusion=(Splice(token_id=65536),),
    languages=(LanguagePart(language.JAMBA_52B),),
    heads=(NextToken(),),
    prompt=formats_adapters.LONGLLAVA,
    stages=(  # Align.sh, SingleImageSFT.sh and MultiImageSFT.sh
        Stage("align", rules=(Trains("branches.image.connector.*", lr=1e-4),)),
        Stage("one picture", rules=SLOWLY),
        Stage("several pictures", rules=SLOWLY),
    ),
    weights=(Source("hub", "FreedomIntelligence/LongLLaVA-53B-A13B"),),
)
LONGLLAVA_9B = LONGLLAVA_53B.but(
    name="longllava-9b",
    language=language.JAMBA_52B.but(
        others=(LayerKind(language.JAMBA_52B.others[1].mixer),), pattern=(0, 0, 0, 0, 1, 0, 0, 0)
    ),
    weights=(Source("hub", "FreedomIntelligence/LongLLaVA-9B"),),
)
