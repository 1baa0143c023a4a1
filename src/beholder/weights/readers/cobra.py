"""Cobra's `config.json`, its `model` section (h-zhao1997/cobra cobra/conf/models.py): names of parts that its code fetches,
which are on the card (`weights/gathered.py`). Released: cobra/models/registry.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards import card
from beholder.errors import UnknownName
from beholder.media.geometry import Geometry
from beholder.parts.connectors.several import Concat
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts import common
from beholder.weights.layouts.llava_kin import SIGLIP_TRUNK
from beholder.weights.layouts.recurrent import MAMBA
from beholder.weights.layouts.rules import affine
from beholder.weights.layouts.vision import TIMM_VIT
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava_several import encoder_prefix
from beholder.weights.readers.reading import CONNECTOR, LANGUAGE, Reading, text_stages

CARD = card("cobra-3.5b")
CHOICES = {
    "vision_backbone_id": "dinosiglip-vit-so-384px",
    "llm_backbone_id": "mamba-2.8b-zephyr",
    "arch_specifier": "no-align+fused-gelu-mlp",
    "image_resize_strategy": "resize-naive",
}
OF_TRAINING = ("align_", "finetune_", "enable_", "reduce_")
# cobra/models/mamba/modeling_mamba.py, whose table has mamba_ssm's name
WORDS = Layout(
    {
        **{key: op for key, op in MAMBA.rules.items() if not key.startswith("embedding")},
        "embedding.weight": "embedding.weight",
    },
    name="Cobra Mamba",
)
# cobra/util/nn_utils.py, `FusedMLPProjector`
PROJECTOR = Layout(affine({str(2 * n): f"then.layers.{n}" for n in range(3)}), name="Cobra projector")


def _cobra(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Raises `UnknownName` for parts that were not released."""
    for key, known in CHOICES.items():
        if fields.get(key, known) != known:
            raise UnknownName(f"{fields.name}: {key}", str(fields.raw(key)), (known,))
    fields.ignore(
        "type", "model_id", "llm_max_length", *(key for key in fields if key.startswith(OF_TRAINING))
    )
    branch = CARD.branch()
    assert isinstance(branch.connector, Concat)
    dino, siglip = (encoder_prefix(encoder, number) for number, encoder in enumerate(branch.encoders))
    system = CARD.but(
        name=name, branches=(branch.but(geometry=geometry or branch.geometry),), stages=(), weights=()
    )
    naming = (
        Binding("vision_backbone.dino_featurizer.", dino, TIMM_VIT),
        Binding("vision_backbone.siglip_featurizer.", siglip, SIGLIP_TRUNK),
        Binding("projector.projector.", CONNECTOR, PROJECTOR),
        Binding("llm_backbone.llm.backbone.", LANGUAGE, WORDS),
        Binding("llm_backbone.llm.lm_head.", LANGUAGE, common.TIED_HEAD),
    )
    return Reading(system, (naming,), text_stages())


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"cobra": _cobra}
