"""A server whose engine takes more memory than it may, again and again.

Its ceiling is a little above what it took without one. Long texts to be tokenized take the process
beyond it, until caches were dropped; then there is peace until all is well again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import httpx
import psutil

from benchmarks.stories import Told, ask_all

MEBIBYTE = 1 << 20
MARGIN = 48  # MiB: more than stays of a long text, less than it takes
LONG = {"content": "Once upon a time there was a fox. " * 30_000}
TICK = 0.1  # seconds
SETTLED = 20  # ticks after which no state is left to be saved


async def limits(
    server: psutil.Process, url: str, asked: Sequence[dict[str, Any]]
) -> tuple[list[Told | Exception], list[str]]:
    """What clients get in peace, and flags for a server that is to have none."""
    asking = asyncio.create_task(ask_all(url, asked))
    most = quiet = 0
    while quiet < SETTLED:
        await asyncio.sleep(TICK)
        quiet += asking.done()
        most = max(most, *(each.memory_info().rss for each in server.children()))
    ceiling = most // MEBIBYTE + MARGIN
    settings = f"performance.memory_ceiling_mb={ceiling}", "performance.memory_check=false"
    return await asking, [part for each in settings for part in ("--set", each)]


async def press(url: str, drops: int) -> None:
    """Have caches dropped so often, if nobody ends it before."""
    async with httpx.AsyncClient(base_url=url, timeout=None) as client:
        while (found := await _metric(client, "drops_total")) < drops:
            while await _metric(client, "drops_total") == found:
                (await client.post("/tokenize", json=LONG)).raise_for_status()
            while await _metric(client, "headroom_bytes") < 0:
                await asyncio.sleep(TICK)


async def dropped(url: str) -> int:
    """How often caches were."""
    async with httpx.AsyncClient(base_url=url) as client:
        return int(await _metric(client, "drops_total"))


async def _metric(client: httpx.AsyncClient, name: str) -> float:
    text = (await client.get("/metrics")).text
    found = re.search(rf"^llmengine_memory_{name} (\S+)", text, re.MULTILINE)
    assert found is not None
    return float(found[1])
