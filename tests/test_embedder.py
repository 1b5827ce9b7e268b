"""The batches of which embeddings are made, on a fake context whose vectors show what it read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from patience import PATIENCE

from llmengine.engine.embedder import Embedder, Job
from llmengine.engine.pulse import Pulse
from llmengine.errors import Internal, ModelUnavailable, OutOfMemory
from llmengine.llama.context import Status
from llmengine.llama.traits import Pooling, Traits


class FakeContext:
    """The vector of a token is (token, its position, its sequence's tokens so far)."""

    def __init__(self, length: int, ranks: bool = False) -> None:
        self.length = length
        self.ranks = ranks
        self.batches: list[list[tuple[int, int, list[int]]]] = []
        self.memory: dict[int, list[int]] = {}
        self.status = Status.OK
        self.closed = False
        self.compute: Callable[[], Status] = lambda: self.status
        self.abort: Callable[[], None] = lambda: None

    def clear(self) -> None:
        self.batches.append([])

    def add(self, sequence: int, start: int, tokens: Sequence[int]) -> None:
        assert len(self.memory.setdefault(sequence, [])) == start
        self.memory[sequence] += tokens
        self.batches[-1].append((sequence, start, list(tokens)))

    def vectors(self) -> Any:
        return np.array(
            [
                (token, start + at, len(self.memory[sequence]))
                for sequence, start, tokens in self.batches[-1]
                for at, token in enumerate(tokens)
            ],
            np.float32,
        )

    def scores(self, sequence: int) -> Any:
        return np.array([sum(self.memory[sequence])], np.float32)

    def forget(self, sequence: int) -> None:
        del self.memory[sequence]

    def close(self) -> None:
        self.closed = True


class Bench:
    def __init__(self, *, causal: bool = True, pooling: Pooling = Pooling.MEAN) -> None:
        self.contexts: list[FakeContext] = []
        traits = Traits(causal, causal, pooling, 3, 1, True)
        self.now = 0.0
        pulse = Pulse(lambda: self.now)
        self.embedder = Embedder(traits, self._context, rows=8, sequences=4, pulse=pulse)

    def _context(self, length: int) -> Any:
        self.contexts.append(
            FakeContext(length, ranks=self.embedder._traits.pooling is Pooling.RANK)
        )
        return self.contexts[-1]

    def add(self, *inputs: Sequence[int]) -> Job:
        job = Job(inputs)
        self.embedder.take(job)
        return job

    def step(self) -> list[tuple[int, list[int]]]:
        """What the batch held: where each part began, and its tokens."""
        before = self.batches
        self.embedder.step()
        return (
            [(start, tokens) for _, start, tokens in self.contexts[-1].batches[-1]]
            if self.batches > before
            else []
        )

    @property
    def batches(self) -> int:
        return sum(len(each.batches) for each in self.contexts)


def vectors(job: Job) -> list[list[float]]:
    return [np.frombuffer(each, "<f4").tolist() for each in job.future.result(0)]


def unit(*values: float) -> Any:
    return pytest.approx((np.array(values) / np.linalg.norm(values)).tolist())


def test_inputs_of_several_requests_share_a_batch() -> None:
    bench = Bench()
    one, two = bench.add([1, 2], [3]), bench.add([4, 5])
    assert bench.step() == [(0, [1, 2]), (0, [3]), (0, [4, 5])]
    assert vectors(one) == [unit(3, 1, 4), unit(3, 0, 1)]
    assert vectors(two) == [unit(9, 1, 4)]
    assert bench.contexts[0].memory == {}
    assert bench.step() == []
    assert bench.step() == []


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (Pooling.MEAN, (sum(range(1, 13)), sum(range(12)), 8 * 8 + 4 * 12)),
        (Pooling.CLS, (1, 0, 8)),
        (Pooling.LAST, (12, 11, 12)),
    ],
)
def test_a_long_input_comes_in_parts(pooling: Pooling, expected: tuple[float, ...]) -> None:
    bench = Bench(pooling=pooling)
    job, other = bench.add(range(1, 13)), bench.add([7])
    assert bench.step() == [(0, [1, 2, 3, 4, 5, 6, 7, 8])]
    assert bench.step() == [(8, [9, 10, 11, 12]), (0, [7])]
    assert vectors(job) == [unit(*expected)]
    assert other.future.done()


