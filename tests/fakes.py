"""A Host without a model: every byte is a token and the answers are scripted."""

from __future__ import annotations

import codecs
import math
import struct
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import takewhile
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llmengine.core import (
    CacheControl,
    FinishReason,
    HostState,
    Infill,
    Media,
    ModelInfo,
    Output,
    Pair,
    Request,
    Sink,
    Stats,
    Timings,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from llmengine.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    ErrorInfo,
    InvalidRequest,
    ModelUnavailable,
)

if TYPE_CHECKING:
    from llmengine.cache.prompt_cache import PromptCache

BOS = 256
EOS = 257
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking %}<think>\n{% endif %}{% endif %}"
)

Script = str | Callable[[Request], str]


class FakeHost:
    """Answers every request with `answer`, `step` bytes at a time.

    `hold()` keeps requests waiting until `release()`. `refuse` is raised by `submit`,
    with `limit` it refuses more requests than that at once,
    `failure` ends every request after its first piece. What was asked is kept in `requests`,
    what was cancelled in `cancelled`, and the most that ran at once in `most_running`.
    """

    def __init__(
        self,
        answer: Script = "Hello, world!",
        *,
        step: int = 4,
        delay: float = 0.0,
        name: str = "fake",
        template: str | None = TEMPLATE,
        context: int = 4096,
        infill: bool = False,
        ranks: bool = False,
        cache: PromptCache | None = None,
        media: tuple[str, ...] = (),
    ) -> None:
        """Requests to warm `cache` put there a state of as many bytes as tokens."""
        self.answer = answer
        self.step = step
        self.delay = delay
        self.context = context
        self.refuse: EngineError | None = None
        self.limit: int | None = None
        self.failure: ErrorInfo | None = None
        self.requests: list[Request] = []
        self.embedded: list[tuple[Sequence[Sequence[int]], Future[list[bytes]]]] = []
        self.cancelled: list[str] = []
        self.sink_calls = 0
        self.most_running = 0
        self._finished: dict[str, int] = {}
        self._completion_tokens = 0
        self._info = replace(_info(name, template, context, infill, ranks), media=media)
        self._cache = cache
        self._running: dict[str, _Running] = {}
        self._open = threading.Event()
        self._open.set()
        self._change = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="fake-engine", daemon=True)
        self._thread.start()

    def __enter__(self) -> FakeHost:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    @property
    def running(self) -> int:
        return len(self._running)

    def submit(self, request: Request, sink: Sink) -> None:
        if self.refuse is not None:
            raise self.refuse
        if len(request.prompt) >= self.context:
            raise ContextLengthExceeded(
                f"the prompt has {len(request.prompt)} tokens, the context {self.context}",
                param="prompt",
            )
        with self._change:
            if self._closing:
                raise ModelUnavailable("the engine is closing")
            if self.limit is not None and len(self._running) >= self.limit:
                raise EngineOverloaded("the queue is full")
            self.requests.append(request)
            text = self.answer if isinstance(self.answer, str) else self.answer(request)
            if request.warm:
                text = ""
                self._warm(request)
            self._running[request.id] = _Running(request, sink, text, self._info.eos)
            self.most_running = max(self.most_running, len(self._running))
            self._change.notify_all()

    def embed(self, inputs: Sequence[Sequence[int]]) -> Future[list[bytes]]:
        """How often each of a, b, c and d is in a text; with `ranks`, its length."""
        if self.refuse is not None:
            raise self.refuse
        for each in inputs:
            if len(each) > self.context:
                raise ContextLengthExceeded(f"the input has {len(each)} tokens", param="input")
        found: Future[list[bytes]] = Future()
        self.embedded.append((inputs, found))
        if self._open.is_set():
            found.set_result([self._vector(each) for each in inputs])
        return found

    def _vector(self, tokens: Sequence[int]) -> bytes:
        if self._info.ranks:
            return struct.pack("<f", len(tokens) - 10)
        counts = [sum(token == byte for token in tokens) for byte in b"abcd"]
        norm = math.hypot(*counts) or 1.0
        return struct.pack("<4f", *(count / norm for count in counts))

    def _warm(self, request: Request) -> None:
        import numpy  # not before: commands without a model are tested to do without it

        assert self._cache is not None
        tokens = numpy.array(request.prompt, numpy.int32)
        state = numpy.zeros(len(tokens), numpy.uint8)
        self._cache.put(request.cache_salt, tokens, state, pinned=True, label=request.warm)

    def cache(self) -> CacheControl | None:
        return self._cache

    def cancel(self, request_id: str) -> None:
        with self._change:
            running = self._running.get(request_id)
            if running is not None:
                running.cancelled = True
                self.cancelled.append(request_id)
                self._change.notify_all()

    def tokenize(self, text: str, *, special: bool = False, bos: bool = False) -> list[int]:
        if special and text.startswith(self._info.bos):
            text, bos = text.removeprefix(self._info.bos), True
        return [BOS] * bos + list(text.encode())

    def media_tokens(self, media: Media) -> tuple[int, ...]:
        """As many negative ids as its data has bytes, in brackets."""
        if media.data == b"broken":
            raise InvalidRequest("an image is damaged", code="invalid_image")
        return (ord("["), *(-1 - byte for byte in media.data), ord("]"))

    def detokenize(self, tokens: Sequence[int]) -> str:
        return bytes(token for token in tokens if 0 <= token < 256).decode(errors="replace")

    def piece(self, token: int) -> bytes:
        return {BOS: b"<s>", EOS: b"</s>"}.get(token) or bytes([token])

    def info(self) -> ModelInfo:
        return self._info

    def stats(self) -> Stats:
        with self._change:
            return Stats(
                requests=len(self.requests),
                finished=dict(self._finished),
                running=len(self._running),
                prompt_tokens=sum(len(each.prompt) for each in self.requests),
                cached_tokens=sum(len(each.prompt) // 2 for each in self.requests),
                completion_tokens=self._completion_tokens,
                cells=self.context,
                slots=16,
                slots_idle=16 - len(self._running),
            )

    def state(self) -> HostState:
        return HostState()

    def drain(self, timeout: float) -> bool:
        with self._change:
            self._closing = True
            return self._change.wait_for(lambda: not self._running, timeout)

    def close(self) -> None:
        with self._change:
            self._closing = True
            for running in self._running.values():
                running.cancelled = True
            self._change.notify_all()
        self._open.set()
        self._thread.join(5)

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._running or self._closing)
                if self._closing and not self._running:
                    return
                held = not self._open.is_set()
                running = [each for each in self._running.values() if each.cancelled or not held]
                outputs = [(each.sink, self._advance(each)) for each in running]
            for sink in dict.fromkeys(sink for sink, _ in outputs):
                self.sink_calls += 1
                sink([output for owner, output in outputs if owner == sink])
            time.sleep(self.delay if outputs else 0.001)

    def _advance(self, running: _Running) -> Output:
        output = running.next(self.step, self.failure)
        self._completion_tokens += output.tokens
        if output.finish_reason is not None:
            del self._running[running.request.id]
            count = self._finished.get(output.finish_reason, 0)
            self._finished[output.finish_reason] = count + 1
            self._change.notify_all()
        return output


