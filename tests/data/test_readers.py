"""Every form of data file gives the same conversations, and a bad one is told by file, row, field and remedy."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import tracemalloc
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from beholder.data import Conversation, Mixture, QuestionFile, open_data
from beholder.data.order import Near, Order
from beholder.data.readers.forms import record_of
from beholder.data.readers.open import Records, kind_of
from beholder.data.readers.rows import Place, RowError
from beholder.data.readers.tables import ParquetRows
from beholder.errors import BeholderError, UnknownName
from beholder.prompts.messages import Picture, Text, pictures_of


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8 + seed, 10, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


SAID = [
    [("human", "<image>\nWhat is it?"), ("gpt", "A cat."), ("human", "Sure?"), ("gpt", "Yes.")],
    [("system", "Be brief."), ("human", "Hello"), ("gpt", "Hi")],
    [("human", "Same?\n<image><image>"), ("gpt", "No. été")],
]
PICTURES = [[0], [], [1, 2]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEHOLDER_CACHE", str(tmp_path / "cache"))
    made = tmp_path / "data"
    (made / "pics").mkdir(parents=True)
    for number in range(3):
        (made / "pics" / f"{number}.png").write_bytes(picture(number))
    return made


def llava(folder: Path) -> Path:
    rows = []
    for number, (turns, shown) in enumerate(zip(SAID, PICTURES, strict=True)):
        row: dict[str, Any] = {
            "id": number,
            "conversations": [{"from": who, "value": says} for who, says in turns],
        }
        names = [f"pics/{n}.png" for n in shown]
        if names:
            row["image"] = names[0] if len(names) == 1 else names
        rows.append(row)
    path = folder / "llava.json"
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def as_messages() -> list[list[dict[str, Any]]]:
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    return [[{"role": roles[who], "content": says} for who, says in turns] for turns in SAID]


def openai(folder: Path) -> Path:
    rows = []
    for turns, shown in zip(as_messages(), PICTURES, strict=True):
        waiting = [picture(n) for n in shown]
        for turn in turns:
            parts: list[dict[str, Any]] = []
            for number, words in enumerate(turn["content"].replace("\n", "").split("<image>")):
                if number:
                    address = "data:image/png;base64," + base64.b64encode(waiting.pop(0)).decode()
                    parts.append({"type": "image_url", "image_url": {"url": address}})
                if words:
                    parts.append({"type": "text", "text": words})
            if any(part["type"] != "text" for part in parts):
                turn["content"] = parts
        rows.append({"messages": turns})
    path = folder / "openai.jsonl"
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows), encoding="utf-8")
    return path


def table() -> Any:
    rows = [
        {"messages": turns, "images": [{"bytes": picture(n), "path": None} for n in shown]}
        for turns, shown in zip(as_messages(), PICTURES, strict=True)
    ]
    return pa.Table.from_pylist(rows)


def parquet(folder: Path) -> Path:
    pyarrow.parquet.write_table(table(), folder / "rows.parquet", row_group_size=2)
    return folder / "rows.parquet"


def saved(folder: Path) -> Path:
    """As `datasets.Dataset.save_to_disk` writes it: Arrow streams, and a state that names them."""
    home = folder / "saved"
    home.mkdir()
    names = [f"data-0000{n}-of-00002.arrow" for n in range(2)]
    for name, part in zip(names, (table().slice(0, 1), table().slice(1)), strict=True):
        with pa.OSFile(str(home / name), "wb") as file, pyarrow.ipc.new_stream(file, part.schema) as writer:
            writer.write_table(part)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (home / "state.json").write_text(json.dumps(state))
    (home / "dataset_info.json").write_text("{}")
    return home


def shards(folder: Path) -> Path:
    home = folder / "shards"
    home.mkdir()
    for number, (turns, shown) in enumerate(zip(SAID, PICTURES, strict=True)):
        with tarfile.open(home / f"{number // 2:05d}.tar", "a") as archive:
            row = {"conversations": [{"from": who, "value": says} for who, says in turns]}
            files = {"json": json.dumps(row).encode()} | {f"{i}.png": picture(n) for i, n in enumerate(shown)}
            for kind, data in files.items():
                member = tarfile.TarInfo(f"{number:06d}.{kind}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return home


def text_of(item: Conversation) -> list[tuple[str, list[str]]]:
    return [
        (m.role, [part.text if isinstance(part, Text) else "<image>" for part in m.parts])
        for m in item.messages
    ]


@pytest.mark.parametrize("make", [llava, openai, parquet, saved, shards])
def test_every_form_gives_the_same_conversations(make: Callable[[Path], Path], folder: Path) -> None:
    reference, data = open_data(llava(folder)), open_data(make(folder))
    assert len(data) == 3
    for number in range(3):
        wanted, got = reference[number], data[number]
        assert text_of(got) == text_of(wanted)
        assert len(got.pictures) == len(PICTURES[number])
        for shown, pixels in zip(PICTURES[number], got.pictures, strict=True):
            assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(picture(shown)))))
    assert text_of(reference[0])[0] == ("user", ["<image>", "What is it?"])
    assert text_of(reference[2])[0] == ("user", ["Same?", "<image>", "<image>"])


def test_rows_that_something_else_holds(folder: Path) -> None:
    rows = [{"img": Image.open(folder / "pics/1.png"), "alt": "noise"}, {"img": picture(2), "alt": "more"}]
    data = open_data(rows, columns={"image": "img", "caption": "alt"}, caption="Describe it.")
    assert text_of(data[0]) == [("user", ["<image>", "Describe it."]), ("assistant", ["noise"])]
    assert data[1].pictures[0].shape == (10, 10, 3)
    with pytest.raises(RowError, match=r"list row 1, which: no column 'which'"):
        open_data(rows, columns={"image": "which"})[0]


def test_folders_with_captions(folder: Path) -> None:
    (folder / "pics" / "0.txt").write_text("zero\n")
    (folder / "pics" / "1.txt").write_text("one")
    data = open_data(folder / "pics")
    assert kind_of(folder / "pics") == "folder" and len(data) == 3
    assert text_of(data[1]) == [("user", ["<image>"]), ("assistant", ["one"])]
    with pytest.raises(RowError, match=r"2 row 3, text: a picture without a text; write 2.txt"):
        data[2]
    lines = [{"file_name": f"{n}.png", "text": f"number {n}"} for n in range(3)]
    (folder / "pics" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [text_of(open_data(folder / "pics")[n])[1][1] for n in range(3)] == [
        [f"number {n}"] for n in range(3)
    ]
    (folder / "pics" / "metadata.jsonl").unlink()
    (folder / "pics" / "captions.csv").write_text('image,caption\n0.png,"a, b"\n')
    assert text_of(open_data(folder / "pics")[0])[1][1] == ["a, b"]


def test_questions_are_samples_and_mixtures_are_mixed(folder: Path) -> None:
    row = {"picture": "pics/0.png", "question": "What?", "answer": "noise"}
    (folder / "mine.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(row | {'answer': 'dots'})}\n")
    data = open_data(folder / "mine.jsonl")
    assert isinstance(data, QuestionFile) and [turn.answer for turn in data[0].turns] == ["noise", "dots"]
    mixed = open_data(f"mix:{llava(folder)}=3,{folder / 'mine.jsonl'}=1")
    assert isinstance(mixed, Mixture) and mixed.odds.tolist() == [0.75, 0.25]
    tempered = open_data(f"mix:{llava(folder)},{folder / 'mine.jsonl'};temperature=1e9")
    assert np.allclose(tempered.odds, 0.5)
    with pytest.raises(BeholderError, match="weights and temperature are numbers"):
        open_data(f"mix:{folder / 'mine.jsonl'}=x")


def test_a_shards_contents_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = shards(folder)
    first = open_data(home)[2]
    monkeypatch.setattr(tarfile, "open", lambda *_: pytest.fail("read again"))
    assert text_of(open_data(home)[2]) == text_of(first)


ROW = {
    "image": "pics/0.png",
    "conversations": [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "x"}],
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": "pics/9.png"}, "row 2, image: .*9.png does not exist; add it"),
        ({"image": "llava.json"}, "row 2, image: .*llava.json: text is not a picture this reads; send JPEG"),
        ({"image": 7}, "row 2, image: a int where a picture belongs; give a path"),
        ({"image": "http://a.b/c.png"}, "row 2, image: an address .*not fetched; save the picture"),
        (
            {"image": ["pics/0.png", "pics/1.png"]},
            r"row 2, image\[0\]: 1 mark <image> for 2 pictures; write <image> once",
        ),
        ({"image": None}, r"row 2, conversations\[0\].value: 1 mark <image> for 0 pictures"),
        ({"conversations": "hello"}, "row 2, conversations: a str, not a list of turns"),
        ({"conversations": []}, "row 2, conversations: has no turns"),
        (
            {"conversations": [{"from": "bird", "value": "x"}]},
            r"conversations\[0\].from: 'bird' is no role; use one of",
        ),
        ({"conversations": [{"value": "x"}]}, r"conversations\[0\]: has no 'role'"),
        ({"conversations": [{"from": "human", "value": 3}]}, r"conversations\[0\].value: a int, not a text"),
        ({"conversations": None, "x": 1}, "row 2: has image, x; write conversations, messages"),
        ({"video": "a.mp4"}, "row 2, video: 0 marks <video> for 1 clip; write <video> once where each clip"),
        (
            {"conversations": [{"from": "human", "value": "<image><audio>What?<audio>"}], "audio": "a.wav"},
            "row 2, audio: 2 marks <audio> for 1 sound; write <audio> once where each sound stands",
        ),
        (
            {"conversations": [{"from": "human", "value": "<image><video>"}]},
            r"row 2, conversations\[0\].value: 1 mark <video> for 0 clips; .* a word in a part of type text",
        ),
        ({"video": 3}, "row 2, video: a int where a clip belongs; give a path or the bytes of a file"),
        ({"audio": "http://a.b/c.wav"}, r"row 2, audio: an address .* save the sound and name its file"),
        (
            {"audio": "a.wav", "audios": ["b.wav"]},
            "has both audio and audios; keep the one that names the sounds",
        ),
        (
            {
                "messages": [{"role": "assistant", "content": [{"type": "video", "video": "a.mp4"}]}],
                "conversations": None,
            },
            r"row 2, messages\[0\].content: <video> in an answer; put clips into what the user says",
        ),
    ],
)
def test_bad_rows_are_told_by_file_row_field_and_remedy(
    change: dict[str, Any], said: str, folder: Path
) -> None:
    path = folder / "llava.json"
    path.write_text(json.dumps([ROW, {**ROW, **change}]))
    data = open_data(path)
    assert data[0].pictures[0].shape == (8, 10, 3)
    with pytest.raises(RowError, match=said) as caught:
        data[1]
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b"", "is empty"),
        ("a.json", b"[]", "holds no rows"),
        ("a.json", b'[{"a": 1}, {"b"', "the list does not end"),
        ("a.json", b'[{"a": 1}][{"b": 2}]', "goes on behind its end"),
        ("a.json", b'[{"a": 1} {"b": 2}]', "stands behind row 1 where a comma belongs"),
        ("a.json", "[]".encode("utf-16"), "is not UTF-8 but UTF-16"),
        ("a.json", b'{\n"a": 1\n}', "is one object over many lines"),
        ("a.parquet", b"PAR1 no", "is no parquet file"),
        ("a.arrow", b"ARROW no", "is no Arrow file"),
        ("a.tar", b"no tar", "cannot be read as a tar file"),
        ("a.tar.gz", b"\x1f\x8b", "unpack it"),
        ("a.bin", b"x", "is none of JSON"),
    ],
)
def test_files_that_are_none(name: str, content: bytes, said: str, folder: Path) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(BeholderError, match=said):
        open_data(folder / name)


def test_other_wrong_names(folder: Path) -> None:
    with pytest.raises(BeholderError, match="no such file"):
        open_data(folder / "none.json")
    with pytest.raises(UnknownName, match="kind of data 'parket'; nearest: parquet"):
        open_data(folder, kind="parket")
    llava(folder), openai(folder)
    with pytest.raises(BeholderError, match=r"holds llava.json, openai.jsonl; give one of them"):
        open_data(folder)


def test_a_bad_line_is_one_bad_row(folder: Path) -> None:
    good = json.dumps(ROW)
    (folder / "a.jsonl").write_bytes(f"{good}\n".encode() + b'{"text": "\xff"}\n{"text": \n' + good.encode())
    data = open_data(folder / "a.jsonl")
    assert len(data) == 4 and data[3].pictures
    with pytest.raises(RowError, match="line 2: byte 10 is not UTF-8"):
        data[1]
    with pytest.raises(RowError, match="line 3: not JSON"):
        data[2]


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet"])
def test_memory_is_bounded(form: str, folder: Path) -> None:
    """30 MB of rows are read in a tenth of that."""
    rows = [{"text": f"{n} " + "x" * 3000} for n in range(10_000)]
    path = folder / f"big.{form}"
    if form == "parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=200, compression="none")
    else:
        lines = map(json.dumps, rows)
        path.write_text("[" + ",".join(lines) + "]" if form == "json" else "\n".join(lines))
    del rows
    assert path.stat().st_size > 30e6
    tracemalloc.start()
    data = open_data(path)
    assert isinstance(data, Records) and len(data) == 10_000
    for number in range(0, 10_000, 7):
        assert data[number].messages[1].parts[0].text.startswith(f"{number} ")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.2e6


def test_places_are_typed_parts(folder: Path) -> None:
    item = open_data(llava(folder))[0]
    assert isinstance(item.messages[0].parts[0], Picture) and item.key == "llava.json/0"
    with pytest.raises(BeholderError, match="conversation x: 1 places for pictures but 0 pictures"):
        Conversation(item.messages, (), "x")


def test_parquet_is_shuffled_so_that_few_row_groups_are_open(folder: Path) -> None:
    rows = [{"text": f"{n} " + "x" * 1000} for n in range(2000)]
    pyarrow.parquet.write_table(
        pa.Table.from_pylist(rows), folder / "a.parquet", row_group_size=50, compression="none"
    )
    reads, table = Counter[int](), ParquetRows([folder / "a.parquet"], held=500_000)
    real = table._files[0].read_row_group
    table._files = [
        SimpleNamespace(
            metadata=table._files[0].metadata, read_row_group=lambda g: reads.update([g]) or real(g)
        )
    ]
    data = Records(table)
    assert data.near == Near(50, 4)
    taken = [index for batch in islice(Order(data, 1, 20).batches(), 100) for index in batch]
    assert sorted(taken) == list(range(2000)) and taken != sorted(taken)
    for index in taken:
        assert data[index].messages[1].parts[0].text.startswith(f"{index} ")
        assert sum(group.nbytes for group in table._open.values()) <= 500_000
    assert set(reads.values()) == {1} and len(reads) == 40


def test_damaged_arrow_files_are_told_and_do_not_end_the_program(folder: Path) -> None:
    path = next(saved(folder).glob("*.arrow"))
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 17):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x7F]) + whole[place + 1 :])
        try:
            data = open_data(folder / "saved")
            for index in range(len(data)):
                data.record(index)
        except BeholderError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 10


KEYS = (
    *("from", "value", "role", "content", "type", "image", "url"),
    *("video", "input_audio", "array", "sampling_rate", "data", "bytes"),
)
TOLD = st.recursive(
    st.none()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["<image>", "<video>", "human", "user", "a.png", "video", "input_audio"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    *("conversations", "messages", "question", "answer", "image", "images", "text", "system", "id"),
    *("video", "videos", "audio"),
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), TOLD, max_size=4))
def test_any_row_is_read_or_refused(row: dict[str, Any]) -> None:
    try:
        record = record_of(row, Place("a.json", 1), Path())
    except RowError as error:
        assert str(error).startswith("a.json row 1") and "; " in str(error)
    else:
        places = pictures_of(record.messages)
        assert len(record.sources) == len(record.fields) == sum(isinstance(one, Picture) for one in places)
