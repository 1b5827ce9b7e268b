"""GET /health and the Prometheus metrics."""

from __future__ import annotations

import time

import psutil
from sanic import Blueprint, HTTPResponse, Request

from llmengine import __version__
from llmengine.server import wire
from llmengine.server.state import state_of

blueprint = Blueprint("health")


async def health(request: Request) -> HTTPResponse:
    state = state_of(request)
    stats = state.host.stats()
    found = wire.Health(
        status="ok",
        version=__version__,
        model=state.model,
        uptime_seconds=round(time.monotonic() - state.started, 3),
        total_requests=stats.requests,
        running=stats.running,
        waiting=stats.waiting,
        cache_hit_rate=round(stats.cache_hit_rate, 4),
        memory_usage_mb=round(psutil.Process().memory_info().rss / 2**20, 1),
    )
    return HTTPResponse(wire.encode(found), content_type="application/json")


blueprint.add_route(health, "/health", methods=["GET", "HEAD"])


async def metrics(request: Request) -> HTTPResponse:
    accept = request.headers.get("accept", "")
    body, content_type = state_of(request).metrics.exposition(accept)
    return HTTPResponse(body, content_type=content_type)
