"""The books of one tier: its entries, found by prefix, within a budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from copy import deepcopy
from itertools import islice

from msgspec import Struct
from msgspec.structs import asdict

from llmengine.cache.entry import Entry, entry_id
from llmengine.cache.policy import Policy
from llmengine.cache.prefix_tree import PrefixTree, Tokens
from llmengine.inventory import Counts, Reason, TierStats

COMPARED = 8  # entries with the same prefix among which the smallest is chosen


class Limits(Struct, frozen=True):
    """What a tier may hold."""

    bytes: int
    entries: int
    ttl: float = 0  # seconds without a use after which an entry leaves; 0: never

    def expiry(self, last_used: float) -> float:
        return last_used + self.ttl if self.ttl else float("inf")


class Match(Struct, frozen=True):
    entry: Entry
    length: int


class Index:
    """Who is in a tier and who leaves next. It holds no states and is not thread-safe."""

    def __init__(self, limits: Limits, policy: Policy[Entry]) -> None:
        self.limits = limits
        self.bytes = 0
        self.counts = Counts()
        self._policy = policy
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # the least recently used first
        self._trees: dict[str, PrefixTree[Entry]] = {}  # by scope
        self._pinned: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, id: str) -> bool:
        return id in self._entries

    def get(self, id: str) -> Entry | None:
        return self._entries.get(id)

    def longest(self, scope: str, tokens: Tokens) -> Match | None:
        """The entry that shares most tokens with `tokens`; the smallest of several."""
        hit = self._tree(scope).longest(tokens)
        if not hit.length:
            return None
        return Match(min(islice(hit, COMPARED), key=lambda entry: entry.size), hit.length)

    def whole(self, scope: str, tokens: Tokens) -> Match | None:
        """The longest entry that is wholly a prefix of `tokens`."""
        entries = self._tree(scope).prefixes(tokens)
        return Match(entries[-1], len(entries[-1].tokens)) if entries else None

    def covering(self, scope: str, tokens: Tokens, *, exact: bool) -> Entry | None:
        """An entry that has all of `tokens`; with `exact` one that has nothing more."""
        match = (self.whole if exact else self.longest)(scope, tokens)
        return match.entry if match and match.length == len(tokens) else None

    def prefixes(self, scope: str, tokens: Tokens) -> list[Entry]:
        """The entries that are a proper prefix of `tokens`, those pinned excepted."""
        found = self._tree(scope).prefixes(tokens)
        return [each for each in found if len(each.tokens) < len(tokens) and not each.pinned]

    def _tree(self, scope: str) -> PrefixTree[Entry]:
        return self._trees.get(scope) or PrefixTree()

    def new(
        self, scope: str, tokens: Tokens, size: int, now: float, *, pinned: bool, label: str
    ) -> Entry:
        """An entry that is not booked yet."""
        return Entry(
            id=entry_id(scope, tokens),
            scope=scope,
            tokens=tokens,
            size=size,
            created=now,
            last_used=now,
            expires=self.limits.expiry(now),
            uses=1,
            pinned=pinned,
            label=label,
        )

    def add(self, entry: Entry) -> None:
        """Book an entry that is not there yet; the caller has made room."""
        self._trees.setdefault(entry.scope, PrefixTree()).insert(entry.tokens, entry)
        self._entries[entry.id] = entry
        self.bytes += entry.size
        self._policy.used(entry)
        if entry.pinned:
            self._pinned[entry.id] = entry

    def restore(self, entries: list[Entry]) -> None:
        """Book entries of an earlier time, in the order in which they were used then."""
        for entry in sorted(entries, key=lambda entry: entry.created):
            self.add(entry)
        for entry in sorted(entries, key=lambda entry: entry.last_used):
            self._entries.move_to_end(entry.id)
            self._policy.used(entry)

    def remove(self, entry: Entry, reason: Reason) -> None:
        """Take an entry out of the books and count why."""
        del self._entries[entry.id]
        self._pinned.pop(entry.id, None)
        tree = self._trees[entry.scope]
        tree.remove(entry.tokens, entry)
        if not tree:
            del self._trees[entry.scope]
        self.bytes -= entry.size
        self._policy.removed(entry, evicted=reason in ("size", "count", "pressure"))
        evictions = self.counts.evictions
        evictions[reason] = evictions.get(reason, 0) + 1

    def touch(self, entry: Entry, now: float) -> None:
        """Note a use."""
        entry.uses += 1
        entry.last_used = now
        entry.expires = self.limits.expiry(now)
        self._entries.move_to_end(entry.id)
        self._policy.used(entry)

    def renew(self, entry: Entry, now: float, *, pinned: bool, label: str) -> None:
        """Note that an entry was to be stored again."""
        self.touch(entry, now)
        entry.label = label or entry.label
        if pinned:
            self.pin(entry, True)

    def pin(self, entry: Entry, pinned: bool) -> None:
        entry.pinned = pinned
        if pinned:
            self._pinned[entry.id] = entry
        else:
            self._pinned.pop(entry.id, None)

    def expired(self, now: float) -> list[Entry]:
        """Those to remove. It looks no further than to the first that stays."""
        found: list[Entry] = []
        for entry in self._entries.values():
            if not entry.pinned:
                if entry.expires > now:
                    break
                found.append(entry)
        return found

    @property
    def pinned_bytes(self) -> int:
        return sum(entry.size for entry in self._pinned.values())

    def fits(self, size: int) -> bool:
        """Whether a state of `size` bytes could be held if all left that may leave."""
        room = self.limits.bytes - self.pinned_bytes
        return size <= room and len(self._pinned) < self.limits.entries

    def leaving(self, size: int, count: int = 1) -> tuple[Entry, Reason] | None:
        """Who has to leave next, and why, before `count` entries of `size` bytes can be added.

        None if nobody has to, or nobody may.
        """
        if len(self) + count > self.limits.entries:
            reason: Reason = "count"
        elif self.bytes + size > self.limits.bytes:
            reason = "size"
        else:
            return None
        victim = next((entry for entry in self._policy.victims() if not entry.pinned), None)
        return (victim, reason) if victim else None

    def stats(self, queued_bytes: int = 0) -> TierStats:
        return TierStats(
            **asdict(deepcopy(self.counts)),
            entries=len(self),
            bytes=self.bytes,
            pinned=len(self._pinned),
            max_entries=self.limits.entries,
            max_bytes=self.limits.bytes,
            queued_bytes=queued_bytes,
        )

    def check(self) -> None:
        """Raise AssertionError if the books disagree; for tests and idle moments."""
        entries = list(self)
        assert self.bytes == sum(entry.size for entry in entries) <= self.limits.bytes
        assert len(entries) <= self.limits.entries
        assert set(self._pinned) == {entry.id for entry in entries if entry.pinned}
        assert {id(entry) for entry in self._policy.victims()} == {id(entry) for entry in entries}
        assert set(self._trees) == {entry.scope for entry in entries}
        for entry in entries:
            assert self.covering(entry.scope, entry.tokens, exact=True) is entry
