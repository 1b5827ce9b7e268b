"""What tokens cost, in counts: they are the same on every machine, and part of what is promised.

Who makes one of them larger has to gain something by it, and writes down the new one here. Others
stand where their subject is: the imports of each command's `--help` in `test_cli_main.py`, those of
the server in `test_serve_process.py`, the texts that come of the same work in `test_scheduler.py`.
"""

from __future__ import annotations

import ctypes
import gc
import operator
import random
import sys
import tracemalloc
from asyncio.selector_events import _SelectorSocketTransport as Transport
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import llama_cpp
import msgspec
import pytest
import real
from counting import (
    VOCABULARY,
    CountingLoop,
    Streams,
    Work,
    count_llama,
    count_python,
    imported,
    streams,
    together,
)
from engine_fakes import answer
from host_fakes import Processes
from serving import events, eventually, serving

from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache
from llmengine.engine.engine import Engine
from llmengine.host.channel import Channel
from llmengine.server import run

PLAIN = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}


def tokens(length: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(500), k=length)


# Workloads: steps, rows, and what is done to llama.cpp's memory


def test_requests_with_a_common_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch, limit=8, cells=4096)
    common = tokens(1308, 0)
    for number in range(16):
        work.bench.add(f"r{number}", common + tokens(40, number + 1), max_tokens=48)
    work.run()
    assert work.counts == {
        "steps": 105, "rows": 2700, "prefilled": 1308 + 16 * 40, "copy": 15,
    }  # fmt: skip


def test_turns_of_a_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch)
    said: list[int] = []
    for turn in range(4):
        said += tokens(150, turn)
        work.bench.add(f"t{turn}", said, max_tokens=48)
        work.run()
        said += answer(said, 48)
    # Of each later turn what is new, and the token that was sampled last and never computed.
    assert work.counts == {"steps": 4 * 48, "rows": 603 + 4 * 47, "prefilled": 150 + 3 * 151}


def test_a_long_prompt_beside_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch)
    for number in range(4):
        work.bench.add(f"s{number}", tokens(20, number), max_tokens=400)
    for _ in range(5):
        work.bench.step()
    before = len(work.bench.context.steps)
    work.bench.add("long", tokens(3200, 9), max_tokens=1)
    while not work.bench.outputs["long"]:
        assert {"s0", "s1", "s2", "s3"} <= set(work.bench.step())
    assert len(work.bench.context.steps) - before == 67
    assert work.counts == {"steps": 72, "rows": 3564, "prefilled": 3200 + 4 * 20}


def test_conversations_that_go_on_after_a_restart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = []
    for turn in range(2):
        cache = PromptCache(None, DiskTier(tmp_path / "states", 1 << 20, 100, 0, LRU()))
        work = Work(monkeypatch, cache=cache, kept=0)
        for number in range(3):
            said = tokens(150, number)
            if turn:
                said += answer(said, 48) + tokens(150, 10 + number)
            work.bench.add(f"r{number}", said, max_tokens=48)
            work.run()
        cache.close()
        found.append(work.counts)
    # What was computed of the first half is read: one state for each.
    assert found == [
        {"steps": 144, "rows": 591, "prefilled": 3 * 150, "save": 3, "remove": 3},
        {"steps": 144, "rows": 594, "prefilled": 3 * 151, "load": 3, "save": 3, "remove": 3},
    ]


# The real engine: every call of llama.cpp on the way of eight streams


@pytest.fixture
def engine() -> Iterator[Engine]:
    """One that does nothing by the clock: no fewer threads, no guesses."""
    options = {"context_size": 4096, "threads": 1, "speculation": "off", "disk": False}
    with Engine(real.config(**options)) as engine:
        for token in range(engine.info().vocabulary):
            for special in (False, True):
                engine._model.piece(token, special)  # read once for all
        engine._model.end_tokens = frozenset()  # every request gets all its tokens
        yield engine


@pytest.mark.model
@pytest.mark.parametrize(
    ("params", "sampling"),
    [
        ({"temperature": 0}, {}),
        ({**PLAIN, "seed": 1}, {}),
        ({"temperature": 0, "ignore_eos": True}, {}),
        (
            {"temperature": 0, "repeat_penalty": 1.1},
            {"llama_sampler_sample": 8 * 33, "llama_sampler_free": 8},
        ),
    ],
    ids=["greedy", "plain", "no end", "penalties"],
)
def test_a_token_is_one_row_of_one_call(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, params: dict, sampling: dict
) -> None:
    prompts = [[number, *tokens(19, number)] for number in range(8)]
    calls = count_llama(monkeypatch)
    found = together(engine, streams("r", prompts, 33, **params), calls)
    decoded = {"llama_decode": 33, "llama_get_logits": 33, "rows": 8 * 20 + 8 * 32}
    assert found == {**decoded, **sampling}


@pytest.mark.model
def test_logits_are_read_where_llama_cpp_has_them(engine: Engine) -> None:
    together(engine, streams("r", [tokens(20, 1)], 2, temperature=0), Counter())
    rows = engine._context.logits(8)
    address = ctypes.addressof(llama_cpp.llama_get_logits(engine._context.handle).contents)
    size = engine.info().vocabulary * rows[0].itemsize
    assert [row.ctypes.data for row in rows] == [address + at * size for at in range(8)]
    assert all(map(operator.is_, engine._context.logits(8), rows))


