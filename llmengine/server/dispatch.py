"""The way from the engine's thread to the request handlers on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace

from llmengine.core import Host, Output, Request
from llmengine.errors import EngineError, ErrorInfo, Internal, ModelUnavailable


class Dispatcher:
    """The one sink of all requests: a step costs one wake-up of the loop, however many run."""

    def __init__(self, host: Host, keepalive: float) -> None:
        """Streams that are silent for `keepalive` seconds say so."""
        self._host = host
        self.keepalive = keepalive
        self._jobs: dict[str, Job] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, outputs: Sequence[Output]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._spread, outputs)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            # The server has ended: nobody is left to tell.

    async def submit(self, requests: Sequence[Request]) -> Job:
        """Queue all of `requests`, or none. Raises what Host.submit does."""
        self._loop = asyncio.get_running_loop()
        job = Job(self, [each.id for each in requests])
        try:
            for request in requests:
                self._jobs[request.id] = job
                await self._submit(request)
        except BaseException:
            job.close()
            raise
        return job

    async def _submit(self, request: Request) -> None:
        if request.params.enforced is None:
            self._host.submit(request, self)
            await asyncio.sleep(0)  # many take their time: other handlers have theirs between
            return
        # A grammar may have to be compiled, and the vocabulary to be read for it.
        submitted = asyncio.get_running_loop().run_in_executor(
            None, self._host.submit, request, self
        )
        try:
            await asyncio.shield(submitted)
        except asyncio.CancelledError:
            submitted.add_done_callback(lambda done: self._host.cancel(request.id))
            raise

    def cancel(self, request_id: str) -> None:
        if self._jobs.pop(request_id, None) is not None:
            self._host.cancel(request_id)

    def stop(self, request_id: str) -> None:
        """End a request early; unlike `cancel`, its last output still comes."""
        if request_id in self._jobs:
            self._jobs[request_id].stopped.add(request_id)
            self._host.cancel(request_id)

    def _spread(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            job = self._jobs.get(output.request_id)
            if job is None:
                continue  # cancelled in the meantime
            if output.finish_reason is not None:
                del self._jobs[output.request_id]
            job.receive(output)


class Job:
    """The outputs of the requests that one HTTP request became, numbered as submitted."""

    def __init__(self, dispatcher: Dispatcher, ids: Sequence[str]) -> None:
        self._dispatcher = dispatcher
        self._index = {request_id: index for index, request_id in enumerate(ids)}
        self._ids = ids
        self._complete: set[str] = set()
        self._unfinished = len(ids)
        self.stopped: set[str] = set()  # those that were ended early
        self.failed: tuple[int, Output] | None = None  # what the iteration ended with
        self._outputs: asyncio.Queue[Output | None] = asyncio.Queue()

    def receive(self, output: Output) -> None:
        self._outputs.put_nowait(output)

    def close(self) -> None:
        """Cancel what is not finished."""
        for request_id in self._index:
            self._dispatcher.cancel(request_id)

    def complete(self, index: int) -> None:
        """End a request here, as if the model had."""
        self._complete.add(self._ids[index])
        self._dispatcher.stop(self._ids[index])

    async def __aiter__(self) -> AsyncIterator[tuple[int, Output] | None]:
        """Each output with its request's number; None when nothing came for a while.

        Raises the EngineError with which a request ended.
        """
        while self._unfinished:
            output = await self._next()
            if output is None:
                yield None
                continue
            if output.finish_reason is not None:
                self._unfinished -= 1
            if output.finish_reason == "cancelled" and output.request_id in self._complete:
                output = replace(output, finish_reason="stop")
            if (error := self._failure(output)) is not None:
                self.failed = self._index[output.request_id], output
                raise error
            yield self._index[output.request_id], output

    async def _next(self) -> Output | None:
        if not self._outputs.empty():
            return self._outputs.get_nowait()
        loop = asyncio.get_running_loop()
        ping = loop.call_later(self._dispatcher.keepalive, self._outputs.put_nowait, None)
        try:
            return await self._outputs.get()
        finally:
            ping.cancel()

    def _failure(self, output: Output) -> EngineError | None:
        if output.finish_reason == "cancelled" and output.request_id not in self.stopped:
            return ModelUnavailable("the server is shutting down")
        if output.finish_reason == "error":
            unexplained = Internal("the engine gave no reason").info
            info: ErrorInfo = output.error or unexplained
            return EngineError.from_info(info)
        return None
