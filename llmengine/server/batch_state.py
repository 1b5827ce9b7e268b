"""Which batches are being worked on, and that there may be more; on the event loop only."""

from __future__ import annotations

import asyncio

from llmengine.server.batches_wire import Batch


class BatchState:
    def __init__(self, concurrency: int) -> None:
        """`concurrency` is how many requests of all batches are answered at once."""
        self.woken = asyncio.Event()
        self.room = asyncio.Semaphore(concurrency)
        self.cancelled: set[str] = set()  # ids
        self._running: dict[str, Batch] = {}  # by tenant

    @property
    def busy(self) -> set[str]:
        """The tenants for whom one is worked on."""
        return set(self._running)

    def begin(self, tenant: str, batch: Batch) -> None:
        self._running[tenant] = batch
        if batch.id in self.cancelled:  # since it was read
            batch.status = "cancelling"

    def end(self, tenant: str) -> None:
        self.cancelled.discard(self._running.pop(tenant).id)
        self.woken.set()

    def running(self, tenant: str, id: str) -> Batch | None:
        """The batch with this id, as it is now, if it is worked on."""
        found = self._running.get(tenant)
        return found if found and found.id == id else None
