"""Every test runs in an empty folder, with no settings of the user's in sight."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from llmengine import log

if TYPE_CHECKING:
    import httpx
    from fakes import FakeHost

ROOT = Path(__file__).parent.parent

collect_ignore = ["clients"]  # they have an environment of their own


# A shell has what runs in its background ignore it, and so would the commands under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what lives longer than a test out of the user's home as well."""
    with pytest.MonkeyPatch.context() as patch:
        _move(tmp_path_factory.mktemp("home"), patch)
        yield


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home, empty, and beside it the working folder of the test."""
    home = tmp_path / "home"
    work = tmp_path / "work"
    home.mkdir()
    work.mkdir()
    _move(home, monkeypatch)
    monkeypatch.chdir(work)
    return home


def _move(home: Path, patch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("LLM_ENGINE_"):
            patch.delenv(name)
    patch.setenv("HOME", str(home))
    for kind in ("CONFIG", "DATA", "CACHE", "STATE"):
        patch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
    # Commands in a child process find this checkout, installed or not.
    patch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Undo what a command under test configured, so that caplog sees the log of the next one."""
    logger = logging.getLogger(log.NAME)
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]


@pytest.fixture
def root() -> Path:
    """The top of the checkout."""
    return ROOT


@pytest.fixture
def host() -> Iterator[FakeHost]:
    from fakes import FakeHost

    with FakeHost() as host:
        yield host


@pytest.fixture
def client(host: FakeHost) -> Iterator[httpx.Client]:
    """A client of a server for `host`, which tests may define themselves."""
    from serving import serving

    with serving(host) as client:
        yield client
