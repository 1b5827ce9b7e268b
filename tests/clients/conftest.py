"""A server with the embedded model, for clients that know nothing of this project."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
KEY = "sk-test"


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty home, and no settings of the user's; nothing is asked of the Internet."""
    found = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("LLM_ENGINE_", "OPENAI_", "ANTHROPIC_")):
                patch.delenv(name)
        patch.setenv("HOME", str(found))
        patch.setenv("OPENAI_API_KEY", KEY)
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        patch.chdir(found)
        yield found


@pytest.fixture(scope="session")
def base_url(home: Path) -> Iterator[str]:
    """The address of a server on a free port, with /v1 at its end."""
    program = os.environ.get("LLMENGINE", str(ROOT / ".venv" / "bin" / "llmengine"))
    command = [program, "serve", "--port", "0", "--api-key", KEY]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        address = None
        for line in server.stderr:
            if address := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        assert address, "the server did not start"
        yield f"{address[0]}/v1"
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
        assert server.returncode == 0


@pytest.fixture
def key() -> str:
    return KEY
