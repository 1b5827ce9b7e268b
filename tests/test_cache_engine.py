"""The prompt cache behind the engine, on the embedded model: warm from every tier, bit by bit."""

from __future__ import annotations

import queue
import time
from pathlib import Path
from typing import Any

import pytest
from real import Result, chatml, config, request, run

from llmengine.core import Request
from llmengine.engine import build
from llmengine.engine.engine import Engine
from llmengine.llama.model import Model

pytestmark = pytest.mark.model

SYSTEM = "<|im_start|>system\n" + "You are a helpful assistant. Be brief. " * 20 + "<|im_end|>\n"
QUESTIONS = ["Hello!", "Who are you?", "Count from 3 to 9.", "What is 12 + 5?"] * 2


def requests(engine: Engine, prefix: str = "r", salt: str = "") -> list[Request]:
    found = []
    for index, question in enumerate(QUESTIONS):
        text = f"<|im_start|>system\nThis is talk {index}.<|im_end|>\n{SYSTEM}{chatml(question)}"
        params = {"temperature": 0.8 if index % 3 == 0 else 0, "seed": index, "logprobs": 5}
        made = request(engine, f"{prefix}{index}", text, max_tokens=24, **params)
        found.append(Request(id=made.id, prompt=made.prompt, params=made.params, cache_salt=salt))
    return found


def settings(tmp_path: Path, **options: Any) -> Any:
    options = {
        "deterministic": True,
        "context_size": 8192,
        "path": str(tmp_path / "states"),
        **options,
    }
    return config(**options)


def cached(results: dict[str, Result]) -> int:
    return sum(result.usage.cached_tokens for result in results.values())


def assert_equal(one: dict[str, Result], other: dict[str, Result]) -> None:
    for name, result in one.items():
        assert result.text == other[name].text
        assert result.logprobs == other[name].logprobs


def wait_for_states(engine: Engine, count: int) -> None:
    """Until the engine, now idle, has saved what its slots hold."""
    assert engine._cache is not None
    for _ in range(6000):
        if len(engine._cache.list()) == count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{len(engine._cache.list())} states after a minute")


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_answers_are_equal_from_every_tier(tmp_path: Path, kv_type: str) -> None:
    with Engine(settings(tmp_path, kv_type=kv_type, enabled=False)) as engine:
        cold = run(engine, requests(engine))
    with Engine(settings(tmp_path, kv_type=kv_type)) as engine:
        assert_equal(cold, run(engine, requests(engine)))
        hot = run(engine, requests(engine))
        assert_equal(cold, hot)
    with Engine(settings(tmp_path, kv_type=kv_type)) as engine:
        disk = run(engine, requests(engine))  # after a restart
    assert_equal(cold, disk)
    with Engine(settings(tmp_path, kv_type=kv_type, max_sequences=0, disk=False)) as engine:
        run(engine, requests(engine))
        wait_for_states(engine, len(QUESTIONS))
        memory = run(engine, requests(engine))
    assert_equal(cold, memory)
    with Engine(settings(tmp_path, kv_type=kv_type, disk=False, context_size=1024)) as engine:
        assert_equal(cold, run(engine, requests(engine)))
        assert engine.stats().preemptions > 0
    total = sum(result.usage.prompt_tokens for result in cold.values())
    for warm in (hot, disk, memory):
        assert cached(warm) > total * 0.9


def test_other_settings_and_other_salts_share_nothing(tmp_path: Path) -> None:
    with Engine(settings(tmp_path)) as engine:
        run(engine, requests(engine, salt="alice"))
        assert cached(run(engine, requests(engine, salt="alice"))) > 0
        own = cached(run(engine, requests(engine, salt="bob")))
        assert own < cached(run(engine, requests(engine, salt="bob")))
    with Engine(settings(tmp_path, kv_type="q8_0")) as engine:
        first = request(engine, "x", SYSTEM + chatml("Hello!"), temperature=0)
        assert run(engine, [first])["x"].usage.cached_tokens == 0


