"""Which batch is being worked on, and that there may be another; on the event loop only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from llmengine.server.batches_wire import Batch


class BatchState:
    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self.cancelled: set[str] = set()  # ids
        self._running: tuple[str, Batch] | None = None

    @contextmanager
    def on(self, tenant: str, batch: Batch) -> Iterator[None]:
        self._running = tenant, batch
        if batch.id in self.cancelled:  # since it was read
            batch.status = "cancelling"
        try:
            yield
        finally:
            self._running = None
            self.cancelled.discard(batch.id)

    def running(self, tenant: str, id: str) -> Batch | None:
        """The batch with this id, as it is now, if it is the one."""
        if self._running and self._running[0] == tenant and self._running[1].id == id:
            return self._running[1]
        return None
