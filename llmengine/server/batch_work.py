"""The work on batches: a few of their requests at a time, and only while nobody waits."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace
from sanic import HTTPResponse

from llmengine.errors import EngineError
from llmengine.keys import LEAST_URGENT, Key
from llmengine.server.batches import lines_of
from llmengine.server.batches_wire import (
    Batch,
    BatchError,
    BatchErrors,
    BatchLine,
    BatchResult,
    FileObject,
    LineError,
    LineResponse,
    RequestCounts,
)
from llmengine.server.files import new_id
from llmengine.server.files_store import now
from llmengine.server.folder import FAULTS
from llmengine.server.inner import answered
from llmengine.server.state import State

BUSY = (429, 503)  # of a server that takes no more: asked again
PAUSE_SECONDS = 0.2
MAX_PAUSE_SECONDS = 5.0  # until it is looked whether the batch was cancelled
FAULT_SECONDS = 10.0  # until a disk that could not be used is tried again

_logger = logging.getLogger("llmengine.server")


async def work_on_batches(app: Any, state: State) -> None:
    """Answer the requests of all batches, also of those that an earlier server began.

    Those of an API key come one after the other, beside those of others.
    """
    work, tasks = state.batches, set[asyncio.Task[None]]()
    try:
        while True:
            work.woken.clear()
            busy = work.busy  # what is found of them may end meanwhile
            for tenant, batch in await _unended(state):
                key = app.ctx.guard.keyring.holder(tenant)
                # Those of a key that is gone wait for its return.
                if key is not None and tenant not in busy | work.busy:
                    work.begin(tenant, batch)
                    mine = _Work(app, state, replace(key, priority=LEAST_URGENT), tenant, batch)
                    tasks.add(task := asyncio.create_task(_worked(mine, state, tenant)))
                    task.add_done_callback(tasks.discard)
            await work.woken.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _unended(state: State) -> list[tuple[str, Batch]]:
    while True:
        try:
            return await state.in_worker(state.files.unended) if state.files.begun else []
        except EngineError as error:
            _logger.warning("batches cannot be worked on: %s", error)
            return []
        except FAULTS as error:
            await _wait_out(error)


async def _worked(work: _Work, state: State, tenant: str) -> None:
    try:
        await work.run()
    except FAULTS as error:
        await _wait_out(error)
    finally:
        state.batches.end(tenant)


async def _wait_out(error: Exception) -> None:
    _logger.warning("batches cannot be worked on: %s", error)
    await asyncio.sleep(FAULT_SECONDS)


class _Work:
    """One batch."""

    def __init__(self, app: Any, state: State, key: Key, tenant: str, batch: Batch) -> None:
        self._app = app
        self._state = state
        self._key = key
        self._tenant = tenant
        self._batch = batch
        self._store = state.files

    async def run(self) -> None:
        try:
            await self._run()
        except FAULTS:
            raise  # what is done is on disk: it can go on later
        except EngineError as error:
            _logger.warning("the batch %s failed: %s", self._batch.id, error)
            await self._fail(str(error))
        except Exception:
            _logger.exception("the batch %s failed", self._batch.id)
            await self._fail("internal error")

    async def _fail(self, message: str) -> None:
        """End without the requests that are left; what was answered stays."""
        self._batch.errors = BatchErrors([BatchError("server_error", message)])
        await self._keep(await self._in_worker(self._store.results, self._batch.id))
        await self._end("failed")

    async def _run(self) -> None:
        batch, workers = self._batch, self._state.config.server.batch_concurrency
        content = await self._in_worker(self._store.content, self._tenant, batch.input_file_id)
        found = (each for _, each in lines_of(content or b""))
        lines = [each for each in found if isinstance(each, BatchLine)]
        if len(lines) != batch.request_counts.total:
            batch.errors = BatchErrors([BatchError("missing_file", "the input file is gone")])
            await self._end("failed")
            return
        done = await self._in_worker(self._store.results, batch.id)
        failed = sum(not _succeeded(each) for each in done.values())
        batch.request_counts = RequestCounts(len(lines), len(done) - failed, failed)
        left = ((at, line) for at, line in enumerate(lines) if at not in done)
        tasks = [asyncio.create_task(self._work(left)) for _ in range(workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self._finish(lines)

    async def _work(self, left: Iterator[tuple[int, BatchLine]]) -> None:
        batch = self._batch
        for at, line in left:
            found = await self._answer(line)
            if found is None:
                return
            body = msgspec.Raw(found.body or b"null")
            response = LineResponse(found.status, found.headers["X-Request-Id"], body)
            result = BatchResult(_new_id(), line.custom_id, response)
            await self._in_worker(self._store.add_result, batch.id, at, msgspec.json.encode(result))
            batch.request_counts.completed += found.status == 200
            batch.request_counts.failed += found.status != 200

    async def _answer(self, line: BatchLine) -> HTTPResponse | None:
        """The answer to a request as soon as there is room; None if it is to have none."""
        while self._batch.status == "in_progress" and not self._expired:
            pause = PAUSE_SECONDS
            async with self._state.batches.room:
                found = await self._tried(line)
            if found is not None:
                if found.status not in BUSY:
                    return found
                pause = float(found.headers.get("Retry-After", PAUSE_SECONDS))
            await asyncio.sleep(min(pause, MAX_PAUSE_SECONDS))
        return None

    async def _tried(self, line: BatchLine) -> HTTPResponse | None:
        stats = await self._in_worker(self._state.host.stats)
        if stats.waiting:
            return None
        return await answered(self._app, self._state, self._key, line.url, bytes(line.body))

    @property
    def _expired(self) -> bool:
        return self._batch.expires_at is not None and now() >= self._batch.expires_at

    async def _finish(self, lines: list[BatchLine]) -> None:
        """End in order: with all answers, or without those that were not to be had."""
        batch = self._batch
        results = await self._in_worker(self._store.results, batch.id)
        cancelled = batch.status == "cancelling"
        batch.status, batch.finalizing_at = "finalizing", now()
        if len(results) < len(lines) and not cancelled:
            error = LineError("batch_expired", "the batch ended before this request's turn")
            for at in sorted(set(range(len(lines))) - results.keys()):
                unanswered = BatchResult(_new_id(), lines[at].custom_id, None, error)
                results[at] = msgspec.json.encode(unanswered)
                batch.request_counts.failed += 1
            outcome = "expired"
        else:
            outcome = "cancelled" if cancelled else "completed"
        await self._keep(results)
        await self._end(outcome)

    async def _keep(self, results: dict[int, bytes]) -> None:
        """Make files of the results."""
        in_order = [results[at] for at in sorted(results)]
        self._batch.output_file_id = await self._file("output", filter(_succeeded, in_order))
        failed = (each for each in in_order if not _succeeded(each))
        self._batch.error_file_id = await self._file("error", failed)

    async def _file(self, kind: str, lines: Iterator[bytes]) -> str | None:
        content = b"".join(line + b"\n" for line in lines)
        if not content:
            return None
        file = FileObject(
            id=new_id(),
            bytes=len(content),
            created_at=now(),
            filename=f"{self._batch.id}_{kind}.jsonl",
            purpose="batch_output",
        )
        await self._in_worker(self._store.add_file, self._tenant, file, content)
        return file.id

    async def _end(self, status: Any) -> None:
        setattr(self._batch, f"{status}_at", now())
        self._batch.status = status
        await self._in_worker(self._store.save_batch, self._tenant, self._batch)
        await self._in_worker(self._store.drop_results, self._batch.id)

    async def _in_worker(self, *call: Any) -> Any:
        return await self._state.in_worker(*call)


def _new_id() -> str:
    return f"batch_req_{secrets.token_hex(12)}"


class _Status(msgspec.Struct):
    status_code: int


class _Line(msgspec.Struct):
    response: _Status | None = None


_status_of = msgspec.json.Decoder(_Line).decode


def _succeeded(result: bytes) -> bool:
    response = _status_of(result).response
    return response is not None and response.status_code == 200
