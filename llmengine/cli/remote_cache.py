"""The prompt cache of a running server, over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import msgspec
from msgspec import Struct

from llmengine import errors
from llmengine.errors import EngineError, InvalidRequest, ModelUnavailable
from llmengine.inventory import CacheStats, EntryDetail, EntryInfo, Warmed

TIMEOUT = 600  # seconds: a long prompt to warm, many gigabytes to verify

T = TypeVar("T")


class _Entries(Struct):
    data: list[EntryInfo]


class _Id(Struct):
    id: str


class _Cleared(Struct):
    deleted: int


class _Verified(Struct):
    corrupt: list[str]


class _NoRedirects(HTTPRedirectHandler):
    """They would take the key along, to whomever."""

    def redirect_request(self, *_: Any) -> None:
        return None


class RemoteCache:
    """Implements `llmengine.core.CacheControl`; errors are those that the server names.

    Raises ModelUnavailable where no server answers.
    """

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidRequest(f"--url {url}: write it like http://127.0.0.1:8000")
        self._url = url.rstrip("/").removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._opener = build_opener(_NoRedirects)

    def stats(self) -> CacheStats:
        return self._ask("GET", "", CacheStats)

    def list(self) -> Sequence[EntryInfo]:
        return self._ask("GET", "/entries", _Entries).data

    def show(self, id: str) -> EntryDetail:
        return self._ask("GET", _path(id), EntryDetail)

    def pin(self, id: str, pinned: bool = True) -> str:
        return self._ask("POST", _path(id) + ("/pin" if pinned else "/unpin"), _Id).id

    def remove(self, id: str) -> str:
        return self._ask("DELETE", _path(id), _Id).id

    def clear(self) -> int:
        return self._ask("DELETE", "/entries", _Cleared).deleted

    def verify(self) -> Sequence[str]:
        return self._ask("POST", "/verify", _Verified).corrupt

    def warm(self, body: dict[str, Any]) -> Warmed:
        return self._ask("POST", "/warm", Warmed, body)

    def _ask(self, method: str, path: str, kind: type[T], body: object = None) -> T:
        data = msgspec.json.encode(body) if body is not None else None
        headers = {**self._headers, "Content-Type": "application/json"}
        request = Request(f"{self._url}/v1/cache{path}", data, headers, method=method)
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                return msgspec.json.decode(response.read(), type=kind)
        except HTTPError as error:
            self._refused(error)
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            reason = getattr(reason, "strerror", None) or reason
            raise ModelUnavailable(f"no server answers at {self._url}: {reason}") from error
        except msgspec.DecodeError as error:
            raise ModelUnavailable(f"{self._url} is no server of llmengine: {error}") from error

    def _refused(self, error: HTTPError) -> NoReturn:
        """Raise the server's refusal as the exception it was there."""
        try:
            message = msgspec.json.decode(error.read())["error"]["message"]
        except (msgspec.DecodeError, KeyError, TypeError):
            message = f"{self._url} is no server of llmengine: status {error.code}"
        raise _KINDS.get(error.code, errors.Internal)(message) from error


# The exceptions that stand for a status, the general before the special.
_KINDS: dict[int, type[EngineError]] = {
    kind.status: kind
    for kind in (
        InvalidRequest,
        errors.Unauthorized,
        errors.NotFound,
        errors.MethodNotAllowed,
        errors.EngineOverloaded,
        errors.DeadlineExceeded,
        errors.OutOfMemory,
    )
}


def _path(id: str) -> str:
    return f"/entries/{quote(id, safe='')}"
