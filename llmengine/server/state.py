"""What the handlers of one server share."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from sanic import Request

from llmengine import __version__
from llmengine.cache.salt import salt_of
from llmengine.chat.marks import Marks
from llmengine.chat.template import ChatTemplate
from llmengine.chat.warm_file import WarmFile
from llmengine.config import Config
from llmengine.core import CacheControl, Host
from llmengine.errors import InvalidRequest, ModelNotFound
from llmengine.inventory import CacheStats
from llmengine.metrics import Metrics
from llmengine.sampling import advised
from llmengine.server.batch_state import BatchState
from llmengine.server.dispatch import Dispatcher
from llmengine.server.files_store import FilesStore
from llmengine.server.journal import Journal
from llmengine.server.media import MediaReader
from llmengine.server.media_fetch import MediaFetcher
from llmengine.server.responses_format import ResponsesFormat
from llmengine.server.responses_store import ResponseStore
from llmengine.server.tracing import open_traces

T = TypeVar("T")

WORKERS = 2  # threads that make prompts
FETCHERS = 8  # and more of them where they may have to wait for other servers


class State:
    def __init__(self, host: Host, config: Config, warm: Sequence[WarmFile] = ()) -> None:
        """Raises ConfigError where the template refuses a file to be warmed."""
        self.host = host
        self.config = config
        self.info = host.info()
        self.sampling = advised(config.sampling, self.info.sampling)
        self.template = ChatTemplate.of(self.info, config.model.chat_template)
        self.warm = [(file.path, file.prompt(host, self.template)) for file in warm]
        self.marks = Marks(host, self.template)
        self.dispatcher = Dispatcher(host, config.server.keepalive_seconds)
        self.responses = ResponseStore(config.server)
        self.files = FilesStore(config.server)
        self.batches = BatchState(config.server.batch_concurrency)
        self.running: dict[tuple[str, str], ResponsesFormat] = {}  # by API key and id
        self.metrics = Metrics(
            self.model, host.stats, self._cache_stats, lambda: host.state().restarts
        )
        traces = open_traces(config.tracing, self.model)
        self.journal = Journal(host, config, self.metrics, traces)
        # Templates and tokenizers take their time with long prompts; streams go on meanwhile.
        self._fetcher = MediaFetcher(config.server)
        count = WORKERS + FETCHERS * self._fetcher.offered
        self._workers = ThreadPoolExecutor(count, thread_name_prefix="prompt")

    def take_over(self, config: Config) -> None:
        """Go on with new settings, of which only those differ that may."""
        self.config = config
        self.journal.take_over(config)

    @property
    def model(self) -> str:
        """The name under which the model is served."""
        return self.config.model.name or self.info.name

    @property
    def fingerprint(self) -> str:
        """What must be equal for equal seeds to give equal answers."""
        parts = (self.info.path, self.info.size_bytes, self.info.created, __version__)
        return "fp_" + hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    def salt(self, key: str, given: str | None = None) -> str:
        """What keeps the prefixes of requests with this key's digest and `cache_salt` apart."""
        return salt_of(self.config.cache, key=key, given=given)

    @property
    def media(self) -> MediaReader:
        """Reads the media of one request."""
        return MediaReader(self.info, self._fetcher)

    @property
    def cache(self) -> CacheControl:
        """Raises InvalidRequest where the prompt cache is turned off."""
        found = self.host.cache()
        if found is None:
            raise InvalidRequest(
                "the prompt cache is turned off: start the server with cache.enabled = true",
                code="cache_disabled",
            )
        return found

    def _cache_stats(self) -> CacheStats | None:
        found = self.host.cache()
        return found.stats() if found else None

    def check_model(self, name: str | None) -> None:
        if name is not None and name not in (self.model, self.info.name):
            raise ModelNotFound(
                f"the model {name[:200]!r} is not served here; {self.model!r} is", param="model"
            )

    async def in_worker(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, partial(function, *args, **kwargs))

    def check_tokens(self, tokens: tuple[int, ...], param: str) -> tuple[int, ...]:
        if not tokens:
            raise InvalidRequest(f"`{param}` has no tokens", param=param)
        return tokens

    def check_known(self, tokens: Sequence[int], param: str) -> None:
        if max(tokens, default=0) >= self.info.vocabulary:
            raise InvalidRequest(
                f"`{param}`: the model has {self.info.vocabulary} tokens, "
                f"{max(tokens)} is none of them",
                param=param,
            )

    def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)
        self.files.close()
        self.journal.close()


def state_of(request: Request) -> State:
    """Raises ModelUnavailable while the model is being loaded."""
    state: State = request.app.ctx.lifecycle.loaded
    return state
