"""A few hundred requests that no client should send, beside one that behaves."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import real
from fakes import FakeHost
from serving import config

from benchmarks.fuzz import Held, attacked, returned
from benchmarks.fuzz_requests import KINDS, attack
from benchmarks.mixed_load import served, settle

STORY = "Once upon a time there was a server that nobody could break. " * 4


def test_an_attack_follows_from_its_number() -> None:
    made = [attack(random.Random(at)) for at in range(300)]
    assert made == [attack(random.Random(at)) for at in range(300)]
    assert {each.kind for each in made} == KINDS.keys()


def test_what_nobody_should_send_breaks_nothing(tmp_path: Path) -> None:
    settings = config(responses_path=str(tmp_path / "responses"))
    with FakeHost(STORY, step=8) as host, served(host, settings) as server:
        before = Held.by(server)
        with attacked(server.url, clients=16, seed=1) as (fuzz, canary):
            fuzz.run(range(400))
        assert fuzz.failures == []
        assert canary.answers > 0
        assert sum(found.total() for found in fuzz.answered.values()) == 400
        statuses: Counter[str] = sum(fuzz.answered.values(), Counter())
        assert statuses["200"] > 50
        assert statuses["400"] > 50
        assert returned(server, before).beyond(before) == []
        assert host.running == 0


@pytest.mark.model
def test_nor_does_it_with_a_model(tmp_path: Path) -> None:
    from llmengine.engine.engine import Engine

    settings = real.config(
        context_size=4096, threads=1, disk=False, deterministic=True,
        responses_path=str(tmp_path / "responses"),
    )  # fmt: skip
    with Engine(settings) as engine, served(engine, settings) as server:
        with attacked(server.url, clients=8, seed=2) as (fuzz, canary):
            fuzz.run(range(150))
        assert fuzz.failures == []
        assert canary.answers > 0
        settle(engine)
