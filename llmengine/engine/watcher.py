"""What the engine's process takes, looked at every second, and what is done when it is too much."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

from llmengine import hardware, usage
from llmengine.cache.memory_tier import MemoryTier
from llmengine.engine.ceiling import Ceiling
from llmengine.usage import DeviceUsage, ProcessUsage

MEBIBYTE = 1 << 20
INTERVAL = 1.0  # seconds
SILENCE = 60.0

log = logging.getLogger("llmengine.engine")


class Watcher:
    """Keeps the memory tier within what the ceiling leaves.

    When that does not bring the process under its ceiling, `relieve` is called, once until there
    is room again.
    """

    def __init__(
        self,
        ceiling: Ceiling,
        tier: MemoryTier | None,
        relieve: Callable[[], None],
        *,
        devices: Callable[[], Sequence[DeviceUsage]] = lambda: (),
        process: Callable[[], ProcessUsage] = usage.process,
        memory: Callable[[], hardware.Memory] = hardware.memory,
        give_back: Callable[[], None] = hardware.give_back,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.drops = 0  # times that something had to go
        self._ceiling = ceiling
        self._tier = tier
        self._relieve = relieve
        self._read_devices = devices
        self._read_process = process
        self._read_memory = memory
        self._give_back = give_back
        self._clock = clock
        self._relieved = False
        self._freed = 0  # bytes, since it was last told
        self._told = -math.inf
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._read()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            try:
                self.look()
            except Exception:  # the next look may succeed
                log.exception("the memory could not be looked after")

    def _read(self) -> None:
        self.process = self._read_process()
        self.devices = tuple(self._read_devices())
        self.headroom = self._ceiling.headroom(self.process.memory_bytes, self._read_memory())

    def look(self) -> None:
        """Read what is taken, and have it become less if it is too much."""
        self._read()
        # Half of what is left, as others take of it until the next look; or more than is missing,
        # so that not every look finds too little.
        step = self.headroom // 2 if self.headroom > 0 else self.headroom + self.headroom // 4
        freed = self._tier.bound(step) if self._tier else 0
        pressed = self.headroom < 0
        relieving = pressed and freed < -self.headroom and not self._relieved
        if relieving:
            self._relieve()
        self._relieved = pressed and (self._relieved or relieving)
        if pressed and (freed or relieving):
            self.drops += 1
            self._tell(freed, relieving)
        if pressed:
            self._give_back()  # at every look: others free memory too, which would stay ours

    def _tell(self, freed: int, relieving: bool) -> None:
        """In one line a minute, and one when slots had to go."""
        self._freed += freed
        now = self._clock()
        if not relieving and now - self._told < SILENCE:
            return
        log.warning(
            "memory is short: cached prompts were dropped%s",
            ", idle slots too" if relieving else "",
            extra={
                "freed_mb": self._freed // MEBIBYTE,
                "process_mb": self.process.memory_bytes // MEBIBYTE,
                "over_mb": -self.headroom // MEBIBYTE,
            },
        )
        self._freed, self._told = 0, now
