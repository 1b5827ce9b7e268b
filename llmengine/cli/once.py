"""One prompt answered on stdout: `llmengine run`, and `llmengine chat` in a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from llmengine.chat.delta import Delta
from llmengine.cli import local, sampling_values
from llmengine.cli.answer import Answer, dropped, summary
from llmengine.cli.attached import content
from llmengine.cli.client import Client
from llmengine.cli.writer import PlainWriter
from llmengine.config import Config
from llmengine.core import Media
from llmengine.errors import EngineError, InvalidRequest
from llmengine.log import colour_allowed


class Once:
    """How to answer; raises InvalidRequest for wrong sampling parameters, before any loading."""

    def __init__(
        self,
        config: Config,
        *,
        system: str = "",
        given: Mapping[str, str] = {},
        json: bool = False,
        raw: bool = False,
        stream: bool = True,
        think: bool = False,
        stats: bool = False,
        files: Sequence[Media] = (),
    ) -> None:
        self._config = config
        self._given = sampling_values.parse_all(given)
        self._system = system
        self._json = json
        self._raw = raw
        self._stream = stream
        self._think = think
        self._stats = stats
        self._files = files

    def answer(self, read: Callable[[], str]) -> None:
        """Answer what `read` gives, which is called while the model loads."""
        _prepare_stdout()
        with local.engine_while(self._config, read) as (host, prompt):
            client = Client(host, self._config.model.chat_template, self._config.model.overflow)
            answer = self._ask(client, prompt)
            if self._json:
                for _ in answer:
                    pass
                sys.stdout.write(_object(answer, client.info.name) + "\n")
            else:
                self._write(answer)
            if lost := dropped(answer):
                print(_dim(lost), file=sys.stderr)
            if self._stats:
                print(_dim(summary(answer)), file=sys.stderr)

    def _ask(self, client: Client, prompt: str) -> Answer:
        params = sampling_values.apply(client.defaults(self._config.sampling), self._given)
        if self._raw:
            return client.complete(prompt, params=params)
        messages: list[Mapping[str, Any]] = []
        if self._system:
            messages.append({"role": "system", "content": self._system})
        messages.append({"role": "user", "content": content(prompt, self._files)})
        return client.chat(messages, params=params, think=self._think)

    def _write(self, answer: Answer) -> None:
        writer = PlainWriter(sys.stdout, sys.stderr)
        try:
            for delta in answer:
                if self._stream:
                    writer.show(delta)
        except EngineError:
            if writer.begun:
                writer.end()  # what was written is a line, and the error begins the next
            raise
        if not self._stream:
            writer.show(Delta(answer.content, answer.reasoning))
        writer.end()


def _prepare_stdout() -> None:
    if sys.stdout is None:
        raise InvalidRequest("nowhere to answer: stdout is closed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A pipe gets UTF-8 whatever the locale; a terminal shows what it can.
        encoding = None if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="replace")


def _object(answer: Answer, model: str) -> str:
    timings = msgspec.to_builtins(answer.timings)
    rate = {"ttft": answer.ttft, "tokens_per_second": answer.tokens_per_second}
    return msgspec.json.encode(
        {
            "model": model,
            "text": answer.content,
            "reasoning": answer.reasoning,
            "finish_reason": answer.finish_reason,
            "usage": answer.usage,
            "timings": timings | rate,
        }
    ).decode()


def _dim(text: str) -> str:
    return f"\x1b[2m{text}\x1b[0m" if colour_allowed(sys.stderr) else text
