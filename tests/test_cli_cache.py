"""`llmengine cache`: the folder of states and a running server, for people and for programs."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import FakeHost
from serving import config, serving

from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache
from llmengine.cli import local, main, table
from tests.cache_fakes import Clock, state_of, tokens_of

Capture = pytest.CaptureFixture[str]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLM_ENGINE_CACHE__PATH", str(tmp_path / "states"))
    return tmp_path / "states"


@pytest.fixture
def kept(folder: Path) -> Iterator[PromptCache]:
    """Two entries on disk, of a process that still runs."""
    disk = DiskTier(folder, 1 << 20, 10, 0, LRU())
    cache = PromptCache(None, disk)
    for number, label in ((1, "one"), (2, "two\tor\x1b[2Jmore")):
        cache.put("s", tokens_of(number), state_of(tokens_of(number)), label=label)
    assert disk.flush(10)
    yield cache
    cache.close()


@pytest.fixture
def id_of(kept: PromptCache) -> Callable[[str], str]:
    return lambda label: next(each.id for each in kept.list() if each.label.startswith(label))


def out(capsys: Capture, *arguments: str, code: int = 0) -> str:
    assert main.run(["cache", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refused(capsys: Capture, *arguments: str) -> tuple[int, str]:
    code = main.run(["cache", *arguments])
    captured = capsys.readouterr()
    assert captured.out == ""
    return code, captured.err


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


# The folder


def test_an_empty_cache_is_no_error_and_makes_no_folder(folder: Path, capsys: Capture) -> None:
    assert out(capsys, "list") == out(capsys, "stats") == out(capsys, "verify") == ""
    assert json.loads(out(capsys, "list", "--json")) == []
    assert out(capsys, "clear", "--yes") == "removed 0 entries\n"
    assert not folder.exists()


def test_the_list_in_a_pipe(kept: PromptCache, capsys: Capture) -> None:
    first, second = rows(out(capsys, "list"))
    entry = kept.list()[0]
    assert first[:5] == [entry.id, "disk", "80", "8000", "1"]
    assert float(first[5]) == pytest.approx(float(first[6])) == pytest.approx(entry.age, abs=5)
    assert float(first[7]) == pytest.approx(604_800, abs=60)
    assert first[8:] == ["no", "two\\tor\\x1b[2Jmore"]
    assert second[8:] == ["no", "one"]


def test_the_list_as_json(kept: PromptCache, capsys: Capture) -> None:
    found = json.loads(out(capsys, "list", "--json"))
    assert [each["label"] for each in found] == ["two\tor\x1b[2Jmore", "one"]
    assert found[1]["tiers"] == ["disk"]
    assert found[1]["expires_in"] == pytest.approx(604_800, abs=60)


def test_the_list_on_a_terminal(
    kept: PromptCache, id_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main.run(["cache", "list"]) == 0
    shown = sys.stdout.getvalue()
    assert "7.8 KiB" in shown
    assert id_of("one")[:8] in shown
    assert id_of("one")[:9] not in shown
    assert "\x1b" not in shown.replace("\x1b[0m", "").replace("\x1b[1m", "")
    assert "two\\tor\\x1b[2Jmore" in shown


def test_the_statistics(kept: PromptCache, capsys: Capture) -> None:
    assert rows(out(capsys, "stats", "--set", "cache.disk_max_size_mb=2")) == [
        ["disk", "2", "0", "", "16000", "2097152", "0", "0", "0", "0", "0"]
    ]
    assert json.loads(out(capsys, "stats", "--json"))["disk"]["bytes"] == 16_000


def test_an_entry_is_shown(kept: PromptCache, id_of: Callable[[str], str], capsys: Capture) -> None:
    found = dict(rows(out(capsys, "show", id_of("one")[:10])))
    assert (found["id"], found["label"], found["tokens"]) == (id_of("one"), "one", "80")
    assert found["token ids"].split() == [str(each) for each in tokens_of(1)]
    assert "text" not in found
    found = json.loads(out(capsys, "show", id_of("one"), "--json"))
    assert found["token_ids"] == tokens_of(1).tolist()


def test_entries_are_pinned_and_removed_while_a_server_uses_the_folder(
    kept: PromptCache, folder: Path, id_of: Callable[[str], str], capsys: Capture
) -> None:
    one, two = id_of("one"), id_of("two")
    assert out(capsys, "pin", one[:10]) == f"pinned {one}\n"
    assert [row[8] for row in rows(out(capsys, "list"))] == ["no", "yes"]
    assert json.loads(out(capsys, "unpin", one, "--json")) == {"id": one, "pinned": False}
    assert [row[8] for row in rows(out(capsys, "list"))] == ["no", "no"]
    assert out(capsys, "rm", two) == f"removed {two}\n"
    assert [row[0] for row in rows(out(capsys, "list"))] == [one]
    assert kept.disk is not None
    kept.disk._refresh()  # what the server does each second
    assert [each.id for each in kept.list()] == [one]


def test_damage_is_found(kept: PromptCache, folder: Path, capsys: Capture) -> None:
    assert out(capsys, "verify") == ""
    path = next(folder.glob("*/*.state"))
    path.write_bytes(b"?" * path.stat().st_size)
    assert main.run(["cache", "verify"]) == 1
    captured = capsys.readouterr()
    assert captured.out == f"damaged, removed: {path.stem}\n"
    assert "the checksum differs" in captured.err
    assert json.loads(out(capsys, "verify", "--json")) == {"corrupt": []}


def test_clearing_has_to_be_meant(
    kept: PromptCache, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused(capsys, "clear") == (
        2,
        "error: this removes every entry: add --yes where nobody can be asked\n",
    )
    assert len(rows(out(capsys, "list"))) == 2
    for answer, code, left in (("n", 130, 2), ("y", 0, 0)):
        terminal = Terminal(f"{answer}\n")
        monkeypatch.setattr(sys, "stdin", terminal)
        assert main.run(["cache", "clear"]) == code
        captured = capsys.readouterr()
        assert captured.err == "Remove all 2 entries? [y/N] "
        assert captured.out == ("removed 2 entries\n" if code == 0 else "")
        assert len(rows(out(capsys, "list"))) == left


@pytest.mark.parametrize("command", ["show", "pin", "unpin", "rm"])
def test_unknown_ids(kept: PromptCache, capsys: Capture, command: str) -> None:
    assert refused(capsys, command, "xyz") == (
        3,
        "error: no entry 'xyz' is in the prompt cache\n",
    )


def test_a_folder_of_something_else_is_left_alone(folder: Path, capsys: Capture) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("x")
    code, errors = refused(capsys, "list")
    assert code == 1
    assert "holds other files" in errors
    assert errors.endswith(f"error: {folder} could not be used, see above\n")
    assert [each.name for each in folder.iterdir()] == ["thesis.txt"]


def test_without_a_disk_there_is_nothing_to_show(capsys: Capture) -> None:
    code, errors = refused(capsys, "list", "--set", "cache.disk=false")
    assert (code, errors.count("\n")) == (2, 1)
    assert "--url asks a server" in errors


# A server


def hot() -> PromptCache:
    cache = PromptCache(MemoryTier(1 << 20, 10, 0, LRU(), Clock()), None)
    tokens = tokens_of(1) % 256
    cache.put("s", tokens, state_of(tokens), label="one")
    return cache


def test_a_running_server_is_asked(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = hot()
    (entry,) = cache.list()
    Path("more.txt").write_text("Be brief.")
    Path("chat.json").write_text('[{"role": "system", "content": "Be kind."}]')
    with FakeHost(cache=cache) as host, serving(host, config(admin_key="k")) as client:
        remote = ("--url", f"{client.base_url}/v1/", "--key", "k")
        assert rows(out(capsys, "list", *remote)) == [
            [entry.id, "memory", "80", "8000", "1", "0.000", "0.000", "", "no", "one"]
        ]
        assert rows(out(capsys, "stats", *remote))[0][:5] == ["memory", "1", "0", "", "8000"]
        assert json.loads(out(capsys, "show", "--json", entry.id[:6], *remote))["label"] == "one"
        assert out(capsys, "pin", entry.id[:6], *remote) == f"pinned {entry.id}\n"
        assert [each.pinned for each in cache.list()] == [True]
        assert out(capsys, "unpin", entry.id, *remote) == f"unpinned {entry.id}\n"
        assert out(capsys, "warm", "more.txt", *remote).startswith("more.txt: 10 tokens, ")
        warmed = json.loads(out(capsys, "warm", "chat.json", "--label", "kind", "--json", *remote))
        assert warmed["label"] == "kind"
        assert [each.label for each in cache.list()] == ["one", "more.txt", "kind"]
        assert out(capsys, "verify", *remote) == ""
        assert out(capsys, "rm", entry.id, *remote) == f"removed {entry.id}\n"
        monkeypatch.setenv("LLM_ENGINE_ADMIN_KEY", "k")
        assert out(capsys, "clear", "--yes", *remote[:2]) == "removed 2 entries\n"


def test_what_a_server_refuses(capsys: Capture) -> None:
    with FakeHost(cache=hot()) as host, serving(host, config(admin_key="k")) as client:
        url = str(client.base_url)
        assert refused(capsys, "list", "--url", url) == (
            2,
            "error: an API key is needed: send `Authorization: Bearer KEY`\n",
        )
        code, errors = refused(capsys, "rm", "xyz", "--url", url, "--key", "k")
        assert (code, errors) == (3, "error: no entry 'xyz' is in the prompt cache\n")
        code, errors = refused(capsys, "rm", "a/../..", "--url", url, "--key", "k")
        assert code == 3
    with FakeHost() as host, serving(host) as client:
        code, errors = refused(capsys, "stats", "--url", str(client.base_url))
        assert (code, "cache is turned off" in errors) == (2, True)
    code, errors = refused(capsys, "stats", "--url", url)
    assert (code, errors) == (3, f"error: no server answers at {url}: Connection refused\n")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8000", "http://", "ftp://x"])
def test_urls_that_are_none(capsys: Capture, url: str) -> None:
    assert refused(capsys, "list", "--url", url) == (
        2,
        f"error: --url {url}: write it like http://127.0.0.1:8000\n",
    )


# Warming without a server


def test_a_file_is_warmed_by_a_model_of_its_own(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = hot()
    monkeypatch.setattr(local, "open_engine", lambda _: FakeHost(cache=cache))
    Path("more.txt").write_text("Be brief.", encoding="utf-8-sig")
    assert out(capsys, "warm", "more.txt").startswith("more.txt: 10 tokens, ")
    entry = cache.list()[-1]
    assert (entry.label, entry.pinned, entry.scope) == ("more.txt", True, "")
    code, errors = refused(capsys, "warm", "more.txt", "--set", "cache.disk=false")
    assert (code, "cache.disk" in errors) == (2, True)
    assert refused(capsys, "warm", "nothing.txt") == (
        2,
        "error: nothing.txt: No such file or directory\n",
    )


@pytest.mark.model
@pytest.mark.parametrize(
    ("setting", "code", "reason"),
    [
        ("cache.path=more.txt", 1, "error: more.txt could not be used, see above"),
        ("cache.disk_max_size_mb=1", 4, "error: the prompt cache has no room to keep "),
    ],
)
def test_what_is_not_kept_on_disk_is_not_warm(
    capsys: Capture, setting: str, code: int, reason: str
) -> None:
    """Memory would have had room for it, until the command ends."""
    Path("more.txt").write_text("Be brief. " * 200)
    found, errors = refused(capsys, "warm", "more.txt", "--set", setting)
    assert (found, errors.splitlines()[-1].startswith(reason)) == (code, True), errors


@pytest.mark.parametrize("label", [(), ("--label", os.fsdecode(b"caf\xe9"))])
def test_a_label_is_text(folder: Path, capsys: Capture, label: tuple[str, ...]) -> None:
    name = os.fsdecode(b"more\xff.txt")
    Path(name).write_text("Be brief.")
    byte = "0xe9 after 3" if label else "0xff after 4"
    assert refused(capsys, "warm", name, *label) == (
        2,
        f"error: the label (--label gives another) is not UTF-8: byte {byte} characters\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--path", "here"),
        ("warm", "more.txt", "-m", "tiny"),
        ("stats", "--set", "cache.path=here"),
    ],
)
def test_flags_for_the_disk_do_not_go_with_a_server(
    folder: Path, capsys: Capture, arguments: tuple[str, ...]
) -> None:
    Path("more.txt").write_text("Be brief.")
    code, errors = refused(capsys, *arguments, "--url", "http://127.0.0.1:1")
    assert (code, "exclude each other: a server has its own" in errors) == (2, True)


# Words


def test_sizes_times_and_ids() -> None:
    assert [table.size(each) for each in (0, 1023, 1024, 12_897_484, 2**40 * 5)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "12.3 MiB",
        "5.0 TiB",
    ]
    assert [table.duration(each) for each in (-1, 5.4, 61, 7200, 400_000)] == [
        "0 s",
        "5 s",
        "1 min",
        "2 h",
        "5 d",
    ]
    assert table.short(["aaaaaaaaaa1", "aaaaaaaaaa2", "b" * 11]) == {
        "aaaaaaaaaa1": "aaaaaaaaaa1",
        "aaaaaaaaaa2": "aaaaaaaaaa2",
        "b" * 11: "b" * 11,
    }
    assert table.short(["a" * 24]) == {"a" * 24: "a" * 8}
