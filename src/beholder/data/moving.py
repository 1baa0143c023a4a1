"""Whether clips and sounds of a data file can be decoded, and how long they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beholder.data.readers.rows import Record, RowError, check_there, loaded
from beholder.errors import MediaError
from beholder.media.recordings import decode_clip
from beholder.media.waves import decode_sound, sound_length
from beholder.prompts.messages import Clip, Sound

LOOKED = 8  # frames of a clip that are decoded, from its first to its last
RATE = 16000  # samples a second that sounds are decoded to


def kind_of(part: Clip | Sound) -> str:
    """What errors call it."""
    return "clip" if isinstance(part, Clip) else "sound"


def seconds_of(record: Record, part: Clip | Sound, *, quick: bool) -> float | RowError:
    """How long a clip or sound of a record is, or what is wrong with it. quick: of clips only the index and the first frame are
    read, of sounds the head.
    """
    what, field = kind_of(part), record.field_of(part)
    try:
        check_there(part.source, record.place, field, what)
        if isinstance(part, Sound):
            count = sound_length if quick else _decoded_length
            return count(loaded(part.source), RATE, name=what) / RATE
        clip = decode_clip(loaded(part.source), _spread, name=what, outline=quick)
        if clip.damaged:
            raise MediaError(f"{what}: its end is cut off or damaged; send the whole file")
        return clip.duration
    except RowError as error:
        return error
    except (MediaError, OSError) as error:
        said, _, remedy = str(error).removeprefix(what).lstrip(": (").partition("; ")
        return RowError(
            record.place, field, f"broken {what}", said.replace("): ", ": ", 1), remedy or "replace it"
        )


def _decoded_length(source: object, rate: int, *, name: str) -> int:
    return len(decode_sound(source, rate, name=name))


def _spread(times: Sequence[float]) -> list[int]:
    """Numbers of some of the frames, the first and the last among them."""
    return sorted({int(place) for place in np.linspace(0, len(times) - 1, LOOKED)})
