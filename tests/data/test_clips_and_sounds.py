"""Rows with clips and sounds in every form, their lengths from heads alone, and what is wrong with them."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from beholder.data import Conversation, Mixture, open_data
from beholder.data.check import check
from beholder.data.lengths import lengths
from beholder.data.readers.forms import record_of
from beholder.data.readers.open import Records
from beholder.data.readers.rows import Place, RowError
from beholder.data.samples import Bare, items_at
from beholder.errors import BeholderError, MediaError
from beholder.media.recordings import decode_clip
from beholder.media.waves import decode_sound, sound_length
from beholder.prompts.messages import Clip, Picture, Sound, Text, assistant, user
from beholder.train.collate import Collator, ItemError
from tests.media.test_recordings import made
from tests.media.test_waves import encoded
from tests.test_hearing import SOUNDS
from tests.toys import SEES, byte_tokenizer
from tests.train.toys_of_media import ALL_KINDS, WATCHES

CLIP, WAV, FLAC = made("mp4", 20), encoded("WAV", "PCM_16"), encoded("FLAC", "PCM_16", 8000)
SAID = "<video>\nWhat is in <audio>?"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEHOLDER_CACHE", str(tmp_path / "cache"))
    home = tmp_path / "data"
    home.mkdir()
    (home / "a.mp4").write_bytes(CLIP)
    (home / "a.wav").write_bytes(WAV)
    return home


def as_json(folder: Path, row: dict[str, Any], name: str = "rows.json") -> Path:
    path = folder / name
    path.write_text(json.dumps([row]))
    return path


def llava(folder: Path) -> Path:
    turns = [{"from": "human", "value": SAID}, {"from": "gpt", "value": "Noise."}]
    return as_json(folder, {"video": "a.mp4", "audio": "a.wav", "conversations": turns})


def listed(folder: Path) -> Path:
    turns = [{"role": "user", "content": SAID}, {"role": "assistant", "content": "Noise."}]
    return as_json(folder, {"videos": ["a.mp4"], "audios": ["a.wav"], "messages": turns})


def openai(folder: Path) -> Path:
    parts = [
        {"type": "video_url", "video_url": {"url": "a.mp4"}},
        {"type": "text", "text": "What is in "},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(WAV).decode(), "format": "wav"}},
        {"type": "text", "text": "?"},
    ]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "Noise."}]
    return as_json(folder, {"messages": turns})


def parquet(folder: Path) -> Path:
    turns = [{"role": "user", "content": SAID}, {"role": "assistant", "content": "Noise."}]
    columns = {
        "video": [{"bytes": CLIP, "path": None}],
        "audio": [{"bytes": None, "path": "a.wav"}],
        "messages": [turns],
    }
    pyarrow.parquet.write_table(pa.table(columns), folder / "rows.parquet")
    return folder / "rows.parquet"


def shards(folder: Path) -> Path:
    turns = [{"role": "user", "content": SAID}, {"role": "assistant", "content": "Noise."}]
    with tarfile.open(folder / "rows.tar", "w") as archive:
        for ending, data in (
            ("mp4", CLIP),
            ("wav", WAV),
            ("json", json.dumps({"messages": turns, "video": "elsewhere.mp4"}).encode()),
        ):
            info = tarfile.TarInfo(f"0001.{ending}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return folder / "rows.tar"


@pytest.mark.parametrize("make", [llava, listed, openai, parquet, shards])
def test_every_form_gives_the_same_conversation(make: Callable[[Path], Path], folder: Path) -> None:
    item = open_data(make(folder))[0]
    asked, answered = item.messages
    clip, before, sound, behind = asked.parts
    assert isinstance(clip, Clip) and isinstance(sound, Sound)
    assert (before, behind) == (Text("What is in "), Text("?")) and answered == assistant("Noise.")
    seen, heard = decode_clip(clip.source, lambda times: [0, 9]), decode_sound(sound.source, 16000)
    assert seen.shape == (48, 64, 3) and np.array_equal(heard, decode_sound(WAV, 16000))
    item = Collator(ALL_KINDS, byte_tokenizer())([item])
    assert len(item.batch.views["image"]) == 3 and len(item.batch.views["audio"]) == 2


def test_captions_questions_and_samples_of_datasets(folder: Path) -> None:
    rows = [
        {"video": "a.mp4", "caption": "Red."},
        {
            "audio": {"array": [0.0] * 800, "sampling_rate": 8000, "path": None},
            "question": "Loud?",
            "answer": "No.",
        },
        {"video": ["a.mp4", "a.mp4"], "question": "<video> or <video>?", "answer": "Both."},
        {"videos": [["0.png", "1.png"]], "audio": "", "text": "Two frames."},
    ]
    for number in range(2):
        Image.fromarray(np.full((20, 30, 3), number, np.uint8)).save(folder / f"{number}.png")
    data = open_data(rows, pictures=folder, caption="Tell.")
    first, second, third, fourth = (data[index].messages[0].parts for index in range(4))
    assert isinstance(first[0], Clip) and first[1:] == (Text("Tell."),)
    samples, rate = second[0].source
    assert samples.dtype == np.float32 and len(samples) == 800 and rate == 8000 and second[1] == Text("Loud?")
    assert [type(part) for part in third] == [Clip, Text, Clip, Text]
    assert fourth[0].source == [folder / "0.png", folder / "1.png"] and len(fourth) == 2
    assert decode_clip(fourth[0].source, lambda times: [0, 1]).frames[1].max() == 1


def test_folders_of_clips_and_sounds(folder: Path) -> None:
    (folder / "a.txt").write_text("A noise.")
    item = open_data(folder)[0]
    assert [type(part) for part in item.messages[0].parts] == [Clip, Sound]
    assert item.messages[1] == assistant("A noise.")
    (folder / "b.flac").write_bytes(FLAC)
    with pytest.raises(RowError, match=r"b row 2, text: a sound without a text; write b.txt beside it"):
        open_data(folder)[1]


def test_marks(folder: Path) -> None:
    """LLaVA-Video writes <image> where its clips stand; tags in answers and in parts of type text are words."""
    place = Place("x.json", 1)

    def parts(row: dict[str, Any]) -> list[type]:
        return [type(part) for part in record_of(row, place, folder).messages[0].parts]

    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "<video> and <audio>"}]
    assert parts({"video": "a.mp4", "conversations": turns}) == [Clip, Text]
    assert parts({"image": "a.png", "conversations": turns}) == [Picture, Text]
    words = [{"role": "user", "content": [{"type": "text", "text": "<video>"}]}]
    assert parts({"messages": words}) == [Text]
    both = [{"role": "user", "content": "<image><video><audio>What?"}]
    row = {"image": "a.png", "video": "a.mp4", "audio": "a.wav", "messages": both}
    assert parts(row) == [Picture, Clip, Sound, Text]
    record = record_of(row, place, folder)
    assert [part.name for part in record.moving] == ["x.json row 1, video", "x.json row 1, audio"]
    assert record.sources == (folder / "a.png",)


def test_what_is_missing_or_broken_is_told_by_file_row_and_field(folder: Path) -> None:
    (folder / "b.mp4").write_bytes(CLIP[:200])
    turns = [{"from": "human", "value": "<video>What?"}, {"from": "gpt", "value": "x"}]
    data = open_data(as_json(folder, {"video": "none.mp4", "conversations": turns}))
    with pytest.raises(
        RowError, match=r"rows.json row 1, video: .*none.mp4 does not exist; add it, or name the"
    ):
        data[0]
    collate = Collator(WATCHES, byte_tokenizer())
    with pytest.raises(RowError, match="row 1, video: .* does not exist"):
        lengths(data, collate)
    data = open_data(as_json(folder, {"video": "b.mp4", "conversations": turns}))
    said = r"rows.json row 1, video \(.*b.mp4\): the clip is truncated or damaged; send the whole file"
    with pytest.raises(MediaError, match=said):
        collate([data[0]])
    with pytest.raises(MediaError, match=said):
        lengths(data, collate)
    data = open_data(llava(folder))
    with pytest.raises(
        ItemError, match=r"sample rows.json/1: toy-watches hears nothing but 1 sound came with it"
    ):
        collate([data[0]])
    with pytest.raises(ItemError, match="sample x: toy-sees reads no recordings; give it single pictures"):
        Collator(SEES, byte_tokenizer())([Conversation((user(Clip(CLIP)), assistant("y")), (), "x")])
    short = WATCHES.but(language=WATCHES.main.but(context=20))
    with pytest.raises(ItemError, match=r"sample rows.json/1: 26 tokens, 12 of them of pictures; at most 20"):
        Collator(short, byte_tokenizer())(
            [open_data(as_json(folder, {"video": "a.mp4", "conversations": turns}))[0]]
        )
    with pytest.raises(MediaError, match="sample x, clip 1: is not a clip this reads"):
        collate([Conversation((user(Clip(b"words")), assistant("y")), (), "x")])
    with pytest.raises(BeholderError, match="conversation x: a clip or sound has no source; give its file"):
        Conversation((user(Clip()), assistant("y")), (), "x")


@pytest.mark.parametrize("kind", ["mp4", "matroska", "avi", "gif"])
def test_outlines_of_clips_are_those_of_decoding(kind: str) -> None:
    def choose(times):
        return [0, len(times) // 2, len(times) - 1]

    whole, outline = decode_clip(made(kind, 20), choose), decode_clip(made(kind, 20), choose, outline=True)
    assert [frame.shape for frame in outline.frames] == [frame.shape for frame in whole.frames]
    assert (outline.times, outline.duration) == (whole.times, whole.duration)


def test_an_outline_decodes_one_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    from beholder.media import recordings

    made_of: list[int] = []
    pixels = recordings._Clip._pixels
    monkeypatch.setattr(
        recordings._Clip,
        "_pixels",
        lambda self, frame, count: made_of.append(count) or pixels(self, frame, count),
    )
    decode_clip(CLIP, lambda times: [0, 5, 19], outline=True)
    assert made_of == [3]  # of which three would be kept
    few = recordings.ClipLimits(max_kept=2 * 48 * 64 * 3)
    with pytest.raises(MediaError, match="3 frames of 64 x 48 pixels are more than"):
        decode_clip(CLIP, lambda times: [0, 5, 19], outline=True, limits=few)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "AU", "OGG"])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_lengths_of_sounds_are_those_of_decoding(kind: str, rate: int, tmp_path: Path) -> None:
    data = encoded(kind, "VORBIS" if kind == "OGG" else "PCM_16", 22050)
    (tmp_path / "a").write_bytes(data)
    assert sound_length(data, rate) == sound_length(tmp_path / "a", rate) == len(decode_sound(data, rate))
    with pytest.raises(MediaError, match="is not a sound"):
        sound_length(b"words", rate)


def rows_of_all(folder: Path) -> Records:
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(folder / "a.png")
    rows = [
        {"video": "a.mp4", "text": "Red."},
        {"audio": "a.wav", "text": "Loud."},
        {"image": "a.png", "video": "a.mp4", "audio": "a.wav", "text": "All."},
        {"question": "Hm?", "answer": "Yes."},
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    data = open_data(folder / "rows.json")
    assert isinstance(data, Records)
    return data


def test_lengths_count_clips_and_sounds_without_decoding_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, collate = rows_of_all(folder), Collator(ALL_KINDS, byte_tokenizer())
    batch = collate(items_at(data, range(4))).batch
    monkeypatch.setattr("beholder.hearing.decode_sound", None)
    for counted in (lengths(data, collate), lengths([data[index] for index in range(4)], collate)):
        assert tuple(counted.tokens) == batch.lengths
        assert counted.media.tolist() == [sum(plan.num_tokens for plan in plans) for plans in batch.plans]
    mixture = Mixture([data, data], seed=1)
    counted = lengths(mixture, collate)
    assert counted.tokens.tolist() == [batch.lengths[mixture.drawn(index)[1]] for index in range(8)]


def test_several_at_once_are_those_one_by_one(folder: Path) -> None:
    data = rows_of_all(folder)
    for dataset in (data, Mixture([data, data], seed=1), Bare(data)):
        together = items_at(dataset, [2, 0, 3])
        for item, one in zip(together, [dataset[2], dataset[0], dataset[3]], strict=True):
            assert item.key == one.key and len(item.pictures) == len(one.pictures)
            assert all(np.array_equal(x, y) for x, y in zip(item.pictures, one.pictures, strict=True))


def test_check_finds_what_is_wrong_with_them(folder: Path) -> None:
    good = check(rows_of_all(folder), collator=Collator(ALL_KINDS, byte_tokenizer()))
    assert not good.problems and good.text_only == 1 and len(good.tokens) == 4
    assert good.data()["clips"]["seconds"]["most"] == pytest.approx(0.8)
    assert good.seconds["sound"] == [0.5, 0.5]
    (folder / "cut.mp4").write_bytes(CLIP[:200])
    (folder / "cut.flac").write_bytes(FLAC[: len(FLAC) // 2])
    rows = [
        {"video": "none.mp4", "text": "x"},
        {"video": "cut.mp4", "text": "y"},
        {"audio": "cut.flac", "text": "z"},
        {"audio": "a.png", "text": "w"},
    ]
    (folder / "bad.json").write_text(json.dumps(rows))
    data = open_data(folder / "bad.json")
    bad = check(data)
    assert bad.counts == {"missing clip": 1, "broken clip": 1, "broken sound": 2}
    assert str(bad.shown["broken clip"][0]).endswith(
        f"bad.json row 2, video: {folder / 'cut.mp4'}: the clip is truncated or damaged; send the whole file"
    )
    assert check(data, quick=True).counts == {"missing clip": 1, "broken clip": 1, "broken sound": 1}
    deaf = check(rows_of_all(folder), collator=Collator(WATCHES, byte_tokenizer()))
    assert deaf.counts == {"cannot be read": 2} and SOUNDS.name == "audio"
