"""GET /health, its shorter forms for probes, and the Prometheus metrics."""

from __future__ import annotations

import asyncio

import psutil
from sanic import Blueprint, HTTPResponse, Request

from llmengine import __version__
from llmengine.core import HostState, Stats
from llmengine.server import wire
from llmengine.server.lifecycle import Lifecycle, lifecycle_of
from llmengine.server.state import state_of

blueprint = Blueprint("health")


async def health(request: Request) -> HTTPResponse:
    """How it does: 200, or 503 while it takes no requests."""
    lifecycle = lifecycle_of(request)
    return _json(_report(lifecycle), lifecycle)


async def live(_: Request) -> HTTPResponse:
    """Whether the process should go on: it should, as long as this is answered."""
    return _json(wire.Probe("ok"))


async def ready(request: Request) -> HTTPResponse:
    """Whether to send it requests: 200 or 503."""
    lifecycle = lifecycle_of(request)
    return _json(wire.Probe(lifecycle.status), lifecycle)


for path, handler in (("", health), ("/live", live), ("/ready", ready)):
    blueprint.add_route(handler, f"/health{path}", methods=["GET", "HEAD"])


def _json(found: wire.Health | wire.Probe, lifecycle: Lifecycle | None = None) -> HTTPResponse:
    status = 200 if lifecycle is None or lifecycle.ready else 503
    return HTTPResponse(wire.encode(found), status, content_type="application/json")


def _report(lifecycle: Lifecycle) -> wire.Health:
    state = lifecycle.state
    stats, engine = (state.host.stats(), state.host.state()) if state else (Stats(), HostState())
    memory = psutil.Process().memory_info().rss + (
        stats.process.memory_bytes if stats.process else 0
    )
    return wire.Health(
        status=lifecycle.status,
        reason=engine.reason,
        version=__version__,
        model=state.model if state else lifecycle.config.model.name,
        loaded=1.0 if state else round(lifecycle.loading.fraction, 4),
        uptime_seconds=round(lifecycle.uptime, 3),
        total_requests=stats.requests,
        running=stats.running,
        waiting=stats.waiting,
        slots=stats.slots,
        cache_hit_rate=round(stats.cache_hit_rate, 4),
        memory_usage_mb=round(memory / 2**20, 1),
        engine_restarts=engine.restarts,
        stalled_seconds=round(engine.stalled, 3),
    )


async def metrics(request: Request) -> HTTPResponse:
    accept = request.headers.get("accept", "")
    # It asks the engine, be it in another process, what the prompt cache holds.
    exposition = state_of(request).metrics.exposition
    loop = asyncio.get_running_loop()
    body, content_type = await loop.run_in_executor(None, exposition, accept)
    return HTTPResponse(body, content_type=content_type)