def test_a_model_that_looks_both_ways_gets_each_input_whole() -> None:
    bench = Bench(causal=False)
    bench.add([1] * 12, [2] * 5, [3] * 3, [4])
    assert [len(tokens) for _, tokens in bench.step()] == [12]
    assert [len(tokens) for _, tokens in bench.step()] == [5, 3]
    assert [len(tokens) for _, tokens in bench.step()] == [1]


def test_scores_come_when_the_whole_pair_is_read() -> None:
    bench = Bench(pooling=Pooling.RANK)
    job = bench.add([1] * 10, [5])
    bench.step()
    bench.step()
    assert vectors(job) == [[10.0], [5.0]]


def test_a_batch_has_no_more_inputs_than_sequences() -> None:
    bench = Bench()
    bench.add(*[[1]] * 7)
    assert len(bench.step()) == 4
    assert len(bench.step()) == 3


def test_what_is_cancelled_is_not_computed() -> None:
    bench = Bench()
    first, second, third = bench.add(range(20), [9]), bench.add([1]), bench.add([2])
    bench.step()
    assert first.future.cancel()
    assert second.future.cancel()
    assert bench.step() == [(0, [2])]
    assert vectors(third) == [unit(2, 0, 1)]
    assert bench.contexts[0].memory == {}
    assert bench.step() == []


def test_a_longer_input_gets_a_larger_context_when_nothing_is_under_way() -> None:
    bench = Bench()
    bench.add(range(10), [1] * 600, [2])
    assert [len(tokens) for _, tokens in bench.step()] == [8]
    assert [len(tokens) for _, tokens in bench.step()] == [2]
    assert [each.length for each in bench.contexts] == [512]
    bench.step()
    assert [(each.length, each.closed) for each in bench.contexts] == [(512, True), (1024, False)]


def test_a_failed_batch_fails_its_requests_alone() -> None:
    bench = Bench()
    bench.step()
    first, second = bench.add([1] * 9, [1]), bench.add([2])
    bench.step()
    bench.contexts[0].status = Status.FAILED
    bench.step()
    with pytest.raises(Internal):
        first.future.result(0)
    with pytest.raises(Internal):
        second.future.result(0)
    assert bench.contexts[0].closed
    third = bench.add([3])
    bench.step()
    assert vectors(third) == [unit(3, 0, 1)]


def test_memory_that_is_not_there_is_told() -> None:
    bench = Bench()

    def fail(_: int) -> Any:
        raise OutOfMemory("too large")

    bench.embedder._new_context = fail
    job = bench.add([1])
    bench.step()
    with pytest.raises(OutOfMemory):
        job.future.result(0)


def test_what_must_come_whole_has_the_time_of_several_batches() -> None:
    bench = Bench(causal=False)
    bench.add([1] * 12, [2])
    found: list[float] = []

    def compute() -> Status:
        bench.now += 6
        found.append(bench.embedder.stalled)
        return Status.OK

    context = bench._context(512)
    context.compute = compute
    bench.embedder._context = context
    bench.step()
    bench.step()
    assert found == [4, 6]


def test_closing_fails_what_is_left() -> None:
    bench = Bench()
    begun, aborted = threading.Event(), threading.Event()

    def compute() -> Status:
        begun.set()
        assert aborted.wait(PATIENCE)
        return Status.ABORTED

    def context(length: int) -> Any:
        found = FakeContext(length)
        found.compute, found.abort = compute, aborted.set
        bench.contexts.append(found)
        return found

    bench.embedder._new_context = context
    jobs = [Job([range(20)]), Job([[1]]), Job([[2]])]
    for each in jobs:
        bench.embedder.add(each)
    assert begun.wait(PATIENCE)
    jobs[1].future.cancel()
    bench.embedder.close()
    for each in (jobs[0], jobs[2]):
        with pytest.raises(ModelUnavailable):
            each.future.result(0)
    assert bench.contexts[0].closed
    bench.embedder.close()
