"""What is refused whoever asks: strange names, floods of headers; and what every answer carries."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from fakes import FakeHost
from patience import PATIENCE
from serving import config, serving
from test_server_http import raw

from llmengine.config import Config, ServerConfig
from llmengine.errors import ConfigError
from llmengine.server import app, docs_page, tls
from llmengine.server.openapi import OPERATIONS
from llmengine.server.security import Guard

BODY = {"messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


def asked_as(client: httpx.Client, name: str, **headers: str) -> int:
    return client.post(CHAT, json=BODY, headers={"Host": name, **headers}).status_code


NAMES = ["localhost", "LOCALHOST:80", "127.0.0.1", "127.9.9.9:1", "[::1]:80", "10.0.0.7", "here."]
STRANGERS = ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io", "x"]


def test_pages_that_have_a_name_of_theirs_lead_here_are_refused() -> None:
    with FakeHost() as host, serving(host, config(host="here")) as client:
        assert [asked_as(client, name) for name in NAMES] == [200] * len(NAMES)
        assert [asked_as(client, name) for name in STRANGERS] == [403] * len(STRANGERS)
        for path in ("/health", "/docs", "/v1/models", "/v1/cache", "/nothing"):
            refused = client.get(path, headers={"Host": "evil.example"})
            assert refused.status_code == 403, path
            assert refused.json()["error"]["code"] == "host_not_allowed"
        assert "server.allowed_hosts" in refused.json()["error"]["message"]
        assert asked_as(client, "[::1") == 403


def test_names_may_be_added() -> None:
    settings = config(allowed_hosts=("Chat.Example", "other.example"))
    with FakeHost() as host, serving(host, settings) as client:
        assert asked_as(client, "chat.example:443") == asked_as(client, "other.example") == 200
        assert asked_as(client, "evil.example") == 403


def test_a_key_says_more_than_a_name() -> None:
    """No page that leads here has it, so a proxy may call the server as it likes."""
    key = {"Authorization": "Bearer k"}
    with FakeHost() as host, serving(host, config(api_key="k")) as client:
        assert asked_as(client, "proxy.example", **key) == 200
        assert asked_as(client, "proxy.example") == 401
    settings = config(api_key="k", allowed_hosts=("chat.example",))
    with FakeHost() as host, serving(host, settings) as client:
        assert asked_as(client, "proxy.example", **key) == 403


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("Host: 127.0.0.1\r\nHost: evil.example\r\n", 400),
        ("", 200),  # no browser leaves it out
        ("".join(f"X-{at}: 1\r\n" for at in range(98)), 200),
        ("".join(f"X-{at}: 1\r\n" for at in range(99)), 431),
        ("X: 1\r\n" * 99, 431),
    ],
)
def test_headers_have_bounds(lines: str, status: int) -> None:
    with FakeHost() as host, serving(host) as client:
        found, _ = raw(
            client,
            f"GET /health HTTP/1.1\r\nConnection: close\r\nAccept: */*\r\n{lines}\r\n".encode(),
        )
        assert found == status


def test_strangers_are_refused_before_their_body_is_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with FakeHost() as host, serving(host, config(api_key="k")) as client:
        at = (client.base_url.host, client.base_url.port or 80)
        with socket.create_connection(at, timeout=PATIENCE) as stream:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n"
            stream.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert b"HTTP/1.1 401" in stream.recv(65536)
        assert client.get("/health").status_code == 200
    assert caplog.records == []


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BODY_SECONDS", 0.2)
    with FakeHost() as host, serving(host) as client:
        at = (client.base_url.host, client.base_url.port or 80)
        with socket.create_connection(at, timeout=10) as stream:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n{{"
            stream.sendall(head.encode())
            answer = stream.recv(65536)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"the body did not come within 0.2 s" in answer
        assert client.post(CHAT, json=BODY).status_code == 200


def test_what_every_answer_carries() -> None:
    with FakeHost() as host, serving(host, config(api_key="k")) as client:
        key = {"Authorization": "Bearer k"}
        answers = [
            client.post(CHAT, json=BODY, headers=key),
            client.post(CHAT, json={**BODY, "stream": True}, headers=key),
            client.post(CHAT, json=BODY),
            client.get("/nothing", headers=key),
            client.get("/health"),
            client.get("/metrics", headers=key),
        ]
        for answer in answers:
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["referrer-policy"] == "no-referrer"
            policy = answer.headers["content-security-policy"]
            assert policy == "default-src 'none'; frame-ancestors 'none'"
        docs = client.get("/docs")
        assert docs.headers["content-security-policy"] == docs_page.POLICY
        assert "script" not in docs.headers["content-security-policy"]
        assert "<script" not in docs.text


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5", "fe80::1%eth0"])
def test_no_stranger_is_let_in_by_default(address: str) -> None:
    with pytest.raises(ConfigError, match="--insecure"):
        Guard(Config()).check_exposure(address)
    for open_to in (ServerConfig(insecure=True), ServerConfig(api_keys=("a:b",))):
        Guard(Config(server=open_to)).check_exposure(address)
    with pytest.raises(ConfigError):  # it does not guard the model
        Guard(Config(server=ServerConfig(admin_key="k"))).check_exposure(address)
    for local in ("127.0.0.1", "127.5.5.5", "::1"):
        Guard(Config()).check_exposure(local)


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Path:
    """A file with a certificate for 127.0.0.1 and its key."""
    path = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


def test_answers_over_tls(authority: trustme.CA, certificate: Path) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with FakeHost() as host, serving(host, config(tls_cert=str(certificate))) as plain:
        base = str(plain.base_url).replace("http:", "https:")
        with httpx.Client(base_url=base, verify=trusting, timeout=PATIENCE) as client:
            for stream in (False, True):
                answer = client.post(CHAT, json={**BODY, "stream": stream})
                assert answer.status_code == 200
        with pytest.raises(httpx.HTTPError):
            plain.get("/health")


# A key made for this test, which a password locks.
LOCKED = """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgYhMjjg9sc1AICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEFHT4TJOn/taMIpHzmwifrgEQD5k
l3csdG2j07iMKI8pSQSnHxpSIaDY5nbe0yx9gbkjrYkbYLdQEZXBPw74nzxbtA47
Y9GLFsscRZReEx1xEEE=
-----END ENCRYPTED PRIVATE KEY-----
"""


def test_certificates_that_are_none(authority: trustme.CA, tmp_path: Path) -> None:
    def refused(**files: Path | str) -> str:
        with pytest.raises(ConfigError) as found:
            tls.context(ServerConfig(**{name: str(file) for name, file in files.items()}))
        return found.value.message

    one, other = authority.issue_cert("127.0.0.1"), authority.issue_cert("127.0.0.1")
    cert, key, text = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "text.pem"
    one.cert_chain_pems[0].write_to_path(str(cert))
    other.private_key_pem.write_to_path(str(key))
    text.write_text("hello")
    assert "key values mismatch" in refused(tls_cert=cert, tls_key=key)
    assert "no certificate and key" in refused(tls_cert=text)
    assert "no certificate and key" in refused(tls_cert=cert)
    assert "No such file" in refused(tls_cert=tmp_path / "none.pem")
    assert refused(tls_key=key) == "server.tls_key is set without server.tls_cert"
    locked = tmp_path / "locked.pem"
    locked.write_text(LOCKED)
    assert "locked by a password" in refused(tls_cert=cert, tls_key=locked)
    assert tls.context(ServerConfig()) is None


def test_old_versions_of_tls_are_not_spoken(certificate: Path) -> None:
    found = tls.context(ServerConfig(tls_cert=str(certificate)))
    assert found is not None
    assert found.minimum_version == ssl.TLSVersion.TLSv1_2


# The file system

MARK = "zz-from-a-request-zz"
_touched: list[str] = []
_watching = threading.Event()


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _watching.is_set() and event.startswith(("open", "os.", "shutil.", "glob.", "subprocess.")):
        _touched.extend(str(each) for each in args if MARK in os.fsdecode(_text(each)))


def _text(value: object) -> str | bytes:
    return value if isinstance(value, (str, bytes)) else str(value)


def test_no_path_from_a_request_reaches_the_file_system(tmp_path: Path) -> None:
    """Names that look like files, wherever a request has a text, are opened nowhere."""
    sys.addaudithook(_audit)  # for good, but it looks only while this test lasts
    target = tmp_path / MARK
    target.write_text("the content of a file")
    texts = [str(target), f"file://{target}", f"../../../..{target}", f"{target}\0.json"]
    with FakeHost() as host, serving(host, config(responses_path=str(tmp_path / "r"))) as client:
        _watching.set()
        try:
            with open(target):  # the hook sees it
                assert _touched
            _touched.clear()
            answers = "".join(_everywhere(client, text) for text in texts)
        finally:
            _watching.clear()
    assert _touched == []
    assert "the content of a file" not in answers


def _everywhere(client: httpx.Client, text: str) -> str:
    quoted = text.replace("/", "%2F").replace("\0", "%00")
    message = [{"role": "user", "content": text, "name": text}]
    members: list[dict[str, Any]] = [
        {"model": text}, {"cache_salt": text[:200]}, {"stop": text[:200]}, {"grammar": text},
        {"grammar": f'%import "{text}"'}, {"user": text}, {"guided_regex": text},
        {"guided_json": text}, {"guided_choice": [text]}, {"reasoning_effort": text[:30]},
        {"chat_template_kwargs": {"template": text, "path": text}},
        {"chat_template_kwargs": {"x": "{% include '" + text + "' %}"}},
        {"response_format": {"type": text}}, {"tool_choice": text}, {"previous_response_id": text},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "text": text}]}]},
        {"messages": [{"role": "user", "content": "{% include '" + text + "' %}"}]},
        {"response_format": {
            "type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": text}}}},
        {"tools": [{"type": "function", "function": {
            "name": "a", "parameters": {"$ref": f"file://{text}"}}}]},
    ]  # fmt: skip
    found = []
    for operation in OPERATIONS:
        path = operation.path.replace("{id}", quoted).replace("{name}", quoted)
        found.append(client.request(operation.method, path, params={"after": text}).text)
        for member in members if operation.body else ():
            body = {
                "messages": message, "prompt": text, "input": text, "content": text, "query": text,
                "documents": [text], "max_tokens": 4, "tokens": [1], **member,
            }  # fmt: skip
            found.append(client.post(path, json=body, headers={"X-Request-Id": text[:100]}).text
                         if "\0" not in text else client.post(path, json=body).text)  # fmt: skip
    return "".join(found)
