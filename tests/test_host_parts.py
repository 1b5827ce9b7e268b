"""The parts of a host, each by itself."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from host_fakes import request

from llmengine import log
from llmengine.config import Config
from llmengine.core import Output, Stats, Timings, Usage
from llmengine.errors import Internal, ModelUnavailable
from llmengine.host import relay, watchdog, wire
from llmengine.host.backoff import Backoff
from llmengine.host.channel import Channel, packed
from llmengine.host.child import Child
from llmengine.host.counters import Counters
from llmengine.host.journal import Call, Entry, Journal, Running

Ends = tuple[socket.socket, Channel[wire.FromEngine]]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = socket.socketpair()
    with one, other:
        yield one, Channel(other, wire.FromEngine)


def failed(text: str) -> wire.Failed:
    return wire.Failed(Internal(text).info)


def test_messages_come_whole_however_they_are_cut(ends: Ends) -> None:
    sender, channel = ends
    data = packed(failed("one")) + packed(failed("two"))
    for byte in data[:-1]:
        sender.sendall(bytes([byte]))
    assert channel.receive(0) in ([], [failed("one")])
    sender.sendall(data[-1:])
    found: list[Any] = []
    while messages := channel.receive(0.01):
        found += messages
    assert found in ([failed("two")], [failed("one"), failed("two")])
    assert channel.receive(0) == []
    sender.sendall(data + packed(wire.Beat(0.5))[:5])
    assert channel.receive() == [failed("one"), failed("two")]
    sender.close()
    assert channel.receive() is None


def test_messages_may_be_large(ends: Ends) -> None:
    sender, channel = ends
    large = failed("x" * 5_000_000)
    thread = threading.Thread(target=sender.sendall, args=(packed(large),))
    thread.start()
    assert channel.receive() == [large]
    thread.join()


def test_everything_that_is_asked_and_told_comes_through() -> None:
    asked = request("a", 1, 2, params={"stop": ("x",), "logit_bias": {3: 1.5}}, completion=(4, 5))
    data = packed(wire.Submit(asked))[4:]
    assert msgspec.msgpack.decode(data, type=wire.ToEngine) == wire.Submit(asked)
    output = Output("a", "text", (1,), usage=Usage(1, 2), timings=Timings(1.0, 2.0, 3.0))
    told = wire.Outputs([output], Stats(finished={"stop": 1}))
    assert msgspec.msgpack.decode(packed(told)[4:], type=wire.FromEngine) == told


class Hours:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Hours:
    hours = Hours()
    monkeypatch.setattr(watchdog, "time", hours)
    return hours


def looks(dog: watchdog.Watchdog, hours: Hours, seconds: float) -> str:
    """What it says after so many seconds in which it was asked in time."""
    end = hours.now + seconds
    said = ""
    while hours.now < end:
        hours.now += 0.25
        said = said or dog.look()
    return said


@pytest.mark.parametrize(("own", "found"), [(None, "1"), ("4", "4")])
def test_its_threads_share_one_arena_unless_told_otherwise(
    own: str | None, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    if own:
        monkeypatch.setenv("MALLOC_ARENA_MAX", own)
    told = "import os; print(os.environ['MALLOC_ARENA_MAX'])"
    child = Child(Config(), (sys.executable, "-c", told))
    while child.receive(60.0) is not None:
        pass
    child.bury()
    assert child.last_words == found


def test_its_last_words_are_the_reason_and_not_where_it_stood() -> None:
    dies = "import faulthandler, os; faulthandler.enable(); os.write(2, b'why'+b'\\n'); os.abort()"
    child = Child(Config(), (sys.executable, "-c", dies))
    while child.receive(60.0) is not None:
        pass
    assert (child.bury(), child.last_words) == ("was killed by SIGABRT", "why")


def test_a_watchdog_barks_at_silence_and_at_long_steps(hours: Hours) -> None:
    dog = watchdog.Watchdog(10)
    assert looks(dog, hours, 10) == ""
    assert looks(dog, hours, 1) == "gave no sign of life for 10 s"
    dog.heard(0.0)
    assert looks(dog, hours, 9) == ""
    dog.heard(11.0)
    assert dog.look() == "has been in one step for 11 s"
    assert looks(watchdog.Watchdog(0), hours, 10_000) == ""


def test_a_watchdog_that_slept_itself_blames_nobody(hours: Hours) -> None:
    dog = watchdog.Watchdog(10)
    hours.now += 1000
    assert dog.look() == ""
    assert dog.stalled == 0


def test_what_stands_still_is_told_once_it_means_something(hours: Hours) -> None:
    dog = watchdog.Watchdog(10)
    dog.heard(0.4)
    assert dog.stalled == 0
    dog.heard(3.0)
    looks(dog, hours, 1)
    assert dog.stalled == 4


def test_pauses_double_until_it_works() -> None:
    backoff = Backoff()
    pauses = []
    for _ in range(10):
        pauses.append(backoff.pause)
        backoff.failed()
    assert pauses == [0, 0, 1, 2, 4, 8, 16, 30, 30, 30]
    backoff.worked()
    assert backoff.pause == 0


def sink(_: object) -> None:
    """A client that does not listen."""


def names(entries: list[Entry]) -> list[str]:
    return [each.request.id for each in entries if isinstance(each, Running)]


def test_suspects_are_tried_one_by_one_and_the_least_suspicious_first() -> None:
    journal = Journal(max_resumes=3)
    for name in ("a", "b", "c"):
        journal.add(Running(request(name), sink))
    assert names(journal.due()) == ["a", "b", "c"]
    assert journal.due() == []
    journal.died()
    assert names(journal.due()) == ["a", "b", "c"]  # once is chance
    journal.died()
    assert names(journal.due()) == ["a"]
    assert journal.due() == []
    journal.add(Running(request("new"), sink))
    assert names(journal.due()) == ["new"]
    journal.saw([Output("a", "x", (1,))])
    assert names(journal.due()) == ["b"]
    journal.died()
    assert names(journal.due()) == ["a", "new", "c"]


def test_only_what_was_alone_is_condemned() -> None:
    journal = Journal(max_resumes=1)
    for name in ("a", "b"):
        journal.add(Running(request(name), sink))
    journal.due()
    assert journal.died() == {}
    journal.due()
    assert journal.died() == {}  # either of them may have been it
    assert names(journal.due()) == ["a"]
    [last] = journal.died()[sink]
    assert (last.request_id, last.finish_reason) == ("a", "error")
    assert names(journal.due()) == ["b"]
    journal.saw([Output("b", "x", (1,), finish_reason="stop")])
    assert (journal.active, journal.finished) == (set(), {"error": 1, "stop": 1})


def test_a_call_that_kills_is_refused() -> None:
    journal = Journal(max_resumes=0)
    call = Call(wire.Piece(1, 5), bytes)
    journal.ask(1, call)
    journal.due()
    journal.died()
    with pytest.raises(Internal, match="the engine died over this 1 time: it"):
        call.future.result(0)


def test_all_calls_can_be_refused_at_once() -> None:
    journal = Journal(max_resumes=1)
    call, waiting = Call(wire.Piece(1, 5), bytes), Running(request("a"), sink, call=2)
    journal.ask(1, call)
    journal.add(waiting)
    journal.refuse_all(ModelUnavailable("gone"))
    for future in (call.future, waiting.accepted):
        with pytest.raises(ModelUnavailable, match="gone"):
            future.result(0)
    assert (journal.accepted, journal.active, journal.due()) == (0, set(), [])


def test_the_time_of_a_request_is_all_of_it() -> None:
    journal = Journal(max_resumes=3)
    running = Running(request("a"), sink)
    journal.add(running)
    journal.due()
    _ = running.data
    journal.saw([Output("a", "x", (1,))])
    journal.died()
    running._submitted -= 10  # it is that old
    [again] = journal.due()
    submitted = msgspec.msgpack.decode(again.data[4:], type=wire.ToEngine)
    assert submitted.request.completion == (1,)
    end = Output("a", finish_reason="stop", timings=Timings(1.0, 2.0, 3.0))
    [told] = journal.saw([end])[sink]
    assert told.timings is not None
    assert (told.timings.queued, told.timings.prefill) == (1.0, 2.0)
    assert told.timings.decode >= 13.0


def test_counters_never_fall() -> None:
    journal, counters = Journal(max_resumes=3), Counters()
    journal.add(Running(request("a"), sink))
    counters.told(Stats(steps=5, decode_seconds=0.5, running=3, cells=100))
    counters.lost()
    assert counters.total(journal).steps == 5
    counters.told(Stats(steps=2, decode_seconds=0.25, running=0, cells=100))
    total = counters.total(journal)
    assert (total.steps, total.decode_seconds, total.cells) == (7, 0.75, 100)
    assert (total.requests, total.running, total.waiting) == (1, 0, 1)


def test_records_are_the_same_in_the_other_log(capsys: pytest.CaptureFixture[str]) -> None:
    class Json:
        level, format = "info", "json"

    sent: list[wire.Logged] = []
    relay.relay("info", sent.append)
    logger = logging.getLogger("llmengine.there")
    logger.debug("not told")
    try:
        raise OSError("no room")
    except OSError:
        logger.exception("it failed: %s", "so", extra={"seconds": 0.5, "path": Ends})
    data = packed(sent[0])[4:]
    log.configure(Json())
    relay.replay(msgspec.msgpack.decode(data, type=wire.Logged))
    found = json.loads(capsys.readouterr().err)
    assert len(sent) == 1
    assert (found["level"], found["message"]) == ("error", "it failed: so")
    assert (found["logger"], found["seconds"], found["path"]) == ("llmengine.there", 0.5, str(Ends))
    assert found["exception"].endswith("OSError: no room")
