"""SigLIP ViT-B/16 (2303.15343): every picture and text of a batch told whether they belong together.

40 billion pairs of WebLI in batches of 32,768 at 256 pixels, then 5 billion at 224 at a hundredth of the rate and no decay:
section 4.6; rate 1e-3, cosine to nothing: appendices A and C; second moment 0.95: section 4.7. The decay of 1e-4 (appendix C)
is a share of weights, not of the rate (google-research/big_vision big_vision/optax.py), so 0.1 in AdamW, of matrices in maps
alone. Clipping at 1: its configs/proj/image_text/siglip_lit_coco.py. The published models use Adafactor; AdamW did as well
(table 7). Not found: the warm-up (here of 200M pairs, as SigLiT's, appendix A; none at 224) and AdamW's eps.
"""

from beholder.cards import card
from beholder.cards.schema import Stage, Trains
from beholder.train.recipe import Lesson, Recipe

UNDECAYED = ("*norm*", "*bias", "heads.0.*", "*.embedding.*", "*.positions", "*.probe")
PRETRAIN = Stage(
    "sigmoids",
    rules=(*(Trains(name, lr=1e-3) for name in UNDECAYED), Trains("*", lr=1e-3, weight_decay=0.1)),
    data="WebLI pairs",
    objective="sigmoids",
    steps=1_220_703,
    batch=256,
    accumulate=128,
    warmup=6_104,
    betas=(0.9, 0.95),
    side=256,
)

RECIPE = Recipe(
    card("siglip-b-16-224"),
    (
        Lesson(PRETRAIN, small="tiny/captions.json"),
        Lesson(
            PRETRAIN.but(name="resolution", rules=(Trains("*", lr=1e-5),), steps=152_588, warmup=0, side=224),
            small="tiny/captions.json",
        ),
    ),
)
