"""The formats in which models write calls of tools, recognised from their templates.

What a format's models write: their model cards, and the templates themselves, which write the
calls of earlier turns as the model would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from llmengine.chat.calls import auto
from llmengine.chat.calls.json_calls import JsonCalls
from llmengine.chat.calls.literal_calls import GemmaCalls, PythonCalls
from llmengine.chat.calls.messages import Headed, Recipients
from llmengine.chat.calls.named_calls import NamedCalls
from llmengine.chat.calls.style import CallStyle, openai_id, short_id
from llmengine.chat.calls.tagged_calls import TaggedCalls
from llmengine.chat.lark import Lark
from llmengine.chat.reasoning import Tags
from llmengine.chat.tools import Tool


class Format(Struct, frozen=True, kw_only=True):
    name: str
    signs: tuple[str, ...]  # all of them stand in the template, or in what it renders
    calls: CallStyle | None = None
    messages: Headed | Recipients | None = None  # where an answer has no other frame
    drops: tuple[str, ...] = ()  # marks around content that are no part of it
    new_id: Callable[[], str] = openai_id

    def answer(self, lark: Lark, tools: Sequence[Tool], tags: Tags) -> str:
        """An expression for an answer that may call, whose calls have arguments that fit.

        Raises InvalidRequest for a schema that the format cannot be held to.
        """
        if self.messages:
            return self.messages.answer(lark, tools)
        assert self.calls is not None
        return auto.answer(lark, self.calls, tools, (*self.drops, tags.open, tags.close))

    @property
    def style(self) -> CallStyle | Headed | Recipients:
        found = self.calls or self.messages
        assert found is not None
        return found


_ATEM = TaggedCalls(
    '<atem:invoke name="{name}">\n{parameters}</atem:invoke>\n',
    '<atem:parameter name="{key}">{value}</atem:parameter>\n',
    section=("<atem:function_calls>\n", "</atem:function_calls>"),
)
_COHERE = JsonCalls(
    begin="<|START_ACTION|>",
    end="<|END_ACTION|>",
    name="tool_name",
    arguments="parameters",
    numbered="tool_call_id",
    listed=True,
)
GENERIC = Format(
    name="generic",
    signs=(),
    calls=JsonCalls(begin="<tool_call>\n", end="\n</tool_call>"),
)

# The first whose signs are all there is the model's: those with more particular ones come first.
FORMATS = (
    Format(
        name="muse",
        signs=("<atem:function_calls>", "<|eom|>"),
        messages=Headed(
            thinking=frozenset({"self"}),
            thought=("to=self<|message|>", "<|eom|>"),
            ends=("<|eom|>", "<|eot|>"),
            call=" to={name}",
            calls=_ATEM,
        ),
    ),
    Format(
        name="harmony",
        signs=("<|channel|>", "<|message|>"),
        messages=Headed(
            thinking=frozenset({"analysis"}),
            thought=("<|channel|>analysis<|message|>", "<|end|>"),
            ends=("<|call|>", "<|end|>", "<|return|>"),
            call="<|channel|>commentary to=functions.{name} <|constrain|>json",
        ),
    ),
    Format(name="functionary-v3.2", signs=(">>>all",), messages=Recipients()),
    Format(
        name="mistral",
        signs=("[TOOL_CALLS]", "[ARGS]"),
        calls=NamedCalls("[TOOL_CALLS]{name}[ARGS]{arguments}", id_mark="[CALL_ID]"),
        new_id=short_id,
    ),
    Format(
        name="mistral-json",
        signs=("[TOOL_CALLS]",),
        calls=JsonCalls(begin="[TOOL_CALLS]", listed=True),
        new_id=short_id,
    ),
    Format(
        name="kimi-k2",
        signs=("<|tool_calls_section_begin|>", "<|tool_call_argument_begin|>"),
        calls=NamedCalls(
            "<|tool_call_begin|>{id}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>",
            section=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        ),
    ),
    Format(
        name="kimi-k3",
        signs=("<|open|>", "<|close|>", "<|end_of_msg|>"),
        calls=TaggedCalls(
            '<|open|>call tool="{name}" index="{index}"<|sep|>{parameters}<|close|>call<|sep|>',
            '<|open|>argument key="{key}" type="{type}"<|sep|>{value}<|close|>argument<|sep|>',
            section=("<|open|>tools<|sep|>", "<|close|>tools<|sep|>"),
        ),
        drops=(
            "<|open|>response<|sep|>",
            "<|close|>response<|sep|>",
            "<|close|>message<|sep|>",
            "<|end_of_msg|>",
        ),
    ),
    Format(
        name="solar",
        signs=("<|tool_call:begin|>", "<|tool_call:args|>"),
        calls=NamedCalls(
            "<|tool_call:begin|>{id}<|tool_call:name|>{name}<|tool_call:args|>{arguments}"
            "<|tool_call:end|>",
            section=("<|tool_calls|>", "<|calls|>"),
        ),
        drops=("<|begin|>assistant", "<|content|>", "<|end|>"),
    ),
    Format(
        name="cohere2",
        signs=("<|START_ACTION|>", "<|START_TEXT|>"),
        calls=_COHERE,
        drops=("<|START_TEXT|>", "<|END_TEXT|>"),
    ),
    Format(
        name="command-r7b",
        signs=("<|START_ACTION|>", "<|START_RESPONSE|>"),
        calls=_COHERE,
        drops=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ),
    Format(
        name="command-r",
        signs=("Action:", '"tool_name"', "directly-answer"),
        calls=JsonCalls(
            begin="Action:\n```json\n",
            end="\n```",
            more=("Action: ```json", "Action:```json"),
            name="tool_name",
            arguments="parameters",
            listed=True,
        ),
    ),
    *(
        Format(
            name="deepseek-dsml",
            signs=("<｜DSML｜invoke", f"<｜DSML｜{section}>"),
            calls=TaggedCalls(
                '<｜DSML｜invoke name="{name}">\n{parameters}</｜DSML｜invoke>\n',
                '<｜DSML｜parameter name="{key}" string="{text}">{value}</｜DSML｜parameter>\n',
                section=(f"<｜DSML｜{section}>\n", f"</｜DSML｜{section}>"),
            ),
        )
        for section in ("function_calls", "tool_calls")
    ),
    Format(
        name="deepseek-r1",
        signs=("<｜tool▁sep｜>", "```json"),
        calls=NamedCalls(
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```"
            "<｜tool▁call▁end｜>",
            section=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
            between="\n",
        ),
    ),
    Format(
        name="deepseek-v3.1",
        signs=("<｜tool▁sep｜>",),
        calls=NamedCalls(
            "<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>",
            section=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
        ),
    ),
    Format(
        name="minimax-m2",
        signs=("<minimax:tool_call>",),
        calls=TaggedCalls(
            '<invoke name="{name}">\n{parameters}</invoke>\n',
            '<parameter name="{key}">{value}</parameter>\n',
            section=("<minimax:tool_call>\n", "</minimax:tool_call>"),
        ),
    ),
    Format(
        name="hunyuan",
        signs=("<tool_calls:opensource>",),
        calls=TaggedCalls(
            "<tool_call:opensource>{name}<tool_sep:opensource>\n{parameters}"
            "</tool_call:opensource>\n",
            "<arg_key:opensource>{key}</arg_key:opensource>\n"
            "<arg_value:opensource>{value}</arg_value:opensource>\n",
            section=("<tool_calls:opensource>\n", "</tool_calls:opensource>"),
        ),
    ),
    Format(
        name="apriel",
        signs=("<tool_calls>[",),
        calls=JsonCalls(begin="<tool_calls>", end="</tool_calls>", listed=True),
    ),
    Format(
        name="minimax-m1",
        signs=("<tool_calls>\n{",),
        calls=JsonCalls(begin="<tool_calls>\n", end="\n</tool_calls>"),
    ),
    Format(
        name="nemotron",
        signs=("<TOOLCALL>",),
        calls=JsonCalls(begin="<TOOLCALL>", end="</TOOLCALL>", listed=True),
    ),
    Format(
        name="apertus",
        signs=("<|tools_prefix|>",),
        calls=JsonCalls(begin="<|tools_prefix|>", end="<|tools_suffix|>", listed=True, keyed=True),
    ),
    Format(
        name="gigachat",
        signs=("<|function_call|>",),
        calls=JsonCalls(begin="<|function_call|>"),
    ),
    Format(
        name="gigachat-v3",
        signs=("<|message_sep|>", "function call<|role_sep|>"),
        calls=JsonCalls(begin="<|message_sep|>\n\nfunction call<|role_sep|>\n"),
    ),
    Format(name="gemma4", signs=("<|tool_call>call:",), calls=GemmaCalls()),
    *(
        Format(
            name="lfm2",
            signs=(sign,),
            calls=PythonCalls("<|tool_call_start|>", "<|tool_call_end|>"),
        )
        for sign in ("<|tool_list_start|>", "<|tool_call_start|>", "List of tools: [")
    ),
    Format(
        name="phi4",
        signs=("<|/tool|>",),
        calls=JsonCalls(begin="<|tool_call|>", end="<|/tool_call|>", listed=True),
    ),
    Format(
        name="granite-3",
        signs=("<|tool_call|>",),
        calls=JsonCalls(begin="<|tool_call|>", listed=True),
    ),
    Format(
        name="firefunction",
        signs=("functools[",),
        calls=JsonCalls(begin="functools", listed=True),
    ),
    Format(
        name="seed-oss",
        signs=("<seed:tool_call>",),
        calls=TaggedCalls(
            "<seed:tool_call>\n<function={name}>\n{parameters}</function>\n</seed:tool_call>",
            "<parameter={key}>{value}</parameter>\n",
            between="\n",
        ),
    ),
    Format(
        name="qwen3-coder",
        signs=("<tool_call>", "<function=", "<parameter="),
        calls=TaggedCalls(
            "<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>",
            "<parameter={key}>\n{value}\n</parameter>\n",
            between="\n",
        ),
    ),
    Format(
        name="glm",
        signs=("<tool_call>", "<arg_key>", "<arg_value>"),
        calls=TaggedCalls(
            "<tool_call>{name}\n{parameters}</tool_call>",
            "<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n",
            between="\n",
        ),
    ),
    Format(
        name="minicpm",
        signs=('<function name="', '<param name="'),
        calls=TaggedCalls(
            '<function name="{name}">{parameters}</function>',
            '<param name="{key}">{value}</param>',
            between="\n",
        ),
    ),
    Format(
        name="functionary-v3.1",
        signs=("<function=", "</function>"),
        calls=NamedCalls("<function={name}>{arguments}</function>"),
    ),
    *(
        Format(
            name="llama3",
            signs=(sign,),
            calls=JsonCalls(arguments="parameters", bare=True, more=("<|python_tag|>",)),
        )
        for sign in ("<|python_tag|>", '{"name": function name, "parameters"')
    ),
    Format(name="hermes", signs=("<tool_call>",), calls=GENERIC.calls),
)


def format_of(template: str) -> Format | None:
    """The format of a template's text and of what it renders; None where it shows none."""
    return next((each for each in FORMATS if all(sign in template for sign in each.signs)), None)
