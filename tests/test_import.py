"""Importing the package is quick and brings in nothing heavy."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import beholder

CODE = """
import time
start = time.perf_counter()
import beholder
print(time.perf_counter() - start)
import sys
print(sorted({"torch", "numpy", "PIL", "tokenizers", "rich"} & set(sys.modules)))
beholder.systems
print("torch" in sys.modules)
beholder.Box
beholder.UnknownName
print("torch" in sys.modules)
"""


def test_import_is_quick_and_needs_no_torch():
    seconds, heavy, *torch_later = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert float(seconds) < 0.3
    assert heavy == "[]"
    assert torch_later == ["False", "False"]


def test_every_public_name_exists():
    for name in beholder.__all__:
        assert getattr(beholder, name) is not None
        assert name in dir(beholder)
    assert beholder.build is importlib.import_module("beholder.model").build


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="'beholder' has no attribute 'laod'"):
        _ = beholder.laod
