"""Small systems that watch clips and hear sounds, for tests of training."""

from __future__ import annotations

from beholder.media.clips import Frames
from beholder.parts.fusion.splice import Splice
from beholder.prompts.chat import Turn
from tests.test_hearing import BOTH, SOUNDS
from tests.toys import CHAT, DECODER, SEES

(EYES,) = SEES.branches
WATCHES = SEES.but(name="toy-watches", branches=(EYES.but(frames=Frames(3)),))
ALL_KINDS = BOTH.but(
    name="toy-all-kinds",
    branches=(EYES.but(frames=Frames(3)), SOUNDS),
    fusion=(*SEES.fusion, Splice(token_id=998, at="<audio>", branch="audio")),
    language=DECODER.but(context=512),
    prompt=CHAT.but(sounds=Turn("Audio {n}: ", "\n")),
)
