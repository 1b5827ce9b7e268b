"""The chaos benchmark, short: a server whose engine is killed while clients are served."""

from __future__ import annotations

import asyncio
import random
import signal

import pytest

from benchmarks import pressure
from benchmarks.chaos import EMBEDDED, bodies, measure, measure_pressed, served


@pytest.mark.model
def test_no_client_notices() -> None:
    asked = bodies(clients=8, tokens=250)
    with served(EMBEDDED, "--set", "server.max_concurrent_requests=4") as (server, url):
        storm = measure(server, url, asked, 2, signal.SIGKILL, random.Random(1))
        row, wrong = asyncio.run(storm)
    assert wrong == []
    assert (row.clients, row.complete, row.equal) == (8, 8, 8)
    assert row.deaths >= 1


@pytest.mark.model
def test_no_client_notices_that_memory_is_short() -> None:
    asked = bodies(clients=8, tokens=100)
    flags = ("--set", "server.max_concurrent_requests=4")
    with served(EMBEDDED, *flags) as (server, url):
        calm, limits = asyncio.run(pressure.limits(server, url, asked))
    with served(EMBEDDED, *limits, *flags) as (_, url):
        row, wrong = asyncio.run(measure_pressed(url, asked, calm, 2))
    assert wrong == []
    assert row.complete == row.equal == row.clients
    assert row.drops >= 2
