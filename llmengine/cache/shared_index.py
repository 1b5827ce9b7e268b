"""The index of a folder, kept up with what other processes do there."""

from __future__ import annotations

import logging
from threading import RLock

from llmengine.cache.disk_store import DiskStore
from llmengine.cache.entry import Entry, State
from llmengine.cache.index import Index
from llmengine.cache.raw_disk import Corrupt
from llmengine.cache.record import Record
from llmengine.inventory import Reason

logger = logging.getLogger(__name__)

LOCK_SECONDS = 60.0  # how long to wait while others write


class SharedIndex:
    """Does to the folder and to the index in memory the same. It raises what the store raises.

    One thread calls it. `lock` guards the index and is not held while the disk works.
    """

    def __init__(self, store: DiskStore, index: Index, lock: RLock) -> None:
        self._store = store
        self._index = index
        self._lock = lock
        self._serial = -1
        self._foreign: set[str] = set()

    def load(self) -> None:
        """Sweep the folder and index it; another process that is at work has swept it."""
        try:
            with self._store.exclusive(timeout=1.0):
                self._store.sweep()
                self.refresh()
                for id in self._foreign:
                    self._store.remove(id)
                self._make_room(0, 0, [])
        except TimeoutError:
            self.refresh()

    def refresh(self) -> None:
        """Learn of the entries that others have added or removed since."""
        serial = self._store.serial
        if serial == self._serial:
            return
        ids = set(self._store.ids())
        with self._lock:
            gone = [entry for entry in self._index if entry.id not in ids]
            for entry in gone:
                self._index.remove(entry, "removed")
            new = [id for id in ids if id not in self._index]
        records = [record for id in new if (record := self._record(id))]
        expiry = self._index.limits.expiry
        with self._lock:
            self._index.restore([each.entry(expiry(each.last_used)) for each in records])
        self._serial = serial

    def _record(self, id: str) -> Record | None:
        if id in self._foreign:
            return None
        try:
            return self._store.record(id)
        except Corrupt as error:
            self._index.counts.corrupt += 1
            self._foreign.add(id)
            logger.warning("prompt cache: entry %s is ignored: %s", id, error)
            return None

    def write(self, entry: Entry, state: State, *, whole: bool) -> bool:
        """Store a state, within the budget; False if it is there or cannot fit."""
        with self._store.exclusive(LOCK_SECONDS):
            self.refresh()
            with self._lock:
                exact = whole or entry.pinned
                known = self._index.covering(entry.scope, entry.tokens, exact=exact)
                if known or not self._index.fits(entry.size):
                    return False
                replaced = [] if whole else self._index.prefixes(entry.scope, entry.tokens)
            entry.succeed(replaced)
            self._make_room(entry.size, 1, replaced)
            self._advance(self._store.write(entry, state))
            with self._lock:
                self._index.add(entry)
            for each in replaced:
                self.drop(each, "replaced")
            return True

    def _make_room(self, size: int, count: int, replaced: list[Entry]) -> None:
        while True:
            with self._lock:
                leaving = self._index.leaving(size, count)
            if leaving is None:
                return
            if replaced:
                leaving = (replaced.pop(), "replaced")
            self.drop(*leaving)

    def drop(self, entry: Entry, reason: Reason) -> None:
        """Remove an entry, unless another process has pinned or used it in the meantime."""
        record = self._record(entry.id)
        with self._lock:
            if entry.id not in self._index:
                return
            if record and record.pinned:
                self._index.pin(entry, True)
                return
            if record and record.last_used > entry.last_used:
                self._index.touch(entry, record.last_used)
                return
            self._index.remove(entry, reason)
        self._advance(self._store.remove(entry.id))

    def note(self, entries: list[Entry]) -> None:
        """Write down when entries were last used."""
        for entry in entries:
            self._store.update(entry.id, last_used=entry.last_used, uses=entry.uses)

    def _advance(self, serial: int) -> None:
        # A jump means that somebody else was here: the next refresh will look.
        if serial == self._serial + 1:
            self._serial = serial
