"""The prompt cache of a running engine, seen and steered: server, command line, restarts."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from real import MODEL, chatml, config, request, run
from serving import eventually, serving

from llmengine.chat import warm_file
from llmengine.cli import main
from llmengine.config import Config
from llmengine.engine.engine import Engine
from llmengine.errors import ModelUnavailable

pytestmark = pytest.mark.model

SYSTEM = {"role": "system", "content": "You are a helpful assistant. Be brief. " * 10}
CHAT = "/v1/chat/completions"


def settings(tmp_path: Path, **more: Any) -> Config:
    return config(context_size=2048, path=str(tmp_path / "states"), drain_seconds=5, **more)


def ask(client: Any, question: str = "Hello!", key: str = "", **more: Any) -> int:
    """Cached tokens of a request that begins with SYSTEM."""
    body = {"messages": [SYSTEM, {"role": "user", "content": question}], "max_tokens": 4, **more}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    response = client.post(CHAT, json=body, headers=headers)
    assert response.status_code == 200, response.text
    found: int = response.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return found


def test_keys_and_salts_share_nothing_with_each_other(tmp_path: Path) -> None:
    one = settings(tmp_path, api_key="one")
    with closing(Engine(one)) as engine, serving(engine, one) as client:
        assert ask(client, key="one") == 0
        hit = ask(client, "Bye!", key="one")
        assert hit > 64
        assert ask(client, key="one", cache_salt="a") == 0
        assert ask(client, key="one", cache_salt="b") == 0
        assert ask(client, "Bye!", key="one", cache_salt="a") == hit
    two = settings(tmp_path, api_key="two")
    with closing(Engine(two)) as engine, serving(engine, two) as client:
        assert ask(client, key="two") == 0
    # What the first one knows is on disk, and is found there with the same key.
    with closing(Engine(one)) as engine, serving(engine, one) as client:
        assert ask(client, key="one") >= hit


def test_a_file_is_warmed_once_and_not_computed_after_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "support.json"
    file.write_text(json.dumps({"messages": [SYSTEM]}))
    chosen = settings(tmp_path, warm=(str(file),))
    files = warm_file.read_all(chosen.cache)

    def warmed_and_asked(question: str) -> tuple[int, int, int]:
        """Tokens computed to warm, warmed, and then taken from there by a request."""
        with closing(Engine(chosen)) as engine, serving(engine, chosen, files) as client:
            assert eventually(lambda: engine.stats().finished.get("stop") == 1)
            stats = engine.stats()
            (entry,) = [each for each in engine.cache().list() if each.pinned]
            assert (entry.label, entry.tokens) == (str(file), stats.prompt_tokens)
            return stats.prefilled_tokens, stats.prompt_tokens, ask(client, question)

    caplog.set_level("INFO")
    computed, tokens, shared = warmed_and_asked("Hello!")
    assert computed == tokens == shared > 64
    assert f"warmed {file}: computed" in caplog.text
    assert warmed_and_asked("Bye!") == (0, tokens, tokens)
    assert f"warmed {file}: it was stored" in caplog.text


@pytest.mark.parametrize("deterministic", [False, True])
def test_clearing_empties_the_slots_as_well(tmp_path: Path, deterministic: bool) -> None:
    with Engine(settings(tmp_path, deterministic=deterministic)) as engine:
        cache = engine.cache()
        assert cache is not None
        text = f"<|im_start|>system\n{SYSTEM['content']}<|im_end|>\n{chatml('Hello!')}"
        cold = run(engine, [request(engine, "a", text, temperature=0, max_tokens=8)])["a"]
        assert eventually(lambda: len(cache.list()) == 1)
        hot = cache.stats().hot
        assert hot is not None
        assert (hot.entries, hot.tokens) == (1, cold.usage.prompt_tokens + 7)
        assert "Be brief." in (cache.show(cache.list()[0].id).text or "")
        assert cache.clear() == 1
        assert cache.list() == []
        stats = cache.stats()
        assert stats.hot is not None
        assert stats.hot.entries == stats.hot.tokens == 0
        again = run(engine, [request(engine, "b", text, temperature=0, max_tokens=8)])["b"]
        assert again.usage.cached_tokens == 0
        assert again.text == cold.text
    with pytest.raises(ModelUnavailable):
        cache.clear()


def test_the_cache_of_an_engine_that_has_none(tmp_path: Path) -> None:
    with Engine(settings(tmp_path, enabled=False)) as engine:
        assert engine.cache() is None
    with Engine(settings(tmp_path, disk=False, max_size_mb=0)) as engine:
        cache = engine.cache()
        assert cache is not None
        text = f"{SYSTEM['content']}{chatml('Hello!')}"
        run(engine, [request(engine, "a", text, max_tokens=4)])
        stats = cache.stats()
        assert stats.hot is not None
        assert (stats.hot.entries, stats.memory, stats.disk) == (1, None, None)
        assert cache.clear() == 0
        again = run(engine, [request(engine, "b", text, max_tokens=4)])["b"]
        assert again.usage.cached_tokens == 0


def test_the_command_line_and_a_server_share_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_ENGINE_CACHE__PATH", str(tmp_path / "states"))
    monkeypatch.setenv("LLM_ENGINE_MODEL_PATH", str(MODEL))

    def out(*arguments: str) -> str:
        assert main.run(["cache", *arguments]) == 0
        return capsys.readouterr().out

    Path("support.json").write_text(json.dumps([SYSTEM]))
    assert out("warm", "support.json", "--ctx", "2048").startswith("support.json: ")
    with closing(Engine(settings(tmp_path))) as engine, serving(engine, settings(tmp_path)) as web:
        assert ask(web) > 64
        assert eventually(lambda: len(out("list").splitlines()) == 2)
        plain, warmed = [line.split("\t") for line in out("list").splitlines()]
        if plain[9]:
            plain, warmed = warmed, plain
        assert (warmed[8:], plain[8:]) == (["yes", "support.json"], ["no", ""])
        assert json.loads(out("show", warmed[0][:8], "--json"))["tokens"] == int(warmed[2])
        assert out("unpin", warmed[0]) == f"unpinned {warmed[0]}\n"
        assert out("pin", plain[0]) == f"pinned {plain[0]}\n"
        assert out("rm", warmed[0][:10]) == f"removed {warmed[0]}\n"
        assert out("verify") == ""
        found = msgspec.json.decode(out("list", "--json"))
        assert [(each["id"], each["pinned"]) for each in found] == [(plain[0], True)]
        remote = ("--url", str(web.base_url))
        assert "Be brief." in out("show", plain[0], *remote)
        assert out("stats", *remote).splitlines()[0].startswith("hot\t1\t")
        assert out("clear", "--yes", *remote).startswith("removed ")
        assert out("list") == out("list", *remote) == ""
        assert ask(web) == 0
