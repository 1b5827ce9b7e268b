"""How outputs come to the clients."""

from __future__ import annotations

import logging

from llmengine.core import Output, Sink

log = logging.getLogger("llmengine.engine")

Outputs = dict[Sink, list[Output]]


def deliver(outputs: Outputs) -> None:
    for sink, items in outputs.items():
        try:
            sink(items)
        except Exception:  # a client's fault must not end the thread that serves the others
            log.exception("a client could not take its outputs")
