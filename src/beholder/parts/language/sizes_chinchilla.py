"""Chinchilla's language models as Flamingo uses them: table 4 (appendix A.1.4) of 2204.14198, but for the depth of the 7B
model, which that table gives as 40 and the published 7.1B parameters as 32.
"""

from __future__ import annotations

from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.transformer_xl import XlAttention
from beholder.parts.language.decoder import Decoder

# 32,000 SentencePiece words (2203.15556, as Gopher's 2112.11446), a picture's and the end of a chunk. Heads have 128 channels.
CHINCHILLA_1_4B = Decoder(
    vocab_size=32002,
    dim=2048,
    num_layers=24,
    attention=XlAttention(num_heads=16),
    mlp=FeedForward(hidden=8192, bias=False),
    norm=Norm("rms", 1e-6),
    tied=True,
    context=2048,
)
CHINCHILLA_7B = CHINCHILLA_1_4B.but(
    dim=4096, num_layers=32, **{"attention.num_heads": 32, "mlp.hidden": 16384}
)
CHINCHILLA_70B = CHINCHILLA_1_4B.but(
    dim=8192, num_layers=80, **{"attention.num_heads": 64, "mlp.hidden": 32768}
)
