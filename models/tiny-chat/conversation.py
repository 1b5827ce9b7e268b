"""The unit of training data: one conversation, and how it becomes text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE_PATH = Path(__file__).with_name("template.jinja")

Message = dict[str, Any]


@dataclass
class Conversation:
    """Messages that end with the assistant's answer.

    `reasoning` is the thought before the last answer (thinking on). `accept` lists further
    answers that are as right as the last one; `rule` replaces the comparison altogether.
    """

    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)
    reasoning: str | None = None
    accept: tuple[str, ...] = ()
    rule: Callable[[str], bool] | None = None

    @property
    def answer(self) -> str:
        return self.messages[-1]["content"]

    @property
    def plain(self) -> bool:
        """True if it can be joined with others into one longer conversation."""
        return not self.tools and self.reasoning is None and self.messages[0]["role"] != "system"

    def is_right(self, answer: str) -> bool:
        if self.rule is not None:
            return self.rule(answer)
        return answer == self.answer or answer in self.accept


def turn(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def ask(question: str, answer: str, **more: Any) -> Conversation:
    return Conversation(turn(question, answer), **more)


class Renderer:
    """Renders with the very template that the GGUF carries.

    `sort_keys` follows jinja's own `tojson`; other engines keep the order, so the training
    text has both.
    """

    def __init__(self) -> None:
        env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        self._sort_keys = True
        env.filters["tojson"] = self._tojson
        self._template = env.from_string(TEMPLATE_PATH.read_text(encoding="utf-8"))

    def _tojson(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, sort_keys=self._sort_keys)

    def prompt(self, conversation: Conversation, sort_keys: bool = True) -> str:
        """All but the last answer, ready for the model to go on."""
        self._sort_keys = sort_keys
        return self._template.render(
            messages=conversation.messages[:-1],
            tools=conversation.tools,
            add_generation_prompt=True,
            enable_thinking=conversation.reasoning is not None,
        )

    def full(self, conversation: Conversation, sort_keys: bool = True) -> str:
        thought = ""
        if conversation.reasoning is not None:
            thought = conversation.reasoning + "\n</think>\n\n"
        prompt = self.prompt(conversation, sort_keys)
        return prompt + thought + conversation.answer + "<|im_end|>\n"
