"""What a request says of prompts and answers that outgrow the context."""

from __future__ import annotations

from llmengine.config import Overflow
from llmengine.errors import InvalidRequest
from llmengine.server.bodies import Body, ChatBody
from llmengine.server.state import State


def policy_of(state: State, body: Body) -> Overflow:
    """Raises InvalidRequest for a head to keep where there is nothing to keep it from."""
    found = body.overflow or state.config.model.overflow
    reason = ""
    if body.n_keep is None:
        return found
    if found == "error":
        reason = "needs `overflow`: 'truncate_left' or 'shift'"
    elif found == "truncate_left" and isinstance(body, ChatBody):
        reason = "is for texts, or `shift`: a chat loses whole turns, the system message stays"
    if reason:
        raise InvalidRequest(f"`n_keep` {reason}", param="n_keep")
    return found
