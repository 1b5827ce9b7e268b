"""The engine inside a command's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TypeVar

from llmengine.config import Config
from llmengine.core import Host
from llmengine.loading import Loading

T = TypeVar("T")


def open_engine(config: Config, loading: Loading | None = None) -> Host:
    """Load the model; raises ModelNotFound, ModelUnavailable, OutOfMemory and ConfigError."""
    from llmengine.engine.engine import Engine

    return Engine(config, loading)


def open_host(config: Config, loading: Loading) -> Host:
    """The same in a process of its own, unless the settings say otherwise."""
    from llmengine.host.process_host import ProcessHost

    if config.worker.in_process:
        return open_engine(config, loading)
    return ProcessHost(config, loading)


@contextmanager
def engine_while(config: Config, work: Callable[[], T]) -> Iterator[tuple[Host, T]]:
    """An engine, closed at the end, and the result of `work`, done while the model loads."""
    with ThreadPoolExecutor(1, "load") as pool:
        loading = pool.submit(open_engine, config)
        try:
            result = work()
            host = loading.result()
        except BaseException:
            if loading.exception() is None:
                loading.result().close()
            raise
    with closing(host):
        yield host, result
