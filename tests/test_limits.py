"""What a key may ask at a time, by a clock of the test's own."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmengine.config import Config, ServerConfig
from llmengine.engine.turnover import MOST, Turnover
from llmengine.errors import EngineError, EngineOverloaded, InvalidRequest, RateLimited
from llmengine.keys import ANONYMOUS, Key, KeyFile, generated
from llmengine.server.keyring import Keyring
from llmengine.server.limits import Limits, duration

KEY = Key(id="key_a", digest="a", requests_per_minute=60, tokens_per_minute=600)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limits(clock: Clock, **server: object) -> Limits:
    settings = ServerConfig(**server)  # type: ignore[arg-type]
    return Limits(Config(server=settings), Keyring(settings), clock)


def test_requests_come_back_steadily(clock: Clock) -> None:
    of = limits(clock)
    for _ in range(60):
        of.request(KEY)
    with pytest.raises(RateLimited) as found:
        of.request(KEY)
    assert found.value.retry_after == pytest.approx(1.0)
    assert found.value.message == ("the API key may ask 60 times a minute: there is room in 1 s")
    clock.now = 1.0
    of.request(KEY)
    with pytest.raises(RateLimited):
        of.request(KEY)
    clock.now = 1000.0  # no more than a minute's worth is saved up
    for _ in range(60):
        of.request(KEY)
    with pytest.raises(RateLimited):
        of.request(KEY)


def test_tokens_are_owed_when_more_were_used(clock: Clock) -> None:
    of = limits(clock)
    with of.running(KEY, 1, 500):  # of the prompt
        of.spend(KEY, 400)  # of the answer
    with pytest.raises(RateLimited) as found, of.running(KEY, 1, 10):
        pass
    assert found.value.retry_after == pytest.approx(30.1)  # 301 tokens at 10 a second
    clock.now = 30.2
    with of.running(KEY, 1, 10):
        pass


def test_the_headers_are_openais(clock: Clock) -> None:
    of = limits(clock)
    of.request(KEY)
    with of.running(KEY, 1, 500):
        of.spend(KEY, 400)
    assert of.headers(KEY) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1.0s",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m30s",
    }
    assert of.headers(Key(id="free", digest="f")) == of.headers(ANONYMOUS) == {}
    assert [duration(each) for each in (0.0204, 1.55, 59.96, 80.4)] == [
        "20ms", "1.6s", "60.0s", "1m20s",
    ]  # fmt: skip


def test_answers_at_a_time(clock: Clock) -> None:
    of, key = limits(clock), Key(id="a", digest="a", max_concurrent=3)
    with of.running(key, 2, 0):
        with of.running(key, 1, 0), pytest.raises(RateLimited) as found, of.running(key, 1, 0):
            pass
        assert "may have 3 under way at a time, and has 3" in found.value.message
        clock.now = 9.0
        with of.running(key, 1, 0):
            pass
    with pytest.raises(InvalidRequest, match="3 may be under way"), of.running(key, 4, 0):
        pass
    # It learns how long answers take: 0, 0 and 9 seconds after a guess of 1.
    assert of._account(key).turnover == pytest.approx(((0.8 * 0.8) * 0.8) + 0.2 * 9)


def test_what_failed_counts_no_longer(clock: Clock) -> None:
    of, key = limits(clock), Key(id="a", digest="a", max_concurrent=1)
    for _ in range(3):
        with pytest.raises(KeyError), of.running(key, 1, 0):
            raise KeyError
    with of.running(key, 1, 0):
        pass


def test_no_key_takes_all_places(clock: Clock, tmp_path: Path) -> None:
    shared = limits(clock, api_keys=("a:a", "b:b"), max_concurrent_requests=2, max_queue=6)
    one, two = Key(id="a", digest="a"), Key(id="b", digest="b")
    with shared.running(one, 4, 0):  # half of 8
        reason = "other API keys need their share: this one may have 4, and has 4"
        with pytest.raises(RateLimited, match=reason), shared.running(one, 1, 0):
            pass
        with shared.running(two, 2, 0), pytest.raises(RateLimited), shared.running(two, 1, 0):
            pass
        with shared.running(two, 2, 0), shared.running(Key(id="c", digest="c"), 1, 0):
            pass
    with shared.running(one, 1, 0), contextlib.ExitStack() as others:
        for name in "bcdefgh":
            others.enter_context(shared.running(Key(id=name, digest=name), 1, 0))
        with pytest.raises(RateLimited, match="may have 1, and"), shared.running(one, 1, 0):
            pass  # no place is left at all
    alone = limits(clock, api_key="a", max_concurrent_requests=2, max_queue=6)
    with alone.running(one, 8, 0):
        pass


def test_a_reload_changes_the_limits_of_a_key(clock: Clock) -> None:
    of = limits(clock)
    for _ in range(60):
        of.request(KEY)
    with of.running(KEY, 1, 0):
        wider = replace(KEY, requests_per_minute=120, max_concurrent=1)
        of.request(wider)
        with pytest.raises(RateLimited), of.running(wider, 1, 0):
            pass
    with of.running(wider, 1, 0):
        pass


def test_limits_are_kept_with_the_key() -> None:
    _, key = generated(requests_per_minute=5, tokens_per_minute=6, max_concurrent=7, priority=-8)
    KeyFile().add(key)
    (found,) = KeyFile().read()
    assert (found.requests_per_minute, found.tokens_per_minute) == (5, 6)
    assert (found.max_concurrent, found.priority) == (7, -8)


# The queue of the engine


def test_each_that_is_refused_is_told_of_a_place_of_its_own() -> None:
    turnover = Turnover(0.0)
    for at in range(1, 101):
        turnover.ended(1, at * 2.0)
    waits = [turnover.refuse(200.0) for _ in range(3)]
    assert waits == pytest.approx([2.0, 4.0, 6.0])
    turnover.ended(2, 204.0)
    assert turnover.refuse(205.0) == pytest.approx(2 * 2.0 - 1.0)
    for _ in range(10_000):
        last = turnover.refuse(205.0)
    assert last == MOST


def test_idle_time_is_no_wait() -> None:
    turnover = Turnover(0.0)
    turnover.began(5000.0)
    turnover.ended(1, 5001.0)
    assert turnover.refuse(5001.0) == pytest.approx(1.0)
    assert turnover.refuse(9999.0) == 0.0  # it is overdue


def test_the_wait_crosses_a_process_border() -> None:
    error = EngineError.from_info(EngineOverloaded("full", retry_after=12.5).info)
    assert isinstance(error, EngineOverloaded)
    assert error.retry_after == 12.5
    assert EngineOverloaded("full").info.retry_after is None
    assert EngineError.from_info(EngineOverloaded("full").info).retry_after == 1
