"""What systemd would hear, at a socket of the tests."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeHost
from patience import PATIENCE
from serving import serving

from llmengine.server import notify
from llmengine.server.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(name.replace("@", "\0"))
        found.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield found


def test_it_hears_of_every_turn(manager: socket.socket) -> None:
    with FakeHost() as host, serving(host):
        assert manager.recv(1000) == b"STATUS=loading the model"
        assert manager.recv(1000) == b"READY=1\nSTATUS=serving fake"
        assert "NOTIFY_SOCKET" not in os.environ
    assert manager.recv(1000) == b"STOPPING=1\nSTATUS=finishing what runs"


def test_its_watchdog_is_told_that_the_loop_runs(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    with FakeHost() as host, serving(host):
        heard = [manager.recv(1000) for _ in range(6)]
    assert heard.count(b"WATCHDOG=1") >= 3


def test_the_watchdog_of_another_process_is_not_ours(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    with FakeHost() as host, serving(host):
        pass
    heard = [manager.recv(1000) for _ in range(3)]
    assert b"WATCHDOG=1" not in heard


def test_a_manager_that_does_not_read_holds_nobody_up(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    waits: list[float | None] = []

    class Watched(socket.socket):
        def settimeout(self, seconds: float | None) -> None:
            waits.append(seconds)
            super().settimeout(seconds)

    monkeypatch.setattr(notify.socket, "socket", Watched)

    async def until_it_is_full() -> None:
        alive = asyncio.create_task(Notifier().keep_alive())
        while "could not be told WATCHDOG=1" not in caplog.text:
            await asyncio.sleep(0.002)
        alive.cancel()

    asyncio.run(asyncio.wait_for(until_it_is_full(), PATIENCE))
    assert set(waits) == {0}


def test_a_manager_that_is_gone_is_told_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Notifier().tell(READY="1")
    assert "could not be told READY=1" in caplog.text


def test_without_a_manager_nothing_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    Notifier().tell(READY="1")
    assert caplog.records == []
