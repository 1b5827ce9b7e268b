"""Media behind URLs, fetched from hosts that are allowed and from nowhere within."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from urllib.parse import SplitResult, urljoin, urlsplit

from llmengine.config import ServerConfig
from llmengine.errors import InvalidRequest

MAX_URL = 4096
REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_MOVED = (301, 302, 303, 307, 308)
_CHUNK = 64 * 1024

Resolve = Callable[[str, int], Sequence[str]]


def resolved(host: str, port: int) -> Sequence[str]:
    """All addresses of a host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class MediaFetcher:
    """Each address is checked, and the one that was checked is connected to.

    So a name that means another machine the next time it is asked for gains nothing. No proxy is
    used, and nothing is sent that tells who asks.
    """

    def __init__(
        self,
        config: ServerConfig,
        resolve: Resolve = resolved,
        public: Callable[[str], bool] | None = None,
    ) -> None:
        """`public` says which addresses may be connected to; None: those of the internet."""
        self._hosts = tuple(each.lower() for each in config.media_hosts)
        self._most = config.media_max_mb * 1024 * 1024
        self._seconds = config.media_timeout_seconds
        self._resolve = resolve
        self._public = public or is_public

    @property
    def offered(self) -> bool:
        return bool(self._hosts)

    def fetch(self, url: str, param: str) -> bytes:
        """What is behind `url`; raises InvalidRequest, which names `param`."""
        deadline = time.monotonic() + self._seconds
        try:
            for _ in range(REDIRECTS + 1):
                found = self._get(url, deadline)
                if isinstance(found, bytes):
                    return found
                url = urljoin(url, found)
        except _Refused as refused:
            reason = str(refused)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"it could not be fetched: {_words(error)}"
        else:
            reason = f"it was redirected more than {REDIRECTS} times"
        raise InvalidRequest(f"`{param}`: {reason}", param=param, code="invalid_media")

    def _get(self, url: str, deadline: float) -> bytes | str:
        """What is there, or where it has moved to."""
        parts = self._checked(url)
        connection = self._connect(parts, deadline)
        try:
            path = parts.path or "/"
            target = f"{path}?{parts.query}" if parts.query else path
            headers = {"Accept": "image/*, audio/*", "Accept-Encoding": "identity"}
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            if answer.status in _MOVED and (moved := answer.getheader("Location")):
                return moved
            if answer.status != 200:
                raise _Refused(f"its server answered {answer.status}")
            return self._body(answer, connection, deadline)
        finally:
            connection.close()

    def _checked(self, url: str) -> SplitResult:
        if not self._hosts:
            raise _Refused(
                "this server fetches nothing: send a data URL, or allow hosts by server.media_hosts"
            )
        if len(url) > MAX_URL or any(not " " < each < "\x7f" for each in url):
            raise _Refused("it is no URL")
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise _Refused("only http(s) URLs are fetched")
        if parts.username is not None or parts.password is not None:
            raise _Refused("it must not have a user name")
        if not self._allows(parts):
            raise _Refused("its host is not one of server.media_hosts")
        return parts

    def _allows(self, parts: SplitResult) -> bool:
        host, port = parts.hostname or "", parts.port
        named = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
        return any(
            each in ("*", named) or (each.startswith("*.") and named.endswith(each[1:]))
            for each in self._hosts
        )

    def _connect(self, parts: SplitResult, deadline: float) -> http.client.HTTPConnection:
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        addresses = self._resolve(host, port)
        if not addresses or not all(map(self._public, addresses)):
            raise _Refused("its host is not on the public internet")
        left = _left(deadline)
        connected = socket.create_connection((addresses[0], port), left)
        try:
            if parts.scheme == "https":
                context = ssl.create_default_context()
                connected = context.wrap_socket(connected, server_hostname=host)
        except BaseException:
            connected.close()
            raise
        connection = http.client.HTTPConnection(host, port, timeout=left)
        connection.sock = connected
        return connection

    def _body(
        self, answer: http.client.HTTPResponse, connection: http.client.HTTPConnection,
        deadline: float,
    ) -> bytes:  # fmt: skip
        found = bytearray()
        while chunk := answer.read1(_CHUNK):
            found += chunk
            if len(found) > self._most:
                raise _Refused(f"it is larger than {self._most // 2**20} MiB")
            left = _left(deadline)
            if connection.sock:
                connection.sock.settimeout(left)
        if answer.length:
            raise _Refused("it ended too early")
        return bytes(found)


class _Refused(Exception):
    pass


def is_public(address: str) -> bool:
    """Whether an address is one of the internet, and stands for no other that is not."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped
        if inner is not None:
            return is_public(str(inner))
        if found.sixtofour or found.teredo or found.is_site_local or found in _TRANSLATED:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not valid"
    return type(error).__name__
