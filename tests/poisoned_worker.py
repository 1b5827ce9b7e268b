"""The engine's process, which the token POISON in a prompt makes abort as llama.cpp would."""

from __future__ import annotations

import os
import sys
from typing import Any

from llmengine.engine.engine import Engine
from llmengine.host import worker

POISON = 7

submit = Engine.submit


def poisoned(self: Engine, request: Any, sink: Any) -> None:
    if POISON in request.prompt:
        print("GGML_ASSERT(false) failed", file=sys.stderr, flush=True)
        os.abort()
    submit(self, request, sink)


if __name__ == "__main__":
    Engine.submit = poisoned  # type: ignore[method-assign]
    worker.main()
