"""Routes, keys, origins, ids: what holds for every request."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import pytest
from fakes import FakeHost
from patience import PATIENCE
from serving import config, serving

from llmengine import __version__
from llmengine.config import Config, MetricsConfig, ServerConfig
from llmengine.errors import ConfigError
from llmengine.server.app import create_app

BODY = {"messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"
MODEL = {
    "id": "fake",
    "object": "model",
    "created": 1_700_000_000,
    "owned_by": "llmengine",
    "description": "fake 1K F32",
    "context_length": 4096,
    "max_sequence_length": 4096,
    "parameters": 1000,
    "size_bytes": 1024,
}


def raw(client: httpx.Client, data: bytes) -> tuple[int, dict[str, Any]]:
    """Status and body of what the server answers to these bytes before it hangs up."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as stream:
        stream.settimeout(PATIENCE)
        stream.sendall(data)
        found = b""
        while chunk := stream.recv(65536):
            found += chunk
    head, _, body = found.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_models() -> None:
    with FakeHost() as host, serving(host) as client:
        for path in ("/v1/models", "/v1/models/"):
            assert client.get(path).json() == {"object": "list", "data": [MODEL]}
        assert client.get("/v1/models/fake").json() == MODEL
        assert client.head("/v1/models").status_code == 200
        for name in ("other", "a/b", "a%20b", "%2e%2e%2fetc"):
            response = client.get(f"/v1/models/{name}")
            assert response.status_code == 404
            assert response.json()["error"]["code"] == "model_not_found"


def test_a_model_with_a_name_of_its_own() -> None:
    with FakeHost(name="my model") as host, serving(host) as client:
        assert client.get("/v1/models/my%20model").json()["id"] == "my model"


def test_engines_are_models_now() -> None:
    with FakeHost() as host, serving(host) as client:
        for path in ("", "/fake"):
            response = client.get(f"/v1/engines{path}")
            assert response.status_code == 308
            assert response.headers["location"] == f"/v1/models{path}"
            assert response.headers["deprecation"].startswith("@")
        assert client.get("/v1/engines/fake", follow_redirects=True).json() == MODEL
        assert client.get("/v1/engines/a%2Fb%0d%0aX:1").headers["location"] == (
            "/v1/models/a%2Fb%0D%0AX%3A1"
        )


def test_health() -> None:
    with FakeHost() as host, serving(host) as client:
        client.post(CHAT, json=BODY)
        found = client.get("/health").json()
        assert found.pop("uptime_seconds") > 0
        assert found.pop("memory_usage_mb") > 1
        assert 0.4 < found.pop("cache_hit_rate") <= 0.5
        assert found == {
            "status": "ok",
            "reason": "",
            "version": __version__,
            "model": "fake",
            "loaded": 1.0,
            "total_requests": 1,
            "running": 0,
            "waiting": 0,
            "slots": 16,
            "engine_restarts": 0,
            "stalled_seconds": 0.0,
        }
        assert client.head("/health").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", "/v1/images", 404, "not_found"),
        ("GET", "/v1/../health/%00", 404, "not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("PUT", "/v1/completions", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/models", 405, "method_not_allowed"),
    ],
)
def test_wrong_routes_have_openais_shape(method: str, path: str, status: int, code: str) -> None:
    with FakeHost() as host, serving(host) as client:
        response = client.request(method, path)
        assert response.status_code == status
        error = response.json()["error"]
        assert error["code"] == code
        assert error["type"] == "invalid_request_error"
        assert error["param"] is None
        if status == 405:
            assert set(response.headers["allow"].split(", ")) <= {"GET", "HEAD", "POST"}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /health HTTP/9.9\r\n\r\n", 400),
        (b"GET /h\xc3\xa9 HTTP/1.1\r\n\r\n", 400),
        (b"GET /h\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET health HTTP/1.1\r\n\r\n", 400),
        (b"GET /\x03health HTTP/1.1\r\n\r\n", 400),
        (b"G\xffT /health HTTP/1.1\r\nConnection: close\r\n\r\n", 405),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /health HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"POST /v1/completions HTTP/1.1\r\nExpect: tea\r\nContent-Length: 2\r\n\r\n{}", 417),
    ],
)
def test_broken_http_has_openais_shape(data: bytes, status: int) -> None:
    with FakeHost() as host, serving(host) as client:
        found, body = raw(client, data)
        assert found == status
        assert body["error"]["type"] == "invalid_request_error"
        assert client.post(CHAT, json=BODY).status_code == 200


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 415), ("br, x", 415), ("Identity", 200)])
def test_a_body_that_is_compressed_is_refused_as_that(encoding: str, status: int) -> None:
    with FakeHost() as host, serving(host) as client:
        found = client.post(CHAT, json=BODY, headers={"Content-Encoding": encoding})
        assert found.status_code == status
        if status == 415:
            assert found.json()["error"]["code"] == "unsupported_encoding"
            assert f"`Content-Encoding: {encoding}`" in found.json()["error"]["message"]
        assert client.post(CHAT, json=BODY).status_code == 200


