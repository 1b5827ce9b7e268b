"""Where the requests of a server are written down when they have ended: metrics, log, traces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from llmengine.config import Config
from llmengine.core import Host
from llmengine.errors import Internal
from llmengine.log import printable
from llmengine.metrics import Metrics
from llmengine.server.record import Record
from llmengine.server.tracing import Traces

_logger = logging.getLogger("llmengine.server")


class Journal:
    def __init__(self, host: Host, config: Config, metrics: Metrics, traces: Traces | None) -> None:
        self._host = host
        self.take_over(config)
        self._metrics = metrics
        self._traces = traces

    def finish(self, record: Record, status: int) -> None:
        """Count and log the request; only the first call does."""
        if record.finished:
            return
        record.finished = True
        seconds = record.seconds
        self._metrics.request(record.endpoint, status, seconds)
        if record.key and (usage := record.usage):
            self._metrics.spent(record.key, usage.prompt_tokens, usage.completion_tokens)
        if self._traces:
            self._traces.write(record, status, seconds)
        if record.unknown:
            _logger.warning(
                "unknown parameters: %s",
                printable(", ".join(record.unknown))[:500],
                extra={"request": record.id},
            )
        self._log(record, status, seconds)

    def _log(self, record: Record, status: int, seconds: float) -> None:
        bound = self._config.slow_request_seconds
        slow = bool(bound) and seconds >= bound
        if not (slow or self._config.log_requests):
            return
        polled = record.usage is None and status < 400
        level = logging.WARNING if slow else logging.DEBUG if polled else logging.INFO
        fields = record.fields
        if slow:
            phases = record.phases
            fields["rest"] = round(max(0.0, seconds - sum(phases.values())), 4)
        if status >= 500 and record.error and not isinstance(record.error, Internal):
            fields["reason"] = record.error.message  # the server's own words
        _logger.log(
            level, "%s%s %d", "slow: " if slow else "", record.endpoint, status, extra=fields
        )

    def take_over(self, config: Config) -> None:
        self._config = config.logging

    async def prompts(self, record: Record, prompts: Sequence[Sequence[int]]) -> None:
        """Log what the model reads, if that is wanted."""
        if not self._config.log_prompts:
            return
        loop = asyncio.get_running_loop()
        for prompt in prompts:
            text = await loop.run_in_executor(None, self._host.detokenize, prompt)
            _logger.info("prompt: %s", text, extra={"request": record.id, "tokens": len(prompt)})

    def close(self) -> None:
        if self._traces:
            self._traces.close()
