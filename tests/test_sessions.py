"""The simulated sessions: what is prefilled of what has to be, by how much memory there is."""

from __future__ import annotations

from pathlib import Path

from benchmarks.arrivals import Workload
from benchmarks.sessions import simulate

# Thirty sessions of three turns, all longer than the shortest prompt that is kept.
ROUND_ROBIN = Workload("round robin", tuple(range(30)) * 3, system=64)


def test_with_room_for_all_little_is_prefilled_twice(tmp_path: Path) -> None:
    none = simulate(ROUND_ROBIN, "lru", 0, 0.0, None)
    half = simulate(ROUND_ROBIN, "lru", 0, 0.5, None)
    whole = simulate(ROUND_ROBIN, "lru", 0, 1.0, None)
    disk = simulate(ROUND_ROBIN, "lru", 0, 0.5, tmp_path / "states")
    assert none.least == half.least == whole.least == disk.least
    # A prefix of fewer tokens than are worth loading is computed again.
    assert whole.least <= whole.prefilled < whole.least * 1.1
    assert whole.prefilled <= disk.prefilled < whole.least * 1.1
    assert whole.prefilled < half.prefilled < none.prefilled
    assert none.memory_hits == 0 < disk.disk_hits


def test_a_run_gives_the_same_again() -> None:
    assert simulate(ROUND_ROBIN, "lfu", 3, 0.4, None) == simulate(ROUND_ROBIN, "lfu", 3, 0.4, None)
