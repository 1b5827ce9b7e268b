"""One answer, taken apart as its outputs come."""

from __future__ import annotations

import json
from collections.abc import Sequence

from llmengine.chat.delta import Delta
from llmengine.chat.output import OutputParser
from llmengine.core import Output, TokenLogprob
from llmengine.server import wire
from llmengine.server.format import finish_reason


class Reader:
    def __init__(self, parser: OutputParser) -> None:
        self._parser = parser
        self.reasoning_tokens = 0
        self.thinking = False  # whether any of the latest output was thinking
        self.said: Sequence[TokenLogprob] = ()  # those of its tokens that are none
        self._arguments: list[str] = []  # of the latest call, in pieces

    def deltas(self, output: Output) -> list[Delta]:
        """What `output` adds, in order; with the last one, also what was held back."""
        before = self._parser.thinking
        found = self._parser.read(output.text)
        reasoned = any(each.reasoning for each in found)
        self.thinking = before or self._parser.thinking or reasoned
        self.reasoning_tokens += output.tokens if self.thinking else 0
        if output.finish_reason is not None:
            found += self._parser.end()
        self.said = _last(output.logprobs, found) if self.thinking else output.logprobs
        for call in (call for each in found for call in each.calls):
            if call.name:
                self._arguments = []
            self._arguments.append(call.arguments)
        return found

    def reason(self, output: Output) -> wire.FinishReason | None:
        found = finish_reason(output)
        called = found == "stop" and self._parser.calls and not self.severed(output)
        return "tool_calls" if called else found

    def severed(self, output: Output) -> bool:
        """Whether a stop string fell into the latest call, which is none to be run then."""
        if output.stop is None or not self._parser.calls:
            return False
        try:
            json.loads("".join(self._arguments), strict=False)
        except (ValueError, RecursionError):
            return True
        return False


def _last(tokens: Sequence[TokenLogprob], deltas: Sequence[Delta]) -> Sequence[TokenLogprob]:
    """The last tokens of an output, of which the content of its `deltas` is."""
    left = sum(len(each.content.encode()) for each in deltas)
    start = len(tokens)
    while left > 0 and start:
        start -= 1
        left -= len(tokens[start].piece)
    return tokens[start:]
