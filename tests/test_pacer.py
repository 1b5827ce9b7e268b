"""Prefill chunks beside running streams."""

from __future__ import annotations

from llmengine.engine.pacer import Pacer


def paced(per_row: float, rows: int, steps: int = 12, base: float = 0.0) -> list[int]:
    """The chunks of a long prefill beside `rows` decoding rows on a machine of that speed."""
    pacer = Pacer(0.4, 512)
    chunks = []
    for _ in range(4):
        pacer.observe(rows, 0, base + rows * per_row)
    for _ in range(steps):
        chunk = pacer.chunk(rows)
        pacer.observe(rows, chunk, base + (rows + chunk) * per_row)
        chunks.append(chunk)
    return chunks


def test_nobody_waits_a_whole_batch() -> None:
    assert Pacer(0.4, 512).chunk(0) == 512


def test_chunks_grow_to_what_the_time_holds() -> None:
    # 0.36 s at 3 ms a row are 120 rows, 4 of them decode.
    assert paced(0.003, 4) == [32, 64, *[112] * 10]


def test_no_step_takes_longer_than_the_bound() -> None:
    for per_row in (0.0001, 0.001, 0.003, 0.01):
        for chunk in paced(per_row, 4):
            assert (chunk + 4) * per_row <= 0.4


def test_a_machine_too_slow_for_the_bound_still_moves_on() -> None:
    assert paced(0.2, 1)[1:] == [8] * 11


def test_a_machine_that_slows_down_gets_smaller_chunks() -> None:
    pacer = Pacer(0.4, 512)
    for _ in range(8):
        pacer.observe(4, 112, 0.35)
    assert pacer.chunk(4) == 112
    for _ in range(4):
        pacer.observe(4, 112, 0.8)
    assert pacer.chunk(4) <= 56
