"""Requests that only warm the prompt cache: computed once, pinned, labelled."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_fakes import Bench, answer, text_of
from real import config, request

from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache
from llmengine.core import Request, Usage
from llmengine.engine.engine import Engine
from llmengine.errors import InvalidRequest

PROMPT = [number * 7 % 500 for number in range(100)]


def memory(max_bytes: int = 1 << 20, entries: int = 10) -> PromptCache:
    return PromptCache(MemoryTier(max_bytes, entries, 0, LRU()), None)


@pytest.mark.parametrize("truncates", [True, False], ids=["attention", "recurrent"])
def test_a_prompt_is_computed_kept_and_nothing_is_generated(truncates: bool) -> None:
    cache = memory()
    bench = Bench(cache=cache, rows=32, can_truncate=truncates)
    bench.add("w", PROMPT, warm="support")
    bench.run()
    (only,) = bench.outputs["w"]
    assert (only.text, only.finish_reason, only.usage) == ("", "stop", Usage(100, 0, 0))
    assert (bench.runner.prompt_tokens, bench.runner.prefilled_tokens) == (100, 100)
    assert bench.runner.completion_tokens == 0
    (entry,) = cache.list()
    assert (entry.tokens, entry.label, entry.pinned) == (100, "support", True)
    assert not any(output for step in bench.context.steps for *_, output in step)

    bench.add("r", [*PROMPT, 1, 2, 3], max_tokens=4)
    bench.run()
    assert bench.text("r") == text_of(answer([*PROMPT, 1, 2, 3], 4))
    assert bench.runner.prefilled_tokens == 103


def test_what_is_there_is_pinned_and_not_computed_again() -> None:
    cache = memory()
    bench = Bench(cache=cache)
    bench.add("r", PROMPT, max_tokens=1)
    bench.run()
    assert bench.slots.save_next()
    (entry,) = cache.list()
    assert (entry.pinned, entry.label) == (False, "")
    bench.add("w", PROMPT, warm="support")
    bench.run()
    assert bench.last("w").usage == Usage(100, 0, 100)
    assert bench.runner.prefilled_tokens == 100
    (entry,) = cache.list()
    assert (entry.pinned, entry.label) == (True, "support")


def test_a_longer_state_does_not_stand_for_a_pinned_one() -> None:
    cache = memory()
    bench = Bench(cache=cache)
    bench.add("r", [*PROMPT, *range(50)], max_tokens=1)
    bench.run()
    bench.slots.save_next()
    bench.add("w", PROMPT, warm="support")
    bench.run()
    assert bench.last("w").usage == Usage(100, 0, 99)
    assert sorted((each.tokens, each.pinned) for each in cache.list()) == [
        (100, True),
        (150, False),
    ]


def test_the_end_tells_that_there_was_no_room() -> None:
    bench = Bench(cache=memory(max_bytes=8 * 100))  # the state has 8 * 101 bytes
    bench.add("w", PROMPT, warm="support")
    bench.run()
    last = bench.last("w")
    assert last.finish_reason == "error"
    assert last.error is not None
    assert (last.error.kind, last.error.message) == (
        "OutOfMemory",
        "the prompt cache has no room to keep 100 tokens: "
        "raise cache.max_size_mb or cache.disk_max_size_mb, or unpin others",
    )
    assert not bench.runner.busy


def test_what_has_no_room_in_memory_is_pinned_on_disk(tmp_path: Path) -> None:
    disk = DiskTier(tmp_path / "states", 1 << 20, 10, 0, LRU())
    cache = PromptCache(MemoryTier(800, 10, 0, LRU()), disk)
    bench = Bench(cache=cache)
    bench.add("w", PROMPT, warm="support")
    bench.run()
    cache.close()
    again = PromptCache(None, DiskTier(tmp_path / "states", 1 << 20, 10, 0, LRU()))
    (entry,) = again.list()
    assert (entry.tokens, entry.label, entry.pinned) == (100, "support", True)
    bench = Bench(cache=again)
    bench.add("w", PROMPT, warm="other")
    bench.run()
    assert bench.runner.prefilled_tokens == 0
    again.close()
    last = PromptCache(None, DiskTier(tmp_path / "states", 1 << 20, 10, 0, LRU()))
    assert [each.label for each in last.list()] == ["other"]
    last.close()


@pytest.mark.model
def test_the_engine_refuses_what_it_could_not_keep(tmp_path: Path) -> None:
    with Engine(config(enabled=False, context_size=512)) as engine:
        made = request(engine, "w", "Hello! " * 100)
        with pytest.raises(InvalidRequest, match="there is no prompt cache to warm"):
            engine.submit(Request(id="w", prompt=made.prompt, params=made.params, warm="x"), print)
    with Engine(config(path=str(tmp_path / "states"), context_size=512)) as engine:
        made = request(engine, "w", "Hello!")
        with pytest.raises(InvalidRequest, match=r"shorter than cache.min_tokens = 64"):
            engine.submit(Request(id="w", prompt=made.prompt, params=made.params, warm="x"), print)
