"""Requests to an engine in this process, and when their answers came."""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from llmengine.core import Request
from llmengine.engine.engine import Engine
from llmengine.engine.message import Call
from llmengine.sampling import SamplingParams

_numbers = itertools.count()


def prompt(random: np.random.Generator, length: int, vocabulary: int) -> tuple[int, ...]:
    """Tokens that no other prompt begins with, unless by chance; the last one ends a text."""
    return tuple(random.integers(0, vocabulary - 1, length).tolist())


def request(tokens: Sequence[int], max_tokens: int = 1) -> Request:
    params = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)
    return Request(id=f"r{next(_numbers)}", prompt=tuple(tokens), params=params)


def run(engine: Engine, requests: Sequence[Request]) -> float:
    """Submit all at once and wait for all; seconds. Raises RuntimeError if one fails."""
    outputs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    started = time.perf_counter()
    for each in requests:
        engine.submit(each, outputs.put)
    left = len(requests)
    while left:
        for output in outputs.get():
            if output.error:
                raise RuntimeError(output.error.message)
            left -= output.finish_reason is not None
    return time.perf_counter() - started


def settle(engine: Engine) -> None:
    """Wait until all that the idle slots hold is saved and written."""
    while not all(slot.kept for slot in engine._slots.idle):
        time.sleep(0.01)
    last = Call(lambda: None)  # which its thread comes to when the last state is copied
    engine._inbox.put(last)
    last.wait()
    if engine._cache and engine._cache.disk and not engine._cache.disk.flush():
        raise TimeoutError("the states are not written")
