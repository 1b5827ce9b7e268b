"""Where a server stands between its start and its end."""

from __future__ import annotations

import time
from typing import Literal

from sanic import Request

from llmengine.config import Config
from llmengine.errors import ModelUnavailable
from llmengine.loading import Loading
from llmengine.server.state import State

Status = Literal["loading", "ok", "degraded", "failed", "draining"]


class Lifecycle:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.loading = Loading()
        self.state: State | None = None  # once the model is there
        self.draining = False
        self.started = time.monotonic()

    def take_over(self, config: Config) -> None:
        self.config = config
        if self.state:
            self.state.take_over(config)

    @property
    def loaded(self) -> State:
        """Raises ModelUnavailable while the model is being loaded."""
        if self.state is None:
            raise ModelUnavailable(f"{self.loading}: try again in a moment")
        return self.state

    @property
    def status(self) -> Status:
        if self.draining:
            return "draining"
        if self.state is None:
            return "loading"
        phase = self.state.host.state().phase
        return "ok" if phase == "ready" else phase

    @property
    def ready(self) -> bool:
        """Whether new requests are taken."""
        return self.status == "ok"

    @property
    def uptime(self) -> float:
        return time.monotonic() - self.started  # seconds


def lifecycle_of(request: Request) -> Lifecycle:
    lifecycle: Lifecycle = request.app.ctx.lifecycle
    return lifecycle
