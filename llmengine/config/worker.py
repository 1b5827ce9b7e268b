"""The engine's process."""

from __future__ import annotations

from typing import Annotated

from llmengine.config.option import Section, option


class WorkerConfig(Section, frozen=True):
    in_process: Annotated[
        bool,
        option("Serve with the engine in the server's own process: a crash ends both."),
    ] = False
    watchdog_seconds: Annotated[
        float,
        option(
            "Seconds that a step may take; an engine that hangs is started anew. 0: any time.",
            ge=0,
            le=86_400,
        ),
    ] = 120.0
    max_resumes: Annotated[
        int,
        option(
            "Deaths of the engine that a request survives without a new token in between.",
            ge=0,
            le=1000,
        ),
    ] = 3
