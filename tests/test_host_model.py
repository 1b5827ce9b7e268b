"""The engine's process with the embedded model in it, killed and halted while it writes."""

from __future__ import annotations

import logging
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from gguf_files import varied
from patience import PATIENCE
from poisoned_worker import POISON
from real import MODEL, chatml, config, request
from serving import eventually

from llmengine.config import Config
from llmengine.core import Output, Request
from llmengine.errors import InvalidRequest, ModelNotFound, ModelUnavailable
from llmengine.host.child import Child
from llmengine.host.process_host import ProcessHost
from llmengine.sampling import Constraint

pytestmark = pytest.mark.model

WORDS = Constraint("regex", "[A-Z][a-z ]{80,110}!")
WILD = {"temperature": 1.3, "top_k": 0, "min_p": 0.02, "ignore_eos": True, "max_tokens": 120}
KINDS: tuple[dict[str, Any], ...] = (
    {"temperature": 0, "ignore_eos": True, "max_tokens": 120},
    {**WILD, "seed": 1},
    {**WILD, "seed": 2, "repeat_penalty": 1.2, "dry_multiplier": 0.8, "frequency_penalty": 0.3},
    {**WILD, "seed": 3, "typical_p": 0.9, "xtc_probability": 0.4, "xtc_threshold": 0.05},
    {**WILD, "seed": 4, "constraint": WORDS},
    {**WILD, "seed": 5, "stop": ("never this", "e a", "the s"), "logprobs": 2},
    {**WILD, "seed": 6, "logprobs": 0},
    {**WILD, "seed": 7, "thinking_budget": 30, "thinking_tags": ("", "</think>")},
)  # fmt: skip

SURE = {"temperature": 0, "ignore_eos": True, "max_tokens": 120}
GUESSED: tuple[dict[str, Any], ...] = (
    SURE,
    {**SURE, "temperature": 0.5, "seed": 1},
    {**SURE, "repeat_penalty": 1.2, "dry_multiplier": 0.8},
    {**SURE, "constraint": WORDS},
    {**SURE, "stop": ("never this", "e a", "the s")},
    {**SURE, "thinking_budget": 30, "thinking_tags": ("", "</think>")},
)


def settings(**options: Any) -> Any:
    deterministic = {"deterministic": True, "context_size": 8192, "disk": False}
    return config(**{**deterministic, "max_concurrent_requests": 8, **options})


@pytest.fixture(scope="module")
def host() -> Iterator[ProcessHost]:
    with ProcessHost(settings(watchdog_seconds=2.0)) as host:
        yield host


def requests(
    host: ProcessHost, count: int, prefix: str, kinds: tuple[dict[str, Any], ...] = KINDS
) -> list[Request]:
    return [
        request(host, f"{prefix}{index}", chatml("Tell me of a fox."), **kinds[index % len(kinds)])
        for index in range(count)
    ]


def launched(name: str) -> Callable[[Config], Child]:
    """A process that is another script of this folder."""
    command = (sys.executable, str(Path(__file__).with_name(name)))
    return lambda config: Child(config, command)


class Clients:
    """All outputs of some requests, and what is to happen meanwhile."""

    def __init__(self, host: ProcessHost, asked: list[Request]) -> None:
        self.outputs: dict[str, list[Output]] = {each.id: [] for each in asked}
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._left = set(self.outputs)
        for each in asked:
            host.submit(each, self._queue.put)

    def take(self, tokens: int) -> None:
        """Wait for so many more tokens."""
        while tokens > 0:
            for output in self._queue.get(timeout=PATIENCE):
                self.outputs[output.request_id].append(output)
                tokens -= output.tokens
                if output.finish_reason:
                    self._left.discard(output.request_id)

    def finish(self) -> list[tuple[Any, ...]]:
        """What each request came to, in all."""
        while self._left:
            self.take(1)
        return [_whole(outputs) for outputs in self.outputs.values()]


def _whole(outputs: list[Output]) -> tuple[Any, ...]:
    last = outputs[-1]
    assert last.usage is not None
    return (
        "".join(each.text for each in outputs),
        [token for each in outputs for token in each.token_ids],
        [found for each in outputs for found in each.logprobs],
        (last.finish_reason, last.stop, last.error),
        (last.usage.prompt_tokens, last.usage.completion_tokens),
    )


def lose(host: ProcessHost, number: signal.Signals) -> None:
    """Send the process that works now a signal, and wait for the next one."""
    before = host.state()
    os.kill(before.pid, number)
    assert eventually(lambda: host.state().restarts > before.restarts, PATIENCE)


def test_every_text_is_what_it_would_have_been(host: ProcessHost) -> None:
    calm = Clients(host, requests(host, 12, "calm")).finish()
    assert [len(each[0]) > 20 for each in calm] == [True] * 12
    storm = Clients(host, requests(host, 12, "storm"))  # four of them wait in the queue
    for _ in range(2):
        storm.take(150)
        lose(host, signal.SIGKILL)
    assert storm.finish() == calm
    assert host.stats().running == 0


