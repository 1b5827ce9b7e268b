"""The tier on disk: what it keeps, what it survives, whom it shares with."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import random
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import diskcache.core
import numpy as np
import pytest
from patience import PATIENCE

from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.entry import State, as_tokens
from llmengine.cache.policy import POLICIES
from llmengine.cache.state_disk import StateDisk
from tests.cache_fakes import Clock, right, state_of, tokens_of
from tests.cache_writer import MAX_BYTES, open_tier
from tests.test_cache_memory import hammer

ROOT = Path(__file__).parent.parent


class Bench:
    """Opens tiers on one folder and closes them all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self._tiers: list[DiskTier] = []

    def open(
        self, max_bytes=100_000, max_entries=10, ttl=0, policy="lru", **more: object
    ) -> DiskTier:
        made = POLICIES[policy]()
        tier = DiskTier(self.directory, max_bytes, max_entries, ttl, made, self.clock, **more)
        self._tiers.append(tier)
        return tier

    def close(self) -> None:
        for tier in self._tiers:
            tier.close()

    def states(self) -> list[Path]:
        return sorted(self.directory.glob("*/*.state"))

    def size(self) -> int:
        return sum(path.stat().st_size for path in self.states())

    def news(self, tier: DiskTier) -> None:
        """Let a tier notice what others did."""
        self.clock.now += 1
        tier.find("s", tokens_of(0))
        assert tier.flush(PATIENCE)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "states")
    yield bench
    bench.close()


def put(tier: DiskTier, number: int, scope: str = "s", per_token: int = 100, **more) -> bool:
    tokens = tokens_of(number)
    accepted = tier.put(scope, tokens, state_of(tokens, per_token), **more)
    assert tier.flush(PATIENCE)
    return accepted


def reads(tier: DiskTier, number: int, scope: str = "s") -> bool:
    """Whether a prompt is there whole and reads back as it was written."""
    tokens = tokens_of(number)
    found = tier.find(scope, tokens)
    if found is None or found.length < len(tokens):
        return False
    state = tier.get(found.entry, found.length)
    return state is not None and right(tokens, state)


def numbers(tier: DiskTier) -> list[int]:
    """Which prompts are held."""
    known = {tokens_of(number).tobytes(): number for number in range(50)}
    return [known[entry.tokens.tobytes()] for entry in tier.entries()]


def test_states_outlive_the_process(bench: Bench) -> None:
    tier = bench.open()
    put(tier, 1, pinned=True, label="support")
    put(tier, 2)
    bench.clock.now += 5
    assert reads(tier, 2)
    tier.close()
    again = bench.open()
    assert reads(again, 1)
    assert reads(again, 2)
    one, two = sorted(again.entries(), key=lambda entry: entry.label, reverse=True)
    assert (one.label, one.pinned, one.uses) == ("support", True, 2)
    assert (two.created, two.last_used, two.uses) == (100, 105, 3)
    assert again.stats().bytes == 16_000


def test_a_longer_prompt_takes_over_the_uses_of_what_it_replaces(bench: Bench) -> None:
    tier = bench.open()
    for length in (60, 70, 80):
        assert tier.put("s", tokens_of(1)[:length], state_of(tokens_of(1)[:length]))
        assert tier.flush()
        assert tier.get(tier.find("s", tokens_of(1)).entry) is not None
    tier.close()
    (entry,) = bench.open().entries()
    assert (len(entry.tokens), entry.uses) == (80, 4)


def test_finding_reads_nothing(bench: Bench) -> None:
    tier = bench.open()
    put(tier, 1)
    tier.close()
    again = bench.open()
    for path in bench.states():
        path.unlink()
    found = again.find("s", tokens_of(2))
    assert found.length == 50
    assert again.find("other", tokens_of(1)) is None
    assert again.covers("s", tokens_of(1)[:60])
    assert not again.covers("s", tokens_of(1)[:60], whole=True)
    assert again.get(found.entry) is None
    assert again.find("s", tokens_of(2)) is None


