"""The prompt cache within its budget while conversations come and go, on the embedded model."""

from __future__ import annotations

from pathlib import Path

import pytest
from real import MODEL

from benchmarks.soak import MEBIBYTE, Soak

pytestmark = pytest.mark.model

BUDGET = 2 * MEBIBYTE


def test_many_requests_stay_within_the_budget(tmp_path: Path) -> None:
    soak = Soak(MODEL, BUDGET // MEBIBYTE, tmp_path / "states", talks=8)
    for _ in range(25):
        soak.ask()  # which checks the books against what is held, and the budget
    engine = soak.engine
    assert engine._cache is not None
    memory = engine._cache.memory
    assert memory is not None
    stats = memory.stats()
    engine.close()
    assert soak.requests == 100
    assert stats.evictions["size"] > 2 * stats.entries
    assert stats.writes == stats.entries + sum(stats.evictions.values())
    assert BUDGET // 2 < soak.most <= BUDGET
    assert engine.stats().cached_tokens > 0
