"""The tier in memory: budgets, lifetimes, replacement, threads."""

from __future__ import annotations

import random
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmengine.cache.entry import as_tokens
from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import POLICIES
from tests.cache_fakes import Clock, right, state_of, tokens_of


def tier(
    max_bytes: int = 1000, max_entries: int = 10, ttl: float = 0, policy: str = "lru", clock=None
) -> MemoryTier:
    return MemoryTier(max_bytes, max_entries, ttl, POLICIES[policy](), clock or Clock())


def put(memory: MemoryTier, *tokens: int, size: int = 100, scope: str = "s", **more) -> bool:
    return memory.put(scope, as_tokens(tokens), np.zeros(size, np.uint8), **more)


def held(memory: MemoryTier) -> list[list[int]]:
    return [entry.tokens.tolist() for entry in memory.entries()]


def test_a_state_is_found_by_its_prefix_and_comes_back_as_it_was() -> None:
    memory = tier()
    state = np.arange(100, dtype=np.uint8)
    assert memory.put("s", as_tokens([1, 2, 3, 4]), state, label="greeting")
    found = memory.find("s", as_tokens([1, 2, 3, 9, 9]))
    assert (found.length, found.entry.label, found.tier) == (3, "greeting", "memory")
    assert memory.get(found.entry, found.length) is state
    assert memory.find("s", as_tokens([2, 3])) is None
    assert memory.find("other", as_tokens([1, 2, 3, 4])) is None
    stats = memory.stats()
    assert (stats.hits, stats.hit_tokens, stats.misses, stats.entries) == (1, 3, 2, 1)


def test_whole_finds_only_what_need_not_be_cut() -> None:
    memory = tier()
    put(memory, 1, 2, 3, 4, 5)
    assert memory.find("s", as_tokens([1, 2, 3, 9]), whole=True) is None
    put(memory, 1, 2, whole=True)
    assert held(memory) == [[1, 2, 3, 4, 5], [1, 2]]
    assert memory.find("s", as_tokens([1, 2, 3, 9]), whole=True).length == 2
    assert memory.find("s", as_tokens([1, 2, 3, 4, 5, 6]), whole=True).length == 5
    assert memory.covers("s", as_tokens([1, 2, 3]))
    assert not memory.covers("s", as_tokens([1, 2, 3]), whole=True)


def test_the_smallest_of_equal_prefixes_is_taken() -> None:
    memory = tier()
    put(memory, 1, 2, 3, size=300)
    put(memory, 1, 2, 4, 5, size=200)
    assert memory.find("s", as_tokens([1, 2, 9])).entry.size == 200


def test_a_longer_prompt_replaces_its_prefixes_but_for_pinned_ones() -> None:
    memory = tier()
    put(memory, 1, 2, pinned=True)
    put(memory, 1, 2, 3)
    put(memory, 1, 2, 3, 4)
    put(memory, 1, 2, 3, scope="other")
    assert held(memory) == [[1, 2], [1, 2, 3, 4], [1, 2, 3]]
    assert memory.stats().evictions == {"replaced": 1}


def test_a_conversation_is_as_often_used_as_all_its_turns() -> None:
    memory = tier(max_bytes=300, policy="lfu")
    for length in (2, 3, 4):
        put(memory, *range(length))
        memory.get(memory.find("s", as_tokens([*range(length), 9])).entry)
    for other in (7, 8, 9):
        put(memory, other)
    assert [(entry.tokens[0], entry.uses) for entry in memory.entries()] == [(0, 4), (8, 1), (9, 1)]


def test_a_prefix_of_what_is_held_is_not_stored_again() -> None:
    memory = tier(policy="lru")
    put(memory, 1, 2, 3)
    put(memory, 7)
    assert put(memory, 1, 2)
    assert held(memory) == [[7], [1, 2, 3]]  # and it counts as a use
    assert put(memory, 1, 2, pinned=True)
    assert len(held(memory)) == 3


def test_room_is_made_before_a_state_is_there() -> None:
    memory = tier(max_bytes=1000, max_entries=20)
    for number in range(10):
        put(memory, number)
    assert memory.room(250)
    assert memory.stats().bytes == 700
    assert memory.stats().evictions == {"size": 3}
    assert not memory.room(1001)
    assert memory.stats().bytes == 700


