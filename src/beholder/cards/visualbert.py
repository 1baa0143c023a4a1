"""VisualBERT (1908.03557): BERT over words and regions in one sequence, with masked words and matching as its tasks."""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.shapes import Whole
from beholder.parts.connectors.projections import Linear
from beholder.parts.fusion.joint import Joint
from beholder.parts.heads.joint import Answers, Matching
from beholder.parts.heads.masked_token import MaskedToken
from beholder.parts.language import sizes_text as language
from beholder.parts.vision import sizes_hierarchical as vision
from beholder.parts.vision.regions import FasterRcnn

# transformers: models/visual_bert/convert_visual_bert_original_pytorch_checkpoint_to_pytorch.py: regions have 2048 numbers for
# VQA, and others for NLVR2 (1024) and VCR (512), whose files the reader opens. They were made beforehand, those of VQA by a
# Faster R-CNN trained on Visual Genome (section 4.1); bottom-up attention's (1707.07998) stands for it here.
VISUALBERT = Card(
    name="visualbert",
    system="visualbert",
    paper="1908.03557",
    licence="Apache-2.0",
    vision=FasterRcnn(vision.RESNET_101.but(stride="first"), count=100),
    connector=Linear(),
    images=Whole(
        edge=600,
        limit=1000,
        filter="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    fusion=(Joint(),),
    language=language.BERT_BASE,
    heads=(MaskedToken("gelu", language.BERT_NORM), Matching()),
    stages=(  # uclanlp/visualbert: visualbert/configs/vqa/coco-pre-train.json, whose texts are two captions
        Stage(
            "pretrain",
            rules=(Trains("branches.image.vision.*"), Trains("*", lr=5e-5, weight_decay=0.01)),
            data="COCO captions",
            objective="masked-words, matching",
            batch=48,
        ),
    ),
    weights=(Source("hub", "uclanlp/visualbert-vqa-coco-pre"),),
)
VISUALBERT_VQA = VISUALBERT.but(
    name="visualbert-vqa",
    language=language.BERT_BASE.but(pool=None, projection=0, projection_act=None),
    heads=(Answers(3129, of="last word"),),
    stages=(),
    weights=(Source("hub", "uclanlp/visualbert-vqa"),),
)
