"""Options that several commands share."""

from __future__ import annotations

import pytest

from beholder.cli.options import busy


def test_one_thread_where_other_programs_keep_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.getloadavg", lambda: (1.2, 0.0, 0.0), raising=False)
    assert busy(2) and not busy(4) and not busy(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert not busy(2)