def test_a_draft_model_guesses_on_for_those_that_lost_their_engine() -> None:
    options = {"deterministic": False, "draft_model": str(MODEL), "enabled": False}
    with ProcessHost(settings(**options), launch=launched("eager_worker.py")) as host:
        calm = Clients(host, requests(host, 6, "calm", GUESSED)).finish()
        storm = Clients(host, requests(host, 6, "storm", GUESSED))
        for _ in range(2):
            storm.take(100)
            lose(host, signal.SIGKILL)
        before = host.stats()
        assert storm.finish() == calm
        after = host.stats()
        accepted = after.accepted_tokens - before.accepted_tokens
        assert accepted > (after.completion_tokens - before.completion_tokens) / 2


def test_a_process_that_is_halted_is_lost(host: ProcessHost) -> None:
    calm = Clients(host, requests(host, 4, "calm")).finish()
    storm = Clients(host, requests(host, 4, "storm"))
    storm.take(60)
    lose(host, signal.SIGSTOP)
    assert storm.finish() == calm


def test_what_is_asked_once_is_answered_by_the_next(host: ProcessHost) -> None:
    text = "A fox. " * 40
    tokens = host.tokenize(text)
    before = host.embed([tokens]).result(PATIENCE)
    embedding = host.embed([tokens] * 20)
    lose(host, signal.SIGKILL)
    assert embedding.result(PATIENCE) == before * 20
    assert host.detokenize(tokens) == text
    assert b"".join(map(host.piece, tokens)).decode() == text


def test_its_log_follows_the_level_here(
    host: ProcessHost, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "llmengine"):
        assert eventually(lambda: host._supervisor._child._level == logging.DEBUG)
        host.embed([[65] * 600]).result(PATIENCE)  # llama.cpp says much about a new context
        assert eventually(lambda: any(each.name == "llmengine.llama" for each in caplog.records))


def test_a_grammar_is_refused_there_as_here(host: ProcessHost) -> None:
    wrong = Constraint("regex", "(", param="guided_regex")
    with pytest.raises(InvalidRequest, match="guided_regex") as refused:
        host.submit(request(host, "a", "hi", constraint=wrong), lambda _: None)
    assert (refused.value.param, refused.value.code) == ("guided_regex", "unsupported_grammar")


def test_a_request_that_aborts_the_engine_is_failed_alone(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("llmengine").propagate = True
    with ProcessHost(settings(max_resumes=1), launch=launched("poisoned_worker.py")) as host:
        good = requests(host, 3, "good")
        calm = Clients(host, requests(host, 3, "calm")).finish()
        poison = Request(id="poison", prompt=(1, POISON), params=good[0].params)
        *stormy, last = Clients(host, [*good, poison]).finish()
        assert stormy == calm
        # Twice if it was alone from the first death on, else once more.
        assert re.fullmatch(r"the engine died over this [23] times: .*", last[3][2].message)
    assert "the engine's process says: GGML_ASSERT(false) failed" in caplog.text
    assert "was killed by SIGABRT" in caplog.text


def test_a_model_that_cannot_be_loaded_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no model .*missing\.gguf"):
        ProcessHost(config(tmp_path / "missing.gguf"))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelUnavailable, match=r"cannot load .*broken\.gguf"):
        ProcessHost(config(broken))
    varied(MODEL, tmp_path / "deep.gguf", {"qwen3.block_count": 1 << 30})
    with pytest.raises(
        ModelUnavailable,
        match=r"was killed by SIGABRT while it loaded the model: "
        r"llama\.cpp gave up: llama-model\.cpp:\d+: GGML_ASSERT\(.*\) failed$",
    ):
        ProcessHost(config(tmp_path / "deep.gguf"))
    command = (sys.executable, "-c", "print('no such instruction'); raise SystemExit(7)")
    with pytest.raises(ModelUnavailable) as told:
        ProcessHost(config(), launch=lambda config: Child(config, command))
    assert str(told.value) == (
        "the engine's process ended with exit code 7 while it loaded the model: no such instruction"
    )


PARENT = """
import sys, threading
sys.path[:0] = [{tests!r}]
from real import config
from llmengine.host.process_host import ProcessHost
host = ProcessHost(config(disk=False))
print(host.state().pid, "numpy" in sys.modules, flush=True)
threading.Event().wait()
"""


def test_it_ends_with_its_parent() -> None:
    script = PARENT.format(tests=str(Path(__file__).parent))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as own:
        assert own.stdout is not None
        child, has_numpy = own.stdout.readline().split()
        assert has_numpy == "False"
        # A terminal's Ctrl-C is for the parent alone.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(int(child), number)
        own.kill()
    assert eventually(lambda: not psutil.pid_exists(int(child)), PATIENCE)


def test_drain_and_close_through_a_death() -> None:
    host = ProcessHost(settings())
    running = Clients(host, requests(host, 3, "r"))
    running.take(10)
    killer = threading.Thread(target=lose, args=(host, signal.SIGKILL))
    killer.start()
    assert host.drain(PATIENCE)
    killer.join()
    assert {each[3][0] for each in running.finish()} <= {"stop", "length"}
    last = host.state().pid
    host.close()
    assert not psutil.pid_exists(last)
