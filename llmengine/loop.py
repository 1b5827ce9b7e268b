"""The fastest event loop that is installed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


def new() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # it has no build for every platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run_until_interrupted(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end; SIGINT or SIGTERM cancels it, and then KeyboardInterrupt is raised.

    For the main thread only.
    """
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    loop = new()
    task = loop.create_task(main)
    for each in before:
        loop.add_signal_handler(each, task.cancel)
    try:
        loop.run_until_complete(task)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        for each, handler in before.items():
            signal.signal(each, handler)  # uvloop leaves its own
