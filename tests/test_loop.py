"""Event loops that are interrupted."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from llmengine import loop


def test_a_coroutine_runs_to_its_end() -> None:
    seen: list[int] = []

    async def main() -> None:
        await asyncio.sleep(0)
        seen.append(1)

    loop.run_until_interrupted(main())
    assert seen == [1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_it_clean_up(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    seen: list[str] = []

    async def main() -> None:
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_interrupted(main())
    assert seen == ["cleaned up"]
    assert signal.getsignal(number) is before


def test_errors_come_through() -> None:
    async def main() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        loop.run_until_interrupted(main())