def test_a_longer_prompt_replaces_its_prefix(bench: Bench) -> None:
    tier = bench.open()
    tokens = tokens_of(1)
    for length in (60, 70):
        tier.put("s", tokens[:length], state_of(tokens[:length]))
    put(tier, 1)
    assert numbers(tier) == [1]
    assert len(bench.states()) == 1
    assert tier.stats().evictions == {"replaced": 2}
    tier.put("s", tokens[:60], state_of(tokens[:60]), whole=True)
    tier.flush()
    assert len(tier.entries()) == 2


@pytest.mark.parametrize(("policy", "left"), [("lru", [1, 3]), ("lfu", [1, 3]), ("fifo", [2, 3])])
def test_the_policy_goes_on_after_a_restart(bench: Bench, policy: str, left: list[int]) -> None:
    tier = bench.open(policy=policy)
    for number in (1, 2):
        put(tier, number)
        bench.clock.now += 1
    assert reads(tier, 1)
    tier.close()
    again = bench.open(policy=policy, max_entries=2)
    put(again, 3)
    assert sorted(numbers(again)) == left


def test_a_smaller_budget_is_kept_from_the_start(bench: Bench) -> None:
    tier = bench.open()
    for number in range(5):
        put(tier, number)
        bench.clock.now += 1
    tier.close()
    again = bench.open(max_bytes=20_000)
    assert numbers(again) == [3, 4]
    assert len(bench.states()) == 2


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo"])
def test_the_budget_holds_while_writing(bench: Bench, policy: str, monkeypatch) -> None:
    tier = bench.open(max_bytes=50_000, max_entries=6, policy=policy)
    write, most = StateDisk._write_state, [0]

    def watched(disk: StateDisk, path: Path, state: State) -> None:
        most.append(bench.size() + len(state))
        write(disk, path, state)

    monkeypatch.setattr(StateDisk, "_write_state", watched)
    chance = random.Random(0)
    for _ in range(40):
        put(tier, chance.randrange(20), per_token=chance.randrange(1, 400))
        assert bench.size() == tier.stats().bytes
        tier.check()
    assert 40_000 < max(most) <= 50_000


def test_what_is_unused_for_long_leaves(bench: Bench) -> None:
    tier = bench.open(ttl=10)
    put(tier, 1)
    put(tier, 2)
    put(tier, 3, pinned=True)
    bench.clock.now += 6
    assert reads(tier, 1)
    bench.clock.now += 6
    assert not reads(tier, 2)
    tier.flush()
    assert sorted(numbers(tier)) == [1, 3]
    assert len(bench.states()) == 2
    assert tier.stats().evictions == {"ttl": 1}


def test_removing_pinning_clearing(bench: Bench) -> None:
    tier = bench.open(max_entries=2)
    put(tier, 1)
    put(tier, 2)
    one, two = tier.entries()
    assert tier.pin(one.id)
    put(tier, 3)
    assert numbers(tier) == [1, 3]
    assert not tier.remove(two.id)
    assert tier.remove(one.id)
    assert not tier.pin(one.id)
    assert tier.clear() == 1
    assert (tier.stats().entries, tier.stats().bytes, bench.states()) == (0, 0, [])


def test_what_is_removed_while_it_waits_is_not_written(bench: Bench) -> None:
    tier = bench.open()
    go = threading.Event()
    tier._writer.submit(lambda: go.wait(PATIENCE) and None)
    for number in (1, 2):
        tier.put("s", tokens_of(number), state_of(tokens_of(number)))
    assert tier.covers("s", tokens_of(1))
    tier.clear()
    go.set()
    tier.flush()
    assert numbers(tier) == []


def test_a_full_queue_drops_writes_and_never_waits(bench: Bench) -> None:
    tier = bench.open(queue_bytes=20_000)
    go = threading.Event()
    tier._writer.submit(lambda: go.wait(PATIENCE) and None)
    accepted = [tier.put("s", tokens_of(n), state_of(tokens_of(n))) for n in range(4)]
    assert accepted == [True, True, False, False]
    assert (tier.stats().dropped, tier.stats().queued_bytes) == (2, 16_000)
    assert not tier.flush(0.01)
    go.set()
    assert tier.flush(PATIENCE)
    assert sorted(numbers(tier)) == [0, 1]
    assert put(tier, 5, per_token=1000)  # alone it may be larger than the queue


