"""States in this process's memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import RLock

from msgspec.structs import replace

from llmengine.cache.entry import Entry, Found, State
from llmengine.cache.index import Index, Limits
from llmengine.cache.policy import Policy
from llmengine.cache.prefix_tree import Tokens
from llmengine.inventory import Reason, TierStats


class MemoryTier:
    """Keeps the arrays it is given, never more bytes than it may. Thread-safe."""

    def __init__(
        self,
        max_bytes: int,
        max_entries: int,
        ttl: float,
        policy: Policy[Entry],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ttl`: seconds without a use after which an entry leaves; 0: never."""
        self.clock = clock
        self._max_bytes = max_bytes
        self._index = Index(Limits(max_bytes, max_entries, ttl), policy)
        self._states: dict[str, State] = {}
        self._lock = RLock()

    def find(self, scope: str, tokens: Tokens, *, whole: bool = False) -> Found | None:
        """The entry with the longest common prefix; with `whole` one that is all prefix."""
        with self._lock:
            self._expire()
            match = (self._index.whole if whole else self._index.longest)(scope, tokens)
            self._index.counts.misses += match is None
            return Found(match.entry, match.length, "memory", whole) if match else None

    def covers(self, scope: str, tokens: Tokens, *, whole: bool = False) -> bool:
        """Whether nothing would be won by storing these tokens."""
        with self._lock:
            self._expire()
            return self._index.covering(scope, tokens, exact=whole) is not None

    def room(self, size: int) -> bool:
        """Evict until a state of `size` bytes can be added; False if it never can."""
        with self._lock:
            self._expire()
            if not self._index.fits(size):
                return False
            while leaving := self._index.leaving(size):
                self._drop(*leaving)
            return True

    def bound(self, headroom: int) -> int:
        """Take at most `headroom` more bytes from now on; a negative one is to be given back.

        The bytes that were given back. What is pinned stays.
        """
        with self._lock:
            self._expire()
            index, held = self._index, self._index.bytes
            most = max(min(self._max_bytes, held + headroom), index.pinned_bytes)
            index.limits = replace(index.limits, bytes=most)
            while leaving := index.leaving(0, count=0):
                self._drop(leaving[0], "pressure")
            return held - index.bytes

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
        """Keep a state (the array itself) of these tokens; False if it cannot fit.

        The entries that are a prefix of it leave, unless they are pinned or `whole` says that
        states cannot be cut, so that the shorter ones are still needed.
        """
        with self._lock:
            self._expire()
            if self._renew(scope, tokens, exact=whole or pinned, pinned=pinned, label=label):
                return True
            if not len(tokens) or not self._index.fits(len(state)):
                return False
            replaced = [] if whole else self._index.prefixes(scope, tokens)
            for entry in replaced:
                self._drop(entry, "replaced")
            self.room(len(state))
            entry = self._index.new(
                scope, tokens, len(state), self.clock(), pinned=pinned, label=label
            )
            entry.succeed(replaced)
            self._states[entry.id] = state
            self._index.add(entry)
            self._index.counts.writes += 1
            return True

    def keep(self, scope: str, tokens: Tokens, label: str) -> bool:
        """Pin the entry of exactly these tokens under a label; False if there is none."""
        with self._lock:
            self._expire()
            return self._renew(scope, tokens, exact=True, pinned=True, label=label)

    def _renew(self, scope: str, tokens: Tokens, *, exact: bool, pinned: bool, label: str) -> bool:
        known = self._index.covering(scope, tokens, exact=exact)
        if known:
            self._index.renew(known, self.clock(), pinned=pinned, label=label)
        return known is not None

    def get(self, entry: Entry, length: int = 0) -> State | None:
        """The state of an entry, `length` tokens of which are of use; None if it has left."""
        with self._lock:
            self._expire()
            held = self._index.get(entry.id)
            if held is None:
                self._index.counts.misses += 1
                return None
            self._index.touch(held, self.clock())
            self._index.counts.hits += 1
            self._index.counts.hit_tokens += length
            return self._states[held.id]

    def loaded(self, seconds: float) -> None:
        """Note how long it took to get a state from here."""
        with self._lock:
            self._index.counts.loading.note(seconds)

    def remove(self, id: str) -> bool:
        with self._lock:
            entry = self._index.get(id)
            if entry:
                self._drop(entry, "removed")
            return entry is not None

    def clear(self) -> int:
        """Remove all, the pinned ones too; how many that were."""
        with self._lock:
            entries = list(self._index)
            for entry in entries:
                self._drop(entry, "removed")
            return len(entries)

    def pin(self, id: str, pinned: bool = True) -> bool:
        with self._lock:
            entry = self._index.get(id)
            if entry:
                self._index.pin(entry, pinned)
            return entry is not None

    def entries(self) -> list[Entry]:
        """What is held, the least recently used first."""
        with self._lock:
            self._expire()
            return list(self._index)

    def stats(self) -> TierStats:
        with self._lock:
            return self._index.stats()

    def check(self) -> None:
        """Raise AssertionError if the books disagree; for tests and idle moments."""
        with self._lock:
            self._index.check()
            assert {entry.id for entry in self._index} == set(self._states)
            assert self._index.bytes == sum(len(state) for state in self._states.values())

    def _expire(self) -> None:
        for entry in self._index.expired(self.clock()):
            self._drop(entry, "ttl")

    def _drop(self, entry: Entry, reason: Reason) -> None:
        self._index.remove(entry, reason)
        del self._states[entry.id]
