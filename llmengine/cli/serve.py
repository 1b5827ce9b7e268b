"""`llmengine serve`: the model behind OpenAI's HTTP API."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from llmengine import __version__, log
from llmengine.cli.options import takes_settings
from llmengine.errors import ConfigError
from llmengine.settings import Settings
from llmengine.stderr import unhurried

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Sequence

    from llmengine.chat.warm_file import WarmFile
    from llmengine.core import ModelInfo
    from llmengine.server.app import App
    from llmengine.server.state import State


@takes_settings(
    "model.model_path",
    "model.mmproj",
    "model.draft_model",
    "model.name",
    "server.host",
    "server.port",
    "server.api_key",
    "server.insecure",
    "model.context_size",
    "server.max_concurrent_requests",
    "worker.in_process",
)
def serve(settings: Settings) -> None:
    """Serve the model over HTTP, with OpenAI's API.

    The engine runs in a process of its own. When that is lost, a new one goes on where it was.
    SIGINT and SIGTERM let running requests finish (server.drain_seconds); a second one does not.
    SIGHUP reads keys, limits and log settings again.
    """
    from llmengine.chat import warm_file
    from llmengine.server import run, warming
    from llmengine.server.app import create_app

    config = settings.config
    files = warm_file.read_all(config.cache)
    app = create_app(config)
    if files:
        warming.check_shared(config, app.ctx.guard.keyring)
    # First of all: loading a large model for a port that is taken would waste minutes.
    with run.bind(config.server.host, config.server.port) as listener, unhurried():
        app.ctx.guard.check_exposure(listener.getsockname()[0])
        run.run(_serve(app, listener, settings, files))


async def _serve(
    app: App, listener: socket.socket, settings: Settings, warm: Sequence[WarmFile]
) -> None:
    import asyncio
    import signal

    from llmengine.cli import local
    from llmengine.server import run

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _signalled, stop, number)
    if sys.stderr.isatty():  # then it says that the terminal is gone
        loop.add_signal_handler(signal.SIGHUP, _signalled, stop, signal.SIGHUP)
    else:
        loop.add_signal_handler(signal.SIGHUP, _reload, app, settings)
    await run.serve(
        app,
        lambda loading: local.open_host(settings.config, loading),
        listener,
        stop,
        warm=warm,
        ready=lambda state: _announce(app, listener, state),
    )


def _signalled(stop: asyncio.Event, number: int) -> None:
    if stop.is_set():
        _say("ended at once")
        sys.stderr.close()
        os._exit(128 + number)
    stop.set()
    _say("finishing what runs; once more ends at once")


def _reload(app: App, settings: Settings) -> None:
    from llmengine.server.reload import reload

    try:
        reload(app, settings.again().config)
    except ConfigError as error:
        for line in error.message.splitlines():
            _say(f"settings are as they were: {line}")


def _announce(app: App, listener: socket.socket, state: State) -> None:
    import ipaddress

    address, port = listener.getsockname()[:2]
    local = ipaddress.ip_address(address.partition("%")[0])
    host = f"[{address}]" if local.version == 6 else address
    url = f"{'https' if state.config.server.tls_cert else 'http'}://{host}:{port}"
    _say(f"llmengine {__version__} serves {state.model} at {url}/v1 (Ctrl-C stops)")
    if state.info.draft_model:
        _say(f"{state.info.draft_model} drafts what it says next")
    guarded = app.ctx.guard.keyring.guards("inference")
    if not guarded and not local.is_loopback:
        _say(f"warning: whoever reaches {url} may use it: there is no API key", colour="1;33")
    key = " -H 'Authorization: Bearer KEY'" if guarded else ""
    _say(f"try: curl {url}{_example(state.info, key)}")


def _example(info: ModelInfo, key: str) -> str:
    if info.generates:
        body = '{"messages": [{"role": "user", "content": "Hello!"}]}'
        return f"/v1/chat/completions{key} -d '{body}'"
    if info.ranks:
        return f"/v1/rerank{key} -d " + """'{"query": "fruit", "documents": ["a pear", "a car"]}'"""
    return f"/v1/embeddings{key} -d " + """'{"input": "Hello!"}'"""


def _say(line: str, colour: str = "") -> None:
    if colour and log.colour_allowed(sys.stderr):
        line = f"\x1b[{colour}m{line}\x1b[0m"
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