def test_the_key() -> None:
    with FakeHost() as host, serving(host, config(api_key="s3cret-é")) as client:
        key = "s3cret-é".encode()
        wrong = [b"", b"Bearer", b"Bearer x", b"Basic " + key, key, b"Bearer s3cret"]
        for path in (CHAT, "/v1/models", "/metrics", "/nothing"):
            for value in wrong:
                response = client.post(path, headers={"Authorization": value}, json=BODY)
                assert response.status_code == 401, (path, value)
                assert response.headers["www-authenticate"] == "Bearer"
                error = response.json()["error"]
                assert error["code"] == "invalid_api_key"
                assert "s3cret" not in error["message"]
        assert host.requests == []
        for scheme in (b"Bearer ", b"bearer ", b"Bearer  "):
            headers = {"Authorization": scheme + key}
            assert client.post(CHAT, headers=headers, json=BODY).status_code == 200
        assert client.get("/health").status_code == 200


def test_the_request_id_is_given_back_or_made() -> None:
    with FakeHost() as host, serving(host) as client:
        for path in ("/health", "/nothing", CHAT):
            assert client.get(path).headers["x-request-id"].startswith("req_")
            given = client.get(path, headers={"X-Request-Id": "a-B_1/2:3"})
            assert given.headers["x-request-id"] == "a-B_1/2:3"
        for bad in ("x" * 129, "a b", "é".encode(), b"\x01"):
            found = client.get("/health", headers={"X-Request-Id": bad}).headers["x-request-id"]
            assert found.startswith("req_")
        stream = client.post(CHAT, json={**BODY, "stream": True}, headers={"X-Request-Id": "s"})
        assert stream.headers["x-request-id"] == "s"


ORIGIN = "https://app.example.com"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}


def test_other_origins_are_shut_out_by_default() -> None:
    with FakeHost() as host, serving(host) as client:
        for response in (
            client.post(CHAT, json=BODY, headers={"Origin": ORIGIN}),
            client.options(CHAT, headers=PREFLIGHT),
        ):
            assert not [name for name in response.headers if name.startswith("access-control")]


def test_pages_of_other_origins_have_nothing_computed() -> None:
    """A form, or a script that need not read the answer, sends without asking first."""
    own = "http://localhost:8000"
    with FakeHost() as host, serving(host) as client:

        def status(origin: str, method: str = "POST", path: str = CHAT) -> int:
            headers = {"Host": "localhost:8000", "Origin": origin, "Content-Type": "text/plain"}
            content = json.dumps(BODY) if method == "POST" else None
            return client.request(method, path, headers=headers, content=content).status_code

        for origin in (ORIGIN, "null", "http://localhost:3000", "https://evil.example", "http://["):
            assert status(origin) == 403, origin
        assert status(ORIGIN, "DELETE", "/v1/cache/entries") == 403
        assert host.requests == []
        for origin in (own, "", "chrome-extension://abc", "app://notes"):
            assert status(origin) == 200, origin
        assert status(ORIGIN, "GET", "/v1/models") == 200
    settings = config(enable_cors=True, cors_origins=(ORIGIN,))
    with FakeHost() as host, serving(host, settings) as client:
        assert status(ORIGIN) == 200
        refused = client.post(CHAT, json=BODY, headers={"Origin": "https://evil.example"})
        assert refused.json()["error"]["code"] == "origin_not_allowed"


def test_origins_that_the_config_names_are_let_in() -> None:
    settings = config(enable_cors=True, cors_origins=(ORIGIN,), api_key="k")
    with FakeHost() as host, serving(host, settings) as client:
        asked = {**PREFLIGHT, "Access-Control-Request-Headers": "authorization, x-stainless-os"}
        preflight = client.options(CHAT, headers=asked)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        assert preflight.headers["access-control-allow-methods"] == "GET, POST, DELETE"
        assert preflight.headers["access-control-allow-headers"] == "authorization, x-stainless-os"
        assert "access-control-allow-credentials" not in preflight.headers
        headers = {"Origin": ORIGIN, "Authorization": "Bearer k"}
        for stream in (False, True):
            response = client.post(CHAT, json={**BODY, "stream": stream}, headers=headers)
            assert response.status_code == 200
            assert response.headers["access-control-allow-origin"] == ORIGIN
            assert response.headers["vary"] == "Origin"
        refused = client.post(CHAT, json=BODY, headers={"Origin": ORIGIN})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == ORIGIN
        for other in ("https://evil.example", "null", ORIGIN + ".evil", ORIGIN.upper()):
            response = client.options(CHAT, headers={**PREFLIGHT, "Origin": other})
            assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("origin", ["*", "app.example.com", "https://a.example/", "null", ""])
def test_origins_that_are_none_are_refused_at_the_start(origin: str) -> None:
    settings = Config(server=ServerConfig(enable_cors=True, cors_origins=(origin,)))
    with pytest.raises(ConfigError, match=r"server\.cors_origins"):
        create_app(settings)


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/v1/completions"])
def test_metrics_must_not_hide_an_endpoint(path: str) -> None:
    settings = Config(metrics=MetricsConfig(endpoint=path))
    with pytest.raises(ConfigError, match=r"metrics\.endpoint"):
        create_app(settings)
