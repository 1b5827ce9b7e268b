"""Host memory for saved states: allocated once, handed out in regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Buffer = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Region:
    start: int
    buffer: Buffer

    @property
    def end(self) -> int:
        return self.start + len(self.buffer)


class Pool:
    """First fit over one buffer; the kernel gives its pages when they are first written."""

    def __init__(self, size: int) -> None:
        self._buffer = np.empty(size, np.uint8)
        self._regions: list[Region] = []  # by start

    @property
    def used(self) -> int:
        return sum(len(each.buffer) for each in self._regions)

    def take(self, size: int) -> Region | None:
        """A region of `size` bytes, or None if no gap is that large."""
        start = 0
        for index, region in enumerate([*self._regions, None]):
            end = region.start if region else len(self._buffer)
            if end - start >= size:
                taken = Region(start, self._buffer[start : start + size])
                self._regions.insert(index, taken)
                return taken
            start = region.end if region else end
        return None

    def give(self, region: Region) -> None:
        self._regions = [each for each in self._regions if each is not region]

    def trim(self) -> None:
        """Give back the pages that were written, unless some are in use."""
        if not self._regions:
            self._buffer = np.empty(len(self._buffer), np.uint8)

    def clear(self) -> None:
        self._regions = []
