"""Requests of all kinds at once, on the embedded model: nothing fails, is lost or mixed up."""

from __future__ import annotations

import asyncio
import random

import pytest
import real
from serving import serving

from benchmarks.mixed_load import MixedLoad, settle
from benchmarks.mixed_requests import KINDS, Marker


def test_a_marker_tells_its_answer_from_others() -> None:
    one, other = (Marker(random.Random(0), number) for number in (10_001, 10_002))
    one.check(f"here is {one.word}.")
    for text in ("", other.word, f"{one.word} {other.word}"):
        with pytest.raises(AssertionError):
            one.check(text)


@pytest.mark.model
def test_requests_of_all_kinds_at_once() -> None:
    from llmengine.engine.engine import Engine

    settings = real.config(context_size=4096, threads=1, disk=False)
    with Engine(settings) as engine, serving(engine, settings) as client:
        load = MixedLoad(str(client.base_url), 32)
        asyncio.run(load.run(5))
        settle(engine)
        assert load.failures == []
        assert {row.kind for row in load.rows} == set(KINDS)
