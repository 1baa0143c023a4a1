"""Makes the clips and sounds of the small data set beside this file, and the rows that ask about them: coloured squares that
move, and tones.

    python recipes/tiny/make_moving.py
"""

from __future__ import annotations

import json
import math
import random
import struct
import wave
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

HERE = Path(__file__).parent
COLOURS = {"red": (220, 30, 30), "green": (30, 170, 30), "blue": (40, 60, 220), "yellow": (235, 205, 40)}
WAYS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
SIDE, SQUARE, FRAMES, PACE = 56, 16, 8, 125  # pixels, pixels, frames of a clip, milliseconds of each
RATE, SECONDS = 8000, 0.3
TONES = {"low": 200, "high": 1600}  # Hz
KINDS = ("steady", "broken")


def main() -> None:
    for folder in ("clips", "sounds"):
        (HERE / folder).mkdir(exist_ok=True)
    clips = [clip(colour, way) for colour in COLOURS for way in WAYS]
    sounds = [sound(tone, kind) for tone in TONES for kind in KINDS]
    pictures = [row for row in json.loads((HERE / "instruct.json").read_text()) if "image" in row]
    rng = random.Random(0)
    for name, rows in (("clips", [*clips, *pictures[:8]]), ("sounds", sounds)):
        rng.shuffle(rows)
        text = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (HERE / f"{name}.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")


def clip(colour: str, way: str) -> dict[str, Any]:
    """A square of a colour that moves one way, and a row about it."""
    across, down = WAYS[way]
    frames = []
    for number in range(FRAMES):
        frame = Image.new("RGB", (SIDE, SIDE), (245, 245, 245))
        moved = round((number / (FRAMES - 1) - 0.5) * (SIDE - SQUARE))
        left, top = (SIDE - SQUARE) // 2 + across * moved, (SIDE - SQUARE) // 2 + down * moved
        ImageDraw.Draw(frame).rectangle(
            (left, top, left + SQUARE - 1, top + SQUARE - 1), fill=COLOURS[colour]
        )
        frames.append(frame.quantize(4, dither=Image.Dither.NONE))
    name = f"clips/{colour}-{way}.gif"
    frames[0].save(HERE / name, save_all=True, append_images=frames[1:], duration=PACE, loop=0)
    return {
        "id": name,
        "video": name,
        "conversations": turns("<video>\nWhich way?", f"A {colour} square, {way}."),
    }


def sound(tone: str, kind: str) -> dict[str, Any]:
    """A tone, steady or in pieces, and a row about it."""
    count = int(RATE * SECONDS)
    heard = [kind == "steady" or n * 6 // count % 2 == 0 for n in range(count)]
    samples = [round(12000 * math.sin(2 * math.pi * TONES[tone] * n / RATE)) * heard[n] for n in range(count)]
    name = f"sounds/{tone}-{kind}.wav"
    with wave.open(str(HERE / name), "wb") as file:
        file.setparams((1, 2, RATE, count, "NONE", "not compressed"))
        file.writeframes(struct.pack(f"<{count}h", *samples))
    return {
        "id": name,
        "audio": name,
        "conversations": turns("<audio>\nWhich tone?", f"A {kind} {tone} tone."),
    }


def turns(asked: str, answered: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": asked}, {"from": "gpt", "value": answered}]


if __name__ == "__main__":
    main()
