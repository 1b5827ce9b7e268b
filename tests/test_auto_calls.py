"""Answers that may call: any text, and wherever a call begins, arguments that fit."""

from __future__ import annotations

import json
from random import Random

import jsonschema
import numpy as np
import pytest
from answers import parsed
from grammars import END, accepts, begins, matcher
from test_forced import ALL, SCHEMAS, TOOLS, each_format

from llmengine.chat.calls.messages import Headed, Recipients
from llmengine.chat.calls.style import Call
from llmengine.chat.formats import FORMATS, GENERIC, Format
from llmengine.chat.lark import Lark
from llmengine.chat.output import OutputParser
from llmengine.chat.reasoning import THINK
from llmengine.chat.tools import Tool
from llmengine.errors import InvalidRequest
from llmengine.sampling import Constraint

NAMED = {each.name: each for each in ALL}
HARMONY, LLAMA, CODER = NAMED["harmony"], NAMED["llama3"], NAMED["qwen3-coder"]
ANY = Tool("anything", {"type": "object"})


def constraint(format: Format, tools: tuple[Tool, ...] = TOOLS) -> Constraint:
    lark = Lark(lambda text: ())
    return Constraint("lark", lark.source(format.answer(lark, tools, THINK)))


def said(format: Format, text: str) -> str:
    """`text` as an answer of the format that calls nothing."""
    if isinstance(format.messages, Recipients):
        return f"all\n{text}"
    return f"<|channel|>final<|message|>{text}" if format.messages else text


def walk(format: Format, constraint: Constraint, random: Random) -> str:
    """A text by somebody who means nothing, and likes to begin calls and to end them."""
    state, text = matcher(constraint), bytearray()
    names = [each.name for each in TOOLS]
    begun = [f" to={prefix}{each}<|message|>" for prefix in ("functions.", "") for each in names]
    marks = [*format.style.marks, *names, *begun, "all\n", '{"name": "']
    while not state.is_stopped() and len(text) < 3000:
        bits = np.frombuffer(state.compute_bitmask(), np.uint8)
        allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little")[: END + 1]).tolist()
        ends = [each for each in allowed if each == END or chr(each) in '"}]<\n']
        tokens = [random.choice(ends if ends and random.random() < 0.3 else allowed)]
        if random.random() < 0.3:
            tokens = list(random.choice(marks).encode())
        taken = tokens[: state.try_consume_tokens(tokens)]
        text.extend(each for each in taken if each != END)
    return text.decode(errors="ignore") if state.is_stopped() else ""


@each_format
def test_whatever_is_called_fits(format: Format) -> None:
    random, held, calls = Random(format.name), constraint(format), 0
    for _ in range(12):
        text = walk(format, held, random)
        for call in parsed(OutputParser(format=format, tools=TOOLS), [text]).calls:
            jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])
            calls += 1
    assert calls


@each_format
@pytest.mark.parametrize("text", ["", "It is <5 degrees> [1].\n\n```json\n{}\n```", "{Köln} = 3"])
def test_an_answer_without_a_call_is_free(format: Format, text: str) -> None:
    assert accepts(constraint(format), said(format, text))


@pytest.mark.parametrize(
    "format", [each for each in ALL if each.name != "gemma4"], ids=lambda each: each.name
)
def test_calls_as_the_format_writes_them_may_follow_text(format: Format) -> None:
    """But for Gemma's own notation, instead of which JSON is written."""
    style = format.style
    calls = [Call("get_time", {"zone": zone, "summer": True}, "abcdefghi") for zone in ("A", "Ö")]
    written = style.write(calls)
    if isinstance(style, Headed):
        assert accepts(constraint(format), written)
        return
    before = "" if style.marks == (">>>",) or getattr(style, "bare", False) else "Let me see.\n"
    assert accepts(constraint(format), before + written)


@each_format
def test_arguments_that_do_not_fit_cannot_be_written(format: Format) -> None:
    written = format.style.write([Call("get_time", {"place": True}, "abcdefghi")]).lstrip(">")
    assert not begins(constraint(format), written)


@each_format
def test_another_name_cannot_be_called(format: Format) -> None:
    written = format.style.write([Call("got_time", {}, "abcdefghi")])
    held = constraint(format)
    if begins(held, written):  # then it is no call
        assert not parsed(OutputParser(format=format, tools=TOOLS), [written]).calls


@each_format
def test_a_function_that_is_not_strict_takes_any_arguments(format: Format) -> None:
    if format.name == "gemma4":
        return
    given = {"a": "x", "b": [1, {"c": None}], "d": 2.5}
    written = format.style.write([Call("anything", given, "abcdefghi")]).lstrip(">")
    found = parsed(OutputParser(format=format, tools=[ANY]), [written]).calls
    assert [json.loads(each.arguments) for each in found] == [given]
    held = constraint(format, (TOOLS[0], ANY))
    end = format.messages.ends[0] if isinstance(format.messages, Headed) else ""
    if format.calls is not None and format.name.startswith("lfm2"):
        written = written.replace("None", "null")
    assert accepts(held, written.removesuffix(end))


def test_messages_of_several_kinds() -> None:
    held = constraint(HARMONY)
    thought = "<|channel|>analysis<|message|>Is 2 < 3?<|end|><|start|>assistant"
    call = '<|message|>{"zone": "UTC"}<|call|>'
    assert accepts(held, f"{thought}<|channel|>final<|message|>Yes: a=b.")
    assert accepts(held, f"{thought}<|channel|>commentary to=functions.get_time {call}")
    assert accepts(held, f"{thought} to=functions.get_time<|channel|>commentary json{call}")
    assert accepts(held, f"{thought}<|channel|>analysis to=python code<|message|>1 + 1")
    assert not begins(held, f"{thought}<|channel|>commentary to=functions.get_place")
    assert not begins(held, f'{thought} to=functions.get_time<|message|>{{"zone": 1')
    assert not begins(held, " to=get_time ")


def test_a_call_without_a_mark() -> None:
    held = constraint(LLAMA)
    call = '{"name": "get_time", "parameters": {"zone": "UTC"}}'
    assert accepts(held, f"{call}; {call}")
    assert accepts(held, call.replace('"name"', '"type": "function", "name"'))
    assert accepts(held, call.replace(": ", ":").replace("{", "{\n  ", 1))
    assert accepts(held, f"<|python_tag|>{call}")
    assert accepts(held, f"Wait: {call}")  # for the parser only what begins an answer is a call
    assert accepts(held, '{"name": "Ann", "age": 7}')
    assert not begins(held, '{"name": "get_time", "parameters": {"zone": 7')
    assert not begins(held, '{"parameters": {"zone": 7}, "name": "get_time"')
    assert not begins(held, '{"id": 3, "function": "get_time"')


def test_a_mark_that_is_a_control_token_begins_a_call() -> None:
    ids = {"<tool_call>": (7,), "<|START_TEXT|>": (8,)}
    lark = Lark(lambda text: ids.get(text, ()))
    format = Format(name="x", signs=(), calls=GENERIC.calls, drops=("<|START_TEXT|>",))
    source = lark.source(format.answer(lark, TOOLS[1:], THINK))
    assert "(/(.|\\n)*/ <[8]>)* /(.|\\n)*/ <[7]> " in source
    assert "<tool_call>" not in source


def test_a_schema_that_cannot_be_held_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'anyOf' cannot be kept") as caught:
        constraint(CODER, (Tool("f", {"type": "object", "anyOf": [{"required": ["a"]}]}),))
    assert caught.value.param == "tools"


def test_every_format_is_tried() -> None:
    assert len(ALL) == len(FORMATS) + 1
