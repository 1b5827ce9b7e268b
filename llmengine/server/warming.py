"""Prompts that are computed and pinned before anybody asks."""

from __future__ import annotations

import logging
import secrets
import time

from llmengine import core
from llmengine.chat.prompt import Prompt
from llmengine.config import Config
from llmengine.errors import EngineError, InvalidRequest
from llmengine.inventory import Warmed
from llmengine.keys import digest
from llmengine.sampling import SamplingParams
from llmengine.server.keyring import Keyring
from llmengine.server.state import State

_logger = logging.getLogger("llmengine.server")


def check_shared(config: Config, keyring: Keyring) -> None:
    """Raises InvalidRequest where no client would share what is warmed."""
    if keyring.guards("inference") and config.cache.share == "key" and not config.server.api_key:
        raise InvalidRequest(
            "what is warmed serves clients with server.api_key, and there is no such key: set it, "
            'or cache.share = "all"'
        )


async def warm(state: State, prompt: Prompt, *, label: str, salt: str) -> Warmed:
    """Compute a prompt, unless it is stored, and pin it under `label`.

    Raises what `Host.submit` does, and the request's own error.
    """
    started = time.perf_counter()
    request = core.Request(
        id=f"warm-{secrets.token_hex(12)}",
        prompt=prompt.tokens,
        media=prompt.media,
        params=SamplingParams(),
        cache_salt=salt,
        warm=label,
    )
    job = await state.dispatcher.submit([request])
    usage = core.Usage(0, 0)
    try:
        async for item in job:
            usage = (item and item[1].usage) or usage
    finally:
        job.close()
    seconds = round(time.perf_counter() - started, 4)
    return Warmed(label, usage.prompt_tokens, usage.cached_tokens, seconds)


async def warm_all(state: State) -> None:
    """Warm what the settings name, one after the other; what fails is told and passed over."""
    salt = state.salt(digest(state.config.server.api_key))
    for label, prompt in state.warm:
        try:
            done = await warm(state, prompt, label=label, salt=salt)
        except EngineError as error:
            _logger.warning("could not warm %s: %s", label, error.message)
            continue
        _logger.info(
            "warmed %s: %s",
            label,
            "it was stored" if done.cached_tokens == done.prompt_tokens else "computed",
            extra={
                "tokens": done.prompt_tokens,
                "cached_tokens": done.cached_tokens,
                "seconds": done.seconds,
            },
        )
