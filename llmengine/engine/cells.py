"""How many cells of the shared KV cache are taken: a count, as llama.cpp does not tell it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CellIds = npt.NDArray[np.int32]


class Cells:
    """Reference counts of KV cells; a cell that several slots share is taken once.

    The ids are ours, not llama.cpp's. A slot takes them when it shares or gives back its cells:
    in most steps only the count matters.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.reset()

    def reset(self) -> None:
        self._references = np.zeros(self.capacity, np.int32)
        self._stack = np.arange(self.capacity, dtype=np.int32)[::-1].copy()  # ids not taken
        self._top = self.capacity
        self.free = self.capacity

    @property
    def used(self) -> int:
        return self.capacity - self.free

    def occupy(self, count: int) -> None:
        """Count `count` more cells as taken; the caller has checked that there are so many."""
        if count > self.free:
            raise ValueError(f"{count} cells wanted, {self.free} free")
        self.free -= count

    def take(self, count: int) -> CellIds:
        """The ids of `count` cells that were occupied before."""
        self._top -= count
        taken: CellIds = self._stack[self._top : self._top + count].copy()
        self._references[taken] = 1
        return taken

    def share(self, cells: CellIds) -> None:
        self._references[cells] += 1

    def shared(self, cells: CellIds) -> bool:
        """Whether another slot holds any of `cells`, too."""
        return bool((self._references[cells] > 1).any())

    def give(self, cells: CellIds) -> None:
        self._references[cells] -= 1
        unused = cells[self._references[cells] == 0]
        self._stack[self._top : self._top + len(unused)] = unused
        self._top += len(unused)
        self.free += len(unused)
