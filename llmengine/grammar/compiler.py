"""From constraints to matchers, for one model."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from functools import partial

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from llmengine.errors import InvalidRequest
from llmengine.grammar import fault, source
from llmengine.llama.matcher import Matcher
from llmengine.llama.model import Model
from llmengine.llama.vocabulary import vocabulary
from llmengine.sampling import Constraint

MAX_KEPT = 64  # compiled grammars
MAX_REASON = 200  # characters of what llguidance says
MAX_SECONDS = 0.25  # of computing for the first token
# llguidance's own, but for the states of its lexer: 1 to 2 KB each.
LIMITS = LLParserLimits(max_lexer_states=50_000, verbose_errors=False)


class Compiler:
    """Compiles on the thread of the caller and keeps what was compiled. Any thread may call."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._vocabulary: LLTokenizer | None = None
        self._reading = threading.Lock()
        self._lock = threading.Lock()
        self._kept: OrderedDict[Constraint, LLMatcher] = OrderedDict()

    def matcher(self, constraint: Constraint) -> Matcher:
        """A matcher at the beginning of `constraint`, while the model is in use.

        Raises InvalidRequest, naming what cannot be enforced.
        """
        with self._lock:
            if constraint in self._kept:
                self._kept.move_to_end(constraint)
                return self._copy(constraint)
        compiled = self._compile(constraint)
        with self._lock:
            self._kept[constraint] = compiled
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
            return self._copy(constraint)

    def _copy(self, constraint: Constraint) -> Matcher:
        kept = self._kept[constraint]
        return Matcher(kept.deep_copy(), constraint.param, partial(self._drop, constraint, kept))

    def _drop(self, constraint: Constraint, spoiled: LLMatcher) -> None:
        """Have a grammar compiled anew: copies share a lexer, which fails for all or for none."""
        with self._lock:
            if self._kept.get(constraint) is spoiled:
                del self._kept[constraint]

    def _compile(self, constraint: Constraint) -> LLMatcher:
        grammar = source.grammar(constraint)
        found = self._parse(source.listing(grammar, constraint.thinking, self._control_token))
        reason = _fault(found)
        if not reason:
            return found
        param = constraint.param
        if constraint.kind == "json_schema":
            parse = self._parse
            raise fault.refusal(
                grammar["json_schema"],
                lambda: _fault(parse(source.listing(grammar))),
                reason,
                param,
            )
        raise InvalidRequest(
            f"`{param}` cannot be enforced: {reason}", param=param, code="unsupported_grammar"
        )

    def _parse(self, grammars: str) -> LLMatcher:
        return LLMatcher(self._read_vocabulary(), grammars, log_level=0, limits=LIMITS)

    def _read_vocabulary(self) -> LLTokenizer:
        with self._reading:  # whoever needs it has to wait for it
            if self._vocabulary is None:
                self._vocabulary = vocabulary(self._model)
            return self._vocabulary

    def _control_token(self, text: str) -> int | None:
        """The token of that name, if it is one that no answer's text contains."""
        tokens = self._model.tokenize(text, special=True)
        if len(tokens) == 1 and not self._model.piece(tokens[0], special=False):
            return tokens[0]
        return None


def _fault(matcher: LLMatcher) -> str:
    """Why a grammar is refused; empty if it is not."""
    if reason := matcher.get_error():
        return _line(reason)
    first = matcher.deep_copy()
    started = time.thread_time()
    mask = first.compute_bitmask()
    if time.thread_time() - started > MAX_SECONDS:
        return "it leaves too many ways open, every token would take long"
    return "" if any(mask) and not first.is_error() else "no answer can follow it"


def _line(reason: str) -> str:
    """Its first line, and what a parser of regular expressions says further down."""
    first, *more = reason.strip().splitlines()
    wrong = next((line for line in more if line.startswith("error: ")), "")
    parts = (first, wrong.removeprefix("error: "))
    return " ".join(part[:MAX_REASON] for part in parts if part)