class _Running:
    """One request under way."""

    def __init__(self, request: Request, sink: Sink, text: str, eos: str) -> None:
        params = request.params
        self.request = request
        self.sink = sink
        self.cancelled = False
        cuts = [(text.find(each), each) for each in params.stop if each in text]
        at, self.stop = min(cuts, default=(len(text), None))
        self._bytes = text[:at].encode()
        limit = params.max_tokens or len(self._bytes) + 1
        self._reason: FinishReason = "length" if limit < len(self._bytes) else "stop"
        self._bytes = self._bytes[:limit]
        self._sent = len(request.completion)
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")

    def next(self, step: int, failure: ErrorInfo | None) -> Output:
        if self.cancelled:
            return self._last("cancelled")
        deadline = self.request.deadline
        if deadline is not None and time.monotonic() > deadline:
            late = DeadlineExceeded("the request took longer than it may")
            return self._last("error", error=late.info)
        if failure is not None and self._sent:
            return self._last("error", error=failure)
        piece = self._bytes[self._sent : self._sent + step]
        self._sent += len(piece)
        done = self._sent >= len(self._bytes)
        text = self._decoder.decode(piece, done)
        if done:
            return self._last(self._reason, text, piece)
        return Output(self.request.id, text, tuple(piece), self._logprobs(piece))

    def _last(
        self,
        reason: FinishReason,
        text: str = "",
        piece: bytes = b"",
        error: ErrorInfo | None = None,
    ) -> Output:
        prompt, prediction = len(self.request.prompt), self.request.prediction
        same = zip(prediction, self._bytes[: self._sent], strict=False)
        accepted = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], same))
        return Output(
            self.request.id,
            text,
            tuple(piece),
            self._logprobs(piece),
            reason,
            stop=self.stop if reason == "stop" else None,
            usage=Usage(
                prompt,
                self._sent,
                prompt // 2,
                accepted_prediction_tokens=accepted,
                rejected_prediction_tokens=len(prediction) - accepted,
            ),
            timings=Timings(0.001, 0.002, 0.003),
            error=error,
        )

    def _logprobs(self, piece: bytes) -> tuple[TokenLogprob, ...]:
        count = self.request.params.logprobs
        if count is None:
            return ()
        return tuple(
            TokenLogprob(
                byte,
                bytes([byte]),
                -0.5,
                tuple(
                    TopLogprob((byte + rank) % 256, bytes([(byte + rank) % 256]), -0.5 - rank)
                    for rank in range(count)
                ),
            )
            for byte in piece
        )


def _info(name: str, template: str | None, context: int, infill: bool, ranks: bool) -> ModelInfo:
    return ModelInfo(
        name=name,
        path=f"/models/{name}.gguf",
        description="fake 1K F32",
        created=1_700_000_000,
        size_bytes=1024,
        parameters=1000,
        vocabulary=258,
        longest_piece=4,
        context_length=context,
        max_sequence_length=context,
        context_size=context,
        chat_template=template,
        bos="<s>",
        eos="</s>",
        embedding_size=4,
        ranks=ranks,
        pair=Pair((BOS,), (EOS,), (EOS,)) if ranks else None,
        infill=Infill(1, 2, 3) if infill else None,
        device="cpu",
        threads=1,
    )
