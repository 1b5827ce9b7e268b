"""The engine's process as a thread with a FakeHost in it, which dies and hangs on command."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from fakes import FakeHost
from patience import PATIENCE

from llmengine.config import Config, WorkerConfig
from llmengine.core import Output, Request, Sink
from llmengine.errors import EngineError
from llmengine.host import wire
from llmengine.host.channel import Channel, packed
from llmengine.host.process_host import ProcessHost
from llmengine.host.worker import Worker
from llmengine.loading import Loading
from llmengine.sampling import SamplingParams

POISON = 255  # a token that kills its engine


class FakeChild:
    """What `llmengine.host.child.Child` is to a supervisor."""

    def __init__(self, config: Config, engine: FakeHost, load: Callable[[], None]) -> None:
        own, self._its = socket.socketpair()
        self.engine = engine
        engine.kill = self.kill  # type: ignore[attr-defined]
        self.frozen = False
        self.last_words = "the last words"
        self.pid = 0
        self.level = 0
        self._load = load
        self._channel = Channel[wire.FromEngine](own, wire.FromEngine)
        worker = Worker(Channel(self._its, wire.ToEngine), self._open, lambda: None)
        self._thread = threading.Thread(target=self._run, args=(worker,), daemon=True)
        self._thread.start()
        self.send(packed(wire.Setup(config)))

    def _run(self, worker: Worker) -> None:
        worker.run()
        self.kill()

    def _open(self, config: Config, loading: Loading) -> FakeHost:
        self._load()
        return self.engine

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # as the thread of a Child that writes
            self._channel.send(data)

    def log_from(self, level: int) -> None:
        self.level = level

    def receive(self, seconds: float) -> list[wire.FromEngine] | None:
        end = time.monotonic() + seconds
        while self.frozen and time.monotonic() < end:
            time.sleep(0.002)
        return [] if self.frozen else self._channel.receive(seconds)

    def kill(self) -> None:
        self.frozen = False
        with contextlib.suppress(OSError):  # it is dead already
            self._its.shutdown(socket.SHUT_RDWR)

    def bury(self) -> str:
        self.kill()
        self._thread.join(20)
        self._channel.close()
        self._its.close()
        return "was killed by SIGKILL"


class Processes:
    """Starts FakeChilds; `failure` is what the next ones fail with, `hold()` keeps them off."""

    def __init__(self, answer: Any = "Hello, world!", **options: Any) -> None:
        self.children: list[FakeChild] = []
        self.failure: EngineError | None = None
        self.prepare: Callable[[FakeHost], None] = lambda _: None
        self._answer, self._options = answer, options
        self._open = threading.Event()
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def __call__(self, config: Config) -> Any:
        engine = PoisonedHost(self._answer, **self._options)
        self.prepare(engine)
        child = FakeChild(config, engine, self._load)
        self.children.append(child)
        return child

    def _load(self) -> None:
        assert self._open.wait(20)
        if self.failure:
            raise self.failure

    @property
    def engine(self) -> FakeHost:
        return self.children[-1].engine

    def kill(self) -> None:
        self.children[-1].kill()

    def host(self, **worker: Any) -> ProcessHost:
        config = Config(worker=WorkerConfig(**worker))
        return ProcessHost(config, launch=self)


class PoisonedHost(FakeHost):
    kill: Callable[[], None]

    def submit(self, request: Request, sink: Sink) -> None:
        if POISON in request.prompt:
            self.kill()
        super().submit(request, sink)


class Client:
    """Collects outputs; a sink."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Output] = queue.SimpleQueue()
        self.texts: dict[str, str] = {}
        self.last: dict[str, Output] = {}

    def __call__(self, outputs: Any) -> None:
        for output in outputs:
            self._queue.put(output)

    def take(self) -> Output:
        output = self._queue.get(timeout=PATIENCE)
        assert output.request_id not in self.last, "an output behind the last one"
        self.texts[output.request_id] = self.texts.get(output.request_id, "") + output.text
        if output.finish_reason:
            self.last[output.request_id] = output
        return output

    def wait(self, *ids: str) -> None:
        """Until all of them have ended."""
        while not set(ids) <= self.last.keys():
            self.take()


def request(name: str, *prompt: int, **options: Any) -> Request:
    params = SamplingParams(**options.pop("params", {}))
    return Request(id=name, prompt=prompt or (1, 2, 3), params=params, **options)
