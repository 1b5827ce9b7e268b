"""The books of the KV cache and of the host pool."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmengine.engine.cells import Cells
from llmengine.engine.pool import Pool
from llmengine.engine.slot import common_prefix


def test_shared_cells_are_taken_once_and_free_with_their_last_holder() -> None:
    cells = Cells(10)
    cells.occupy(6)
    mine = cells.take(6)
    cells.share(mine[:4])
    assert cells.used == 6
    cells.give(mine)
    assert cells.used == 4
    cells.give(mine[:4])
    assert cells.used == 0
    cells.occupy(10)
    assert sorted(cells.take(10)) == list(range(10))


def test_more_cells_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="5 cells wanted, 4 free"):
        Cells(4).occupy(5)


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=60))
def test_regions_of_the_pool_never_overlap(work: list[tuple[int, bool]]) -> None:
    pool = Pool(100)
    held = []
    for number, (size, give) in enumerate(work):
        region = pool.take(size)
        if region is not None:
            region.buffer[:] = number % 251
            held.append((number % 251, region))
        else:
            assert pool.used + size > 100 or len(held) > 1
        if give and held:
            pool.give(held.pop(len(held) // 2)[1])
        assert pool.used == sum(len(each.buffer) for _, each in held) <= 100
        for value, each in held:
            assert np.all(each.buffer == value)


def test_a_pool_of_nothing_gives_nothing() -> None:
    assert Pool(0).take(1) is None


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_common_prefix(one: list[int], other: list[int]) -> None:
    expected = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        expected += 1
    assert common_prefix(array("i", one), array("i", other)) == expected
