"""What the README tells a newcomer to type does what it says."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from patience import PATIENCE

pytestmark = pytest.mark.model

README = (ROOT / "README.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for language, text in BLOCKS
    if language == "bash"
    for line in text.splitlines()
    # Benchmarks take minutes, and have tests of their own.
    if "llmengine " in line and "serve" not in line and " bench" not in line
]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH with an `llmengine` of this checkout."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "llmengine"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m llmengine "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_there_are_commands_to_try() -> None:
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str, path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stderr == ""


@pytest.fixture
def port(path: Path) -> Iterator[str]:
    """The port of a real `llmengine serve`."""
    server = subprocess.Popen(
        ["llmengine", "serve", "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    seen = ""
    for line in server.stderr:
        seen += line
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            yield found[1]
            break
    else:
        raise AssertionError(seen)
    server.send_signal(signal.SIGTERM)
    server.communicate(timeout=PATIENCE)
    assert server.returncode == 0


def test_the_server_examples(port: str) -> None:
    (curl,) = [text for _, text in BLOCKS if text.startswith("curl")]
    done = subprocess.run(
        ["bash", "-c", curl.replace("8000", port)], capture_output=True, text=True, check=False
    )
    assert '"role":"assistant"' in done.stdout
    (client,) = [text for _, text in BLOCKS if "openai" in text]
    done = subprocess.run(
        [sys.executable, "-c", client.replace("8000", port)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "fox" in done.stdout


def test_the_python_example() -> None:
    (program,) = [text for _, text in BLOCKS if "engine.submit" in text]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
