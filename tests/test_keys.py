"""The key file, and `llmengine keys` over it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmengine.cli import main
from llmengine.errors import ConfigError, NotFound
from llmengine.keys import Key, KeyFile, digest, generated


def test_a_key_is_kept_by_its_hash_alone(tmp_path: Path) -> None:
    file = KeyFile(str(tmp_path / "new" / "keys.json"))
    assert file.read() == ()
    secret, key = generated(label="alice", tokens_per_minute=1000)
    file.add(key)
    assert file.read() == (key,)
    assert key.digest == digest(secret)
    assert len(secret) == len("llme_") + 43  # 256 bits
    assert secret not in file.path.read_text()
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in file.path.parent.iterdir()] == ["keys.json"]


def test_no_two_keys_are_alike() -> None:
    found = [generated() for _ in range(50)]
    assert len({secret for secret, _ in found}) == len({key.id for _, key in found}) == 50


def test_revoking_takes_one_key(tmp_path: Path) -> None:
    file = KeyFile(str(tmp_path / "keys.json"))
    keys = [generated()[1] for _ in range(3)]
    for key in keys:
        file.add(key)
    file.revoke(keys[1].id)
    assert file.read() == (keys[0], keys[2])
    with pytest.raises(NotFound, match=keys[1].id):
        file.revoke(keys[1].id)


def test_commands_at_the_same_time_lose_no_key(tmp_path: Path) -> None:
    file = KeyFile(str(tmp_path / "keys.json"))
    keys = [generated()[1] for _ in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(file.add, keys))
    assert set(file.read()) == set(keys)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no list of keys"),
        ("{}", "no list of keys"),
        ("[1]", "no list of keys"),
        ('[{"id": "a"}]', "`digest`"),
        ('[{"id": "a", "digest": "b", "scopes": ["root"]}]', "'root'"),
        ('[{"id": "a", "digest": "b", "word": 1}]', "`word`"),
        ("[" * 100_000, "no list of keys"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=reason):
        KeyFile(str(path)).read()
    assert path.read_text() == content


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("[]")
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="chmod 600"):
        KeyFile(str(path)).read()
    path.chmod(0o444)  # as secrets are mounted into containers
    assert KeyFile(str(path)).read() == ()


def test_the_commands(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main.run(["keys", "list"]) == 0
    assert capsys.readouterr().out == ""
    arguments = ["--label", "ci", "--scope", "inference", "--scope", "metrics", "--priority", "3"]
    assert main.run(["keys", "add", *arguments, "--requests-per-minute", "60"]) == 0
    out, err = capsys.readouterr()
    secret = out.strip()
    (key,) = KeyFile().read()
    assert KeyFile().path == home / "config" / "llmengine" / "keys.json"
    assert key.digest == digest(secret)
    assert err == f"{key.id} is in {KeyFile().path}; the key itself is nowhere but here\n"
    assert main.run(["keys", "list"]) == 0
    columns = capsys.readouterr().out.rstrip("\n").split("\t")
    assert columns[:6] == [key.id, "inference,metrics", "60", "", "", "3"]
    assert columns[7] == "ci"
    assert main.run(["keys", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["requests_per_minute"] == 60
    assert "digest" not in row
    assert main.run(["keys", "revoke", key.id]) == 0
    assert KeyFile().read() == ()
    capsys.readouterr()
    assert main.run(["keys", "revoke", key.id]) == 3
    assert capsys.readouterr().err == (
        f"error: there is no key '{key.id}': `llmengine keys list` shows them\n"
    )


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (["--scope", "root"], "error: --scope root: choose inference, admin or metrics"),
        (["--priority", "9"], "'--priority': Input should be less than or equal to 8"),
        (["--tokens-per-minute", "-1"], "'--tokens-per-minute': Input should be greater than"),
        (["--label", os.fsdecode(b"caf\xe9")], "the label is not UTF-8: byte 0xe9"),
    ],
)
def test_wrong_keys_are_not_made(
    capsys: pytest.CaptureFixture[str], wrong: list[str], problem: str
) -> None:
    assert main.run(["keys", "add", *wrong]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert problem in err
    assert err.count("\n") == 1
    assert not KeyFile().exists


def test_a_secret_on_the_command_line_is_not_shown_to_others() -> None:
    """`ps` reads what the process says of itself."""
    code = (
        "import sys, subprocess\n"
        "from llmengine.cli import main\n"
        "main.run(sys.argv[1:])\n"
        "print(open('/proc/self/cmdline').read())\n"
    )
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("no /proc here")
    arguments = ["config", "show", "--json", "--set", "server.api_key=sesame-street"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
    )
    assert '"--set server.api_key"' in done.stdout, done.stderr
    assert "server.api_key=********" in done.stdout
    assert "sesame" not in done.stdout + done.stderr


def test_plain_defaults() -> None:
    assert Key(id="a", digest="b").scopes == ("inference",)
    assert digest("") == ""
