"""What is fetched by URL, and what never is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fakes import FakeHost
from serving import serving

from llmengine.config import Config, ServerConfig
from llmengine.core import Media
from llmengine.errors import InvalidRequest
from llmengine.server import state
from llmengine.server.media_fetch import MediaFetcher, is_public

HOST = "pictures.example.com"
MIB = 2**20


class Pictures(BaseHTTPRequestHandler):
    """A server of pictures, and of trouble; it notes what it was asked for."""

    asked: list[str]
    stop: threading.Event

    def do_GET(self) -> None:
        self.asked.append(self.path)
        _, name, *rest = self.path.partition("?")[0].split("/", 2)
        if name == "cat.png":
            self._answer(200, b"cat")
        elif name == "headers":
            self._answer(200, str(self.headers).encode())
        elif name == "to":
            self.send_response(302)
            self.send_header("Location", rest[0])
            self.end_headers()
        elif name == "large":
            self._answer(200, b"x" * (MIB + 1))
        elif name == "short":
            self._answer(200, b"cat", length=10)
        elif name == "slow":
            self.stop.wait(60)
        else:
            self._answer(404, b"secret")

    def _answer(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def pictures() -> Iterator[tuple[int, list[str]]]:
    """The port of a server of pictures, and the paths it was asked for."""
    asked, stop = list[str](), threading.Event()
    handler = type("Handler", (Pictures,), {"asked": asked, "stop": stop})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1], asked
        stop.set()
        server.shutdown()
        thread.join()


def fetcher(port: int, *hosts: str, **settings: Any) -> MediaFetcher:
    """One for which this machine is the internet."""
    config = ServerConfig(media_hosts=hosts or (f"{HOST}:{port}",), media_max_mb=1, **settings)
    return MediaFetcher(config, lambda host, port: ["127.0.0.1"], lambda each: each == "127.0.0.1")


def refused(fetcher: MediaFetcher, url: str) -> str:
    with pytest.raises(InvalidRequest) as found:
        fetcher.fetch(url, "image")
    assert found.value.param == "image"
    assert found.value.message.startswith("`image`: ")
    return found.value.message.removeprefix("`image`: ")


def test_it_fetches_from_a_host_that_is_allowed(pictures: tuple[int, list[str]]) -> None:
    port, asked = pictures
    assert fetcher(port).fetch(f"http://{HOST}:{port}/cat.png?size=1", "image") == b"cat"
    assert asked == ["/cat.png?size=1"]


def test_it_tells_no_more_than_it_must(pictures: tuple[int, list[str]]) -> None:
    port, _ = pictures
    sent = fetcher(port).fetch(f"http://{HOST}:{port}/headers", "image").decode().splitlines()
    assert sorted(line.partition(":")[0] for line in sent if line) == [
        "Accept",
        "Accept-Encoding",
        "Host",
    ]


@pytest.mark.parametrize(
    ("hosts", "taken"),
    [
        (["*"], True),
        (["*.example.com:PORT"], True),
        (["PICTURES.example.com:PORT"], True),
        (["example.com:PORT"], False),
        (["*.pictures.example.com:PORT"], False),
        ([HOST], False),  # its own port only
        (["ample.com:PORT", "*ample.com:PORT"], False),
    ],
)
def test_hosts_that_are_allowed(
    pictures: tuple[int, list[str]], hosts: list[str], taken: bool
) -> None:
    port, asked = pictures
    found = fetcher(port, *(each.replace("PORT", str(port)) for each in hosts))
    url = f"http://{HOST}:{port}/cat.png"
    if taken:
        assert found.fetch(url, "image") == b"cat"
    else:
        assert refused(found, url) == "its host is not one of server.media_hosts"
        assert asked == []


PRIVATE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.8.8.8",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "fc00::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_nothing_within_is_ever_connected_to(address: str) -> None:
    assert not is_public(address)
    config = ServerConfig(media_hosts=("*",))
    for addresses in ([address], ["8.8.8.8", address]):
        found = MediaFetcher(config, lambda host, port, found=addresses: found)
        reason = refused(found, f"http://{HOST}/cat.png")
        assert reason == "its host is not on the public internet"


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "2130706433", "0x7f.1", "127.1", "0177.0.0.1"]
)
def test_this_machine_by_any_name(pictures: tuple[int, list[str]], host: str) -> None:
    """By the resolver of this machine, which understands more than dotted numbers."""
    port, asked = pictures
    config = ServerConfig(media_hosts=("*",))
    reason = refused(MediaFetcher(config), f"http://{host}:{port}/cat.png")
    assert reason in (
        "its host is not on the public internet",
        "it could not be fetched: gaierror",
    )
    assert asked == []


def test_a_name_is_resolved_once(pictures: tuple[int, list[str]]) -> None:
    """What it means the next time is of no interest: what was checked is connected to."""
    port, _ = pictures
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    config = ServerConfig(media_hosts=("*",))
    found = MediaFetcher(config, lambda *_: answers.pop(0), lambda each: each == "127.0.0.1")
    assert found.fetch(f"http://{HOST}:{port}/cat.png", "image") == b"cat"
    assert answers == [["10.0.0.1"]]


def test_redirects_are_followed_and_checked(pictures: tuple[int, list[str]]) -> None:
    port, asked = pictures
    base = f"http://{HOST}:{port}"
    found = fetcher(port)
    assert found.fetch(f"{base}/to//cat.png", "image") == b"cat"
    assert found.fetch(f"{base}/to/{base}/cat.png", "image") == b"cat"
    asked.clear()
    for target, reason in (
        (f"http://other.example.com:{port}/cat.png", "its host is not one of server.media_hosts"),
        (f"http://127.0.0.1:{port}/cat.png", "its host is not one of server.media_hosts"),
        ("file:///etc/passwd", "only http(s) URLs are fetched"),
        ("ftp://a/b", "only http(s) URLs are fetched"),
    ):
        assert refused(found, f"{base}/to/{target}") == reason
    assert len(asked) == 4
    again = f"{base}/to/" * 4 + f"{base}/cat.png"
    assert refused(found, again) == "it was redirected more than 3 times"


def test_a_redirect_to_within_is_not_followed(pictures: tuple[int, list[str]]) -> None:
    port, asked = pictures
    addresses = {HOST: ["127.0.0.1"], "inside": ["10.0.0.1"]}
    config = ServerConfig(media_hosts=("*",))
    found = MediaFetcher(
        config, lambda host, _: addresses[host], lambda each: each[0] != "1" or each[:3] == "127"
    )
    reason = refused(found, f"http://{HOST}:{port}/to/http://inside/cat.png")
    assert reason == "its host is not on the public internet"
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://user:pw@{host}/cat.png", "it must not have a user name"),
        ("http://{host}/a b", "it is no URL"),
        ("http://{host}/ä", "it is no URL"),
        ("http://{host}/" + "a" * 5000, "it is no URL"),
        ("http://", "only http(s) URLs are fetched"),
        ("http:///cat.png", "only http(s) URLs are fetched"),
        ("http://[::1/cat.png", "it could not be fetched: ValueError"),
        ("http://{host}:x/cat.png", "it could not be fetched: ValueError"),
        ("http://{host}/none", "its server answered 404"),
        ("http://{host}/large", "it is larger than 1 MiB"),
        ("https://{host}/cat.png", "it could not be fetched: SSLError"),
    ],
)
def test_what_is_refused(pictures: tuple[int, list[str]], url: str, reason: str) -> None:
    port, _ = pictures
    found = refused(fetcher(port), url.replace("{host}", f"{HOST}:{port}"))
    assert found == reason
    assert "secret" not in found


def test_what_ends_too_early_is_refused(pictures: tuple[int, list[str]]) -> None:
    port, _ = pictures
    reason = refused(fetcher(port), f"http://{HOST}:{port}/short")
    assert reason in ("it ended too early", "it could not be fetched: IncompleteRead")


def test_slow_servers_are_not_waited_for(pictures: tuple[int, list[str]]) -> None:
    port, _ = pictures
    found = fetcher(port, media_timeout_seconds=0.2)
    assert (
        refused(found, f"http://{HOST}:{port}/slow") == "it could not be fetched: it took too long"
    )


def test_an_image_by_its_url(
    pictures: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _ = pictures
    monkeypatch.setattr(
        state,
        "MediaFetcher",
        partial(MediaFetcher, resolve=lambda *_: ["127.0.0.1"], public=lambda _: True),
    )
    url = f"http://{HOST}:{port}/cat.png"
    content = [{"type": "image_url", "image_url": {"url": url}}]
    settings = Config(server=ServerConfig(media_hosts=("*.example.com:" + str(port),)))
    with FakeHost(media=("image",)) as host, serving(host, settings) as client:
        body = {"messages": [{"role": "user", "content": content}]}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert host.requests[0].media == (Media("image", b"cat"),)
        content[0]["image_url"] = {"url": f"http://{HOST}:{port}/none"}
        error = client.post("/v1/chat/completions", json=body).json()["error"]
        assert error["param"] == "messages[0].content[0].image_url"
        assert error["message"].endswith("its server answered 404")
