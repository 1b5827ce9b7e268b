"""An engine that is lost again and again, and clients that do not notice."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator

import pytest
from host_fakes import POISON, Client, Processes, request
from msgspec.structs import replace
from patience import PATIENCE
from serving import eventually

from llmengine.core import ModelInfo, Request, Usage
from llmengine.errors import (
    EngineOverloaded,
    Internal,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
)
from llmengine.host import backoff, relay, supervisor, watchdog, worker
from llmengine.host.process_host import ProcessHost
from llmengine.sampling import Constraint, SamplingParams

LONG = "".join(chr(ord("a") + index % 26) for index in range(400))


@pytest.fixture
def processes() -> Processes:
    return Processes(LONG, step=4, delay=0.001)


@pytest.fixture
def host(processes: Processes) -> Iterator[ProcessHost]:
    with processes.host() as host:
        yield host


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new engine is tried without a pause."""
    monkeypatch.setattr(backoff, "LONGEST", 0.01)


@pytest.fixture
def client() -> Client:
    return Client()


def test_streams_go_on_where_they_were(
    host: ProcessHost, processes: Processes, client: Client
) -> None:
    names = [f"r{index}" for index in range(6)]
    for name in names:
        host.submit(request(name), client)
    for engines in range(1, 4):
        while len(client.texts.get("r5", "")) < 60 * engines:
            client.take()
        processes.kill()
    client.wait(*names)
    assert client.texts == dict.fromkeys(names, LONG)
    assert {each.finish_reason for each in client.last.values()} == {"stop"}
    assert client.last["r0"].usage == Usage(3, 400, 1)
    assert host.state().restarts == 3
    stats = host.stats()
    assert (stats.requests, stats.finished, stats.running, stats.waiting) == (6, {"stop": 6}, 0, 0)


def test_a_new_engine_gets_the_tokens_and_the_seed_that_the_old_one_had(
    host: ProcessHost, processes: Processes, client: Client
) -> None:
    host.submit(request("a"), client)
    host.submit(request("b", params={"seed": 5}), client)
    while len(client.texts.get("b", "")) < 40:
        client.take()
    processes.kill()
    client.wait("a", "b")
    first, second = (child.engine.requests for child in processes.children)
    assert first[0].params.seed is not None
    assert [each.params.seed for each in first] == [each.params.seed for each in second]
    assert second[1].params.seed == 5
    for again in second:
        assert bytes(again.completion) == LONG.encode()[: len(again.completion)]
        assert len(again.completion) % 4 == 0
    assert len(second[1].completion) >= 40


def test_what_waits_is_not_lost(host: ProcessHost, processes: Processes, client: Client) -> None:
    processes.engine.hold()
    host.submit(request("queued"), client)
    embedding = host.embed([[97, 97, 98]])
    assert eventually(lambda: processes.engine.embedded, PATIENCE)
    processes.kill()
    assert host.tokenize("ab") == [97, 98]  # asked of nobody, or of the new one
    assert len(embedding.result(PATIENCE)[0]) == 16
    client.wait("queued")
    assert client.texts["queued"] == LONG
    assert host.stats().finished == {"stop": 2}


def test_everything_may_be_asked_while_there_is_no_engine(
    host: ProcessHost, processes: Processes, client: Client
) -> None:
    processes.hold()
    processes.kill()
    assert eventually(lambda: host.state().phase == "degraded", PATIENCE)
    assert "was killed by SIGKILL" in host.state().reason
    host.submit(request("waits"), client)
    host.submit(request("ends"), client)
    host.submit(request("late", deadline=time.monotonic()), client)
    host.cancel("ends")
    client.wait("ends", "late")
    assert client.last["ends"].finish_reason == "cancelled"
    assert client.last["late"].error.kind == "DeadlineExceeded"
    assert (host.stats().waiting, host.stats().running) == (1, 0)
    processes.release()
    client.wait("waits")
    assert client.texts == {"waits": LONG, "ends": "", "late": ""}
    assert (host.state().phase, host.state().restarts) == ("ready", 1)


