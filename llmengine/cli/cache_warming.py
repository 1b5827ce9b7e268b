"""`llmengine cache warm`: a prompt computed here, or what a server is asked to do."""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from typing import Any

import msgspec

from llmengine.cache.opening import cache_folder
from llmengine.cache.salt import salt_of
from llmengine.chat.template import ChatTemplate
from llmengine.chat.warm_file import WarmFile
from llmengine.cli import local
from llmengine.cli.answer import Answer
from llmengine.cli.cache_access import check_disk
from llmengine.config import Config
from llmengine.core import Request
from llmengine.errors import ConfigError
from llmengine.inventory import Warmed
from llmengine.keys import digest
from llmengine.sampling import SamplingParams


def warm(config: Config, file: WarmFile, label: str) -> Warmed:
    """Load the model, compute the prompt unless it is stored, and keep its state on disk.

    Raises Internal where the disk does not work.
    """
    if not (config.cache.enabled and config.cache.disk and config.cache.disk_max_size_mb):
        raise ConfigError(
            "nothing is kept on disk: set cache.enabled, cache.disk and cache.disk_max_size_mb"
        )
    on_disk = msgspec.structs.replace(config.cache, max_size_mb=0)  # memory ends with the command
    config = msgspec.structs.replace(config, cache=on_disk)
    folder = cache_folder(on_disk)
    with closing(local.open_engine(config)) as host:
        cache = host.cache()
        assert cache is not None
        check_disk(cache, folder)
        prompt = file.prompt(host, ChatTemplate.of(host.info(), config.model.chat_template))
        request = Request(
            id=uuid.uuid4().hex,
            prompt=prompt.tokens,
            params=SamplingParams(),
            cache_salt=salt_of(config.cache, key=digest(config.server.api_key)),
            warm=label,
        )
        started = time.perf_counter()
        answer = Answer(host, request, None)
        for _ in answer:
            pass
        seconds = round(time.perf_counter() - started, 4)
    check_disk(cache, folder)  # all is written when the engine is closed
    usage = answer.usage
    return Warmed(label, usage.prompt_tokens, usage.cached_tokens, seconds)


def body(file: WarmFile, label: str) -> dict[str, Any]:
    """What `POST /v1/cache/warm` takes."""
    if file.chat is None:
        return {"prompt": file.text, "label": label}
    chat: dict[str, Any] = msgspec.to_builtins(file.chat)
    return {"label": label, **{name: value for name, value in chat.items() if value}}
