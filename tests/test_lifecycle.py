"""A server before its model is there, and on its way to the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fakes import FakeHost
from patience import PATIENCE
from serving import Server, config, eventually

from llmengine.core import Host
from llmengine.errors import ModelUnavailable
from llmengine.loading import Loading

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}]}


class SlowModel:
    """A model that is half loaded until it is told to `finish`, or to fail."""

    def __init__(self) -> None:
        self.host = FakeHost("done")
        self.failure: ModelUnavailable | None = None
        self.finish = threading.Event()

    def open(self, loading: Loading) -> Host:
        while not self.finish.wait(0.01):
            if not loading.report(0.5):
                raise ModelUnavailable("it was stopped")
        if self.failure:
            raise self.failure
        return self.host


@pytest.fixture
def model() -> Iterator[SlowModel]:
    model = SlowModel()
    yield model
    model.finish.set()
    model.host.close()


def status(client: httpx.Client, path: str) -> tuple[int, str]:
    response = client.get(path)
    return response.status_code, response.json()["status"]


def test_it_answers_while_the_model_is_loaded(model: SlowModel) -> None:
    server = Server(model.open)
    with server.client() as client:
        assert eventually(lambda: client.get("/health").json()["loaded"] == 0.5)
        assert status(client, "/health/live") == (200, "ok")
        assert status(client, "/health/ready") == (503, "loading")
        assert status(client, "/health") == (503, "loading")
        for refused in (client.post(CHAT, json=BODY), client.get("/v1/models")):
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "5"
            assert refused.json()["error"] == {
                "message": "50% of the model are loaded: try again in a moment",
                "type": "server_error",
                "param": None,
                "code": "model_unavailable",
            }
        assert client.get("/nothing").status_code == 404
        model.finish.set()
        assert server.ready.wait(PATIENCE)
        assert status(client, "/health/ready") == (200, "ok")
        assert status(client, "/health") == (200, "ok")
        answer = client.post(CHAT, json=BODY).json()
        assert answer["choices"][0]["message"]["content"] == "done"
    server.tell_to_stop()
    server.join()
    assert server.error is None


def test_a_model_that_cannot_be_loaded_ends_the_server(model: SlowModel) -> None:
    server = Server(model.open)
    model.failure = ModelUnavailable("cannot load it: it is damaged")
    model.finish.set()
    server.join()
    assert server.error is model.failure
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")


def test_it_stops_while_the_model_is_loaded(model: SlowModel) -> None:
    server = Server(model.open)
    server.tell_to_stop()
    server.join()
    assert server.error is None
    assert not server.ready.is_set()


def test_it_says_that_it_is_ending_and_refuses_what_is_new(model: SlowModel) -> None:
    model.host = FakeHost("a long answer")
    model.finish.set()
    model.host.hold()
    server = Server(model.open, config(drain_seconds=2 * PATIENCE))
    assert server.ready.wait(PATIENCE)
    with server.client() as client, ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.post, CHAT, json=BODY)
        assert eventually(lambda: model.host.requests)
        server.tell_to_stop()
        assert eventually(lambda: status(client, "/health/ready") == (503, "draining"))
        assert status(client, "/health/live") == (200, "ok")
        with server.client() as other:  # a new connection is taken as well
            refused = other.post(CHAT, json=BODY)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"
        assert refused.json()["error"]["code"] == "model_unavailable"
        assert not running.done()
        model.host.release()
        answer = running.result(PATIENCE).json()
        assert answer["choices"][0]["message"]["content"] == "a long answer"
    server.join()
    assert server.error is None
