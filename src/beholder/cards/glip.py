"""GLIP (2112.03857): detection as grounding, with pictures and words fused deeply between the levels of a dynamic head."""

from beholder.cards.schema import Card, Source
from beholder.media.shapes import Whole
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.grounding import DeepFusion, Grounding
from beholder.parts.language import sizes_text as language
from beholder.parts.vision import sizes_hierarchical as vision
from beholder.parts.vision.pyramid import FeaturePyramid

# microsoft/GLIP: configs/pretrain/glip_Swin_T_O365.yaml, glip_Swin_L.yaml; maskrcnn_benchmark/config/defaults.py. Padding of
# views is of the mean colour, here to whole levels of grey.
GLIP_T = Card(
    name="glip-t",
    system="glip",
    paper="2112.03857",
    licence="MIT",
    vision=FeaturePyramid(vision.SWIN_T.but(last_norm=False), reversed_colours=True),
    images=Whole(
        edge=800,
        limit=1333,
        multiple=32,
        filter="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        background=(124, 116, 104),
    ),
    fusion=(Towers(),),
    language=language.BERT_BASE.but(pool=None, projection=0, projection_act=None),
    heads=(Grounding(),),
    weights=(Source("hub", "GLIPModel/GLIP"),),
)
GLIP_L = GLIP_T.but(
    name="glip-l",
    vision=FeaturePyramid(vision.SWIN_L_384.but(last_norm=False), reversed_colours=True),
    heads=(Grounding(fusion=DeepFusion(num_layers=8)),),
)
