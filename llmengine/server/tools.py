"""What a request says of tools: which there are, and whether one has to be called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from llmengine.chat import tools
from llmengine.chat.calls.style import NAME
from llmengine.chat.lark import Lark, choice
from llmengine.chat.tools import Tool
from llmengine.errors import InvalidRequest
from llmengine.grammar.schema import parsed
from llmengine.sampling import Constraint
from llmengine.server import bodies
from llmengine.server.bodies import ChatBody
from llmengine.server.state import State


class ToolPlan(Struct, frozen=True):
    """What the model is told of, and which of it has to be called."""

    given: list[dict[str, Any]] = []  # as OpenAI's API has them
    forced: tuple[Tool, ...] = ()  # one of these has to be called
    most: int | None = None  # calls that the answer may have

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tools.of_openai(self.given)

    def constraint(self, state: State, thinking: tuple[str, str] | None) -> Constraint | None:
        """The grammar under which one of the forced tools is called, and nothing else said.

        It holds after the thinking between these tags, if there may be any.
        """
        if not self.forced:
            return None
        lark = Lark(state.marks.controls)
        start = self._grammar(state, lark, self.forced)
        return Constraint("lark", lark.source(start), thinking, "tool_choice")

    def held(self, state: State, thinking: tuple[str, str] | None) -> Constraint | None:
        """The grammar of an answer that may call, if there are strict functions.

        Arguments of the others are JSON of any kind.
        """
        if self.forced or not any(each.strict for each in self.tools):
            return None
        template, lark = state.template, Lark(state.marks.controls)
        held = [each if each.strict else Tool(each.name, {"type": "object"}) for each in self.tools]
        start = template.format.answer(lark, held, template.tags)
        before = None if template.format.messages else thinking  # messages: it is one of them
        return Constraint("lark", lark.source(start), before, "tools")

    def or_answer(self, state: State, form: Constraint) -> Constraint:
        """The grammar of an answer of that form, or of calls.

        Raises InvalidRequest where one could not be told from the other.
        """
        calls = state.template.format.calls
        reason = ""
        if form.kind not in ("json_object", "json_schema"):
            reason = "only JSON can be told from a call"
        elif calls is not None and calls.bare:
            reason = "a call is JSON too in this model's format"
        if reason:
            raise InvalidRequest(
                f"`{form.param}` and `tools` exclude each other, as {reason}:"
                " send `tool_choice`: 'none'",
                param=form.param,
            )
        lark = Lark(state.marks.controls)
        schema = parsed(form.source, form.param) if form.source else {"type": "object"}
        called = lark.rule(self._grammar(state, lark, self.tools))
        start = choice([called, lark.json(schema)])
        return Constraint("lark", lark.source(start), form.thinking, form.param)

    def _grammar(self, state: State, lark: Lark, tools: Sequence[Tool]) -> str:
        return state.template.format.style.grammar(lark, tools, several=self.most is None)


def plan_of(body: ChatBody) -> ToolPlan:
    """Raises InvalidRequest, which names the parameter."""
    given = checked(body.tools)
    mode, names = _choice(body.tool_choice)
    known = {each["function"]["name"]: each for each in given}
    for name in names or ():
        if name not in known:
            raise _refusal("tool_choice", f"names {name[:100]!r}, which is none of `tools`")
    if not given and (mode == "required" or names):
        raise _refusal("tool_choice", "asks for a call, but there are no `tools`")
    most = 1 if body.parallel_tool_calls is False else None
    if mode == "none" or not given:
        return ToolPlan()
    if mode == "named":
        assert names
        return ToolPlan(given, tools.of_openai([known[names[0]]]), 1)
    allowed = given if names is None else [known[name] for name in names]
    return ToolPlan(allowed, tools.of_openai(allowed) if mode == "required" else (), most)


def checked(tools: Sequence[bodies.Tool] | None) -> list[dict[str, Any]]:
    """The tools as a template takes them; raises InvalidRequest for one that is none."""
    given: list[dict[str, Any]] = msgspec.to_builtins(tools or [])
    names: set[str] = set()
    for at, each in enumerate(given):
        function = each["function"]
        where = f"tools[{at}].function"
        if not NAME.fullmatch(function["name"]):
            raise _refusal(f"{where}.name", "may have letters, digits and _ - . : / only")
        if function["name"] in names:
            raise _refusal(f"{where}.name", f"is given twice: {function['name']!r}")
        names.add(function["name"])
        if (function.get("parameters") or {}).get("type", "object") != "object":
            raise _refusal(f"{where}.parameters", "has to be the schema of an object")
    return given


def _choice(choice: Any) -> tuple[str, Sequence[str] | None]:
    """The mode, and the names of the tools it is about; None for all."""
    if choice is None or choice in ("auto", "none", "required"):
        return choice or "auto", None
    try:
        if choice["type"] == "function":
            return "named", [str(choice["function"]["name"])]
        if choice["type"] == "allowed_tools":
            allowed = choice.get("allowed_tools", choice)
            mode = allowed["mode"]
            names = [str(each["function"]["name"]) for each in allowed["tools"]]
            if mode in ("auto", "required") and names:
                return mode, list(dict.fromkeys(names))
    except (KeyError, TypeError, AttributeError):
        pass
    raise _refusal(
        "tool_choice",
        "has to be 'auto', 'none', 'required', a function by name or allowed_tools",
    )


def _refusal(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"`{param}` {reason}", param=param)
