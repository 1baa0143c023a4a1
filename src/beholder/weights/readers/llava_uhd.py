"""Files of LLaVA's own layout whose code sees pictures in another way: LLaVA-UHD (thunlp/LLaVA-UHD, branch LLaVA-UHD-v1) and
INF-LLaVA (WeihuangLin/INF-LLaVA INF_llava/model/llava_arch.py), which only its weights tell from LLaVA (`weights/beside.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards import card
from beholder.cards.schema import Branch, Card
from beholder.media.geometry import Geometry
from beholder.media.slices import Slices
from beholder.parts.connectors.perspectives import DualPerspective
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision.pieces import Pieces
from beholder.parts.vision.positions import BICUBIC
from beholder.parts.vision.vit import ViT
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts.resampled import MINICPM_RESAMPLER
from beholder.weights.layouts.rules import affine
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava_own import (
    IMAGE_TOKEN,
    Tower,
    geometry_of,
    language_of,
    projector_of,
    tower_of,
)
from beholder.weights.readers.parts import read_decoder
from beholder.weights.readers.reading import CONNECTOR, VISION, Naming, Reading, language_naming, text_stages
from beholder.weights.readers.vila import READERS as LLAVA

UHD = "adapt_spatial_resampler"  # `mm_projector_type`
PIECES = 3  # along each side, in the code
PERSPECTIVES = Layout(
    affine(
        {
            **{
                f"attention.linears.{number}": f"heads.{part}"
                for number, part in enumerate(("q", "k", "v", "out"))
            },
            "attention.ln": "norm",
            "ffn_crop.{}": "local.{}",
            "ffn_stride.{}": "world.{}",
            "ln_fuse": "joined_norm",
        }
    ),
    name="INF-LLaVA perspectives",
)


def _reading(fields: Fields, name: str, branch: Branch, *eyes: Binding) -> Reading:
    language = read_decoder(language_of(fields, "llama"))
    system = Card(
        name=name,
        branches=(branch,),
        fusion=(Splice(token_id=IMAGE_TOKEN),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming: Naming = (*eyes, *language_naming(language, "model.", "lm_head."))
    return Reading(system, (naming,), text_stages())


def _plain(tower: Tower) -> ViT:
    assert isinstance(tower.vision, ViT)
    return tower.vision


def _uhd(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Slices are the code's, whatever the file of CLIP's processor says."""
    tower, known = tower_of(fields), card("llava-uhd-144-13b").branch()
    images = geometry if isinstance(geometry, Slices) else known.geometry
    branch = Branch((_plain(tower).but(positions=BICUBIC),), images, known.connector)
    return _reading(
        fields,
        name,
        branch,
        Binding(tower.prefix, VISION, tower.read.layout, tower.read.numbers),
        Binding("model.mm_projector.", CONNECTOR, MINICPM_RESAMPLER),
    )


def _inf(fields: Fields, name: str, _: Geometry | None) -> Reading:
    """Pictures of three times the encoder's size, whatever the file of CLIP's processor says."""
    tower = tower_of(fields)
    then, layout, place = projector_of(fields)
    eyes = Pieces(_plain(tower), count=PIECES, strided=True)
    images = geometry_of(fields, tower, eyes.image_size)
    branch = Branch((eyes,), images, DualPerspective(count=PIECES, then=then))
    return _reading(
        fields,
        name,
        branch,
        Binding(tower.prefix, VISION + "encoder.", tower.read.layout, tower.read.numbers),
        Binding("model.spatial_embed.", CONNECTOR, PERSPECTIVES),
        Binding("model.mm_projector.", CONNECTOR + "then." + place, layout),
    )


def _llava_llama(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """LLaVA-UHD's files have LLaVA's type."""
    uhd = fields.raw("mm_projector_type") == UHD
    return (_uhd if uhd else LLAVA["llava_llama"])(fields, name, geometry)


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "llava_llama": _llava_llama,
    "inf_llava": _inf,
}