@pytest.mark.model
def test_a_gpu_is_waited_for(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the time of a step would be that of its start."""
    monkeypatch.setattr(engine._context.model, "devices", [object()])
    calls = count_llama(monkeypatch)
    found = together(engine, streams("r", [tokens(20, 1)], 3, temperature=0), calls)
    assert found["llama_synchronize"] == found["llama_decode"] == 3


@pytest.mark.model
def test_prefixes_are_shared_without_copies(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_llama(monkeypatch)
    common = tokens(200, 7)
    asked = streams("first", [common], 1, temperature=0)
    # A state is copied once, when there is nothing else to do.
    saved = {"llama_state_seq_get_size": 1, "llama_state_seq_get_data": 1}
    decoded = {"llama_decode": 1, "llama_get_logits": 1, "rows": 200}
    assert together(engine, asked, calls) == {**decoded, **saved}
    prompts = [common + tokens(20, 200 + number) for number in range(8)]
    asked = streams("rest", prompts, 5, temperature=0)
    # One of them goes on in the slot of the first.
    decoded = {"llama_decode": 5, "llama_get_logits": 5, "rows": 8 * 20 + 8 * 4}
    saved = {"llama_state_seq_get_size": 8, "llama_state_seq_get_data": 8}
    assert together(engine, asked, calls) == {**decoded, **saved, "llama_memory_seq_cp": 7}


# Python: calls and memory of a decoding step


def calls_of(count: int, steps: int, **params: Any) -> Counter[str]:
    streams = Streams(count, **params)
    return count_python(lambda: streams.steps(steps))


@pytest.mark.parametrize(
    ("params", "step", "token"),
    [({"temperature": 0}, 52, 80), (PLAIN, 52, 104)],
    ids=["greedy", "plain"],
)
def test_calls_of_a_decoding_step(params: dict, step: int, token: int) -> None:
    few, many = calls_of(8, 20, **params), calls_of(16, 20, **params)
    each = many - few  # of 8 streams more, in 20 steps
    assert each.total() <= token * 8 * 20, each
    assert few.total() - each.total() <= step * 20, few - each


@pytest.mark.parametrize("params", [{"temperature": 0}, PLAIN], ids=["greedy", "plain"])
def test_no_logits_are_copied(params: dict) -> None:
    streams = Streams(8, **params)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        streams.steps(5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < VOCABULARY * 4  # bytes of one stream's


def test_a_stream_leaves_nothing_behind() -> None:
    streams = Streams(8, speculates=False, temperature=0)
    streams.steps(100)
    delivered = streams.delivered
    gc.collect()
    before = sys.getallocatedblocks()
    streams.steps(1000)
    gc.collect()
    assert sys.getallocatedblocks() - before < 100
    assert streams.delivered - delivered == 8000


# The server: frames, wake-ups and writes


def test_a_step_is_one_frame_one_wake_up_and_one_write_to_each_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, frames, writes = CountingLoop(), [], Counter()
    send, write = Channel.send, Transport.write

    def counted_send(channel: Any, data: bytes) -> None:
        frames.append(msgspec.msgpack.decode(data[4:])[0])
        send(channel, data)

    def counted_write(transport: Any, data: bytes) -> None:
        writes[transport] += 1
        write(transport, data)

    monkeypatch.setattr(run, "new_loop", lambda: loop)
    monkeypatch.setattr(Channel, "send", counted_send)
    monkeypatch.setattr(Transport, "write", counted_write)
    processes = Processes("abcd" * 50, step=4)
    with processes.host() as host, serving(host) as client:
        engine = processes.engine
        engine.hold()

        def one(number: int) -> str:
            body = {"prompt": f"<{number}>", "stream": True}
            response = client.post("/v1/completions", json=body)
            return "".join(each["choices"][0]["text"] for each in events(response.text)[:-1])

        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(one, number) for number in range(8)]
            assert eventually(lambda: engine.running == 8)
            loop.woken.clear()
            engine.release()
            assert {each.result() for each in answers} == {"abcd" * 50}
        assert engine.sink_calls == 50
        assert loop.woken == {"engine-host": 50}
        assert Counter(frames) - Counter({"Beat": len(frames)}) == {
            "Setup": 1, "Ready": 1, "Tokenize": 8, "Answer": 8, "Submit": 8, "Outputs": 50,
        }  # fmt: skip
        # Beside those of the steps: the status, the last events, the end of the body.
        assert list(writes.values()) == [50 + 3] * 8


# Imports


def test_help_imports_no_more_than_the_command_line() -> None:
    assert imported("--help") == {"msgspec", "tomli", "typer"}


@pytest.mark.model
def test_an_answer_is_had_without_what_servers_and_terminals_need() -> None:
    needed = {"diskcache", "jinja2", "llama-cpp-python", "llguidance", "numpy", "platformdirs"}
    assert imported("run", "hi") == {"msgspec", "psutil", "tomli", "typer", *needed}