def test_nothing_is_pickled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("pickle was called")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    assert diskcache.core.pickle is pickle
    tier = bench.open(max_entries=2)
    for number in range(3):
        put(tier, number)
    tier.close()
    again = bench.open()
    assert reads(again, 2)
    assert again.clear() == 2


def test_pickles_of_others_are_never_opened(bench: Bench, tmp_path: Path) -> None:
    bench.open().close()
    with diskcache.Cache(str(bench.directory), disk=diskcache.Disk) as foreign:
        foreign[("a", "tuple")] = Bomb(tmp_path / "exploded")
        for id, record in (("0" * 24, Bomb(tmp_path / "exploded")), ("1" * 24, b"not msgpack")):
            path = bench.directory / id[:2] / f"{id}.state"
            path.parent.mkdir()
            path.write_bytes(b"state")
            foreign[f"state/{id}"] = b"state"
            foreign[f"record/{id}"] = record
    tier = bench.open()
    assert numbers(tier) == []
    assert put(tier, 1)
    assert reads(tier, 1)
    assert tier.stats().corrupt == 2
    assert not (tmp_path / "exploded").exists()


class Bomb:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self._path),)


def test_only_the_user_may_look(bench: Bench) -> None:
    bench.directory.mkdir(mode=0o755)
    put(bench.open(), 1)
    assert stat.S_IMODE(bench.directory.stat().st_mode) == 0o700


