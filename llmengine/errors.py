"""The errors of llmengine.

    EngineError
    ├── ConfigError              a setting is wrong, the program refuses to start
    ├── InvalidRequest           a parameter is wrong, `param` names it
    │   ├── ContextLengthExceeded
    │   ├── PayloadTooLarge
    │   ├── UnsupportedEncoding
    │   └── HeadersTooLarge
    ├── Unauthorized             no key, or a wrong one
    ├── Forbidden                a key that may not do this, or a host that is not ours
    ├── NotFound                 no such route
    │   └── ModelNotFound
    ├── MethodNotAllowed
    ├── NotOffered               an endpoint of OpenAI's that this server does without
    ├── RateLimited
    ├── EngineOverloaded         the queue is full
    ├── ModelUnavailable         loading, failed or closing
    ├── OutOfMemory
    ├── DeadlineExceeded
    └── Internal

Each class knows its HTTP status, the `type` and `code` of OpenAI's error object
(https://platform.openai.com/docs/guides/error-codes) and the exit code of a command.
They are converted in three places: the server's exception handler, the error event
inside a stream, and the boundary of the command line.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct


class ErrorInfo(Struct, frozen=True):
    """An error as plain data, fit to cross threads and processes."""

    kind: str
    message: str
    param: str | None = None
    code: str | None = None  # where it is closer than that of its kind
    retry_after: float | None = None  # seconds


class EngineError(Exception):
    """Anything that llmengine refuses or fails to do, in one line for its user."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    exit_code: ClassVar[int] = 1
    retry_after: ClassVar[float | None] = None  # seconds

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code  # type: ignore[misc]  # one request may give a closer reason
        if retry_after is not None:
            self.retry_after = retry_after  # type: ignore[misc]  # likewise

    @property
    def info(self) -> ErrorInfo:
        closer = self.code if self.code != type(self).code else None
        own = type(self)
        wait = self.retry_after if self.retry_after != own.retry_after else None
        return ErrorInfo(own.__name__, self.message, self.param, closer, wait)

    @staticmethod
    def from_info(info: ErrorInfo) -> EngineError:
        """The exception again, at the other end of a queue or a socket."""
        kind = _KINDS.get(info.kind, Internal)
        return kind(info.message, param=info.param, code=info.code, retry_after=info.retry_after)


class ConfigError(EngineError):
    code = "config_error"
    exit_code = 2


class InvalidRequest(EngineError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    exit_code = 2


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class PayloadTooLarge(InvalidRequest):
    status = 413
    code = "payload_too_large"


class UnsupportedEncoding(InvalidRequest):
    status = 415
    code = "unsupported_encoding"


class HeadersTooLarge(InvalidRequest):
    status = 431
    code = "headers_too_large"


class Unauthorized(EngineError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"
    exit_code = 2


class Forbidden(EngineError):
    status = 403
    type = "invalid_request_error"
    code = "insufficient_permissions"
    exit_code = 2


class NotFound(EngineError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"
    exit_code = 3


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(EngineError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"
    exit_code = 2


class NotOffered(EngineError):
    status = 501
    type = "invalid_request_error"
    code = "not_offered"
    exit_code = 2


class RateLimited(EngineError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    exit_code = 4
    retry_after = 1


class EngineOverloaded(EngineError):
    status = 503
    type = "server_error"
    code = "engine_overloaded"
    exit_code = 4
    retry_after = 1


class ModelUnavailable(EngineError):
    status = 503
    code = "model_unavailable"
    exit_code = 3
    retry_after = 5


class OutOfMemory(EngineError):
    status = 507
    code = "insufficient_resources"
    exit_code = 4


class DeadlineExceeded(EngineError):
    status = 504
    type = "timeout_error"
    code = "deadline_exceeded"
    exit_code = 4


class Internal(EngineError):
    pass


def _tree(root: type[EngineError]) -> list[type[EngineError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _tree(child))]


_KINDS = {kind.__name__: kind for kind in _tree(EngineError)}
