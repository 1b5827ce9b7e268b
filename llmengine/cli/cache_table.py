"""What `llmengine cache` prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from msgspec import Struct

from llmengine.cli import table
from llmengine.cli.table import Column, duration, number, size
from llmengine.cli.writer import harmless
from llmengine.inventory import CacheStats, EntryDetail, EntryInfo

SHOWN = 64  # token ids of an entry on a terminal


class _Tier(Struct, kw_only=True):
    """A line of the statistics; None where a tier has no such thing."""

    name: str
    entries: int
    pinned: int | None = None
    tokens: int | None = None
    bytes: int | None = None
    max_bytes: int | None = None
    hits: int | None = None
    hit_tokens: int | None = None
    misses: int | None = None
    evictions: int
    corrupt: int | None = None


_STATS = (
    Column("tier", lambda row: row.name),
    Column("entries", lambda row: row.entries, number, right=True),
    Column("pinned", lambda row: row.pinned, number, right=True),
    Column("tokens", lambda row: row.tokens, number, right=True),
    Column("size", lambda row: row.bytes, size, right=True),
    Column("limit", lambda row: row.max_bytes, size, right=True),
    Column("hits", lambda row: row.hits, number, right=True),
    Column("hit tokens", lambda row: row.hit_tokens, number, right=True),
    Column("misses", lambda row: row.misses, number, right=True),
    Column("evicted", lambda row: row.evictions, number, right=True),
    Column("corrupt", lambda row: row.corrupt, number, right=True),
)


def show_stats(stats: CacheStats) -> None:
    """A line for each tier: name, entries, pinned, tokens, bytes, limit in bytes, hits, hit
    tokens, misses, evictions, corrupt entries."""
    rows = []
    if hot := stats.hot:
        row = _Tier(
            name="hot",
            entries=hot.entries,
            tokens=hot.tokens,
            hits=hot.hits,
            hit_tokens=hot.hit_tokens,
            misses=hot.misses,
            evictions=hot.evictions,
        )
        rows.append(row)
    for name, tier in (("memory", stats.memory), ("disk", stats.disk)):
        if tier is None:
            continue
        row = _Tier(
            name=name,
            entries=tier.entries,
            pinned=tier.pinned,
            bytes=tier.bytes,
            max_bytes=tier.max_bytes,
            hits=tier.hits,
            hit_tokens=tier.hit_tokens,
            misses=tier.misses,
            evictions=sum(tier.evictions.values()),
            corrupt=tier.corrupt,
        )
        rows.append(row)
    table.show(_STATS, rows)


def show_list(entries: Sequence[EntryInfo]) -> None:
    """A line for each entry: id, tiers, tokens, bytes, uses, seconds of age and since the last
    use, seconds left, whether it is pinned, label."""
    names = table.short([each.id for each in entries])
    columns = (
        Column("id", lambda entry: entry.id, lambda id: names[id]),
        Column("tiers", lambda entry: entry.tiers, ", ".join),
        Column("tokens", lambda entry: entry.tokens, number, right=True),
        Column("size", lambda entry: entry.bytes, size, right=True),
        Column("uses", lambda entry: entry.uses, number, right=True),
        Column("age", lambda entry: entry.age, duration, right=True),
        Column("used", lambda entry: entry.idle, lambda each: f"{duration(each)} ago", right=True),
        Column("expires", lambda entry: entry.expires_in, duration, right=True),
        Column("pinned", lambda entry: entry.pinned, lambda pinned: "yes" if pinned else ""),
        Column("label", lambda entry: entry.label),
    )
    table.show(columns, entries)


def show_entry(entry: EntryDetail) -> None:
    """The fields of an entry, a line for each, and what it is the state of."""
    terminal = sys.stdout.isatty()
    ids = entry.token_ids[:SHOWN] if terminal else entry.token_ids
    more = " ..." if len(ids) < len(entry.token_ids) else ""
    fields: dict[str, object] = {
        "id": entry.id,
        "label": entry.label,
        "pinned": entry.pinned,
        "tiers": entry.tiers,
        "tokens": entry.tokens,
        "size": size(entry.bytes) if terminal else entry.bytes,
        "uses": entry.uses,
        "age": duration(entry.age) if terminal else entry.age,
        "unused for": duration(entry.idle) if terminal else entry.idle,
        "expires in": _left(entry.expires_in) if terminal else entry.expires_in,
        "token ids": " ".join(map(str, ids)) + more,
    }
    for name, value in fields.items():
        print(f"{name:<12}{table.plain(value)}" if terminal else f"{name}\t{table.plain(value)}")
    if entry.text is not None:
        print(f"\n{harmless(entry.text)}" if terminal else f"text\t{table.plain(entry.text)}")


def _left(seconds: float | None) -> str:
    return "never" if seconds is None else duration(seconds)
