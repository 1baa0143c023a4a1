"""easy-VQA from a wheel of three pictures."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from beholder.data import EasyVQA
from beholder.data.easy_vqa import EASY_VQA, TASKS
from beholder.errors import BeholderError

QUESTIONS = [
    ["what shape is it?", "circle", 0],
    ["what color is it?", "teal", 0],
    ["is there a circle?", "yes", 2],
    ["is it red?", "no", 0],
    ["what shape is it?", "triangle", 1],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / EASY_VQA.filename, "w") as archive:
        archive.writestr("easy_vqa/data/test/questions.json", json.dumps(QUESTIONS))
        for picture in range(3):
            stream = io.BytesIO()
            Image.new("RGB", (8, 6), (picture * 100, 0, 7)).save(stream, "PNG")
            archive.writestr(f"easy_vqa/data/test/images/{picture}.png", stream.getvalue())
    return tmp_path


def test_questions_of_a_picture_come_together(folder: Path) -> None:
    data = EasyVQA(folder, "test")
    assert [len(data[index].turns) for index in range(len(data))] == [3, 1, 1]
    assert data[2].pixels.shape == (6, 8, 3)
    assert data[2].pixels[0, 0].tolist() == [200, 0, 7]
    assert data[2].turns[0].question == "is there a circle?"


def test_tasks_follow_from_answers(folder: Path) -> None:
    assert tuple(turn.task for turn in EasyVQA(folder, "test")[0].turns) == TASKS


def test_many_questions_become_several_samples(folder: Path) -> None:
    data = EasyVQA(folder, "test", questions=2)
    assert [len(data[index].turns) for index in range(len(data))] == [2, 1, 1, 1]
    assert data[0].pixels.tobytes() == data[1].pixels.tobytes()
    assert len({data[index].key for index in range(len(data))}) == 4


def test_bad_settings(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ValueError, match="train and test"):
        EasyVQA(folder, "validation")
    with pytest.raises(ValueError, match="questions=0"):
        EasyVQA(folder, "test", questions=0)
    with pytest.raises(BeholderError, match=r"prepare\.py"):
        EasyVQA(tmp_path_factory.mktemp("empty"), "test")