def test_a_model_file_that_changed_shares_nothing(tmp_path: Path) -> None:
    from llmengine.llama import fingerprint

    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"GGUF" + bytes(10_000_000))
    other.write_bytes(b"GGUF" + bytes(9_999_999) + b"\1")
    assert fingerprint.of_file(one) == fingerprint.of_file(one)
    assert fingerprint.of_file(one) != fingerprint.of_file(other)


def test_any_part_of_a_split_model_tells_it_from_another(tmp_path: Path) -> None:
    from llmengine.llama import fingerprint

    first, second = (tmp_path / f"big-0000{part}-of-00002.gguf" for part in (1, 2))
    first.write_bytes(b"GGUF")
    second.write_bytes(b"GGUF" + bytes(1_000_000))
    before = fingerprint.of_file(first)
    assert fingerprint.of_file(first) == before
    second.write_bytes(b"GGUF" + bytes(999_999) + b"\1")
    assert fingerprint.of_file(first) != before


def test_idle_slots_are_kept_by_a_close_in_the_middle_of_work(tmp_path: Path) -> None:
    options = settings(tmp_path, max_size_mb=64)
    with Engine(options) as engine:
        assert engine._cache is not None
        # As in a busy hour, when there is no idle moment to save anything in.
        engine._slots.save_next = lambda: False  # type: ignore[method-assign]
        run(engine, requests(engine)[:2])
        outputs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        text = chatml("Tell me a story.")
        engine.submit(request(engine, "long", text, max_tokens=4000, ignore_eos=True), outputs.put)
        outputs.get(timeout=60)
        del engine._slots.save_next  # type: ignore[method-assign]
    with Engine(options) as engine:
        assert cached(run(engine, requests(engine)[:2])) > 400


@pytest.mark.parametrize("rows", [512, 32])
def test_of_scattered_cells_those_before_them_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """As on a GPU, from which each run of cells is a copy of its own."""
    monkeypatch.setattr(Model, "copied", True)
    options = settings(tmp_path, deterministic=False, min_tokens=4, prefill_batch=rows)
    assert options.slots + options.cache.max_sequences > 32
    questions = ["Tell me of tea.", "Tell me of the sea."]
    with Engine(options) as engine:
        asked = [request(engine, each, chatml(each), temperature=0) for each in questions]
        answers = run(engine, asked)
        wait_for_states(engine, 2)
        alone = run(engine, [request(engine, "alone", chatml("Hello!"), temperature=0)])["alone"]
    with Engine(options) as engine:
        for one in asked:
            turns = chatml(one.id, answers[one.id].text, "And now?")
            again = run(engine, [request(engine, one.id, turns, temperature=0)])[one.id]
            assert again.usage.cached_tokens == len(one.prompt)
        turns = chatml("Hello!", alone.text, "And now?")
        again = run(engine, [request(engine, "alone", turns, temperature=0)])["alone"]
        whole = alone.usage.prompt_tokens + alone.usage.completion_tokens
        assert whole - 1 <= again.usage.cached_tokens <= whole


@pytest.mark.parametrize(("memory", "disk", "left"), [(64, 8, 1), (0, 64, 1), (0, 8, 2)])
def test_idle_slots_make_way_where_the_cache_has_room_for_them(
    tmp_path: Path, memory: int, disk: int, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "unfelt", lambda *_: 100)
    sizes = {"max_size_mb": memory, "disk_max_size_mb": disk}
    with Engine(settings(tmp_path, deterministic=False, **sizes)) as engine:
        for count, text in enumerate((SYSTEM, "An entirely other text. " * 20), 1):
            run(engine, [request(engine, f"r{count}", text, max_tokens=4)])
            wait_for_states(engine, count)
        assert len(engine._slots.idle) == left
        again = run(engine, [request(engine, "c", SYSTEM, max_tokens=4)])["c"]
        assert again.usage.cached_tokens == again.usage.prompt_tokens - 1
