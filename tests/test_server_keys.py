"""Which key opens what."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from fakes import FakeHost
from serving import config, serving

from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache
from llmengine.config import CacheConfig, ServerConfig
from llmengine.errors import ConfigError
from llmengine.keys import KeyFile, generated
from llmengine.server.keyring import Keyring

BODY = {"messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


def made(path: Path, **fields: Any) -> str:
    """A new key in the file at `path`."""
    secret, key = generated(**fields)
    KeyFile(str(path)).add(key)
    return secret


def ask(client: httpx.Client, secret: str) -> list[int]:
    """What this key gets of a chat, the cache and the metrics."""
    headers = bearing(secret)
    return [
        client.post(CHAT, json=BODY, headers=headers).status_code,
        client.get("/v1/cache", headers=headers).status_code,
        client.get("/metrics", headers=headers).status_code,
    ]


def bearing(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def host() -> FakeHost:
    return FakeHost(cache=PromptCache(MemoryTier(1 << 20, 100, 0, LRU()), None))


def test_each_scope_opens_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "llmengine")
    file = tmp_path / "keys.json"
    asks = made(file)
    rules = made(file, scopes=["admin"])
    watches = made(file, scopes=["metrics"])
    everything = made(file, scopes=["inference", "admin", "metrics"])
    with host() as engine, serving(engine, config(keys_file=str(file))) as client:
        assert ask(client, asks) == [200, 403, 403]
        assert ask(client, rules) == [403, 200, 403]
        assert ask(client, watches) == [403, 403, 200]
        assert ask(client, everything) == [200, 200, 200]
        assert ask(client, "") == ask(client, "llme_guessed") == [401, 401, 401]
        refused = client.get("/metrics", headers={"Authorization": f"Bearer {asks}"})
        assert refused.json()["error"] == {
            "message": "the API key may not do this: it lacks the scope metrics",
            "type": "invalid_request_error",
            "param": None,
            "code": "insufficient_permissions",
        }
        assert "www-authenticate" not in refused.headers
        assert caplog.records[-1].__dict__["key"] == KeyFile(str(file)).read()[0].id
        # Anthropic's header is one of the ways.
        assert client.post(CHAT, json=BODY, headers={"x-api-key": asks}).status_code == 200


def test_what_nobody_would_share_is_not_warmed(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    headers = {"Authorization": f"Bearer {made(file, scopes=['admin'])}"}
    for more, share, status in (
        ({}, "key", 400),
        ({}, "all", 200),
        ({"api_key": "k"}, "key", 200),
    ):
        settings = config(keys_file=str(file), **more)
        settings = msgspec.structs.replace(settings, cache=CacheConfig(share=share))
        with host() as engine, serving(engine, settings) as client:
            answer = client.post("/v1/cache/warm", json={"prompt": "Be brief."}, headers=headers)
            assert answer.status_code == status, answer.text


def test_keys_of_the_environment_and_of_the_file_open_alike(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    secret = made(file)
    settings = config(api_key="plain", api_keys=("bob: b-key", "eve:e:y"), keys_file=str(file))
    with host() as engine, serving(engine, settings) as client:
        for one in (secret, "b-key", "e:y"):
            assert ask(client, one) == [200, 403, 403]
        assert ask(client, "plain") == [200, 200, 200]
        salts = {request.cache_salt for request in engine.requests}
        assert len(salts) == 4
        assert not [each for each in salts if secret in each or "b-key" in each]


def test_one_key_for_both_keeps_both_rights() -> None:
    with host() as engine, serving(engine, config(api_key="k", admin_key="k")) as client:
        assert ask(client, "k") == [200, 200, 200]


def test_an_admin_key_alone_leaves_the_rest_open() -> None:
    with host() as engine, serving(engine, config(admin_key="k")) as client:
        assert ask(client, "") == [200, 401, 200]
        assert ask(client, "k") == [200, 200, 200]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (("secret-of-mine",), "NAME:KEY"),
        ((":secret-of-mine",), "NAME:KEY"),
        (("name:",), "NAME:KEY"),
        (("a:secret-of-mine", "a:other"), "there twice"),
        (("a:secret-of-mine", "b:secret-of-mine"), "there twice"),
    ],
)
def test_wrong_keys_in_the_settings_are_told_without_them(
    given: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as found:
        Keyring(ServerConfig(api_keys=given))
    assert "secret-of-mine" not in str(found.value)


def test_reloading_follows_the_file_and_never_opens_the_server(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    first = made(file)
    settings = ServerConfig(keys_file=str(file))
    keyring = Keyring(settings)
    assert keyring.find(first) is not None
    second = made(file)
    assert keyring.find(second) is None
    keyring.reload(settings)
    assert keyring.find(second) is not None
    assert keyring.shared
    for key in KeyFile(str(file)).read():
        KeyFile(str(file)).revoke(key.id)
    keyring.reload(settings)
    assert keyring.find(first) is keyring.find(second) is None
    assert keyring.guards("inference")  # though there is no key left
    third = made(file)
    keyring.reload(settings)
    file.write_text("broken")
    with pytest.raises(ConfigError):
        keyring.reload(settings)
    file.unlink()
    with pytest.raises(ConfigError, match="no such key file"):
        keyring.reload(settings)
    assert keyring.find(third) is not None


@pytest.mark.parametrize("keys", [{"api_key": "k"}, {"api_keys": ("alice:k",)}])
def test_reloading_does_not_take_the_last_key_away(keys: dict[str, Any]) -> None:
    keyring = Keyring(ServerConfig(**keys))
    with pytest.raises(ConfigError, match="does not give up its last key"):
        keyring.reload(ServerConfig(admin_key="admin"))
    assert keyring.find("k") is not None
    keyring.reload(ServerConfig(api_key="another"))
    assert keyring.find("k") is None
    made(KeyFile().path)
    keyring.reload(ServerConfig())
    assert keyring.guards("inference")


def test_a_key_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="llmengine keys add"):
        Keyring(ServerConfig(keys_file=str(tmp_path / "none.json")))


def test_the_file_in_its_usual_place_closes_the_server() -> None:
    assert not Keyring(ServerConfig()).guards("inference")
    made(KeyFile().path)
    assert Keyring(ServerConfig()).guards("inference")


def test_all_keys_are_compared_whatever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = Keyring(ServerConfig(api_keys=tuple(f"n{at}:k{at}" for at in range(20))))
    compared = []
    compare = "llmengine.server.keyring.hmac.compare_digest"
    monkeypatch.setattr(compare, lambda a, b: compared.append(a) or a == b)
    for secret, id in (("k0", "n0"), ("k19", "n19"), ("none", None)):
        compared.clear()
        found = keyring.find(secret)
        assert (found.id if found else None) == id
        assert len(compared) == 20


def test_log_and_metrics_tell_a_key_by_its_id(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "llmengine")
    file = tmp_path / "keys.json"
    secret = made(file, scopes=["inference", "metrics"])
    (key,) = KeyFile(str(file)).read()
    with host() as engine, serving(engine, config(keys_file=str(file))) as client:
        ask(client, secret)
        ask(client, "wrong")
        usage = client.post(CHAT, json=BODY, headers=bearing(secret)).json()["usage"]
        names = f'key="{key.id}",kind="completion",model="fake"'
        found = client.get("/metrics", headers=bearing(secret)).text
    assert f"llmengine_key_tokens_total{{{names}}} {2.0 * usage['completion_tokens']}" in found
    lines = [each for each in caplog.records if each.message.startswith("/v1/chat/completions")]
    assert [getattr(each, "key", None) for each in lines] == [key.id, None, key.id]


def test_no_secret_reaches_the_log(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    secret = made(tmp_path / "keys.json")
    settings = config(api_key="plain-secret", keys_file=str(tmp_path / "keys.json"))
    with host() as engine, serving(engine, settings) as client:
        for one in (secret, "plain-secret", "wrong-secret"):
            ask(client, one)
            client.get("/nothing", headers={"Authorization": f"Bearer {one}"})
        engine.answer = lambda _: 1 / 0  # type: ignore[assignment,return-value]
        broken = client.post(CHAT, json=BODY, headers={"x-api-key": secret})
        assert broken.status_code == 500
        text = caplog.text + broken.text
    assert "ZeroDivisionError" in text
    assert not [each for each in (secret, "plain-secret", "wrong-secret") if each in text]
