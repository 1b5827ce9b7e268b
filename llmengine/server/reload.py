"""New settings for a running server."""

from __future__ import annotations

import logging

from llmengine import log
from llmengine.config import Config
from llmengine.server.app import App, response_seconds
from llmengine.server.lifecycle import Lifecycle
from llmengine.settings.live import left_over, taken_over

_logger = logging.getLogger("llmengine.server")


def reload(app: App, wanted: Config) -> None:
    """Read the keys again, with their limits, and take over what else may change.

    Requests that run go on as they began. Raises ConfigError, and then changes nothing.
    """
    lifecycle: Lifecycle = app.ctx.lifecycle
    config = taken_over(lifecycle.config, wanted)
    app.ctx.guard.keyring.reload(config.server)
    log.configure(config.logging)
    app.config["RESPONSE_TIMEOUT"] = response_seconds(config.server)  # of new connections
    for path in left_over(config, wanted):
        _logger.warning("%s: takes effect at the next start", path)
    lifecycle.take_over(config)
    _logger.info("the settings were read again")
