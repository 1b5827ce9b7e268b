"""Both tiers together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.entry import Entry, as_tokens
from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache, Speed
from llmengine.errors import InvalidRequest, NotFound
from tests.cache_fakes import Clock, right, state_of, tokens_of


class Bench:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.caches: list[PromptCache] = []

    def open(self, memory: int = 100_000, disk: int = 1_000_000, **more: object) -> PromptCache:
        cache = PromptCache(
            MemoryTier(memory, 10, 0, LRU(), self.clock) if memory else None,
            DiskTier(self.directory, disk, 20, 0, LRU(), self.clock, **more) if disk else None,
        )
        self.caches.append(cache)
        return cache


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "states")
    yield bench
    for cache in bench.caches:
        cache.close()


def put(cache: PromptCache, number: int, **more: object) -> bool:
    tokens = tokens_of(number)
    done = cache.put("s", tokens, state_of(tokens), **more)
    if cache.disk:
        assert cache.disk.flush(10)
    return done


def tier_of(cache: PromptCache, number: int) -> str | None:
    found = cache.find("s", tokens_of(number), seconds_per_token=1)
    return found.tier if found and found.length == 80 else None


def test_what_memory_has_comes_from_memory(bench: Bench) -> None:
    cache = bench.open()
    put(cache, 1)
    found = cache.find("s", tokens_of(1), seconds_per_token=1)
    assert (found.tier, found.length) == ("memory", 80)
    assert right(found.entry.tokens, cache.read(found))
    stats = cache.stats()
    assert (stats.memory.hits, stats.memory.hit_tokens, stats.disk.hits) == (1, 80, 0)
    assert msgspec.json.decode(msgspec.json.encode(stats))["disk"]["writes"] == 1


def test_after_a_restart_it_comes_from_disk_and_then_from_memory(bench: Bench) -> None:
    cache = bench.open()
    put(cache, 1, label="support", pinned=True)
    cache.close()
    again = bench.open()
    found = again.find("s", tokens_of(1), seconds_per_token=1)
    assert found.tier == "disk"
    assert right(found.entry.tokens, again.read(found))
    assert tier_of(again, 1) == "memory"
    (info,) = again.list()
    assert (info.tiers, info.label, info.pinned) == (("memory", "disk"), "support", True)


def test_what_is_too_large_for_memory_is_still_read(bench: Bench) -> None:
    cache = bench.open(memory=4000)
    assert put(cache, 1)
    found = cache.find("s", tokens_of(1), seconds_per_token=1)
    assert right(found.entry.tokens, cache.read(found))
    assert cache.stats().memory.entries == 0


def test_what_is_removed_while_it_is_read_does_not_come_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bench.open(), 1)
    cache = bench.open()  # as after a restart: on disk alone
    assert cache.disk
    found = cache.find("s", tokens_of(1), seconds_per_token=1)
    assert found
    read = cache.disk.get

    def removed_meanwhile(entry: Entry, length: int = 0) -> object:
        state = read(entry, length)
        assert cache.clear() == 1
        return state

    monkeypatch.setattr(cache.disk, "get", removed_meanwhile)
    state = cache.read(found)
    assert state is not None
    assert right(tokens_of(1), state)
    assert cache.list() == []


def test_a_use_in_memory_counts_on_disk(bench: Bench) -> None:
    cache = bench.open(disk=16_000)
    put(cache, 1)
    put(cache, 2)
    cache.read(cache.find("s", tokens_of(1), seconds_per_token=1))
    put(cache, 3)
    assert not cache.disk.covers("s", tokens_of(2))
    assert cache.disk.covers("s", tokens_of(1))


def test_promotion_keeps_shorter_states_for_models_that_cannot_cut(bench: Bench) -> None:
    cache = bench.open()
    tokens = tokens_of(1)
    for length in (60, 80):
        cache.put("s", tokens[:length], state_of(tokens[:length]), whole=True)
    cache.close()
    again = bench.open()
    for length in (80, 60):
        found = again.find("s", tokens[:length], whole=True, seconds_per_token=1)
        assert (found.tier, found.length) == ("disk", length)
        again.read(found)
    assert again.stats().memory.entries == 2


def test_cost_decides(bench: Bench) -> None:
    cache = bench.open()
    state = np.zeros(1_000_000, np.uint8)
    tokens = tokens_of(1, 100)
    cache.disk.put("s", tokens, state)
    cache.disk.flush(10)
    cache.memory.put("s", tokens[:60], state[:60_000])
    for _ in range(50):
        cache._reading["disk"].note(1_000_000, 0.1)
        cache._reading["memory"].note(1_000_000, 0.001)
        cache.restored(1_000_000, 0.01)
    assert cache.seconds_to_load("disk", 1_000_000) == pytest.approx(0.11, rel=0.01)

    def tier(seconds_per_token: float, held: int = 0) -> str | None:
        found = cache.find("s", tokens, held=held, seconds_per_token=seconds_per_token)
        return found.tier if found else None

    assert tier(1.0) == "disk"
    assert tier(0.0028) == "disk"  # 40 tokens for 110 ms
    assert tier(0.0027) == "memory"
    assert tier(0.00001) is None  # 60 tokens for 0.66 ms
    assert tier(0.0028, held=59) == "disk"
    assert tier(0.0028, held=61) is None  # 39 tokens for 110 ms
    assert tier(1.0, held=100) is None


def test_speeds_follow_what_is_measured() -> None:
    speed = Speed(1e9)
    assert speed.seconds(1_000_000) == pytest.approx(0.001)
    for _ in range(30):
        speed.note(10_000_000, 0.1)
    assert speed.seconds(1_000_000) == pytest.approx(0.01, rel=0.02)


def test_covers_asks_all_tiers(bench: Bench) -> None:
    cache = bench.open(memory=8000)
    put(cache, 1)
    put(cache, 2)
    assert cache.stats().memory.entries == 1
    assert cache.covers("s", tokens_of(1))
    assert cache.covers("s", tokens_of(1)[:50])
    assert not cache.covers("s", tokens_of(1)[:50], whole=True)
    assert not cache.covers("s", tokens_of(3))
    assert not cache.covers("other", tokens_of(1))


@pytest.mark.parametrize(("memory", "disk"), [(100_000, 0), (0, 1_000_000), (0, 0)])
def test_tiers_may_be_missing(bench: Bench, memory: int, disk: int) -> None:
    cache = bench.open(memory, disk)
    assert put(cache, 1) == cache.room(8000) == bool(memory or disk)
    assert tier_of(cache, 1) == ("memory" if memory else "disk" if disk else None)
    if found := cache.find("s", tokens_of(1), seconds_per_token=1):
        assert right(found.entry.tokens, cache.read(found))
    assert len(cache.list()) == bool(memory or disk)
    assert list(cache.verify()) == []
    assert cache.clear() == bool(memory or disk)
    assert cache.list() == []


def test_entries_are_shown_and_steered_by_the_beginning_of_their_id(bench: Bench) -> None:
    cache = bench.open()
    put(cache, 1, label="one")
    bench.clock.now += 5
    put(cache, 2)
    two, one = cache.list()
    assert (one.label, one.tokens, one.bytes, one.age, one.idle) == ("one", 80, 8000, 5, 5)
    assert (one.expires_in, one.pinned, one.uses) == (None, False, 1)
    detail = cache.show(one.id[:8])
    assert [getattr(detail, name) for name in one.__struct_fields__] == [
        getattr(one, name) for name in one.__struct_fields__
    ]
    assert (detail.token_ids, detail.text) == (tuple(tokens_of(1).tolist()), None)
    assert cache.pin(one.id[:8]) == one.id
    assert [each.pinned for each in cache.list()] == [False, True]
    assert cache.pin(one.id, False) == one.id
    assert [each.pinned for each in cache.list()] == [False, False]
    assert cache.remove(two.id[:12]) == two.id
    assert [each.id for each in cache.list()] == [one.id]
    assert cache.clear() == 1


@pytest.mark.parametrize("id", ["", "xyz"])
def test_ids_that_are_none(bench: Bench, id: str) -> None:
    cache = bench.open()
    put(cache, 1)
    for act in (cache.show, cache.pin, cache.remove):
        with pytest.raises(NotFound, match=f"no entry '{id}' is in the prompt cache"):
            act(id)
    assert len(cache.list()) == 1


def test_an_id_must_mean_one_entry(bench: Bench) -> None:
    cache = bench.open()
    for number in range(17):  # of so many, two begin with the same digit
        put(cache, number)
    first = [each.id[0] for each in cache.list()]
    digit = next(each for each in first if first.count(each) > 1)
    for act in (cache.show, cache.pin, cache.remove):
        with pytest.raises(InvalidRequest, match=f"entries begin with {digit}: give more of the"):
            act(digit)


def test_what_saving_and_loading_take_is_counted(bench: Bench) -> None:
    cache = bench.open()
    assert cache.room(8000)
    put(cache, 1)
    put(cache, 2)  # without a copy before
    cache.close()
    stats = cache.stats()
    assert sum(stats.copying.counts) == 1
    assert sum(stats.disk.saving.counts) == 2
    assert sum(stats.memory.loading.counts) == 0
    again = bench.open()
    again.read(again.find("s", tokens_of(1), seconds_per_token=1))  # from disk
    again.restored(8000, 20.0)
    again.read(again.find("s", tokens_of(1), seconds_per_token=1))  # from memory
    again.restored(8000, 0.002)
    stats = again.stats()
    assert sum(stats.disk.loading.counts) == sum(stats.memory.loading.counts) == 1
    assert stats.restoring.counts == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert stats.restoring.seconds == 20.002
    assert sum(stats.copying.counts) == 0


def test_the_time_to_live_is_told(tmp_path: Path) -> None:
    clock = Clock()
    cache = PromptCache(MemoryTier(1000, 10, 60, LRU(), clock), None)
    cache.put("s", as_tokens([1]), np.zeros(1, np.uint8))
    clock.now += 20
    (info,) = cache.list()
    assert info.expires_in == 40


def test_closing_writes_what_was_dropped(bench: Bench) -> None:
    cache = bench.open(queue_bytes=8000)
    cache.disk._writer.submit(lambda: cache.disk._lock.acquire() and cache.disk._lock.release())
    with cache.disk._lock:  # the writer waits
        taken = [cache.disk.put("s", tokens_of(n), state_of(tokens_of(n))) for n in range(3)]
    for number in range(3):
        cache.memory.put("s", tokens_of(number), state_of(tokens_of(number)))
    assert taken == [True, False, False]
    cache.close()
    again = bench.open()
    assert [tier_of(again, number) for number in range(3)] == ["disk"] * 3


def test_verify_finds_damage(bench: Bench) -> None:
    cache = bench.open()
    put(cache, 1)
    (path,) = bench.directory.glob("*/*.state")
    path.write_bytes(b"?")
    assert list(cache.verify()) == [path.stem]
    assert tier_of(cache, 1) == "memory"
