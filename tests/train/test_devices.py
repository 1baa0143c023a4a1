"""Batches go where the model is; on a pretended GPU, whose tensors refuse to meet others."""

from __future__ import annotations

import pytest
import torch

from beholder.model import build
from beholder.sending import send_all
from beholder.train.objectives import next_token
from tests.pretend import Pretended, moved
from tests.toys import SEES
from tests.train.test_loop import COLLATE, Plain


def test_a_batch_and_its_loss_on_a_device() -> None:
    item = COLLATE([Plain()[index] for index in range(4)])
    model = build(SEES).eval()
    with torch.no_grad():
        wanted = float(next_token(model, item))
        with Pretended():
            there = send_all(item, torch.device("cuda", 0))
            assert there.batch.ids_BT is not None and there.batch.ids_BT.device.type == "cuda"
            assert there.answers.targets_A.device.type == "cuda"
            found = float(next_token(moved(model), there))
    assert found == pytest.approx(wanted, abs=1e-5)
