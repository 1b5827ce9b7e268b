"""What a tier counts."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Reason = Literal["size", "count", "ttl", "replaced", "corrupt", "removed"]


class TierStats(Struct, frozen=True, kw_only=True):
    """Counters since the start, and what is held now."""

    entries: int
    bytes: int
    pinned: int
    max_entries: int
    max_bytes: int
    hits: int = 0  # states handed out
    misses: int = 0  # lookups without a result
    hit_tokens: int = 0
    evictions: dict[Reason, int] = {}
    writes: int = 0
    write_seconds: float = 0.0
    read_seconds: float = 0.0
    corrupt: int = 0  # entries that did not read back right
    dropped: int = 0  # writes given up because the queue was full
    failures: int = 0  # errors of the file system or the database
    queued_bytes: int = 0
