"""The prompt cache as the engine sees it: states in memory and on disk, found by their prefix."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from copy import deepcopy

from msgspec.structs import asdict

from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.entry import Entry, Found, State
from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.prefix_tree import Tokens
from llmengine.errors import InvalidRequest, NotFound
from llmengine.inventory import CacheStats, Durations, EntryDetail, EntryInfo, Tier


class Speed:
    """How long so many bytes take, judged by the latest that were measured."""

    def __init__(self, bytes_per_second: float) -> None:
        """The speed given is a guess that weighs as a measurement of 0.1 seconds."""
        self._seconds = 0.1
        self._bytes = bytes_per_second * self._seconds

    def note(self, size: int, seconds: float) -> None:
        self._seconds = self._seconds * 0.8 + seconds
        self._bytes = self._bytes * 0.8 + size

    def seconds(self, size: int) -> float:
        return size * self._seconds / self._bytes


class PromptCache:
    """Two tiers, each of which may be missing. Thread-safe. Implements `core.CacheControl`.

    `whole` is for models whose states cannot be cut: only entries that are wholly a prefix are
    of use to them, and longer ones do not replace shorter ones.
    """

    def __init__(self, memory: MemoryTier | None, disk: DiskTier | None) -> None:
        self.memory = memory
        self.disk = disk
        self._tiers: dict[Tier, MemoryTier | DiskTier] = {}
        if memory:
            self._tiers["memory"] = memory
        if disk:
            self._tiers["disk"] = disk
        self._reading: dict[Tier, Speed] = {"memory": Speed(20e9), "disk": Speed(0.5e9)}
        self._restoring = Speed(5e9)
        self._copying = Durations()
        self._room_made: float | None = None  # when the copy of a state began
        self._restored = Durations()

    def find(
        self,
        scope: str,
        tokens: Tokens,
        *,
        whole: bool = False,
        held: int = 0,
        seconds_per_token: float = 0.001,
    ) -> Found | None:
        """The entry with which a prompt is computed soonest; None if it is without any.

        `held` tokens are at hand without it, and prefilling one takes `seconds_per_token`. Leave
        out the prompt's last token, whose logits are wanted.
        """
        best, least = None, (len(tokens) - held) * seconds_per_token
        for tier in self._tiers.values():
            found = tier.find(scope, tokens, whole=whole)
            if found and found.length > held:
                seconds = self.seconds_to_load(found.tier, found.entry.size)
                seconds += (len(tokens) - found.length) * seconds_per_token
                if seconds < least:
                    best, least = found, seconds
        return best

    def seconds_to_load(self, tier: Tier, size: int) -> float:
        """What reading a state of `size` bytes and restoring it is expected to take."""
        return self._reading[tier].seconds(size) + self._restoring.seconds(size)

    def restored(self, size: int, seconds: float) -> None:
        """Learn how long llama.cpp took to take a state back."""
        self._restoring.note(size, seconds)
        self._restored.note(seconds)

    def read(self, found: Found) -> State | None:
        """The state of an entry, not to be written into; None if it has left or is damaged.

        What comes from the disk is kept in memory if it fits.
        """
        entry, started = found.entry, time.perf_counter()
        keep = found.tier == "disk" and self.memory and self.memory.room(entry.size)
        state = self._tiers[found.tier].get(entry, found.length)
        if state is None:
            return None
        seconds = time.perf_counter() - started
        self._reading[found.tier].note(len(state), seconds)
        self._tiers[found.tier].loaded(seconds)
        if keep and self.memory:
            if self.disk and not self.disk.covers(entry.scope, entry.tokens, whole=True):
                return state  # it was removed while it was read
            self.memory.put(
                entry.scope,
                entry.tokens,
                state,
                pinned=entry.pinned,
                label=entry.label,
                whole=found.whole,
            )
        elif found.tier == "memory" and self.disk:
            self.disk.touch(entry.id)
        return state

    def room(self, size: int) -> bool:
        """Make room for a state before it is copied out of llama.cpp; False if none will keep it.

        What has no room in memory goes to the disk from where it is.
        """
        in_memory = self.memory is not None and self.memory.room(size)
        self._room_made = time.perf_counter()
        return in_memory or self.disk is not None

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
        """Keep a state in memory and have it written to disk; whether any tier takes it.

        Both arrays are kept as they are: the caller must not change them any more.
        """
        if self._room_made is not None:
            self._copying.note(time.perf_counter() - self._room_made)
            self._room_made = None
        taken = [
            tier.put(scope, tokens, state, pinned=pinned, label=label, whole=whole)
            for tier in self._tiers.values()
        ]
        return any(taken)

    def keep(self, scope: str, tokens: Tokens, label: str) -> bool:
        """Pin the entry of exactly these tokens under a label; False if there is none."""
        kept = [tier.keep(scope, tokens, label) for tier in self._tiers.values()]
        return any(kept)

    def covers(self, scope: str, tokens: Tokens, *, whole: bool = False) -> bool:
        """Whether some tier has all of these tokens, so that there is nothing to save."""
        return any(tier.covers(scope, tokens, whole=whole) for tier in self._tiers.values())

    def stats(self) -> CacheStats:
        return CacheStats(
            memory=self.memory.stats() if self.memory else None,
            disk=self.disk.stats() if self.disk else None,
            copying=deepcopy(self._copying),
            restoring=deepcopy(self._restored),
        )

    def list(self) -> Sequence[EntryInfo]:
        """All entries, the latest used first."""
        known: dict[str, EntryInfo] = {}
        for name, tier in self._tiers.items():
            now = tier.clock()
            for entry in tier.entries():
                info = entry.info(name, now)
                known[info.id] = known[info.id].merged(info) if info.id in known else info
        return sorted(known.values(), key=lambda info: info.idle)

    def show(self, id: str) -> EntryDetail:
        entry = self._entry(id)
        info = next((info for info in self.list() if info.id == entry.id), None)
        if info is None:
            raise _unknown(id)
        return EntryDetail(**asdict(info), token_ids=tuple(entry.tokens.tolist()))

    def pin(self, id: str, pinned: bool = True) -> str:
        """Keep an entry from leaving, or let it go again."""
        full = self._entry(id).id
        for tier in self._tiers.values():
            tier.pin(full, pinned)
        return full

    def remove(self, id: str) -> str:
        """Remove an entry from all tiers."""
        full = self._entry(id).id
        for tier in self._tiers.values():
            tier.remove(full)
        return full

    def clear(self) -> int:
        """Remove all entries, the pinned ones too; how many that were."""
        count = len({entry.id for entry in self._entries()})
        for tier in self._tiers.values():
            tier.clear()
        return count

    def verify(self) -> Sequence[str]:
        """Read all that is on disk and drop what is damaged; the ids of that."""
        return self.disk.verify() if self.disk else []

    def leave(self) -> None:
        """What a thread that read states does at its end."""
        if self.disk:
            self.disk.leave()

    def close(self, timeout: float = 60.0) -> None:
        """Write to disk what only memory has, as far as that takes no longer than `timeout`."""
        if self.disk:
            deadline = time.monotonic() + timeout
            for entry in self.memory.entries() if self.memory else ():
                self._save(self.disk, entry, deadline)
            self.disk.close(max(0.0, deadline - time.monotonic()))

    def _save(self, disk: DiskTier, entry: Entry, deadline: float) -> None:
        state = self.memory.get(entry) if self.memory else None
        if state is None or disk.covers(entry.scope, entry.tokens, whole=True):
            return
        if disk.flush(max(0.0, deadline - time.monotonic())):  # now there is room in its queue
            disk.put(
                entry.scope,
                entry.tokens,
                state,
                pinned=entry.pinned,
                label=entry.label,
                whole=True,  # replaces none
            )

    def _entries(self) -> Iterator[Entry]:
        return (entry for tier in self._tiers.values() for entry in tier.entries())

    def _entry(self, id: str) -> Entry:
        """The one entry whose id begins like this, whatever the tier."""
        found = {entry.id: entry for entry in self._entries() if id and entry.id.startswith(id)}
        if len(found) > 1:
            raise InvalidRequest(f"{len(found)} entries begin with {id}: give more of the id")
        if not found:
            raise _unknown(id)
        return found.popitem()[1]


def _unknown(id: str) -> NotFound:
    return NotFound(f"no entry {id[:64]!r} is in the prompt cache")
