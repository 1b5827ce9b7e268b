"""The chaos benchmark, short: a server whose engine is killed while clients are served."""

from __future__ import annotations

import asyncio
import random
import signal

import pytest

from benchmarks.chaos import EMBEDDED, bodies, measure, served


@pytest.mark.model
def test_no_client_notices() -> None:
    asked = bodies(clients=8, tokens=250)
    with served(EMBEDDED, "--set", "server.max_concurrent_requests=4") as (server, url):
        storm = measure(server, url, asked, 2, signal.SIGKILL, random.Random(1))
        row, wrong = asyncio.run(storm)
    assert wrong == []
    assert (row.clients, row.complete, row.equal) == (8, 8, 8)
    assert row.deaths >= 1
