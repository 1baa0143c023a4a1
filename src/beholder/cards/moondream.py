"""Moondream 2 (revisions of 2025) and moondream-next: crops stitched to one map beside the whole picture, places in numbers.

vikhyat/moondream moondream/config/config_md2.json and config_md05.json, moondream/torch: vision.py, text.py (the first 730
tokens, the picture's and one before, see each other), region.py. Sizes are told in logarithms since March 2025;
moondream-next, of January, counts them evenly. Prompts: the templates of tokens there; 50256 begins and ends.
"""

from beholder.cards.schema import Card, Source
from beholder.media.overlap import OverlapCrops
from beholder.parts.connectors.crops import CropPool
from beholder.parts.connectors.projections import Mlp
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.heads.places import PlaceNumbers
from beholder.parts.language.sizes_decoders import PHI_1_5
from beholder.parts.vision import sizes as vision
from beholder.prompts import formats_adapters

# Norms are those of moondream/torch/layers.py
EYES = vision.SIGLIP_SO400M_14.but(image_size=378, pool=None, **{"norm.eps": 1e-5})

MOONDREAM_2 = Card(
    name="moondream2",
    system="moondream2",
    licence="Apache-2.0",
    vision=EYES,
    connector=CropPool(Mlp(hidden=8192, act="gelu_tanh")),
    images=OverlapCrops(crop=378, tiling="covering", chained=True),
    fusion=(Splice(token_id=51200, sees="front"),),
    language=PHI_1_5,
    heads=(NextToken(), PlaceNumbers()),
    prompt=formats_adapters.MOONDREAM_2,
    tasks=formats_adapters.MOONDREAM_TASKS,
    weights=(Source("hub", "vikhyatk/moondream2"),),
)
MOONDREAM_05B = MOONDREAM_2.but(
    name="moondream-0.5b",
    vision=EYES.but(dim=720, **{"attention.num_heads": 10, "mlp.hidden": 2690}),
    language=PHI_1_5.but(dim=1024, **{"attention.num_heads": 16, "mlp.hidden": 4096}),
)
MOONDREAM_NEXT = MOONDREAM_2.but(
    name="moondream-next",
    system="moondream-next",
    heads=(NextToken(), PlaceNumbers(log_sizes=False)),
    weights=(Source("hub", "vikhyatk/moondream-next"),),
)
