"""The origins of browsers that may ask, and read the answers."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from sanic import HTTPResponse, Request
from sanic.response import empty

from llmengine.config import ServerConfig
from llmengine.errors import ConfigError, Forbidden

_LIMITS = [f"x-ratelimit-{what}" for what in ("limit", "remaining", "reset")]
_EXPOSED = ", ".join(
    ["Request-Id", "X-Request-Id", "X-Unknown-Parameters", "Retry-After"]
    + [f"{each}-{of}" for each in _LIMITS for of in ("requests", "tokens")]
)


class Origins:
    """The origins whose pages may read the answers (https://fetch.spec.whatwg.org/#http-cors).

    Each is named exactly and credentials are never allowed, so that no page can act for a user
    who merely visits it.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._allowed = frozenset(config.cors_origins) if config.enable_cors else frozenset()
        for origin in self._allowed:
            parts = urlsplit(origin)
            if not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
                raise ConfigError(
                    f"server.cors_origins: {origin!r} is no origin like https://app.example.com"
                )

    def preflight(self, request: Request) -> HTTPResponse | None:
        """The answer to a browser that asks before it sends, or None to any other request."""
        asked = "access-control-request-method" in request.headers
        if request.method != "OPTIONS" or not asked or not self.headers(request):
            return None
        return empty(
            headers={
                "Access-Control-Allow-Methods": "GET, POST, DELETE",
                "Access-Control-Allow-Headers": request.headers.get(
                    "access-control-request-headers", "Authorization, Content-Type"
                ),
                "Access-Control-Max-Age": "600",
            },
        )

    def check(self, request: Request) -> None:
        """Raises Forbidden for what a page of another origin sends, as a form or without CORS.

        It could not read the answer, but have one computed. The origins of browsers' extensions
        and of apps are of other schemes.
        """
        origin = request.headers.get("origin", "")
        scheme, _, host = origin.partition("://")
        page = origin == "null" or scheme.lower() in ("http", "https")
        if page and host != request.host and origin not in self._allowed:
            raise Forbidden(
                f"pages of {origin[:100]!r} may not use the server: server.enable_cors and "
                "server.cors_origins name those that may",
                code="origin_not_allowed",
            )

    def headers(self, request: Request) -> Mapping[str, str]:
        origin = request.headers.get("origin", "")
        if origin not in self._allowed:
            return {"Vary": "Origin"} if self._allowed else {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": _EXPOSED,
            "Vary": "Origin",
        }
