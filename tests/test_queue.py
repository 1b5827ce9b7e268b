"""Whose turn it is: against a plain list, and what fairness and priority promise."""

from __future__ import annotations

import queue as queues
from collections import Counter

import pytest
from engine_fakes import Bench, GreedySampler
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llmengine.core import Request
from llmengine.engine.queue import LEVEL, FairQueue
from llmengine.engine.sequence import Sequence
from llmengine.sampling import SamplingParams

SINK = queues.SimpleQueue().put


def sequence(name: str, tenant: str = "", priority: int = 0, tokens: int = 8) -> Sequence:
    request = Request(
        id=name,
        prompt=(1,) * tokens,
        params=SamplingParams(max_tokens=4),
        tenant=tenant,
        priority=priority,
    )
    return Sequence(request, SINK, GreedySampler(), 4)  # type: ignore[arg-type]


def serve(queue: FairQueue, tokens: int = 8) -> Sequence:
    """The next one, computed whole."""
    found = queue.pop()
    found.started = 1.0
    queue.start(found, tokens)
    return found


class Machine(RuleBasedStateMachine):
    """The queue does what a list does in which everything is looked at each time."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue()
        self.waiting: list[Sequence] = []  # in the order of arrival
        self.front: list[Sequence] = []
        self.running: list[Sequence] = []
        self.used: Counter[str] = Counter()
        self.time = 0
        self.count = 0

    def key(self, tenant: str) -> int:
        return self.used[tenant] + self.head(tenant).request.priority * LEVEL

    def head(self, tenant: str) -> Sequence:
        return min((each for each in self.waiting if each.request.tenant == tenant), key=rank)

    @rule(tenant=st.sampled_from("abc"), priority=st.integers(-8, 8))
    def add(self, tenant: str, priority: int) -> None:
        self.count += 1
        made = sequence(f"r{self.count}", tenant, priority)
        if not any(each.request.tenant == tenant for each in self.waiting):
            self.used[tenant] = max(self.used[tenant], self.time)
        self.queue.add(made)
        assert made.turn[0] == self.used[tenant] + priority * LEVEL
        self.waiting.append(made)

    @precondition(lambda self: self.waiting or self.front)
    @rule(back=st.integers(0, 3), tokens=st.integers(0, 9000))
    def take(self, back: int, tokens: int) -> None:
        """Some are passed over and put back, then one starts."""
        passed = []
        while back and len(self.queue) > 1:
            passed.append(self.next())
            back -= 1
        found = self.next()
        tenant, first = found.request.tenant, found.started is None
        if first:
            head_start = min(0, found.request.priority) * LEVEL
            self.time = max(self.time, self.used[tenant] + head_start)
            found.started = 1.0
            self.queue.start(found, tokens)
            self.used[tenant] += tokens
        self.running.append(found)
        for each in reversed(passed):
            self.queue.put_back(each)
            (self.front.insert(0, each) if each.started else self.waiting.append(each))

    def next(self) -> Sequence:
        found = self.queue.pop()
        if self.front:
            assert found is self.front.pop(0)
            return found
        tenant = found.request.tenant
        tenants = {each.request.tenant for each in self.waiting}
        assert self.key(tenant) == min(map(self.key, tenants))
        assert found is self.head(tenant)
        self.waiting.remove(found)
        return found

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def preempt(self, data: st.DataObject) -> None:
        found = data.draw(st.sampled_from(self.running))
        self.running.remove(found)
        self.queue.put_back(found)
        self.front.insert(0, found)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tokens=st.integers(1, 9000))
    def decode(self, data: st.DataObject, tokens: int) -> None:
        found = data.draw(st.sampled_from(self.running))
        self.queue.charge(found, tokens)
        self.used[found.request.tenant] += tokens

    @precondition(lambda self: self.waiting or self.front)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        found = data.draw(st.sampled_from([*self.waiting, *self.front]))
        (self.front if found.started else self.waiting).remove(found)
        self.queue.remove(found)

    @rule()
    def clear(self) -> None:
        if self.count % 7 == 0:
            self.queue.clear()
            self.waiting, self.front = [], []

    @invariant()
    def holds_the_same(self) -> None:
        assert set(self.queue) == {*self.waiting, *self.front}
        assert len(self.queue) == len(self.waiting) + len(self.front)


def rank(sequence: Sequence) -> tuple[float, int]:
    return sequence.turn


TestAgainstAList = Machine.TestCase
TestAgainstAList.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_one_tenant_is_served_in_order() -> None:
    queue = FairQueue()
    for at in range(100):
        queue.add(sequence(f"r{at}"))
    assert [serve(queue, at * 7 % 50).id for at in range(100)] == [f"r{at}" for at in range(100)]
    with pytest.raises(IndexError):
        queue.pop()


def test_a_burst_does_not_hold_others_up() -> None:
    queue = FairQueue()
    for at in range(1000):
        queue.add(sequence(f"burst{at}", "a"))
    for _ in range(5):
        serve(queue)
    queue.add(sequence("single", "b"))
    assert "single" in [serve(queue).id for _ in range(2)]


def test_what_is_computed_is_shared_whatever_requests_cost() -> None:
    """a's requests cost ten times b's: it gets a tenth as many of them."""
    queue = FairQueue()
    for at in range(1000):
        queue.add(sequence(f"a{at}", "a"))
        queue.add(sequence(f"b{at}", "b"))
    got: Counter[str] = Counter()
    for _ in range(550):
        found = queue.pop()
        found.started = 1.0
        tenant = found.request.tenant
        queue.start(found, 100)
        queue.charge(found, 900 if tenant == "a" else 0)
        got[tenant] += 1
    assert got["a"] in (50, 51)


def test_nothing_is_saved_up_by_not_asking() -> None:
    queue = FairQueue()
    for at in range(100):
        queue.add(sequence(f"a{at}", "a"))
    for _ in range(50):
        serve(queue, 1000)
    for at in range(50):
        queue.add(sequence(f"b{at}", "b"))
    order = [serve(queue, 1000).request.tenant for _ in range(20)]
    assert Counter(order) == {"a": 10, "b": 10}


def test_the_urgent_go_first_and_the_others_in_time() -> None:
    queue = FairQueue()
    queue.add(sequence("late", priority=2))
    for at in range(20):
        queue.add(sequence(f"usual{at}"))
    queue.add(sequence("urgent", priority=-1))
    order = []
    for at in range(20, 60):  # there is always another one
        order.append(serve(queue, 1024).id)
        queue.add(sequence(f"usual{at}"))
    assert order[0] == "urgent"
    # Those that came before 2 * LEVEL = 8 * 1024 tokens were computed, but no later ones.
    assert order.index("late") == 1 + 20 + 2 * LEVEL // 1024 - 1


def test_what_left_is_forgotten() -> None:
    queue = FairQueue()
    queue.add(sequence("stays", priority=-8))
    for at in range(5000):
        for tenant in "abc":
            gone = sequence(f"{tenant}{at}", tenant, priority=at % 3)
            queue.add(gone)
            queue.remove(gone)
            held = sequence(f"held{tenant}{at}", "", priority=at % 5)
            queue.add(held)
            queue.remove(held)
    assert len(queue) == 1
    assert len(queue._tickets) < 50
    assert sum(len(each.line) for each in queue._tenants.values()) < 50


def test_places_in_the_queue() -> None:
    queue = FairQueue()
    own = [sequence(f"a{at}", "a") for at in range(4)]
    for each in own:
        queue.add(each)
    assert [queue.position(each) for each in own] == [1, 2, 3, 4]
    other = sequence("b", "b")
    queue.add(other)
    assert queue.position(other) == 2
    assert [queue.position(each) for each in own] == [2, 3, 4, 5]
    queue.remove(own[1])
    assert [queue.position(each) for each in (own[0], *own[2:])] == [2, 3, 4]
    first = queue.pop()
    first.started = 1.0
    queue.put_back(first)
    assert queue.position(first) == 1


def test_the_scheduler_takes_turns() -> None:
    bench = Bench(limit=2)
    for at in range(20):
        bench.add(f"burst{at}", [at, *range(60)], tenant="a", max_tokens=20)
    for _ in range(3):
        bench.step()
    for at in range(3):
        bench.add(f"b{at}", [100 + at, *range(60)], tenant="b", max_tokens=20)
    ended: list[str] = []
    while bench.runner.busy:
        names = bench.step()
        ended += [name for name in names if bench.last(name).finish_reason]
    assert len(ended) == 23
    # Two of the burst ran already; from then on it is one of each at a time.
    assert max(ended.index(f"b{at}") for at in range(3)) < 2 + 2 * 3


def test_a_place_that_cannot_be_tried_loses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(limit=2)
    for name in "abc":
        bench.add(name, [ord(name), *range(30)])

    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(bench.scheduler._admission, "place", broken)
    with pytest.raises(MemoryError):
        bench.step()
    assert {each.id for each in bench.scheduler.waiting} == {"a", "b", "c"}
    ended = bench.runner.end_all("error")[bench.sink]
    assert {each.request_id for each in ended} == {"a", "b", "c"}
