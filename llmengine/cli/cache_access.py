"""The prompt cache that a command is about: a folder, or a running server's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llmengine.config import CacheConfig, Config
from llmengine.core import CacheControl
from llmengine.errors import ConfigError, Internal

if TYPE_CHECKING:
    from llmengine.cli.remote_cache import RemoteCache


@contextmanager
def opened(config: Config, url: str, key: str) -> Iterator[CacheControl]:
    """The cache of the server at `url`, or else the states on disk; no model is loaded."""
    if url:
        yield remote(config, url, key)
    else:
        with _on_disk(config.cache) as cache:
            yield cache


def remote(config: Config, url: str, key: str) -> RemoteCache:
    """The cache of a server; the settings have the key where `key` is empty."""
    from llmengine.cli import title
    from llmengine.cli.remote_cache import RemoteCache

    title.conceal([key])
    return RemoteCache(url, key or config.server.admin_key or config.server.api_key)


@contextmanager
def _on_disk(settings: CacheConfig) -> Iterator[CacheControl]:
    """Raises ConfigError where nothing is kept on disk, Internal where the disk does not work."""
    from llmengine.cache.opening import cache_folder, open_disk
    from llmengine.cache.prompt_cache import PromptCache

    if not settings.disk:
        raise ConfigError("nothing is kept on disk: cache.disk = false; --url asks a server")
    folder = cache_folder(settings)
    # Looking must not make a folder.
    with closing(PromptCache(None, open_disk(settings) if folder.exists() else None)) as cache:
        check_disk(cache, folder)
        yield cache
        check_disk(cache, folder)


def check_disk(cache: CacheControl, folder: Path) -> None:
    """Raises Internal where it does not work.

    The tier warns of what happens to it and goes on; a command has failed then.
    """
    disk = cache.stats().disk
    if disk and disk.failures:
        raise Internal(f"{folder} could not be used, see above")
