"""What is seen of threads that do not get on."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from patience import PATIENCE
from real import config
from serving import eventually

from llmengine.core import Media
from llmengine.engine.encoder import Encoder
from llmengine.engine.engine import Engine
from llmengine.engine.pulse import Pulse
from llmengine.llama.context import Status
from llmengine.llama.embedding import EmbeddingContext
from llmengine.llama.vectors import Vectors


class Hours:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_only_work_grows_old() -> None:
    hours = Hours()
    pulse = Pulse(hours)
    assert (pulse.age, pulse.rested()) == (0, 0)
    pulse.beat()
    hours.now += 3
    assert (pulse.age, pulse.rested()) == (3, 0)
    with pulse.resting():
        hours.now += 5
        assert (pulse.age, pulse.rested()) == (0, 5)
    hours.now += 2
    assert (pulse.age, pulse.rested()) == (2, 5)
    with pulse.resting():
        hours.now += 1
    assert pulse.rested() == 6


def test_one_that_stands_back_has_the_time_that_another_rests() -> None:
    hours = Hours()
    first = Pulse(hours)
    second = Pulse(first.rested)
    first.beat()
    second.beat()
    hours.now += 50
    assert second.age == 0
    with first.resting():
        hours.now += 4
        assert second.age == 4


def test_each_part_of_a_recording_has_its_time() -> None:
    hours, done, found = Hours(), threading.Event(), list[float]()
    part = Vectors(*np.zeros((3, 1, 1)), causal=True)

    class Slow:
        def encode(self, media: Media) -> Iterator[Vectors]:
            for _ in range(3):
                hours.now += 6
                found.append(encoder.stalled)
                yield part

    encoder = Encoder(Slow(), done.set, 0, Pulse(hours))
    encoding = encoder.start(Media("audio", b"la la la"), b"digest")
    assert done.wait(PATIENCE)
    encoder.close()
    assert (found, encoder.stalled) == ([6, 6, 6], 0)
    assert encoding.parts == [part] * 3


@pytest.mark.model
def test_embeddings_that_hang_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    freed = threading.Event()
    compute = EmbeddingContext.compute

    def hang(context: EmbeddingContext) -> Status:
        assert freed.wait(PATIENCE)
        return compute(context)

    with Engine(config(context_size=1024)) as engine:
        monkeypatch.setattr(EmbeddingContext, "compute", hang)
        found = engine.embed([[65, 66]])
        assert eventually(lambda: engine.state().stalled > 0.2)
        freed.set()
        assert len(found.result(PATIENCE)) == 1
        assert eventually(lambda: engine.state().stalled == 0)


@pytest.mark.model
def test_states_that_are_written_at_the_end_take_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(config(context_size=512, disk=False))
    found = []
    monkeypatch.setattr(engine._cache, "close", lambda: found.append(engine.state().stalled))
    engine.close()
    assert found == [0.0]
