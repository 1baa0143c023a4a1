"""ImageBind (2305.05665): six senses in one space, each bound to pictures."""

from beholder.cards.schema import Branch, Card, Stage, Trains
from beholder.media import sound
from beholder.media.clips import EvenClips
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.audio import sizes
from beholder.parts.connectors.projections import Pooled
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.bound import Bound
from beholder.parts.heads.similarity import Similarity

VECTOR = Pooled(unit=True)

# facebookresearch/ImageBind: imagebind/models/imagebind_model.py `imagebind_huge`, imagebind/data.py for clips
IMAGEBIND_HUGE = Card(
    name="imagebind-huge",
    system="imagebind",
    paper="2305.05665",
    licence="CC-BY-NC-SA-4.0",
    branches=(
        Branch(
            (sizes.IMAGEBIND_VISION,),
            geometry=Fixed(size=(224, 224), fit="crop", mean=CLIP_MEAN, std=CLIP_STD),
            connector=VECTOR,
            clips=EvenClips(seconds=2.0, count=5, frames=2),
        ),
        Branch(
            (sizes.IMAGEBIND_AUDIO,),
            front=sound.IMAGEBIND,
            connector=VECTOR.but(scale=20.0),
            name="audio",
            modality="audio",
            clips=EvenClips(seconds=2.0, count=3),
        ),
        Branch((sizes.IMAGEBIND_DEPTH,), connector=VECTOR.but(scale=5.0), name="depth", modality="depth"),
        Branch(
            (sizes.IMAGEBIND_THERMAL,), connector=VECTOR.but(scale=10.0), name="thermal", modality="thermal"
        ),
        Branch((sizes.IMAGEBIND_IMU,), connector=VECTOR.but(scale=5.0), name="imu", modality="imu"),
    ),
    fusion=(Towers(anchor="image", others=("text", "audio", "depth", "thermal", "imu")),),
    language=sizes.IMAGEBIND_TEXT,
    heads=(Similarity(), Bound(others=("audio", "depth", "thermal", "imu"))),
    stages=(  # section 3.2: pictures and texts are OpenCLIP's and stay; the rate is ours
        Stage(
            "bind",
            rules=(Trains("branches.image.*"), Trains("branches.*", lr=1e-3)),
            objective="contrast, bound",
        ),
    ),
)
