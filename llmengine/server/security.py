"""Who may ask: the API key, and the origins of browsers."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from sanic import HTTPResponse, Request
from sanic.response import empty

from llmengine.config import ServerConfig
from llmengine.errors import ConfigError, Unauthorized

# For readers and probes without a key.
OPEN = frozenset({"/docs", "/health", "/health/live", "/health/ready", "/openapi.json"})
ADMINISTRATION = "v1/cache"  # what the paths of its routes begin with
_EXPOSED = "X-Request-Id, X-Unknown-Parameters, Retry-After"


def authorize(request: Request, config: ServerConfig) -> str:
    """The key with which the request is let in, "" if it needs none. Raises Unauthorized."""
    if request.path in OPEN:
        return ""
    if _is_administration(request):
        key = config.admin_key or config.api_key
        if not key:
            _check_local(request, config.host)
    else:
        key = config.api_key
    if key:
        _check_key(request, key)
    return key


def _is_administration(request: Request) -> bool:
    # The route and not the path, which may be written in several ways.
    return request.route is not None and request.route.path.startswith(ADMINISTRATION)


def _check_local(request: Request, bound: str) -> None:
    """Refuse all but this machine, and pages that have a name of theirs lead to it."""
    named = urlsplit(f"//{request.host}").hostname or ""
    if not (_is_loopback(bound) and _is_loopback(named)):
        raise Unauthorized("this endpoint needs a key: set server.admin_key or server.api_key")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_key(request: Request, key: str) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        given = request.headers.get("x-api-key", "")  # Anthropic's
    if not given.strip():
        raise Unauthorized("an API key is needed: send `Authorization: Bearer KEY`")
    sent = given.strip().encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(sent, key.encode()):
        raise Unauthorized("the API key is wrong")


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

    def headers(self, request: Request) -> Mapping[str, str]:
        origin = request.headers.get("origin", "")
        if origin not in self._allowed:
            return {"Vary": "Origin"} if self._allowed else {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": _EXPOSED,
            "Vary": "Origin",
        }
