"""/v1/cache: what is kept, seen and steered over HTTP, by whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import FakeHost
from serving import config, eventually, serving

from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache
from llmengine.cache.salt import salt_of
from llmengine.chat import warm_file
from llmengine.config import CacheConfig, Config
from llmengine.errors import ConfigError
from tests.cache_fakes import state_of, tokens_of

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}]}
ENTRIES = "/v1/cache/entries"


def memory() -> PromptCache:
    cache = PromptCache(MemoryTier(100_000, 10, 0, LRU()), None)
    for number in (1, 2):
        tokens = tokens_of(number) % 256
        cache.put("s", tokens, state_of(tokens), label=f"number {number}")
    return cache


def ids(client: httpx.Client) -> list[str]:
    return [each["id"] for each in client.get(ENTRIES).json()["data"]]


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_statistics() -> None:
    with FakeHost(cache=memory()) as host, serving(host) as client:
        found = client.get("/v1/cache").json()
    assert found["disk"] is None
    assert found["memory"]["entries"] == 2
    assert found["memory"]["bytes"] == 16_000
    assert found["memory"]["max_bytes"] == 100_000


def test_entries_are_listed_shown_pinned_and_removed() -> None:
    cache = memory()
    with FakeHost(cache=cache) as host, serving(host) as client:
        found = client.get(ENTRIES).json()
        assert found["object"] == "list"
        assert [each["label"] for each in found["data"]] == ["number 2", "number 1"]
        first = found["data"][0]
        assert (first["tokens"], first["bytes"], first["tiers"]) == (80, 8000, ["memory"])
        two, one = ids(client)
        shown = client.get(f"{ENTRIES}/{one[:8]}").json()
        assert shown["id"] == one
        assert shown["token_ids"] == (tokens_of(1) % 256).tolist()
        assert client.post(f"{ENTRIES}/{one}/pin").json() == {"id": one, "pinned": True}
        assert [each.pinned for each in cache.list()] == [False, True]
        assert client.post(f"{ENTRIES}/{one}/unpin").json() == {"id": one, "pinned": False}
        assert [each.pinned for each in cache.list()] == [False, False]
        assert client.delete(f"{ENTRIES}/{two}").json() == {"id": two, "deleted": True}
        assert ids(client) == [one]
        assert client.delete(ENTRIES).json() == {"deleted": 1}
        assert ids(client) == []


def test_unknown_ids_are_404() -> None:
    with FakeHost(cache=memory()) as host, serving(host) as client:
        for response in (
            client.get(f"{ENTRIES}/xyz"),
            client.post(f"{ENTRIES}/xyz/pin"),
            client.post(f"{ENTRIES}/xyz/unpin"),
            client.delete(f"{ENTRIES}/xyz"),
        ):
            assert error(response) == (404, "not_found")
            assert response.json()["error"]["message"] == "no entry 'xyz' is in the prompt cache"
        assert error(client.put(f"{ENTRIES}/xyz")) == (405, "method_not_allowed")


def test_verify(tmp_path: Path) -> None:
    disk = DiskTier(tmp_path / "states", 1 << 20, 10, 0, LRU())
    cache = PromptCache(None, disk)
    cache.put("s", tokens_of(1), state_of(tokens_of(1)))
    assert disk.flush(10)
    with FakeHost(cache=cache) as host, serving(host) as client:
        assert client.post("/v1/cache/verify").json() == {"corrupt": []}
        (path,) = (tmp_path / "states").glob("*/*.state")
        path.write_bytes(b"?")
        assert client.post("/v1/cache/verify").json() == {"corrupt": [path.stem]}
        assert ids(client) == []
    cache.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/cache"),
        ("GET", ENTRIES),
        ("GET", f"{ENTRIES}/x"),
        ("POST", f"{ENTRIES}/x/pin"),
        ("POST", f"{ENTRIES}/x/unpin"),
        ("DELETE", f"{ENTRIES}/x"),
        ("DELETE", ENTRIES),
        ("POST", "/v1/cache/verify"),
        ("POST", "/v1/cache/warm"),
    ],
)
def test_a_cache_that_is_turned_off_says_so(method: str, path: str) -> None:
    with FakeHost() as host, serving(host) as client:
        response = client.request(method, path, json={"prompt": "x"} if method == "POST" else None)
        assert error(response) == (400, "cache_disabled")
        assert "cache.enabled = true" in response.json()["error"]["message"]


# Who may


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_the_admin_key_opens_the_cache_and_nothing_else() -> None:
    settings = config(api_key="user", admin_key="admin")
    with FakeHost(cache=memory()) as host, serving(host, settings) as client:
        assert client.get("/v1/cache", headers=bearing("admin")).status_code == 200
        assert error(client.get("/v1/cache", headers=bearing("user"))) == (
            403,
            "insufficient_permissions",
        )
        assert error(client.get("/v1/cache")) == (401, "invalid_api_key")
        assert client.delete(ENTRIES, headers=bearing("user")).status_code == 403
        assert len(host.cache().list()) == 2
        assert client.post(CHAT, json=BODY, headers=bearing("user")).status_code == 200
        assert client.post(CHAT, json=BODY, headers=bearing("admin")).status_code == 403


def test_the_api_key_serves_where_there_is_no_admin_key() -> None:
    with FakeHost(cache=memory()) as host, serving(host, config(api_key="user")) as client:
        assert client.get(ENTRIES, headers=bearing("user")).status_code == 200
        assert client.get(ENTRIES).status_code == 401


def test_without_a_key_only_this_machine_is_answered() -> None:
    with FakeHost(cache=memory()) as host, serving(host) as client:
        assert client.get("/v1/cache").status_code == 200
        # A page that has its own name lead to this machine.
        assert client.get("/v1/cache", headers={"Host": "evil.example:80"}).status_code == 403
        assert client.get("/v1/cache", headers={"Host": "localhost"}).status_code == 200
    with FakeHost(cache=memory()) as host, serving(host, config(host="0.0.0.0")) as client:
        response = client.get("/v1/cache")
        assert response.status_code == 401
        assert "server.admin_key" in response.json()["error"]["message"]
        assert client.post(CHAT, json=BODY).status_code == 200


# Who shares with whom


def salts(settings: Config, *requests: dict[str, Any]) -> list[str]:
    """The cache_salt with which each request reached the engine."""
    with FakeHost() as host, serving(host, settings) as client:
        for body in requests:
            headers = bearing(settings.server.api_key) if settings.server.api_key else {}
            path = "/v1/completions" if "prompt" in body else CHAT
            assert client.post(path, json=body, headers=headers).status_code == 200
        return [request.cache_salt for request in host.requests]


def test_requests_share_by_key_and_by_salt() -> None:
    salted = {**BODY, "cache_salt": "a"}
    assert salts(config(), BODY, salted, salted, {"prompt": "x", "cache_salt": "a"}) == [
        "",
        ":a",
        ":a",
        ":a",
    ]
    one, one_salted = salts(config(api_key="one"), BODY, salted)
    two, two_salted = salts(config(api_key="two"), BODY, salted)
    assert len({"", ":a", one, one_salted, two, two_salted}) == 6
    assert "one" not in one
    assert salts(config(api_key="one"), BODY) == [one]
    shared = Config(server=config(api_key="one").server, cache=CacheConfig(share="all"))
    assert salts(shared, BODY, salted) == ["", ":a"]


def test_no_salt_gives_what_a_key_gives() -> None:
    settings = CacheConfig()
    tenant = salt_of(settings, key="k").rstrip(":")
    assert salt_of(settings, key="", given=tenant) != salt_of(settings, key="k")
    assert salt_of(settings, key="", given=f"{tenant}:") != salt_of(settings, key="k")


@pytest.mark.parametrize("salt", ["", "x" * 257, 5])
def test_salts_that_are_none(salt: object) -> None:
    with FakeHost() as host, serving(host) as client:
        response = client.post(CHAT, json={**BODY, "cache_salt": salt})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "cache_salt")


# Warming


def test_a_text_is_warmed() -> None:
    cache = PromptCache(MemoryTier(100_000, 10, 0, LRU()), None)
    with FakeHost(cache=cache) as host, serving(host, config(api_key="k")) as client:
        client.headers.update(bearing("k"))
        done = client.post("/v1/cache/warm", json={"prompt": "Be brief.", "label": "brief"}).json()
        assert (done["label"], done["prompt_tokens"]) == ("brief", 10)
        (entry,) = cache.list()
        assert (entry.label, entry.pinned, entry.tokens) == ("brief", True, 10)
        client.post(CHAT, json=BODY)
        assert host.requests[0].warm == "brief"
        assert host.requests[0].cache_salt == host.requests[1].cache_salt
        client.post("/v1/cache/warm", json={"prompt": "x", "cache_salt": "s"})
        client.post(CHAT, json={**BODY, "cache_salt": "s"})
        assert host.requests[2].cache_salt == host.requests[3].cache_salt != ""


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Be brief."}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
    ],
)
def test_messages_are_warmed_up_to_where_conversations_part(messages: list[Any]) -> None:
    cache = PromptCache(MemoryTier(100_000, 10, 0, LRU()), None)
    with FakeHost(cache=cache) as host, serving(host) as client:
        assert client.post("/v1/cache/warm", json={"messages": messages}).status_code == 200
        last = messages[-1]["role"]
        more = [] if last == "user" else [{"role": "user", "content": "What now?"}]
        client.post(CHAT, json={"messages": [*messages, *more]})
        warmed, asked = (request.prompt for request in host.requests)
        assert asked[: len(warmed)] == warmed
        end = "assistant\n" if last == "user" else "user\n"
        assert host.detokenize(warmed).endswith(f"<|im_start|>{end}")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "x", "messages": BODY["messages"]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"messages": []}, "messages"),
        ({"prompt": "x", "labl": "y"}, None),
        ({"prompt": "x", "label": ""}, "label"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         "messages[0].content[0].type"),
    ],
)  # fmt: skip
def test_what_cannot_be_warmed(body: dict[str, Any], param: str | None) -> None:
    cache = memory()
    with FakeHost(cache=cache) as host, serving(host) as client:
        response = client.post("/v1/cache/warm", json=body)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)
        assert len(cache.list()) == 2


def test_files_are_warmed_while_the_server_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.txt").write_text("Be brief.")
    (tmp_path / "b.json").write_text('[{"role": "system", "content": "Be kind."}]')
    (tmp_path / "c.json").write_text('{"messages": [{"role": "user", "content": "x"}]}')
    names = [str(tmp_path / name) for name in ("a.txt", "b.json", "c.json")]
    files = warm_file.read_all(CacheConfig(warm=tuple(names)))
    cache = PromptCache(MemoryTier(100_000, 10, 0, LRU()), None)
    with caplog.at_level("INFO"), FakeHost(cache=cache) as host:
        host.hold()
        with serving(host, config(), files) as client:
            assert client.get("/health").json()["status"] == "ok"
            host.release()
            assert eventually(lambda: len(cache.list()) == 3)
            assert eventually(lambda: caplog.text.count(": computed") == 3)
    assert [entry.label for entry in cache.list()] == names[::-1]
    told = [each for each in caplog.records if each.getMessage().startswith("warmed")]
    assert [record.tokens for record in told] == [len(each.prompt) for each in host.requests]


def test_what_fails_to_warm_is_told_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.txt").write_text("Be brief.")
    files = warm_file.read_all(CacheConfig(warm=(str(tmp_path / "a.txt"),)))
    with FakeHost(cache=memory(), context=5) as host, serving(host, config(), files) as client:
        assert eventually(lambda: "could not warm" in caplog.text)
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", None, "No such file or directory"),
        ("a.txt", b"", "the file is empty"),
        ("a.txt", b"\xff\xfe", "'utf-8' codec can't decode"),
        ("a.json", b"{", "Input data was truncated"),
        ("a.json", b"[]", "Expected `array` of length >= 1"),
        ("a.json", b'{"messages": [{"content": "x"}]}', "missing required field `role`"),
        ("a.json", b'[{"role": "user", "content": 5}]', "Expected `str | array | null`"),
        ("a.json", b'{"messages": [{"role": "user"}], "tool": []}', "unknown field `tool`"),
    ],
)
def test_files_that_cannot_be_warmed(name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"cache.warm: {name}: ") as caught:
        warm_file.read_all(CacheConfig(warm=(name,)))
    assert message in caught.value.message


def test_warming_needs_a_cache() -> None:
    with pytest.raises(ConfigError, match=r"cache.warm needs cache.enabled = true"):
        warm_file.read_all(CacheConfig(warm=("x",), enabled=False))
