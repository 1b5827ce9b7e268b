"""States that are read from a slow disk while others stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_fakes import Bench, FakeContext, answer, text_of
from patience import PATIENCE
from real import chatml, config, request, run

from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.entry import Entry, State
from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache
from llmengine.core import Request
from llmengine.engine.engine import Engine

PROMPT = [number * 11 % 500 for number in range(300)]
LENGTH = 90  # tokens of each stream


class SlowDisk(DiskTier):
    """Reads when it is let; large states are handed out though small ones were written."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, 1 << 30, 100, 0, LRU())
        self.open = threading.Event()
        self.reads: list[str] = []
        self.pad = 0  # bytes added to what is read

    def get(self, entry: Entry, length: int = 0) -> State | None:
        self.reads.append(entry.id)
        assert self.open.wait(PATIENCE)
        state = super().get(entry, length)
        return None if state is None else np.concatenate([state, np.zeros(self.pad, np.uint8)])


class Slow:
    """A bench whose disk has the state of `PROMPT`, and four streams that run."""

    def __init__(self, directory: Path, *, memory: int = 0, **options: object) -> None:
        tier = MemoryTier(memory, 10, 0, LRU()) if memory else None
        self.disk = SlowDisk(directory)
        self.bench = Bench(cache=PromptCache(tier, self.disk), **options)  # type: ignore[arg-type]
        context = FakeContext(1000)
        context.sequences[0] = list(enumerate(PROMPT))
        state = np.empty(context.state_size(0), np.uint8)
        context.save(0, state)
        self.disk.put("", np.array(PROMPT, np.int32), state)
        assert self.disk.flush(PATIENCE)
        self.streams = [f"s{index}" for index in range(4)]
        for index, name in enumerate(self.streams):
            self.bench.add(name, [400 + index, 1], max_tokens=LENGTH)
        self.bench.step()

    def _idle(self) -> bool:
        """Work until only a read is left to wait for; whether nothing is."""
        while self.bench.step():
            pass
        return not self.bench.runner.busy

    def wait_for_read(self) -> None:
        self.wait_for(lambda: bool(self.disk.reads))

    def wait_for(self, happened: Callable[[], bool]) -> None:
        for _ in range(12_000):
            if happened():
                return
            time.sleep(0.005)
        raise AssertionError("it did not happen in a minute")

    def finish(self) -> None:
        self.disk.open.set()
        self.wait_for(self._idle)
        assert self.bench.fetcher is not None
        self.bench.fetcher.close()
        self.bench.scheduler._admission._keeper.cache.close()  # type: ignore[union-attr]
        for index, name in enumerate(self.streams):
            assert self.bench.text(name) == text_of(answer([400 + index, 1], LENGTH))


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    slow = Slow(tmp_path / "states")
    yield slow
    slow.finish()


def test_streams_get_a_token_in_every_step_while_a_large_state_is_read(slow: Slow) -> None:
    bench = slow.bench
    slow.disk.pad = 200 * 2**20
    prompt = [*PROMPT, 5, 6, 7]
    bench.add("r", prompt, max_tokens=4)
    bench.step()
    slow.wait_for_read()
    for _ in range(50):
        assert set(bench.step()) == set(slow.streams)
    slow.disk.open.set()
    (fetch,) = bench.fetcher._held  # type: ignore[union-attr]
    slow.wait_for(lambda: fetch.done)
    while not bench.outputs["r"]:
        assert set(slow.streams) <= set(bench.step())
    while bench.last("r").finish_reason is None:
        bench.step()
    assert bench.text("r") == text_of(answer(prompt, 4))
    assert bench.last("r").usage.cached_tokens == 300  # type: ignore[union-attr]
    assert len(slow.disk.reads) == 1


def test_requests_for_one_state_share_one_read(slow: Slow) -> None:
    bench = slow.bench
    for index in range(3):
        bench.add(f"r{index}", [*PROMPT, index], max_tokens=2)
    bench.step()
    slow.wait_for_read()
    bench.step()
    slow.disk.open.set()
    while not all(bench.outputs[f"r{index}"] for index in range(3)):
        bench.step()
    assert len(slow.disk.reads) == 1
    assert bench.runner.prefilled_tokens == 4 * 2 + 3


