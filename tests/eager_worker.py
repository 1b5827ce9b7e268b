"""The engine's process, as if neither rows nor drafts took any time: it guesses all it can."""

from __future__ import annotations

from llmengine.engine.costs import Costs
from llmengine.engine.draft_model import DraftModel
from llmengine.engine.planner import Planner
from llmengine.host import worker

if __name__ == "__main__":
    Costs.relative = lambda self, rows: 1.0  # type: ignore[method-assign]
    DraftModel.seconds = lambda *_: 0.0  # type: ignore[method-assign,assignment]
    Planner.has_time = lambda *_: True  # type: ignore[method-assign,assignment]
    worker.main()
