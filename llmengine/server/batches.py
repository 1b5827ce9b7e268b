"""/v1/batches: many requests in a file, answered when nobody waits."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from llmengine.errors import InvalidRequest, NotFound
from llmengine.server import parameters, wire
from llmengine.server.batches_wire import (
    Batch,
    BatchBody,
    BatchError,
    BatchErrors,
    BatchLine,
    BatchList,
    RequestCounts,
)
from llmengine.server.bodies import decode
from llmengine.server.files_store import FilesStore, now
from llmengine.server.page import page
from llmengine.server.record import record_of
from llmengine.server.state import State, state_of

MAX_LINES = 50_000  # as with OpenAI
MAX_ERRORS = 100  # that are told
WINDOW = 86_400  # seconds

blueprint = Blueprint("batches")


@blueprint.post("/v1/batches")
async def create(request: Request) -> HTTPResponse:
    state, tenant = state_of(request), request.ctx.key.digest
    batch, unknown = await state.in_worker(_create, state, tenant, request.body)
    record_of(request).unknown = unknown
    state.batches.woken.set()
    return _json(batch)


@blueprint.get("/v1/batches")
async def every(request: Request) -> HTTPResponse:
    state, tenant = state_of(request), request.ctx.key.digest
    found = await state.in_worker(state.files.batches, tenant)
    shown, more = page(found, request.args)
    first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
    return _json(BatchList(data=shown, first_id=first, last_id=last, has_more=more))


@blueprint.get("/v1/batches/<id:str>")
async def retrieve(request: Request, id: str) -> HTTPResponse:
    return _json(await _found(request, id))


@blueprint.post("/v1/batches/<id:str>/cancel")
async def cancel(request: Request, id: str) -> HTTPResponse:
    """What is answered so far stays; what is being answered is still brought to its end."""
    batch = await _found(request, id)
    if batch.ended or batch.status == "finalizing":
        raise InvalidRequest(f"the batch is {batch.status}: nothing is to be cancelled", param="id")
    state, tenant = state_of(request), request.ctx.key.digest
    state.batches.cancelled.add(id)
    batch.status, batch.cancelling_at = "cancelling", batch.cancelling_at or now()
    await state.in_worker(state.files.save_batch, tenant, batch)
    state.batches.woken.set()
    return _json(batch)


async def _found(request: Request, id: str) -> Batch:
    state, tenant = state_of(request), request.ctx.key.digest
    if running := state.batches.running(tenant, id):
        return running
    batch: Batch | None = await state.in_worker(state.files.batch, tenant, id)
    if batch is None:
        raise NotFound(f"there is no batch {id[:100]!r}", param="id")
    return state.batches.running(tenant, id) or batch  # its turn may have come meanwhile


def _create(state: State, tenant: str, content: bytes) -> tuple[Batch, list[str]]:
    body, fields = decode(content, BatchBody)
    strict = state.config.server.strict_parameters
    unknown = parameters.unknown(body, fields, strict=strict, refused={}, harmless=HARMLESS)
    store: FilesStore = state.files
    found = store.content(tenant, body.input_file_id)
    if found is None:
        raise InvalidRequest(
            f"`input_file_id`: there is no file {body.input_file_id[:100]!r}",
            param="input_file_id",
        )
    created = now()
    lines = list(lines_of(found))
    errors = list(_errors(body, lines))[:MAX_ERRORS]
    batch = Batch(
        id=f"batch_{secrets.token_hex(12)}",
        endpoint=body.endpoint,
        errors=BatchErrors(errors) if errors else None,
        input_file_id=body.input_file_id,
        completion_window=body.completion_window,
        status="failed" if errors else "in_progress",
        created_at=created,
        in_progress_at=None if errors else created,
        failed_at=created if errors else None,
        expires_at=created + WINDOW,
        request_counts=RequestCounts(0 if errors else len(lines)),
        metadata=body.metadata,
    )
    store.check_room(len(found))  # what comes out takes about as much as what went in
    store.save_batch(tenant, batch)
    return batch, unknown


HARMLESS = frozenset({"output_expires_after"})  # files_ttl_seconds is for all
_UNREADABLE = (ValueError, RecursionError)  # no JSON, no UTF-8, or another shape
_decode = msgspec.json.Decoder(BatchLine).decode


def lines_of(content: bytes) -> Iterator[tuple[int, BatchLine | str]]:
    """The requests of an input file, with their lines; what is wrong with one that is wrong."""
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield number, _decode(line)
        except _UNREADABLE as error:
            yield number, str(error)


class _Streamed(msgspec.Struct):
    stream: object = None


def _streams(body: msgspec.Raw) -> bool:
    try:
        return bool(msgspec.json.decode(body, type=_Streamed).stream)
    except _UNREADABLE:
        return False  # its answer says what is wrong with it


def _errors(body: BatchBody, lines: Sequence[tuple[int, BatchLine | str]]) -> Iterator[BatchError]:
    if not lines:
        yield BatchError("empty_file", "the file has no requests", "input_file_id")
    if len(lines) > MAX_LINES:
        yield BatchError(
            "too_many_requests", f"the file has more than {MAX_LINES} requests", "input_file_id"
        )
    seen = set()
    for number, line in lines:
        if isinstance(line, str):
            yield BatchError("invalid_json_line", line[:500], None, number)
            continue
        if line.custom_id in seen:
            yield BatchError("duplicate_custom_id", "another has it too", "custom_id", number)
        seen.add(line.custom_id)
        if line.url != body.endpoint:
            message = f"the batch is for {body.endpoint}"
            yield BatchError("mismatched_endpoint", message, "url", number)
        if not bytes(line.body).startswith(b"{"):
            yield BatchError("invalid_request", "an object is expected", "body", number)
        elif _streams(line.body):
            yield BatchError("invalid_request", "a batch has no streams", "body.stream", number)


def _json(found: object) -> HTTPResponse:
    return HTTPResponse(wire.encode(found), content_type="application/json")