def test_a_request_that_is_cancelled_while_its_state_is_read_is_gone(slow: Slow) -> None:
    bench = slow.bench
    bench.add("r", [*PROMPT, 1], max_tokens=2)
    bench.step()
    slow.wait_for_read()
    bench.runner.cancel("r")
    bench.step()
    assert bench.last("r").finish_reason == "cancelled"
    assert bench.fetcher is not None
    assert bench.fetcher._held == []
    bench.add("again", [*PROMPT, 1], max_tokens=2)
    slow.disk.open.set()
    while not bench.outputs["again"]:
        bench.step()
    assert bench.last("again").usage is None or bench.last("again").usage.cached_tokens == 300


def test_a_state_that_was_read_waits_for_room_and_is_not_read_again(tmp_path: Path) -> None:
    slow = Slow(tmp_path / "states", limit=4)  # all places are taken by the streams
    bench = slow.bench
    slow.disk.open.set()
    bench.add("r", [*PROMPT, 1], max_tokens=2)
    for _ in range(20):
        bench.step()
    assert slow.disk.reads == []  # it is not even asked for before a place is free
    slow.finish()
    assert bench.text("r") == text_of(answer([*PROMPT, 1], 2))
    slow = Slow(tmp_path / "others", cells=500)
    bench = slow.bench
    bench.add("r", [*PROMPT, 1], max_tokens=2)
    bench.step()
    slow.wait_for_read()
    for _ in range(40):
        bench.step()
    slow.disk.open.set()
    for _ in range(20):  # the streams have grown: there is no room for the state
        time.sleep(0.005)
        assert set(bench.step()) == set(slow.streams)
    slow.finish()
    assert bench.text("r") == text_of(answer([*PROMPT, 1], 2))
    assert bench.last("r").usage.cached_tokens == 300  # type: ignore[union-attr]
    assert len(slow.disk.reads) == 1


def test_what_cannot_be_read_is_computed(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = slow.bench

    def broken(found: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(bench.fetcher._cache, "read", broken)  # type: ignore[union-attr]
    bench.add("r", [*PROMPT, 1], max_tokens=2)
    while not bench.outputs["r"]:
        bench.step()
    bench.step()
    assert bench.text("r") == text_of(answer([*PROMPT, 1], 2))
    assert bench.last("r").usage.cached_tokens == 0  # type: ignore[union-attr]


def test_what_is_read_and_not_placed_is_bounded(tmp_path: Path) -> None:
    slow = Slow(tmp_path / "states", fetch_bytes=3000)
    bench = slow.bench
    other = [each + 1 for each in PROMPT]
    context = FakeContext(1000)
    context.sequences[0] = list(enumerate(other))
    state = np.empty(context.state_size(0), np.uint8)
    context.save(0, state)
    slow.disk.put("", np.array(other, np.int32), state)
    assert slow.disk.flush(PATIENCE)
    bench.add("one", [*PROMPT, 1], max_tokens=2)
    bench.add("two", [*other, 1], max_tokens=2)
    for _ in range(10):
        bench.step()
    assert bench.fetcher is not None
    assert [each.found.entry.size for each in bench.fetcher._held] == [2408]
    slow.finish()
    assert len(slow.disk.reads) == 2
    for name, tokens in (("one", PROMPT), ("two", other)):
        assert bench.text(name) == text_of(answer([*tokens, 1], 2))
        assert bench.last(name).usage.cached_tokens == 300  # type: ignore[union-attr]


@pytest.mark.model
def test_the_engine_waits_for_a_read_and_for_deadlines_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(path=str(tmp_path / "states"), context_size=1024, threads=1)
    text = "<|im_start|>system\n" + "Be brief. " * 40 + "<|im_end|>\n" + chatml("Hello!")
    with Engine(settings) as engine:
        first = run(engine, [request(engine, "r", text, temperature=0)])["r"]
    gate = threading.Event()
    read = DiskTier.get

    def slowly(self: DiskTier, entry: Entry, length: int = 0) -> State | None:
        assert gate.wait(PATIENCE)
        return read(self, entry, length)

    monkeypatch.setattr(DiskTier, "get", slowly)
    with Engine(settings) as engine:
        made = request(engine, "late", text, temperature=0)
        deadline = time.monotonic() + 0.2
        late = Request(id="late", prompt=made.prompt, params=made.params, deadline=deadline)
        ended = run(engine, [late])["late"]
        assert ended.last is not None
        assert ended.last.error is not None
        assert ended.last.error.kind == "DeadlineExceeded"
        steps = engine.stats().steps
        assert steps == 0
        threading.Timer(0.2, gate.set).start()
        again = run(engine, [request(engine, "r", text, temperature=0)])["r"]
        assert again.text == first.text
        assert again.usage.cached_tokens > 100
