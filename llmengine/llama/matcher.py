"""Where one answer stands in the grammar that it must follow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llguidance import LLMatcher

from llmengine.errors import InvalidRequest
from llmengine.llama.context import Logits

_RENEWED = 1024  # tokens after which llguidance may do as much work again as it may for one


class Matcher:
    """Wraps `llguidance.LLMatcher`, which checks one token far faster than it finds all."""

    def __init__(
        self, matcher: LLMatcher, param: str, spoiled: Callable[[], None] = lambda: None
    ) -> None:
        """`param` is where a request has the grammar, for refusals.

        `spoiled` is called at a limit of llguidance's: no copy of the matcher is of use any more.
        """
        self._matcher = matcher
        self._param = param
        self._spoiled = spoiled
        self._taken = 0  # tokens

    @property
    def ended(self) -> bool:
        """Whether nothing can follow."""
        return self._matcher.is_stopped()

    def take(self, token: int) -> bool:
        """Go on by `token`, an end token where the grammar accepts; False if it cannot follow.

        Raises InvalidRequest where the grammar has grown beyond llguidance's limits.
        """
        self._taken += 1
        if not self._taken % _RENEWED:
            # This alone renews it. Of a copy, which has the same lexer and may fail by itself.
            self._matcher.deep_copy().compute_bitmask()
        taken = self.walk([token]) == 1
        if not taken and self._matcher.is_error():
            raise self._failure()
        return taken

    # For a copy, on which nothing depends: the reason of a failure is of no interest.

    def walk(self, tokens: list[int]) -> int:
        """Go on by as many of `tokens` as can follow; how many those are."""
        return self._matcher.try_consume_tokens(tokens)

    def turn_back(self, count: int) -> bool:
        """Take back the last `count` tokens; False if that cannot be done."""
        return self._matcher.rollback(count)

    def allows(self, token: int) -> bool:
        """Whether it can follow."""
        return self._matcher.validate_tokens([token]) == 1

    @property
    def forced(self) -> list[int]:
        """The next tokens, as the model's tokenizer cuts the text that alone can follow."""
        return self._matcher.compute_ff_tokens()

    def copy(self) -> Matcher:
        """One to walk ahead with; it takes a microsecond for every forty tokens that came."""
        return Matcher(self._matcher.deep_copy(), self._param)

    def mask(self, logits: Logits) -> Logits:
        """A copy of `logits`, -inf for every token that cannot follow."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise self._failure()
        allowed = np.unpackbits(bits, count=len(logits), bitorder="little").view(np.bool_)
        masked: Logits = np.where(allowed, logits, np.float32(-np.inf))
        return masked

    def _failure(self) -> InvalidRequest:
        self._spoiled()
        reason = self._matcher.get_error().partition("\n")[0]
        return InvalidRequest(
            f"`{self._param}`: the answer cannot be held to it any longer: {reason}",
            param=self._param,
            code="unsupported_grammar",
        )
