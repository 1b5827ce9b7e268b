"""Caches are dropped before memory is out: with readings made up, and with a real engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import real
from serving import eventually

from llmengine.cache.entry import as_tokens
from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import LRU
from llmengine.engine import watcher as watching
from llmengine.engine.ceiling import Ceiling
from llmengine.engine.engine import Engine
from llmengine.engine.pool import Pool
from llmengine.engine.watcher import Watcher
from llmengine.hardware import Memory
from llmengine.usage import DeviceUsage, ProcessUsage

MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("ceiling", "used", "total", "available", "headroom"),
    [
        pytest.param(0, 50, 1000, 400, 300, id="a tenth stays free"),
        pytest.param(0, 50, 1000, 60, -40, id="short"),
        pytest.param(0, 50, 100 << 30, 3 << 30, 2 << 30, id="at most 1 GiB stays free"),
        pytest.param(200, 50, 1000, 400, 150, id="a ceiling"),
        pytest.param(200, 250, 1000, 400, -50, id="above it"),
        pytest.param(900, 50, 1000, 120, 20, id="the machine has less"),
    ],
)
def test_headroom(ceiling: int, used: int, total: int, available: int, headroom: int) -> None:
    assert Ceiling(ceiling).headroom(used, Memory(total, available)) == headroom


class Bench:
    """A watcher over a real tier; `base` is what the process takes beside the states in it."""

    def __init__(self, ceiling: int, tier_bytes: int = 10_000) -> None:
        self.base = 0
        self.now = 0.0
        self.relieved = self.given_back = 0
        self.tier = MemoryTier(tier_bytes, 100, 0, LRU())
        self.watcher = Watcher(
            Ceiling(ceiling),
            self.tier,
            self._relieve,
            devices=lambda: [DeviceUsage("CUDA0", 2, 1)],
            process=self._process,
            memory=lambda: Memory(1 << 40, 1 << 40),
            give_back=self._give_back,
            clock=lambda: self.now,
        )

    def _process(self) -> ProcessUsage:
        used = self.base + self.tier.stats().bytes
        return ProcessUsage(pid=1, started=0, cpu_seconds=0, memory_bytes=used, threads=1)

    def _relieve(self) -> None:
        self.relieved += 1

    def _give_back(self) -> None:
        self.given_back += 1

    def put(self, *numbers: int, pinned: bool = False) -> list[bool]:
        return [
            self.tier.put("s", as_tokens([each]), np.zeros(100, np.uint8), pinned=pinned)
            for each in numbers
        ]

    @property
    def held(self) -> list[int]:
        return [int(entry.tokens[0]) for entry in self.tier.entries()]


def test_the_tier_takes_no_more_than_is_left() -> None:
    bench = Bench(ceiling=1000)
    bench.put(*range(5))
    bench.base = 300
    bench.watcher.look()
    assert bench.watcher.headroom == 200
    assert bench.tier.stats().max_bytes == 600  # half of what is left
    bench.put(*range(5, 20))
    assert bench.held == list(range(14, 20))
    bench.watcher.look()
    assert bench.tier.stats().max_bytes == 650
    assert bench.tier.stats().evictions == {"size": 14}
    assert bench.watcher.drops == 0


def test_what_is_too_much_goes_by_the_policy(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(ceiling=1000)
    bench.put(*range(8))
    bench.base = 400
    bench.watcher.look()
    assert bench.held == list(range(3, 8))  # 200 too many, and a quarter of that on top
    assert bench.tier.stats().evictions == {"pressure": 3}
    assert (bench.watcher.drops, bench.relieved) == (1, 0)
    (line,) = caplog.records
    assert line.getMessage() == "memory is short: cached prompts were dropped"
    bench.watcher.look()
    assert bench.held == list(range(3, 8))
    assert bench.watcher.headroom == 100
    bench.tier.check()


def test_the_tier_gets_its_room_back() -> None:
    bench = Bench(ceiling=20_000, tier_bytes=1000)
    bench.put(*range(8))
    bench.base = 20_000
    bench.watcher.look()
    assert bench.held == []
    assert bench.put(1) == [False]
    bench.base = 0
    bench.watcher.look()
    assert bench.tier.stats().max_bytes == 1000
    assert bench.put(*range(10)) == [True] * 10


def test_pinned_states_stay_and_idle_slots_go_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(ceiling=1000)
    bench.put(0, 1, pinned=True)
    bench.put(2, 3)
    bench.base = 2000
    for _ in range(3):
        bench.watcher.look()
        assert bench.held == [0, 1]
    assert (bench.relieved, bench.watcher.drops, bench.given_back) == (1, 1, 3)
    (line,) = caplog.records
    assert line.getMessage() == "memory is short: cached prompts were dropped, idle slots too"
    bench.base = 100
    bench.watcher.look()
    bench.base = 2000
    bench.watcher.look()
    assert (bench.relieved, bench.watcher.drops, bench.given_back) == (2, 2, 4)


def test_a_long_shortage_is_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(ceiling=100_000, tier_bytes=100_000)
    bench.put(*range(100))
    for step in range(1, 13):
        bench.now += 10
        bench.base = 100_000 - bench.tier.stats().bytes + 100
        bench.watcher.look()
        assert bench.watcher.drops == step
    assert [each.getMessage() for each in caplog.records] == [
        "memory is short: cached prompts were dropped"
    ] * 2


def test_without_a_tier_the_slots_go() -> None:
    relieved: list[bool] = []
    memory = Memory(1000, 50)
    watcher = Watcher(Ceiling(), None, lambda: relieved.append(True), memory=lambda: memory)
    watcher.look()
    assert relieved == [True]


def test_the_latest_reading_is_there_for_the_metrics() -> None:
    bench = Bench(ceiling=1000)
    assert bench.watcher.process.memory_bytes == 0
    assert bench.watcher.devices == (DeviceUsage("CUDA0", 2, 1),)
    bench.base = 7
    bench.watcher.look()
    assert bench.watcher.process.memory_bytes == 7


def test_a_reading_that_fails_does_not_end_the_watch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watching, "INTERVAL", 0.001)
    bench = Bench(ceiling=1000)
    good = bench.watcher._read_process
    faults: list[Exception] = [OSError("no /proc")]

    def process() -> ProcessUsage:
        if faults:
            raise faults.pop()
        return good()

    bench.watcher._read_process = process
    bench.base = 7
    bench.watcher.start()
    assert eventually(lambda: bench.watcher.process.memory_bytes == 7)
    bench.watcher.close()
    assert "the memory could not be looked after" in caplog.text


def test_the_pool_gives_its_pages_back_unless_they_are_in_use() -> None:
    pool = Pool(1000)
    region = pool.take(600)
    assert region is not None
    region.buffer[:] = 7
    pool.trim()
    assert (region.buffer == 7).all()
    assert pool.take(600) is None
    pool.give(region)
    pool.trim()
    assert pool.take(1000) is not None


# With a real engine


def pressed(monkeypatch: pytest.MonkeyPatch, short: Callable[[], bool]) -> None:
    """Watchers look often, and see memory run short when `short` says so."""
    monkeypatch.setattr(watching, "INTERVAL", 0.002)
    plenty, little = Memory(64 << 30, 32 << 30), Memory(64 << 30, 0)
    read = lambda: little if short() else plenty  # noqa: E731
    kept = Watcher.__init__.__kwdefaults__
    monkeypatch.setitem(kept, "memory", read)


@pytest.mark.model
def test_an_engine_drops_its_caches_and_fills_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    short = False
    pressed(monkeypatch, lambda: short)
    with Engine(real.config(disk=False, min_tokens=8)) as engine:
        asked = [real.request(engine, str(at), f"{at} " * 30, max_tokens=4) for at in range(3)]
        real.run(engine, asked)
        cache = engine.cache()
        assert cache is not None
        assert eventually(lambda: len(cache.list()) == 3)
        assert engine.stats().slots_idle == 3
        short = True
        assert eventually(lambda: not cache.list() and not engine.stats().slots_idle)
        stats = engine.stats()
        assert stats.memory_drops >= 1
        assert stats.memory_headroom_bytes < 0
        assert stats.process is not None
        assert stats.process.memory_bytes > 20 * MEBIBYTE
        memory = cache.stats().memory
        assert memory is not None
        assert memory.evictions == {"pressure": 3}
        short = False
        assert eventually(lambda: engine.stats().memory_headroom_bytes > 0)
        real.run(engine, asked[:1])
        assert eventually(lambda: len(cache.list()) == 1)


@pytest.mark.model
def test_streams_go_on_as_if_nothing_were_short(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks = 0

    def short() -> bool:
        """Every tenth look: each time anew, so that slots go again and again."""
        nonlocal looks
        looks += 1
        return looks % 10 == 0

    options = {"deterministic": True, "min_tokens": 8, "max_concurrent_requests": 8}
    with Engine(real.config(path=str(tmp_path), **options)) as engine:
        asked = [
            real.request(
                engine, str(at), f"Tell me of {at % 5}: " * 6, max_tokens=40,
                temperature=at % 2, seed=at, ignore_eos=True,
            )
            for at in range(32)
        ]  # fmt: skip
        expected = {name: result.text for name, result in real.run(engine, asked).items()}
    pressed(monkeypatch, short)
    with Engine(real.config(disk=False, **options)) as engine:
        found = real.run(engine, asked)
        assert engine.stats().memory_drops > 0
    assert {name: result.text for name, result in found.items()} == expected
    assert {result.reason for result in found.values()} == {"length"}
