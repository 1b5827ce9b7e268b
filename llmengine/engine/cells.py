"""How many cells of the shared KV cache are taken: a count, as llama.cpp does not tell it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CellIds = npt.NDArray[np.int32]


class Cells:
    """Reference counts of KV cells; a cell that several slots share is taken once.

    The ids are ours, not llama.cpp's.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.reset()

    def reset(self) -> None:
        self._references = np.zeros(self.capacity, np.int32)
        self._free = np.arange(self.capacity, dtype=np.int32)[::-1].copy()  # a stack
        self.free = self.capacity

    @property
    def used(self) -> int:
        return self.capacity - self.free

    def take(self, count: int) -> CellIds:
        """`count` free cells; the caller has checked that there are so many."""
        if count > self.free:
            raise ValueError(f"{count} cells wanted, {self.free} free")
        self.free -= count
        taken: CellIds = self._free[self.free : self.free + count].copy()
        self._references[taken] = 1
        return taken

    def share(self, cells: CellIds) -> None:
        self._references[cells] += 1

    def give(self, cells: CellIds) -> None:
        self._references[cells] -= 1
        unused = cells[self._references[cells] == 0]
        self._free[self.free : self.free + len(unused)] = unused
        self.free += len(unused)

    def sole(self, cells: CellIds) -> int:
        """How many of `cells` would become free if one holder gave them back."""
        return int(np.count_nonzero(self._references[cells] == 1))
