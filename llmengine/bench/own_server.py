"""A server of ours in a child process, for as long as it is measured."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from types import FrameType

import msgspec

from llmengine.config import Config, ServerConfig
from llmengine.errors import ModelUnavailable
from llmengine.options import options
from llmengine.settings.values import to_toml

START_SECONDS = 600.0  # a large model from a slow disk
STOP_SECONDS = 60.0
_ANNOUNCED = re.compile(r" at (http://\S+)/v1 ")


@contextmanager
def own_server(config: Config, cache: Path | None = None) -> Iterator[str]:
    """Its URL. It takes a free port, wants no key, and its prompt cache begins empty.

    With a folder `cache`, that begins as the last server left it there.

    Raises ModelUnavailable, with its last words, when it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="llmengine-bench-") as name:
        folder = Path(name)
        settings = folder / "config.toml"
        changed = _changed(config, cache or folder / "cache")
        settings.write_text(toml(changed), encoding="utf-8")
        with (
            _exiting_by_sigterm(),
            (folder / "log").open("wb") as log,
            _running(settings, log.fileno()) as process,
        ):
            yield _url(process, folder / "log")


def toml(config: Config) -> str:
    """A config file that gives exactly these settings."""
    blocks = []
    for section, members in groupby(options().values(), key=lambda option: option.section):
        values = {each.key: getattr(getattr(config, section), each.key) for each in members}
        lines = [f"{key} = {to_toml(value)}" for key, value in values.items() if value is not None]
        blocks.append("\n".join([f"[{section}]", *lines, ""]))
    return "\n".join(blocks)


def _changed(config: Config, cache: Path) -> Config:
    """As little of a server's settings as bears on its speed: no keys, no limits for clients."""
    replace = msgspec.structs.replace
    server = ServerConfig(
        port=0,
        max_concurrent_requests=config.server.max_concurrent_requests,
        max_queue=config.server.max_queue,
        responses_max_size_mb=0,
    )
    return Config(
        server=server,
        model=config.model,
        cache=replace(config.cache, path=str(cache), warm=()),
        performance=config.performance,
        sampling=config.sampling,
    )


@contextmanager
def _running(settings: Path, log: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "llmengine", "serve", "--config", str(settings)]
    # The file has all settings: variables would override it.
    environment = {key: each for key, each in os.environ.items() if key[:11] != "LLM_ENGINE_"}
    environment["XDG_CONFIG_HOME"] = str(settings.parent)  # where no keys of the user's are
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        start_new_session=True,  # Ctrl-C is for us: what was measured is reported first
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _exiting_by_sigterm() -> Iterator[None]:
    """Where SIGTERM would end this process at once, the one that it started would go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        ended = process.poll() is not None
        text = log.read_text(encoding="utf-8", errors="replace")
        if match := _ANNOUNCED.search(text):
            return match[1]
        if ended:
            lines = text.strip().splitlines() or ["it said nothing"]
            raise ModelUnavailable(f"the server did not start: {lines[-1]}")
        time.sleep(0.05)
    raise ModelUnavailable(f"the server did not start within {START_SECONDS:.0f} s")
