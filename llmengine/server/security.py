"""Who may ask, and by what name the server is called."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from sanic import Request

from llmengine.config import Config
from llmengine.errors import ConfigError, Forbidden, HeadersTooLarge, InvalidRequest, Unauthorized
from llmengine.keys import ANONYMOUS, Key, Scope
from llmengine.server.keyring import Keyring
from llmengine.server.record import record_of

# For readers and probes without a key.
OPEN = frozenset({"/docs", "/health", "/health/live", "/health/ready", "/openapi.json"})
ADMINISTRATION = "v1/cache"  # what the paths of its routes begin with
MAX_HEADERS = 100


class Guard:
    """Lets requests in. Raises ConfigError for keys that cannot be used."""

    def __init__(self, config: Config) -> None:
        self.keyring = Keyring(config.server)
        self._bound = config.server.host
        self._metrics = config.metrics.endpoint.strip("/")
        self._insecure = config.server.insecure
        self._strict = bool(config.server.allowed_hosts)
        names = ("localhost", self._bound, *config.server.allowed_hosts)
        self._names = frozenset(name.lower() for name in names)

    def check_exposure(self, address: str) -> None:
        """Raises ConfigError where strangers could use a server that listens on `address`."""
        guarded = self.keyring.guards("inference") or self._insecure
        if not guarded and not _is_loopback(address.partition("%")[0]):
            raise ConfigError(
                f"whoever reaches {address} could use the server, as it has no key: make one with "
                "`llmengine keys add`, set LLM_ENGINE_API_KEY, or allow it with --insecure"
            )

    def let_in(self, request: Request) -> Key:
        """The key of the request, ANONYMOUS if it needs none.

        Raises Unauthorized, Forbidden, and InvalidRequest for headers that nobody needs.
        """
        if len(request.headers) > MAX_HEADERS:
            raise HeadersTooLarge(
                f"the request has {len(request.headers)} headers, {MAX_HEADERS} are allowed"
            )
        self._check_host(request)
        if request.path in OPEN:
            return ANONYMOUS
        scope = self._scope(request)
        if self.keyring.guards(scope):
            return self._holder(request, scope)
        if scope == "admin":
            self._check_local(request)
        return ANONYMOUS

    def _scope(self, request: Request) -> Scope:
        # The route and not the path, which may be written in several ways.
        path = request.route.path if request.route else ""
        if path.startswith(ADMINISTRATION):
            return "admin"
        return "metrics" if path == self._metrics else "inference"

    def _check_host(self, request: Request) -> None:
        """Refuse pages that have a name of theirs lead to this machine (DNS rebinding).

        They have no key, and an address cannot be made to lead elsewhere.
        """
        if len(request.headers.getall("host", [])) > 1:
            raise InvalidRequest("the request has two Host headers")
        if not self._strict and self.keyring.guards("inference"):
            return
        name = _host(request)
        if name and name not in self._names and _address(name) is None:
            raise Forbidden(
                f"the server is not known as {name[:100]!r}: server.allowed_hosts names its names",
                code="host_not_allowed",
            )

    def _holder(self, request: Request, scope: Scope) -> Key:
        secret = _sent(request)
        if not secret:
            raise Unauthorized("an API key is needed: send `Authorization: Bearer KEY`")
        key = self.keyring.find(secret)
        if key is None:
            raise Unauthorized("the API key is wrong")
        record_of(request).key = key.id
        if scope not in key.scopes:
            raise Forbidden(f"the API key may not do this: it lacks the scope {scope}")
        return key

    def _check_local(self, request: Request) -> None:
        """Refuse all but this machine."""
        name = _host(request)
        if not (_is_loopback(self._bound) and _is_loopback(name)):
            raise Unauthorized(
                "this endpoint needs a key: `llmengine keys add --scope admin` makes one, "
                "server.admin_key sets one"
            )


def _sent(request: Request) -> str:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        given = request.headers.get("x-api-key", "")  # Anthropic's
    return str(given).strip()


def _host(request: Request) -> str:
    """The name or address by which the server was called."""
    try:
        return (urlsplit(f"//{request.host}").hostname or "").rstrip(".")
    except ValueError:
        return str(request.host)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback
