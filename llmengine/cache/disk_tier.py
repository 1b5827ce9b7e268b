"""States on disk, where they outlive the process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import RLock

from llmengine.cache.disk_store import DiskStore
from llmengine.cache.entry import Entry, Found, State, entry_id
from llmengine.cache.faults import Faults
from llmengine.cache.index import Index, Limits
from llmengine.cache.policy import Policy
from llmengine.cache.prefix_tree import Tokens
from llmengine.cache.raw_disk import Corrupt
from llmengine.cache.shared_index import SharedIndex
from llmengine.cache.worker import Worker
from llmengine.inventory import Reason, TierStats

logger = logging.getLogger(__name__)

TEND_SECONDS = 1.0  # how often to look for news of other processes
NOTE_SECONDS = 60.0  # how often to write down uses
QUEUE_BYTES = 64 * 2**20


class DiskTier:
    """As `MemoryTier`, but it forgets nothing at the end. Thread-safe, and several processes may
    share the folder, whose budget they keep to together.

    Lookups touch only an index in memory, and a thread of its own writes. Nothing here raises
    for what happens to the disk: it is a miss, a counter and a line in the log.
    """

    def __init__(
        self,
        directory: Path,
        max_bytes: int,
        max_entries: int,
        ttl: float,
        policy: Policy[Entry],
        clock: Callable[[], float] = time.time,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        """`queue_bytes`: states that may wait to be written; more are dropped."""
        self.clock = clock
        self._index = Index(Limits(max_bytes, max_entries, ttl), policy)
        self._lock = RLock()
        self._pending: set[str] = set()  # what is to be written, unless it is removed before
        self._used: set[str] = set()  # whose uses are not written down
        self._tended = self._noted = clock()
        self._store: DiskStore | None = None
        self._faults = Faults(self._index.counts)
        self._writer = Worker("llmengine-cache", queue_bytes, self.leave)
        with self._faults.caught(f"open {directory}, so nothing is kept on disk"):
            self._store = self._opened(directory)

    def _opened(self, directory: Path) -> DiskStore:
        store = DiskStore(directory)
        self._shared = SharedIndex(store, self._index, self._lock)
        self._shared.load()
        return store

    def find(self, scope: str, tokens: Tokens, *, whole: bool = False) -> Found | None:
        """The entry with the longest common prefix; with `whole` one that is all prefix."""
        self._tend()
        with self._lock:
            match = (self._index.whole if whole else self._index.longest)(scope, tokens)
            if match is None or self._stale(match.entry):
                self._index.counts.misses += 1
                return None
            return Found(match.entry, match.length, "disk", whole)

    def covers(self, scope: str, tokens: Tokens, *, whole: bool = False) -> bool:
        """Whether nothing would be won by storing these tokens."""
        with self._lock:
            known = self._index.covering(scope, tokens, exact=whole)
            if known and not self._stale(known):
                return True
            return bool(self._pending) and entry_id(scope, tokens) in self._pending

    def put(
        self,
        scope: str,
        tokens: Tokens,
        state: State,
        *,
        pinned: bool = False,
        label: str = "",
        whole: bool = False,
    ) -> bool:
        """Have a state written soon; False if it cannot fit or too much waits already.

        The array is held until then. For `whole` see `MemoryTier.put`.
        """
        if self._store is None or not len(tokens):
            return False
        with self._lock:
            if self._renew(scope, tokens, exact=whole or pinned, pinned=pinned, label=label):
                return True
            now = self.clock()
            entry = self._index.new(scope, tokens, len(state), now, pinned=pinned, label=label)
            if entry.id in self._pending:
                return True
            if not self._index.fits(entry.size):
                return False
            accepted = self._writer.submit(partial(self._write, entry, state, whole), entry.size)
            if accepted:
                self._pending.add(entry.id)
            self._index.counts.dropped += not accepted
            return accepted

    def keep(self, scope: str, tokens: Tokens, label: str) -> bool:
        """As `MemoryTier.keep`."""
        with self._lock:
            return self._renew(scope, tokens, exact=True, pinned=True, label=label)

    def _renew(self, scope: str, tokens: Tokens, *, exact: bool, pinned: bool, label: str) -> bool:
        entry = self._index.covering(scope, tokens, exact=exact)
        if entry is None or self._stale(entry):
            return False
        self._index.renew(entry, self.clock(), pinned=pinned, label=label)
        self._used.add(entry.id)
        if pinned or label:
            self._writer.submit(partial(self._update, entry))
        return True

    def get(self, entry: Entry, length: int = 0) -> State | None:
        """The state of an entry, `length` tokens of which are of use; None if it has left."""
        state = None
        if self._store and not self._stale(entry):
            with self._faults.caught("read an entry"):
                state = self._read(self._store, entry.id)
        with self._lock:
            counts = self._index.counts
            if state is None:
                counts.misses += 1
                return None
            counts.hits += 1
            counts.hit_tokens += length
            self.touch(entry.id)
            return state

    def _read(self, store: DiskStore, id: str) -> State | None:
        reason: Reason = "removed"  # by another process
        try:
            state = store.read(id)
        except Corrupt as error:
            state, reason = None, "corrupt"
            logger.warning("prompt cache: entry %s is dropped: %s", id, error)
        if state is None:
            self._lose(id, reason)
        return state

    def _lose(self, id: str, reason: Reason) -> None:
        with self._lock:
            self._index.counts.corrupt += reason == "corrupt"
            if held := self._index.get(id):
                self._index.remove(held, reason)
        self._writer.submit(partial(self._forget, id))

    def loaded(self, seconds: float) -> None:
        """Note how long it took to get a state from here."""
        with self._lock:
            self._index.counts.loading.note(seconds)

    def touch(self, id: str) -> None:
        """Note a use, also of a copy elsewhere, so that this one is not the first to leave."""
        with self._lock:
            if held := self._index.get(id):
                self._index.touch(held, self.clock())
                self._used.add(id)

    def remove(self, id: str) -> bool:
        with self._lock:
            known = id in self._index or id in self._pending
            self._pending.discard(id)
            if held := self._index.get(id):
                self._index.remove(held, "removed")
        self._forget(id)
        return known

    def clear(self) -> int:
        """Remove all, the pinned ones too; how many that were."""
        with self._lock:
            self._pending.clear()
            ids = [entry.id for entry in self._index]
        if self._store:
            with self._faults.caught("list the entries"):
                ids = list({*ids, *self._store.ids()})
        for id in ids:
            self.remove(id)
        return len(ids)

    def pin(self, id: str, pinned: bool = True) -> bool:
        with self._lock:
            held = self._index.get(id)
            if held is None:
                return False
            self._index.pin(held, pinned)
        self._update(held)
        return True

    def verify(self) -> list[str]:
        """Read every entry and drop those that are not as they were written; their ids."""
        bad = []
        for entry in self.entries():
            with self._faults.caught("verify an entry"):
                if self._store and self._read(self._store, entry.id) is None:
                    bad.append(entry.id)
        return bad

    def entries(self) -> list[Entry]:
        """What is held, the least recently used first."""
        self._tend()
        with self._lock:
            return [entry for entry in self._index if not self._stale(entry)]

    def flush(self, timeout: float = 60.0) -> bool:
        """Wait until all is written; False if that took longer than `timeout` seconds."""
        return self._writer.flush(timeout)

    def close(self, timeout: float = 60.0) -> None:
        """Write what can be written in `timeout` seconds and let go of the folder."""
        if self._store:
            self._writer.submit(self._note)
            self._writer.close(timeout)
            self._store.close()
            self._store = None

    def stats(self) -> TierStats:
        with self._lock:
            return self._index.stats(self._writer.bytes)

    def check(self) -> None:
        """Raise AssertionError if the books disagree; for tests and idle moments."""
        with self._lock:
            self._index.check()

    def _stale(self, entry: Entry) -> bool:
        return not entry.pinned and entry.expires <= self.clock()

    def _tend(self) -> None:
        with self._lock:
            now = self.clock()
            if 0 <= now - self._tended < TEND_SECONDS:
                return
            self._tended = now
        self._writer.submit(self._refresh)

    # What follows runs on the writer's thread.

    def _write(self, entry: Entry, state: State, whole: bool) -> None:
        if entry.id not in self._pending:
            return  # removed while it waited
        started = time.perf_counter()
        written = False
        with self._faults.caught("write an entry"):
            written = self._shared.write(entry, state, whole=whole)
        with self._lock:
            if written:
                self._index.counts.writes += 1
                self._index.counts.saving.note(time.perf_counter() - started)
            removed = entry.id not in self._pending
            self._pending.discard(entry.id)
        if removed:
            self.remove(entry.id)

    def _refresh(self) -> None:
        with self._faults.caught("look for changes"):
            if self._store and self._store.gone:
                gone = self._store
                logger.warning("prompt cache: %s is gone: made anew", gone.directory)
                self._store = self._opened(gone.directory)
                gone.close()
            self._shared.refresh()
            with self._lock:
                expired = self._index.expired(self.clock())
            for entry in expired:
                self._shared.drop(entry, "ttl")
        if self.clock() - self._noted > NOTE_SECONDS:
            self._note()

    def _note(self) -> None:
        self._noted = self.clock()
        with self._lock:
            used = [entry for id in self._used if (entry := self._index.get(id))]
            self._used.clear()
        with self._faults.caught("note when entries were used"):
            self._shared.note(used)

    def _update(self, entry: Entry) -> None:
        if self._store:
            with self._faults.caught("change an entry"):
                self._store.update(entry.id, pinned=entry.pinned, label=entry.label)

    def _forget(self, id: str) -> None:
        if self._store:
            with self._faults.caught("remove an entry"):
                self._store.remove(id)

    def leave(self) -> None:
        """Close the database for the thread that calls, which reads no more."""
        if self._store:
            self._store.leave()