def test_nobody_waits_for_ever(
    host: ProcessHost, processes: Processes, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PATIENCE", 0.1)
    host.submit(request("accepted"), client)
    client.take()
    processes.hold()
    processes.kill()
    assert eventually(lambda: host.state().phase == "degraded", PATIENCE)
    with pytest.raises(ModelUnavailable, match="is started anew"):
        host.tokenize("waits, and is refused")
    with pytest.raises(ModelUnavailable):
        host.submit(request("new"), client)
    processes.release()
    client.wait("accepted")
    assert client.texts["accepted"] == LONG


def test_what_kills_the_engine_is_failed_alone(
    host: ProcessHost, processes: Processes, client: Client
) -> None:
    innocent = [f"r{index}" for index in range(5)]
    for name in innocent[:3]:
        host.submit(request(name), client)
    host.submit(request("poison", POISON), client)
    for name in innocent[3:]:
        host.submit(request(name), client)
    client.wait("poison", *innocent)
    assert {client.texts[name] for name in innocent} == {LONG}
    error = client.last["poison"].error
    assert error.kind == "Internal"
    # More often where others had not yet got on either.
    assert re.fullmatch(r"the engine died over this [4-9] times: .*", error.message)
    assert host.state().restarts >= 4
    assert host.stats().finished == {"stop": 5, "error": 1}
    host.submit(request("next"), client)
    client.wait("next")
    assert client.texts["next"] == LONG


def test_without_resumes_it_fails_at_once(client: Client) -> None:
    processes = Processes()
    with processes.host(max_resumes=0) as host:
        host.submit(request("poison", POISON), client)
        client.wait("poison")
        assert client.last["poison"].error.kind == "Internal"
        host.submit(request("next"), client)
        client.wait("next")
        assert client.texts["next"] == "Hello, world!"


def test_a_hanging_engine_is_replaced(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LEAST", 0.5)
    monkeypatch.setattr(worker, "BEAT", 0.01)
    processes = Processes(LONG, step=4, delay=0.001)
    with processes.host(watchdog_seconds=0.5) as host:
        host.submit(request("a"), client)
        while len(client.texts.get("a", "")) < 40:
            client.take()
        processes.engine.hold()
        processes.children[-1].frozen = True
        client.wait("a")
        assert client.texts["a"] == LONG
        assert host.state().restarts >= 1


@pytest.mark.usefixtures("quick")
def test_an_engine_that_cannot_come_back_is_told_and_tried_again(
    host: ProcessHost, processes: Processes, client: Client
) -> None:
    host.submit(request("a"), client)
    client.take()
    processes.failure = ModelNotFound("model file x does not exist")
    processes.kill()
    client.wait("a")
    error = client.last["a"].error
    assert error.kind == "ModelUnavailable"
    assert error.message == "the engine cannot be started any more: model file x does not exist"
    assert host.state().phase == "failed"
    with pytest.raises(ModelUnavailable, match="cannot be started any more"):
        host.submit(request("b"), client)
    with pytest.raises(ModelUnavailable, match="cannot be started any more"):
        host.piece(97)
    processes.failure = None
    assert eventually(lambda: host.state().phase == "ready", PATIENCE)
    host.submit(request("c"), client)
    client.wait("c")
    assert client.texts["c"] == LONG


@pytest.mark.usefixtures("quick")
def test_a_machine_that_starts_no_process_is_waited_for(
    host: ProcessHost, processes: Processes, client: Client
) -> None:
    def refuse(_: object) -> None:
        processes.prepare = lambda _: None  # the next one may
        raise OSError(12, "Cannot allocate memory")

    processes.prepare = refuse
    host.submit(request("a"), client)
    processes.kill()
    client.wait("a")
    assert client.texts["a"] == LONG
    assert host.state().restarts == 1


@pytest.mark.usefixtures("quick")
def test_another_model_in_the_place_of_the_old_one_is_not_used(
    host: ProcessHost, processes: Processes
) -> None:
    other = replace(processes.engine.info(), size_bytes=7)
    processes.prepare = lambda engine: setattr(engine, "info", lambda: other)
    processes.kill()
    assert eventually(lambda: host.state().phase == "failed", PATIENCE)
    assert "is another model now: restart the server" in host.state().reason


def test_a_first_load_that_fails_is_the_callers_error(processes: Processes) -> None:
    processes.failure = ModelNotFound("model file x does not exist")
    with pytest.raises(ModelNotFound, match="model file x does not exist"):
        processes.host()
    processes.failure = None
    processes.prepare = lambda engine: setattr(engine, "info", lambda: engine.kill())
    with pytest.raises(ModelUnavailable) as told:
        processes.host()
    assert str(told.value) == (
        "the engine's process was killed by SIGKILL while it loaded the model: the last words"
    )


def test_refusals_come_before_anything_is_queued(
    host: ProcessHost, processes: Processes, client: Client
) -> None:
    with pytest.raises(InvalidRequest, match="the prompt is empty"):
        host.submit(Request(id="a", prompt=(), params=SamplingParams()), client)
    processes.engine.refuse = InvalidRequest("no such rule", param="grammar", code="odd")
    grammar = {"constraint": Constraint("gbnf", "root ::= x")}
    with pytest.raises(InvalidRequest, match="no such rule") as refused:
        host.submit(request("a", params=grammar), client)
    assert (refused.value.param, refused.value.code) == ("grammar", "odd")
    for text in ("\ud800", "ab\udfff"):
        with pytest.raises(InvalidRequest, match="lone surrogate at character"):
            host.tokenize(text)
    with pytest.raises(InvalidRequest, match="lone surrogate"):
        host.submit(request("a", params={"stop": ("\ud800",)}), client)
    assert host.stats().requests == 0
    # What only the engine can know ends the request.
    host.submit(request("b"), client)
    client.wait("b")
    assert client.last["b"].error.code == "odd"
    assert host.stats().finished == {"error": 1}


def test_no_more_than_fits_is_taken(
    host: ProcessHost, processes: Processes, client: Client
) -> None:
    processes.engine.hold()
    for index in range(16 + 256):
        host.submit(request(str(index)), client)
    with pytest.raises(EngineOverloaded, match="272 requests run or wait already"):
        host.submit(request("more"), client)
    with pytest.raises(EngineOverloaded):
        host.embed([[1]])


def test_an_embedding_that_nobody_wants_is_abandoned(
    host: ProcessHost, processes: Processes
) -> None:
    processes.engine.hold()
    future = host.embed([[1, 2]])
    assert eventually(lambda: processes.engine.embedded, PATIENCE)
    future.cancel()
    assert eventually(lambda: processes.engine.embedded[0][1].cancelled(), PATIENCE)
    assert host.stats().finished == {"cancelled": 1}


def test_draining_waits_through_a_death(
    host: ProcessHost, processes: Processes, client: Client
) -> None:
    host.submit(request("a"), client)
    client.take()
    threading.Timer(0.02, processes.kill).start()
    assert host.drain(PATIENCE)
    client.wait("a")
    assert client.texts["a"] == LONG
    with pytest.raises(ModelUnavailable, match="shutting down"):
        host.submit(request("b"), client)


def test_draining_ends_with_the_refusal_of_the_last_request(
    host: ProcessHost, processes: Processes, client: Client
) -> None:
    compiling, compiled, drained = threading.Event(), threading.Event(), threading.Event()

    def submit(*_: object) -> None:
        compiling.set()
        assert compiled.wait(PATIENCE)
        raise InvalidRequest("no such rule")

    def ask() -> None:
        with pytest.raises(InvalidRequest, match="no such rule"):
            host.submit(request("a", params={"constraint": Constraint("gbnf", "x")}), client)

    processes.engine.submit = submit  # type: ignore[method-assign]
    asking = threading.Thread(target=ask)
    asking.start()
    assert compiling.wait(PATIENCE)
    draining = threading.Thread(target=lambda: host.drain(10 * PATIENCE) and drained.set())
    draining.start()
    assert eventually(lambda: not host._supervisor.accepting, PATIENCE)
    compiled.set()
    assert drained.wait(PATIENCE)
    asking.join()


def test_closing_cancels_what_runs(host: ProcessHost, processes: Processes, client: Client) -> None:
    processes.engine.hold()
    host.submit(request("a"), client)
    assert eventually(lambda: processes.engine.requests, PATIENCE)
    host.close()
    host.close()
    client.wait("a")
    assert client.last["a"].finish_reason == "cancelled"
    assert len(processes.children) == 1


def test_closing_is_told_to_an_engine_that_is_just_there(
    host: ProcessHost, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CLOSE_SECONDS", 10 * PATIENCE)
    found = host._supervisor
    closing = threading.Thread(target=host.close)
    check = found._check_same

    def close_meanwhile(info: ModelInfo) -> None:
        check(info)
        closing.start()
        assert eventually(lambda: found._closing, PATIENCE)

    monkeypatch.setattr(found, "_check_same", close_meanwhile)
    processes.kill()
    assert eventually(lambda: closing.ident, PATIENCE)
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert len(processes.children) == 2


def test_the_engine_logs_from_the_level_of_its_parent(
    host: ProcessHost, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "level", lambda: logging.DEBUG)
    assert eventually(lambda: processes.children[0].level == logging.DEBUG, PATIENCE)
    processes.kill()
    assert eventually(lambda: host.state().restarts == 1, PATIENCE)
    assert eventually(lambda: processes.children[1].level == logging.DEBUG, PATIENCE)


def test_closing_does_not_wait_for_an_engine_that_is_lost(
    host: ProcessHost, processes: Processes, client: Client
) -> None:
    processes.failure = ModelNotFound("gone")
    processes.kill()
    assert eventually(lambda: host.state().phase == "degraded", PATIENCE)
    host.close()
    with pytest.raises(ModelUnavailable):
        host.tokenize("a")


def test_what_fails_there_is_told_without_its_inside(
    host: ProcessHost, processes: Processes
) -> None:
    def fail(*_: object, **__: object) -> list[int]:
        raise RuntimeError("an inside")

    processes.engine.tokenize = fail  # type: ignore[method-assign]
    with pytest.raises(Internal, match="what was asked of the engine failed"):
        host.tokenize("a")
