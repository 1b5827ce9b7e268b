"""How much memory is left before something has to go."""

from __future__ import annotations

from msgspec import Struct

from llmengine.hardware import Memory

GIBIBYTE = 1 << 30


class Ceiling(Struct, frozen=True):
    """The most memory that the engine's process may take.

    A share of what the machine, or its cgroup, has in all stays free in any case: the kernel kills
    without asking whose the memory was.
    """

    process: int = 0  # bytes that the process may take; 0: as much as there is

    def headroom(self, used: int, memory: Memory) -> int:
        """Bytes left for a process that takes `used`; negative if it is too many already."""
        left = memory.available - min(memory.total // 10, GIBIBYTE)
        return min(left, self.process - used) if self.process else left