def test_what_cannot_fit_costs_nobody_his_place() -> None:
    memory = tier(max_bytes=1000)
    put(memory, 1, size=600, pinned=True)
    put(memory, 2, size=300)
    assert not put(memory, 3, size=401)
    assert not put(memory, size=1)  # no tokens
    assert held(memory) == [[1], [2]]
    assert put(memory, 3, size=400)
    assert held(memory) == [[1], [3]]


def test_pinned_entries_stay_until_they_are_unpinned() -> None:
    clock = Clock()
    memory = tier(max_entries=2, ttl=10, clock=clock)
    put(memory, 1, pinned=True)
    put(memory, 2)
    put(memory, 3)
    clock.now += 11
    assert held(memory) == [[1]]
    (entry,) = memory.entries()
    assert memory.pin(entry.id, False)
    assert held(memory) == []
    assert not memory.pin(entry.id)
    assert memory.stats().evictions == {"count": 1, "ttl": 2}


def test_when_all_are_pinned_nothing_is_added() -> None:
    memory = tier(max_entries=1)
    put(memory, 1, pinned=True)
    assert not put(memory, 2)
    assert not memory.room(1)


def test_entries_live_from_their_last_use() -> None:
    clock = Clock()
    memory = tier(ttl=10, clock=clock)
    put(memory, 1)
    put(memory, 2)
    clock.now += 6
    memory.get(memory.find("s", as_tokens([1])).entry)
    clock.now += 6
    stale = memory.find("s", as_tokens([1])).entry
    assert memory.find("s", as_tokens([2])) is None
    clock.now += 6
    assert memory.get(stale) is None
    assert memory.stats().bytes == 0


def test_remove_and_clear() -> None:
    memory = tier()
    put(memory, 1)
    put(memory, 2, pinned=True)
    put(memory, 3)
    first = memory.entries()[0]
    assert memory.remove(first.id)
    assert not memory.remove(first.id)
    assert memory.get(first) is None
    assert memory.clear() == 2
    assert memory.stats().entries == 0


WORK = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "get", "room", "pin", "unpin", "remove", "wait"]),
        st.lists(st.integers(0, 2), min_size=1, max_size=5),
        st.integers(1, 500),
    ),
    max_size=60,
)


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo"])
@given(work=WORK, whole=st.booleans())
def test_the_budget_holds_at_every_step(policy: str, work: list, whole: bool) -> None:
    clock = Clock()
    memory = tier(max_entries=5, ttl=50, policy=policy, clock=clock)
    for number, (step, tokens, size) in enumerate(work):
        wanted = as_tokens(tokens)
        found = memory.find("s", wanted, whole=whole)
        if step == "put":
            stored = memory.put("s", wanted, np.full(size, number % 251, np.uint8), whole=whole)
            assert stored == memory.covers("s", wanted, whole=whole)
        elif step == "room" and memory.room(size):
            assert memory.stats().bytes + size <= 1000
            assert memory.stats().entries < 5
        elif step == "wait":
            clock.now += size / 20
        elif found and step == "get":
            assert len(memory.get(found.entry)) == found.entry.size
        elif found and step in ("pin", "unpin"):
            memory.pin(found.entry.id, step == "pin")
        elif found and step == "remove":
            memory.remove(found.entry.id)
        memory.check()


def test_threads() -> None:
    memory = MemoryTier(200_000, 40, 0.05, POLICIES["lfu"]())
    done = Counter()
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(500):
                step = chance.choice(["put", "put", "find", "remove", "pin", "list", "room"])
                done[step] += hammer(memory, step, chance)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    memory.check()
    assert min(done.values()) > 10


def hammer(memory: MemoryTier, step: str, chance: random.Random) -> int:
    tokens = tokens_of(chance.randrange(60))
    if step == "put":
        memory.put("s", tokens, state_of(tokens))
    elif step == "room":
        memory.room(chance.randrange(50_000))
    elif step == "remove" and (found := memory.find("s", tokens)):
        memory.remove(found.entry.id)
    elif step == "pin" and (found := memory.find("s", tokens)):
        memory.pin(found.entry.id, True)
        memory.pin(found.entry.id, False)
    elif step == "list":
        assert sum(entry.size for entry in memory.entries()) <= 200_000
    elif found := memory.find("s", tokens):
        state = memory.get(found.entry, found.length)
        assert state is None or right(found.entry.tokens, state)
    return 1
