"""The engine's process: `python -m llmengine.host.worker FD`, with a socket to its parent."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
from msgspec.structs import replace

from llmengine import usage
from llmengine.config import Config
from llmengine.core import Host, Output, Usage
from llmengine.errors import EngineError, Internal
from llmengine.host import relay, wire
from llmengine.host.channel import Channel, packed
from llmengine.loading import Loading

BEAT = 0.5  # seconds between two signs of life
HELPERS = 4  # threads for what must not hold up the others

log = logging.getLogger("llmengine.host")


class Worker:
    """Does what the parent says, for as long as there is one.

    The main thread reads, and never does what may take long. The engine's own thread sends the
    outputs of each step in one message.
    """

    def __init__(
        self,
        channel: Channel[wire.ToEngine],
        open_engine: Callable[[Config, Loading], Host],
        leave: Callable[[], None],
    ) -> None:
        """`leave` is called where the parent is gone: nobody wants what is left."""
        self._channel = channel
        self._leave = leave
        self._open_engine = open_engine
        self._loading = Loading()
        self._ended = threading.Event()
        self._engine: Host | None = None
        self._helpers = ThreadPoolExecutor(HELPERS, thread_name_prefix="helper")
        self._submitting: dict[str, Future[None]] = {}  # what takes its time
        self._embedding: dict[int, Future[list[bytes]]] = {}  # by call

    def run(self) -> None:
        """Serve until the parent says that it is enough, or is gone."""
        try:
            while (messages := self._channel.receive()) is not None:
                for message in messages:
                    if isinstance(message, wire.Close):
                        self.engine.close()
                        return
                    self._take(message)
        finally:
            self._ended.set()

    @property
    def engine(self) -> Host:
        assert self._engine is not None, "nothing is asked before Ready was said"
        return self._engine

    def _take(self, message: wire.ToEngine) -> None:
        match message:
            case wire.Setup(config):
                _thread(self._load, config)
                _thread(self._beat)
            case wire.Submit(request) if request.params.enforced or request.media:
                # A grammar has to be compiled, and the vocabulary to be read for it.
                submitting = self._helpers.submit(self._submit, message)
                self._submitting[request.id] = submitting
                submitting.add_done_callback(lambda _: self._submitting.pop(request.id, None))
            case wire.Submit():
                self._submit(message)
            case wire.Cancel(request_id):
                self._cancel(request_id)
            case wire.Embed():
                self._embed(message)
            case wire.Abandon(call):
                if future := self._embedding.get(call):
                    future.cancel()
            case wire.Tokenize(call, text, special, bos):
                self._call(call, self.engine.tokenize, text, special=special, bos=bos)
            case wire.Detokenize(call, tokens):
                self._call(call, self.engine.detokenize, tokens)
            case wire.Piece(call, token):
                self._call(call, self.engine.piece, token)
            case wire.MediaTokens(call, media):
                self._call(call, self.engine.media_tokens, media)
            case wire.AskCache(call, method, arguments):
                self._call(call, getattr(self.engine.cache(), method), *arguments)
            case wire.LogFrom(level):
                relay.log_from(level)

    # The engine

    def _load(self, config: Config) -> None:
        try:
            self._engine = self._open_engine(config, self._loading)
            self.send(wire.Ready(self._engine.info()))
        except Exception as error:
            self.send(wire.Failed(_known(error, "the model could not be loaded").info))

    def _beat(self) -> None:
        while not self._ended.is_set():
            if engine := self._engine:
                stats = replace(engine.stats(), process=usage.process())
                self.send(wire.Beat(1.0, engine.state().stalled, stats))
            else:
                self.send(wire.Beat(self._loading.fraction))
            self._ended.wait(BEAT)

    # Requests

    def _submit(self, message: wire.Submit) -> None:
        request = message.request
        try:
            self.engine.submit(request, self._deliver)
        except Exception as error:
            known = _known(error, "the request could not be submitted")
            if message.call:
                self.send(wire.Refused(message.call, known.info))
            else:
                used = Usage(len(request.prompt), len(request.completion))
                last = Output(request.id, finish_reason="error", usage=used, error=known.info)
                self.send(wire.Outputs([last]))
        else:
            if message.call:
                self._answer(message.call, None)

    def _deliver(self, outputs: Sequence[Output]) -> None:
        ended = any(output.finish_reason for output in outputs)
        stats = self.engine.stats() if ended else None
        self.send(wire.Outputs(list(outputs), stats))

    def _cancel(self, request_id: str) -> None:
        if submitting := self._submitting.get(request_id):
            submitting.add_done_callback(lambda _: self.engine.cancel(request_id))
        else:
            self.engine.cancel(request_id)

    # What is answered once

    def _embed(self, message: wire.Embed) -> None:
        def done(future: Future[list[bytes]]) -> None:
            self._embedding.pop(message.call, None)
            if not future.cancelled():
                self._settle(message.call, future.result)

        try:
            future = self.engine.embed(message.inputs)
        except EngineError as error:
            self.send(wire.Refused(message.call, error.info))
            return
        self._embedding[message.call] = future
        future.add_done_callback(done)

    def _call(self, call: int, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._helpers.submit(self._settle, call, lambda: function(*args, **kwargs))

    def _settle(self, call: int, result: Callable[[], Any]) -> None:
        try:
            self._answer(call, result())
        except Exception as error:
            known = _known(error, "what was asked of the engine failed")
            self.send(wire.Refused(call, known.info))

    def _answer(self, call: int, result: Any) -> None:
        self.send(wire.Answer(call, msgspec.Raw(msgspec.msgpack.encode(result))))

    def send(self, message: wire.Message) -> None:
        try:
            self._channel.send(packed(message))
        except OSError:
            self._leave()


def _known(error: Exception, otherwise: str) -> EngineError:
    if isinstance(error, EngineError):
        return error
    log.error("%s", otherwise, exc_info=error)
    return Internal(otherwise)


def _thread(function: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


def main() -> None:
    # A terminal's Ctrl-C, or a service manager, tells all processes: the parent says when to end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()

    def open_engine(config: Config, loading: Loading) -> Host:
        from llmengine.engine.engine import Engine

        relay.relay(config.logging.level, worker.send)
        return Engine(config, loading)

    channel = Channel[wire.ToEngine](socket.socket(fileno=int(sys.argv[1])), wire.ToEngine)
    worker = Worker(channel, open_engine, _leave)
    worker.run()
    _leave()


def _leave() -> None:
    os._exit(0)  # whatever a thread is doing


if __name__ == "__main__":
    main()
