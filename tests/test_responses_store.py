"""Where answers of /v1/responses are kept: how many, for how long and for whom."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import diskcache
import pytest

from llmengine.cache.raw_disk import RawDisk
from llmengine.config import ServerConfig
from llmengine.errors import ConfigError
from llmengine.server.responses_store import ResponseStore, Stored, folder
from llmengine.server.responses_wire import InputText, MessageItem, OutputText, Response


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "responses"


def store(path: Path, **more: Any) -> ResponseStore:
    return ResponseStore(ServerConfig(responses_path=str(path), **more))


def stored(id: str, size: int = 10) -> Stored:
    message = MessageItem(id=f"msg_{id[5:]}_0", role="assistant", content=[OutputText(text="b")])
    response = Response(
        id=id, created_at=1, instructions=None, max_output_tokens=None, max_tool_calls=None,
        metadata={}, model="m", output=[message], parallel_tool_calls=True,
        previous_response_id=None, prompt_cache_key=None, reasoning={}, safety_identifier=None,
        store=True, temperature=1.0, text={}, tool_choice="auto", tools=[], top_logprobs=0,
        top_p=1.0, user=None,
    )  # fmt: skip
    said = MessageItem(id="msg_in", role="user", content=[InputText("a" * size)])
    return Stored(response, [said])


def test_what_is_kept_is_found_again(at: Path) -> None:
    assert store(at).keep("key", stored("resp_1"))
    found = store(at).get("key", "resp_1")
    assert found == stored("resp_1")
    assert found is not None
    assert found.items({"msg_1_0", "msg_in", "msg_2_0"}) == {
        "msg_1_0": found.response.output[0],
        "msg_in": found.input[0],
    }


def test_keys_are_apart_and_not_in_the_folder(at: Path) -> None:
    kept = store(at)
    assert kept.keep("secret key", stored("resp_1"))
    assert kept.get("", "resp_1") is None
    assert kept.get("other", "resp_1") is None
    assert not kept.delete("other", "resp_1")
    assert kept.delete("secret key", "resp_1")
    assert not kept.delete("secret key", "resp_1")
    assert kept.keep("secret key", stored("resp_2"))
    assert all(b"secret" not in each.read_bytes() for each in at.iterdir())


def test_the_oldest_make_room(at: Path) -> None:
    kept = store(at, responses_max_size_mb=1)
    for n in range(40):
        assert kept.keep("", stored(f"resp_{n}", size=100_000))
        # The file is cut when SQLite writes its log back, an answer later.
        assert (at / "cache.db").stat().st_size <= (1 << 20) + 110_000
    found = [n for n in range(40) if kept.get("", f"resp_{n}")]
    assert found == list(range(40 - len(found), 40))
    assert 5 <= len(found) <= 10
    assert kept.keep("", stored("resp_big", size=3_000_000))
    assert kept.get("", "resp_big") is not None
    assert kept.get("", "resp_39") is None


def test_they_end(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store(at, responses_ttl_seconds=60)
    now = 1_000_000.0
    monkeypatch.setattr("time.time", lambda: now)
    assert kept.keep("", stored("resp_1"))
    now += 59
    assert kept.get("", "resp_1") is not None
    now += 2
    assert kept.get("", "resp_1") is None


def test_a_folder_of_others_and_a_damaged_one_are_told(
    at: Path, caplog: pytest.LogCaptureFixture
) -> None:
    at.mkdir()
    (at / "letter.txt").write_text("hello")
    with pytest.raises(ConfigError, match="holds other files"):
        store(at).get("", "resp_1")
    assert not store(at).keep("", stored("resp_1"))
    assert "is not stored" in caplog.text
    damaged = at / "damaged"
    damaged.mkdir()
    (damaged / "cache.db").write_bytes(b"no database at all, but long enough to look like one" * 99)
    with pytest.raises(ConfigError, match="not a database"):
        store(damaged).get("", "resp_1")


def test_what_another_version_stored_is_not_there(
    at: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = store(at)
    assert kept.keep("", stored("resp_1"))
    with diskcache.Cache(str(at), disk=RawDisk) as cache:
        cache.set("/resp_1", b'{"response": {}, "input": []}')
    assert kept.get("", "resp_1") is None
    assert "resp_1 cannot be read" in caplog.text


def test_a_folder_that_is_busy_costs_the_storing_only(
    at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmengine.server.folder.BUSY_SECONDS", 0.05)
    kept = store(at)
    assert kept.keep("", stored("resp_1"))
    other = sqlite3.connect(at / "cache.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert not kept.keep("", stored("resp_2"))
    assert kept.get("", "resp_1") is not None
    other.execute("ROLLBACK")
    other.close()
    assert kept.keep("", stored("resp_2"))


def test_a_full_disk_is_no_error(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store(at)
    assert kept.keep("", stored("resp_1"))

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("diskcache.Cache.set", full)
    assert not kept.keep("", stored("resp_2"))
    assert kept.get("", "resp_1") is not None


def test_the_folder_is_in_the_users_cache(home: Path) -> None:
    assert folder(ServerConfig()) == home / "cache" / "llmengine" / "responses"
