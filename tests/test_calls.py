"""Calls of tools in what models write, whole and in pieces of any size."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from answers import TOOLS, parsed, plain, read
from hypothesis import given
from hypothesis import strategies as st

from llmengine.chat.calls.style import Call
from llmengine.chat.delta import CallDelta, Delta
from llmengine.chat.formats import FORMATS, GENERIC, Format
from llmengine.chat.output import OutputParser
from llmengine.chat.reasoning import Tags

ALL = [GENERIC, *FORMATS]
BY_NAME = {each.name: each for each in ALL}
PARIS = '{"city": "Paris"}'
CALLED = [("get_weather", PARIS)]
each_format = pytest.mark.parametrize("format", ALL, ids=lambda each: each.name)


def hermes(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


WEATHER = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
CASES: list[tuple[str, str, str, list[tuple[str, str]]]] = [
    ("hermes", hermes(WEATHER), "", CALLED),
    ("hermes", f"I look.\n{hermes(WEATHER)}\n", "I look.", CALLED),
    ("hermes", hermes(WEATHER) + "\nthen\n" + hermes(WEATHER), "then", CALLED * 2),
    ("hermes", "<tool_call>" + WEATHER.replace(" ", "\n"), "",
     [("get_weather", '{"city":\n"Paris"}')]),
    ("hermes", hermes('{"arguments": {"city": "Paris"}, "name": "get_weather"}'), "", CALLED),
    ("hermes", hermes('{"name": "get_time"}'), "", [("get_time", "{}")]),
    ("hermes", hermes('{"name": "get_time", "arguments": null}'), "", [("get_time", "{}")]),
    ("hermes", hermes(r'{"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}'),
     "", CALLED),
    ("hermes", hermes(f"[{WEATHER}, {WEATHER}]"), "", CALLED * 2),
    ("hermes", hermes(f"```json\n{WEATHER}\n```"), "", CALLED),
    ("hermes", hermes('{"name": "unknown", "arguments": {"a": 1}}'), "", [("unknown", '{"a": 1}')]),
    ("hermes", hermes("no JSON"), hermes("no JSON"), []),
    ("hermes", hermes('{"name": 1}'), hermes('{"name": 1}'), []),
    ("hermes", hermes('{"name": "two words", "arguments": {}}'),
     hermes('{"name": "two words", "arguments": {}}'), []),
    ("hermes", "a < b <tool", "a < b <tool", []),
    ("hermes", '<tool_call>\n{"name": "get_', '<tool_call>\n{"name": "get_', []),
    ("hermes", '<tool_call>{"name": "get_weather", "arguments": {"city": "Par', "",
     [("get_weather", '{"city": "Par')]),
    ("hermes", r'<tool_call>{"name": "get_weather", "arguments": {"city": "\u00', "",
     [("get_weather", '{"city": "')]),
    ("llama3", '{"name": "get_weather", "parameters": {"city": "Paris"}}', "", CALLED),
    ("llama3", '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}; '
     '{"name": "get_time", "parameters": {}}', "", [*CALLED, ("get_time", "{}")]),
    ("llama3", '{"name": "Ada", "parameters": {}}', '{"name": "Ada", "parameters": {}}', []),
    ("llama3", '{"a": [1, 2]}', '{"a": [1, 2]}', []),
    ("llama3", 'So: {"name": "get_weather"}', 'So: {"name": "get_weather"}', []),
    ("mistral", '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}', "", CALLED),
    ("mistral", '[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{"city": "Paris"}</s>', "</s>",
     CALLED),
    ("mistral-json", f"[TOOL_CALLS][{WEATHER}]", "", CALLED),
    ("firefunction", f"import functools\n functools[{WEATHER}]", "import functools", CALLED),
    ("phi4", f"<|tool_call|>[{WEATHER}]<|/tool_call|>", "", CALLED),
    ("granite-3", f"<|tool_call|>[{WEATHER}]", "", CALLED),
    ("qwen3-coder", "<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n"
     "</tool_call>", "", CALLED),
    ("qwen3-coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\n\n1 < 2\n\n"
     "</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>", "",
     [("get_weather", r'{"city": "\n1 < 2\n", "days": 3}')]),
    ("qwen3-coder", "<tool_call>\n<function=get_time>\n</function>\n</tool_call>", "",
     [("get_time", "{}")]),
    ("qwen3-coder", "<tool_call>\n<function=get_weather>\n<parameter=options>\n{'a': True}\n"
     "</parameter>\n</function>\n</tool_call>", "",
     [("get_weather", '{"options": {"a": true}}')]),
    ("glm", "<tool_call>get_weather<arg_key>city</arg_key><arg_value>42</arg_value></tool_call>",
     "", [("get_weather", '{"city": "42"}')]),
    ("glm", "<tool_call>get_time</tool_call>", "", [("get_time", "{}")]),
    ("lfm2", "<|tool_call_start|>[get_weather(city='Paris')]<|tool_call_end|>", "", CALLED),
    ("lfm2", "<|tool_call_start|>[get_weather(city=\"Paris\", days=[1, true, None, {'a': -2.5}]), "
     "get_time()]<|tool_call_end|>ok", "ok",
     [("get_weather", '{"city": "Paris", "days": [1, true, null, {"a": -2.5}]}'),
      ("get_time", "{}")]),
    ("lfm2", "<|tool_call_start|>[__import__('os')]<|tool_call_end|>",
     "<|tool_call_start|>[__import__('os')]<|tool_call_end|>", []),
    ("lfm2", f"<|tool_call_start|>[{WEATHER}]<|tool_call_end|>", "", CALLED),
    ("gemma4", '<|tool_call>call:get_weather{city:<|"|>a: {b:"c"}<|"|>,days:-1}<tool_call|>', "",
     [("get_weather", r'{"city":"a: {b:\"c\"}","days":-1}')]),
    ("gemma4", '<|tool_call>call:get_weather{"city": "Paris"}<tool_call|>', "", CALLED),
    ("functionary-v3.2", 'all\nI look.>>>get_weather\n{"city": "Paris"}', "I look.", CALLED),
    ("functionary-v3.2", "all\nx >> y\nz", "x >> y\nz", []),
    ("kimi-k2", "<|tool_call_begin|>get_time:0<|tool_call_argument_begin|>{}<|tool_call_end|>", "",
     [("get_time", "{}")]),
    ("command-r7b", "<|START_RESPONSE|>Hello<|END_RESPONSE|>", "Hello", []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "content", "calls"), CASES)
def test_calls_are_told_from_content(
    name: str, text: str, content: str, calls: list[tuple[str, str]]
) -> None:
    assert read(BY_NAME[name], text) == (content, "", calls)


HARMONY = [
    ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi.",
     ("Hi.", "Hm.", [])),
    ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary"
     ' to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>',
     ("", "Hm.", CALLED)),
    (" to=functions.get_weather<|channel|>commentary json<|message|>{}",
     ("", "", [("get_weather", "{}")])),
    ("<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>analysis"
     "<|message|>Then", ("I look.", "Then", [])),
    ("no channel at all", ("no channel at all", "", [])),
    ("<|channel|>commentary to=functions.get_weather<|message|>no JSON", ),
]  # fmt: skip


@pytest.mark.parametrize("case", HARMONY[:-1])
def test_channels_of_harmony(case: tuple[str, tuple[str, str, list[Any]]]) -> None:
    assert read(BY_NAME["harmony"], case[0]) == case[1]


def test_a_message_to_a_tool_that_is_no_call_is_content() -> None:
    content, reasoning, calls = read(BY_NAME["harmony"], HARMONY[-1][0])
    assert (content.endswith("no JSON"), reasoning, calls) == (True, "", [])


def test_arguments_come_as_they_are_written() -> None:
    parser = OutputParser(format=GENERIC, tools=TOOLS)
    fed = ["<tool", '_call>{"name": "get_we', 'ather", "arg', 'uments": {"ci', 'ty": "Z\\u00',
           "fcrich\\ud83c", '\\udf26"', "}}</tool_call>"]  # fmt: skip
    found = [parser.feed(each) for each in fed]
    assert found[:2] == [Delta(), Delta()]
    assert found[2] == Delta()
    (begun,) = found[3].calls
    assert begun.id.startswith("call_")
    assert (begun.index, begun.name, begun.arguments) == (0, "get_weather", '{"ci')
    assert [each.calls for each in found[4:]] == [
        (CallDelta(0, 'ty": "Z'),),
        (CallDelta(0, "\\u00fcrich"),),
        (CallDelta(0, '\\ud83c\\udf26"'),),
        (CallDelta(0, "}"),),
    ]
    assert parser.finish() == Delta()


def test_text_arguments_come_as_they_are_written() -> None:
    parser = OutputParser(format=BY_NAME["qwen3-coder"], tools=TOOLS)
    parser.feed("<tool_call>\n<function=get_weather>\n<parameter=city>\n")
    assert parser.feed('Sankt "P').calls == (CallDelta(0, '"Sankt \\"P'),)
    assert parser.feed("eter\n</para").calls == (CallDelta(0, "eter"),)
    assert parser.feed("\n</parameter>\n").calls == (CallDelta(0, '\\n</para"'),)


def test_ids_are_the_formats_own() -> None:
    def ids(name: str, text: str) -> list[str]:
        parser = OutputParser(format=BY_NAME[name], tools=TOOLS)
        return [each.id for each in parsed(parser, [text]).calls]

    kimi = "<|tool_call_begin|>functions.get_time:7<|tool_call_argument_begin|>{}<|tool_call_end|>"
    assert ids("kimi-k2", kimi) == ["functions.get_time:7"]
    assert ids("mistral", "[TOOL_CALLS]get_time[CALL_ID]abcdefghi[ARGS]{}") == ["abcdefghi"]
    (short,) = ids("mistral", "[TOOL_CALLS]get_time[ARGS]{}")
    assert re.fullmatch(r"[a-zA-Z0-9]{9}", short)
    first, second = ids("hermes", hermes(WEATHER) * 2)
    assert first != second
    assert re.fullmatch(r"call_[0-9a-f]{24}", first)


def test_without_tools_nothing_is_a_call() -> None:
    parser = OutputParser(format=GENERIC)
    text = f"<think>hm</think>\n{hermes(WEATHER)} "
    assert plain(parsed(parser, [text])) == (f"{hermes(WEATHER)} ", "hm", [])


def test_at_most_so_many_calls_are_told() -> None:
    assert read(GENERIC, hermes(WEATHER) * 3, most=1) == ("", "", CALLED)


def test_thinking_may_go_on_between_calls() -> None:
    text = f"<think>a</think>{hermes(WEATHER)}\n<think>b</think>{hermes(WEATHER)}"
    assert read(GENERIC, text) == ("", "ab", CALLED * 2)


def test_a_call_within_thinking_is_thought() -> None:
    text = f"<think>{hermes(WEATHER)}</think>no"
    assert read(GENERIC, text) == ("no", hermes(WEATHER), [])


def test_tags_of_other_names() -> None:
    tags = Tags("[THINK]", "[/THINK]")
    assert read(BY_NAME["mistral"], "[THINK]a[/TH[/THINK]b", tags=tags) == ("b", "a[/TH", [])


ARGUMENTS = {"city": 'Z"ürich\\ \n<x> 🌦', "days": 3, "options": {"a": [1, None, True, {"b": "c"}]}}


@each_format
def test_what_a_format_writes_it_reads(format: Format) -> None:
    text = format.style.write([Call("get_weather", ARGUMENTS, "abcdefghi")]).lstrip(">")
    content, _, calls = read(format, text)
    assert (content.strip(), [(name, json.loads(a)) for name, a in calls]) == (
        "",
        [("get_weather", ARGUMENTS)],
    )


ALPHABET = st.sampled_from(
    [*'{}[]",:\\ \nau1=()>', "<tool_call>", "</tool_call>", '{"name": "get_time"', "<think>",
     '"arguments": ', "</think>", "get_time", "<function=", "</function>", "<parameter=", "\\u00e9"]
)  # fmt: skip


@given(
    st.sampled_from(ALL),
    st.lists(ALPHABET, max_size=25).map("".join),
    st.lists(st.integers(0, 200), max_size=12),
    st.randoms(use_true_random=False),
)
def test_cuts_do_not_matter(format: Format, noise: str, cuts: list[int], random: Any) -> None:
    """Neither in noise, nor in a call with noise in it."""
    written = format.style.write([Call("get_weather", ARGUMENTS, "abcdefghi")])
    at = random.randrange(len(written) + 1)
    for text in (noise, written[:at] + noise + written[at:], written[:at]):
        places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
        pieces = [text[a:b] for a, b in pairwise(places)]
        whole = plain(parsed(OutputParser(format=format, tools=TOOLS), [text]))
        assert plain(parsed(OutputParser(format=format, tools=TOOLS), pieces)) == whole
        assert plain(parsed(OutputParser(format=format, tools=TOOLS), list(text))) == whole
