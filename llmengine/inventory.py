"""What the prompt cache holds and how it did, as plain data."""

from __future__ import annotations

from bisect import bisect_left
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

Tier = Literal["memory", "disk"]
Reason = Literal["size", "count", "pressure", "ttl", "replaced", "corrupt", "removed"]

BOUNDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # seconds


class Durations(Struct, kw_only=True):
    """How long something took: how often at most each of BOUNDS, at last how often longer."""

    seconds: float = 0.0  # in all
    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def note(self, seconds: float) -> None:
        self.seconds += seconds
        self.counts[bisect_left(BOUNDS, seconds)] += 1


class Counts(Struct, kw_only=True):
    """Events in a tier since the start."""

    hits: int = 0  # states handed out
    misses: int = 0  # lookups without a result
    hit_tokens: int = 0
    writes: int = 0
    saving: Durations = msgspec.field(default_factory=Durations)  # to disk; memory takes no time
    loading: Durations = msgspec.field(default_factory=Durations)
    corrupt: int = 0  # entries that did not read back right
    dropped: int = 0  # writes given up because too much was waiting
    failures: int = 0  # errors of the file system or the database
    evictions: dict[Reason, int] = {}


class TierStats(Counts, kw_only=True):
    """Those, and what is held now."""

    entries: int
    bytes: int
    pinned: int
    max_entries: int
    max_bytes: int
    queued_bytes: int = 0  # waiting to be written


class HotStats(Struct, frozen=True, kw_only=True):
    """The KV cache itself: prompts that are shared without a copy."""

    entries: int  # finished prompts that slots keep
    tokens: int  # of those, shared ones counted for each
    cells: int  # tokens that the KV cache can hold
    cells_used: int
    evictions: int  # finished prompts that left their slots
    hits: int  # requests that began with cells of another
    hit_tokens: int
    misses: int  # requests that began with none, be it that a stored state was at hand


class CacheStats(Struct, frozen=True, kw_only=True):
    """None stands for a tier that is not there."""

    hot: HotStats | None = None
    memory: TierStats | None = None
    disk: TierStats | None = None
    copying: Durations = msgspec.field(default_factory=Durations)  # of states out of llama.cpp
    restoring: Durations = msgspec.field(default_factory=Durations)  # of states into it


class EntryInfo(Struct, frozen=True, kw_only=True):
    """An entry as a person sees it; seconds up to now."""

    id: str
    scope: str
    tiers: tuple[Tier, ...]
    tokens: int
    bytes: int
    uses: int
    age: float
    idle: float
    expires_in: float | None  # None: never
    pinned: bool
    label: str

    def merged(self, other: EntryInfo) -> EntryInfo:
        """What is known of one entry from two tiers."""
        ends = [each.expires_in for each in (self, other) if each.expires_in is not None]
        return replace(
            self,
            tiers=self.tiers + other.tiers,
            uses=max(self.uses, other.uses),
            age=max(self.age, other.age),
            idle=min(self.idle, other.idle),
            expires_in=max(ends) if len(ends) == 2 else None,
            pinned=self.pinned or other.pinned,
            label=self.label or other.label,
        )


class EntryDetail(EntryInfo, frozen=True, kw_only=True):
    """That, and what it is the state of."""

    token_ids: tuple[int, ...]
    text: str | None = None  # None where nobody knows the entry's vocabulary


class Warmed(Struct, frozen=True):
    """What warming a prompt came to."""

    label: str
    prompt_tokens: int
    cached_tokens: int  # of those, what was there already
    seconds: float