DAMAGES = {
    "a flipped bit": lambda data: data[:4000] + bytes([data[4000] ^ 1]) + data[4001:],
    "a half": lambda data: data[: len(data) // 2],
    "more": lambda data: data + b"x",
    "nothing": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_a_miss(
    bench: Bench, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    tier = bench.open()
    put(tier, 1)
    put(tier, 2)
    path = bench.states()[0]
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert sorted([reads(tier, 1), reads(tier, 2)]) == [False, True]
    stats = tier.stats()
    assert (stats.corrupt, stats.entries, stats.evictions) == (1, 1, {"corrupt": 1})
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    tier.flush()
    assert not path.exists()
    assert put(tier, 1)
    assert reads(tier, 1)


def test_states_do_not_pass_for_each_other(bench: Bench) -> None:
    tier = bench.open()
    put(tier, 1)
    put(tier, 2)
    one, two = bench.states()
    mine, other = one.read_bytes(), two.read_bytes()
    one.write_bytes(other)
    two.write_bytes(mine)
    assert not reads(tier, 1)
    assert not reads(tier, 2)


def test_verify_tells_and_drops_what_is_damaged(bench: Bench) -> None:
    tier = bench.open()
    for number in range(3):
        put(tier, number)
    path = bench.states()[1]
    path.write_bytes(b"x")
    assert tier.verify() == [path.stem]
    assert tier.verify() == []
    assert tier.stats().entries == 2


def test_leftovers_are_swept_and_foreign_files_are_not(bench: Bench) -> None:
    tier = bench.open()
    put(tier, 1)
    put(tier, 2)
    kept, lost = bench.states()
    tier.close()
    lost.unlink()  # a record without a state
    (bench.directory / "ab").mkdir(exist_ok=True)
    orphan = bench.directory / "ab" / ("ab" + "0" * 22 + ".state")
    foreign = bench.directory / "notes.txt"
    orphan.write_bytes(b"half a state")
    foreign.write_text("mine")
    again = bench.open()
    assert reads(again, 1) + reads(again, 2) == 1
    assert bench.states() == [kept]
    assert foreign.read_text() == "mine"


def test_a_record_of_another_version_is_ignored_and_removed(bench: Bench, monkeypatch) -> None:
    tier = bench.open()
    put(tier, 1)
    tier.close()
    monkeypatch.setattr("llmengine.cache.record.VERSION", 2)
    again = bench.open()
    assert numbers(again) == []
    assert (again.stats().corrupt, bench.states()) == (1, [])


def test_a_damaged_database_starts_afresh(bench: Bench, caplog) -> None:
    tier = bench.open()
    put(tier, 1)
    tier.close()
    (bench.directory / "cache.db").write_bytes(b"this is no database" * 100)
    again = bench.open()
    assert "starts afresh" in caplog.text
    assert not reads(again, 1)
    assert put(again, 1)
    assert reads(again, 1)


@pytest.mark.parametrize("why", ["a file in the way", "a folder of others"])
def test_a_folder_that_cannot_be_used_is_a_tier_without_entries(
    bench: Bench, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    if why == "a file in the way":
        bench.directory.write_text("no folder")
    else:
        bench.directory.mkdir()
        (bench.directory / "thesis.txt").write_text("precious")
    tier = bench.open()
    assert not put(tier, 1)
    assert not reads(tier, 1)
    assert tier.entries() == []
    assert not tier.remove("0" * 24)
    assert tier.clear() == 0
    assert tier.verify() == []
    assert tier.stats().failures == 1
    (line,) = caplog.records
    assert "nothing is kept on disk" in line.getMessage()


def test_a_place_where_nothing_may_be_written(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):
        pytest.skip("the superuser may write anywhere")
    tier = Bench(locked / "states").open()
    assert not put(tier, 1)
    assert tier.stats().failures == 1


def test_a_folder_that_becomes_read_only_is_still_read(bench: Bench) -> None:
    tier = bench.open()
    put(tier, 1)
    folders = [bench.directory, *(path.parent for path in bench.states())]
    if os.geteuid() == 0:
        pytest.skip("the superuser may write anywhere")
    for folder in folders:
        folder.chmod(0o500)
    put(tier, 2)
    assert reads(tier, 1)
    assert tier.stats().failures == 1
    for folder in folders:
        folder.chmod(0o700)
    assert put(tier, 2)


def test_a_disk_that_fills_up_costs_a_write(bench: Bench, caplog) -> None:
    tier = bench.open(max_bytes=10_000_000)
    put(tier, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))  # EFBIG half way through a file
    try:
        put(tier, 2, per_token=10_000)
        put(tier, 3, per_token=10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert tier.stats().failures == 2
    assert len(caplog.records) == 1
    assert len(bench.states()) == 1  # and no half ones
    assert put(tier, 2, per_token=10_000)
    assert reads(tier, 1)
    assert reads(tier, 2)


@pytest.mark.parametrize(
    ("change", "key"), [("INSERT", "state/"), ("INSERT", "record/"), ("UPDATE", "serial")]
)
def test_a_state_that_cannot_be_booked_takes_no_room(bench: Bench, change: str, key: str) -> None:
    """A full disk may have room for the file of a state, and then none for a row."""
    tier = bench.open()
    put(tier, 1)
    sql = tier._store._cache._sql
    sql(
        f"CREATE TRIGGER full BEFORE {change} ON Cache WHEN NEW.key LIKE '{key}%' "
        "BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )
    put(tier, 2)
    assert tier.stats().failures == 1
    assert len(bench.states()) == 1
    sql("DROP TRIGGER full")
    assert not reads(tier, 2)
    assert put(tier, 2)
    assert reads(tier, 2)
    assert len(bench.states()) == 2


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), sqlite3.OperationalError("disk is full")],
)
def test_any_fault_of_the_disk_is_counted(bench: Bench, monkeypatch, error: Exception) -> None:
    tier = bench.open()
    put(tier, 1)

    def fail(*_: object, **__: object) -> None:
        raise error

    for name in ("set", "get", "delete", "incr", "transact"):
        monkeypatch.setattr(tier._store._cache, name, fail)
    assert put(tier, 2)  # it was accepted, and then could not be written
    assert not reads(tier, 2)
    assert not reads(tier, 1)
    (entry,) = tier.entries()
    tier.pin(entry.id)
    tier.remove(entry.id)
    tier.flush()
    assert tier.stats().failures == 4
    monkeypatch.undo()
    assert put(tier, 2)
    assert reads(tier, 2)


def test_two_processes_share_a_folder_and_its_budget(bench: Bench) -> None:
    one = bench.open(max_bytes=40_000)
    two = bench.open(max_bytes=40_000)
    put(one, 1)
    assert not reads(two, 1)
    bench.news(two)
    assert reads(two, 1)
    for number in (2, 3, 4, 5, 6):
        put(one if number % 2 else two, number)
        assert bench.size() <= 40_000
    bench.news(one)
    bench.news(two)
    assert sorted(numbers(one)) == sorted(numbers(two)) == [2, 3, 4, 5, 6]
    two.clear()
    assert not reads(one, 6)
    bench.news(one)
    assert numbers(one) == []


def test_what_another_process_pinned_or_used_stays(bench: Bench) -> None:
    one, two = bench.open(max_entries=3), bench.open(max_entries=3)
    for number in (1, 2, 3):
        put(one, number)
        bench.clock.now += 1
    bench.news(two)
    two.pin(next(entry.id for entry in two.entries() if entry.tokens[-1] == tokens_of(1)[-1]))
    bench.clock.now += 100
    assert reads(two, 2)
    bench.clock.now += 100
    bench.news(two)  # which writes down its uses
    put(one, 4)
    assert sorted(numbers(one)) == [1, 2, 4]


def test_a_folder_that_somebody_removes_is_made_anew(bench: Bench, caplog) -> None:
    tier = bench.open()
    put(tier, 1)
    shutil.rmtree(bench.directory)
    bench.clock.now += 2  # then the tier looks for changes
    tier.entries()
    tier.flush()
    assert tier.entries() == []
    assert f"prompt cache: {bench.directory} is gone: made anew" in caplog.text
    put(tier, 2)
    assert len(bench.states()) == 1
    assert tier.stats().failures == 0
    tier.close()
    again = bench.open()
    assert reads(again, 2)
    assert not reads(again, 1)


def test_threads(bench: Bench) -> None:
    tier = bench.open(max_bytes=200_000, max_entries=20, ttl=1000, policy="lfu")
    tier.room = lambda size: tier.flush(5)  # the writer keeps up
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        steps = ["put", "put", "find", "find", "remove", "pin", "list", "room"]
        try:
            for _ in range(600):
                bench.clock.now += 0.01
                hammer(tier, chance.choice(steps), chance)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tier.flush(20)
    assert not errors
    bench.news(tier)
    tier.check()
    stats = tier.stats()
    assert (stats.failures, stats.corrupt) == (0, 0)
    assert min(stats.writes, stats.hits) > 10
    assert {path.stem for path in bench.states()} == {entry.id for entry in tier.entries()}
    assert tier.verify() == []


def test_killed_fifty_times_while_writing(tmp_path: Path) -> None:
    directory = tmp_path / "states"
    chance = random.Random(7)
    command = [sys.executable, "-m", "tests.cache_writer", str(directory)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    half_written = held = 0
    with subprocess.Popen(command, cwd=ROOT, env=env, **pipes) as writers:
        for kill in range(500):
            if kill >= 50 and half_written:  # a slow machine takes more to hit the middle
                break
            writers.stdin.write("\n")
            pid = int(writers.stdout.readline())
            time.sleep(chance.uniform(0.002, 0.08))
            os.kill(pid, signal.SIGKILL)
            known = {path: path.stat().st_size for path in directory.glob("*/*.state")}
            tier = open_tier(directory)
            entries = tier.entries()
            stems = {entry.id for entry in entries}
            half_written += any(path.stem not in stems for path in known)
            assert {path.stem for path in directory.glob("*/*.state")} == stems
            for entry in entries:
                state = tier.get(entry)
                assert state is None or right(entry.tokens, state)
                held += state is not None
            assert sum(entry.size for entry in entries) <= MAX_BYTES
            assert put(tier, 49, per_token=50 + chance.randrange(50))
            assert reads(tier, 49)
            assert (tier.stats().failures, tier.stats().misses) == (0, 0)
            tier.close()
        writers.stdin.close()
    assert half_written > 0  # or it was never killed in the middle
    assert held > 200


def test_tokens_of_any_kind_of_sequence() -> None:
    assert as_tokens((1, 2)).dtype == np.int32
