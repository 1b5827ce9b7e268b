"""/v1/files: what batches are made of, and what comes out of them."""

from __future__ import annotations

import secrets

from sanic import Blueprint, HTTPResponse, Request
from sanic.headers import parse_content_header
from sanic.request.form import parse_multipart_form
from sanic.request.parameters import RequestParameters

from llmengine.errors import InvalidRequest, NotFound
from llmengine.log import printable
from llmengine.server import wire
from llmengine.server.batches_wire import FileDeleted, FileList, FileObject
from llmengine.server.files_store import FilesStore, now
from llmengine.server.page import page
from llmengine.server.state import state_of

MAX_NAME = 255
MAX_FILES = 10_000  # of a list

blueprint = Blueprint("files")


@blueprint.post("/v1/files")
async def upload(request: Request) -> HTTPResponse:
    state, tenant = state_of(request), request.ctx.key.digest
    kind = request.headers.get("content-type", "")
    name, content = await state.in_worker(_parsed, kind, request.body)
    file = FileObject(
        id=new_id(), bytes=len(content), created_at=now(), filename=name, purpose="batch"
    )

    def add(store: FilesStore) -> None:
        store.check_room(len(content))
        store.add_file(tenant, file, content)

    await state.in_worker(add, state.files)
    return _json(file)


@blueprint.get("/v1/files")
async def every(request: Request) -> HTTPResponse:
    state, tenant = state_of(request), request.ctx.key.digest
    purpose = request.args.get("purpose")
    found = await state.in_worker(state.files.files, tenant)
    wanted = [each for each in found if purpose in (None, each.purpose)]
    shown, more = page(wanted, request.args, usual=MAX_FILES, most=MAX_FILES)
    first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
    return _json(FileList(data=shown, first_id=first, last_id=last, has_more=more))


@blueprint.get("/v1/files/<id:str>")
async def retrieve(request: Request, id: str) -> HTTPResponse:
    state, tenant = state_of(request), request.ctx.key.digest
    file = await state.in_worker(state.files.file, tenant, id)
    if file is None:
        raise missing(id)
    return _json(file)


@blueprint.get("/v1/files/<id:str>/content")
async def content(request: Request, id: str) -> HTTPResponse:
    state, tenant = state_of(request), request.ctx.key.digest
    found = await state.in_worker(state.files.content, tenant, id)
    if found is None:
        raise missing(id)
    return HTTPResponse(found, content_type="application/octet-stream")


@blueprint.delete("/v1/files/<id:str>")
async def delete(request: Request, id: str) -> HTTPResponse:
    state, tenant = state_of(request), request.ctx.key.digest
    if not await state.in_worker(state.files.delete_file, tenant, id):
        raise missing(id)
    return _json(FileDeleted(id))


def new_id() -> str:
    """Names of clients are for their eyes only: nothing is stored by them."""
    return f"file-{secrets.token_hex(12)}"


def missing(id: str) -> NotFound:
    return NotFound(f"there is no file {id[:100]!r}", param="id")


def _parsed(kind: str, body: bytes) -> tuple[str, bytes]:
    """The name and the content of the file in a form."""
    try:
        form, parameters = parse_content_header(kind)
        boundary = str(parameters.get("boundary", "")).encode()
        if form != "multipart/form-data" or not boundary:
            raise ValueError("no form")
        fields, files = _form(body, boundary)
    except (ValueError, LookupError, TypeError):  # whatever a parser makes of what is no form
        raise InvalidRequest(
            "a form is expected: multipart/form-data with `file` and `purpose`"
        ) from None
    purpose, file = fields.get("purpose"), files.get("file")
    if purpose is None:
        raise InvalidRequest("`purpose` is missing", param="purpose")
    if purpose != "batch":
        raise InvalidRequest(
            "`purpose`: files are for batches here: 'batch' is expected",
            param="purpose",
            code="unsupported_parameter",
        )
    if file is None:
        raise InvalidRequest("`file` is missing", param="file")
    return printable(file.name)[:MAX_NAME], file.body


def _form(body: bytes, boundary: bytes) -> tuple[RequestParameters, RequestParameters]:
    """The fields and the files of a form.

    Sanic ends a part where the letters of the boundary stand, be it in the middle of a file: it
    gets one that stands nowhere else.
    """
    own = secrets.token_hex(16).encode()
    whole = (b"\r\n" + body).replace(b"\r\n--" + boundary, b"\r\n--" + own)
    found: tuple[RequestParameters, RequestParameters] = parse_multipart_form(  # type: ignore[no-untyped-call]
        whole, own
    )
    return found


def _json(found: object) -> HTTPResponse:
    return HTTPResponse(wire.encode(found), content_type="application/json")
