"""A real server that is asked twice as much as it can do: nothing is lost, all is counted."""

from __future__ import annotations

import pytest

from benchmarks.overload import EMBEDDED, measure, served


@pytest.mark.model
def test_what_is_too_much_is_refused_and_the_rest_answered() -> None:
    flags = ["--slots", "2", "--set", "server.max_queue=4", "--set", "performance.threads=1"]
    with served(EMBEDDED, [*flags, "--ctx", "4096"]) as (server, url):
        found = measure(server, url, slots=2, times=4, seconds=4)
    assert found.failures == []
    assert found.complete
    assert found.refused > 0
