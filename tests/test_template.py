"""Chat templates: what they are given, and that none of them can do harm."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeHost
from msgspec.structs import replace

from llmengine.chat import prompt
from llmengine.chat.template import ChatTemplate
from llmengine.errors import ConfigError, ContextLengthExceeded, EngineError, InvalidRequest

HI = [{"role": "user", "content": "hi"}]
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "add", "arguments": '{"a": 1}'},
}


def render(source: str, messages: list[dict[str, Any]] = HI, **kwargs: Any) -> str:
    return ChatTemplate(source, "<s>", "</s>").render(messages, **kwargs)


ROLES = "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}"


def test_the_variables_of_hugging_face_are_there() -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}>{% endif %}{{ shade }}"
    )
    assert render(source, shade="blue") == "<s>hi</s>>blue"
    assert render(source, add_generation_prompt=False) == "<s>hi</s>"


def test_blocks_take_their_line_and_the_indent_before_them() -> None:
    assert render("a\n  {% if true %}\nb\n  {% endif %}\nc") == "a\nb\nc"


def test_tojson_is_plain_json() -> None:
    source = (
        "{{ messages[0].content | tojson }}{{ {'b': 1, 'a': [true, none]} | tojson(indent=1) }}"
    )
    content = "<é> & 'x'"
    assert render(source, [{"role": "user", "content": content}]) == (
        '"<é> & \'x\'"{\n "b": 1,\n "a": [\n  true,\n  null\n ]\n}'
    )


def test_loop_controls_namespaces_and_generation_blocks() -> None:
    source = (
        "{% set ns = namespace(n=0) %}{% for i in range(9) %}"
        "{% if i == 1 %}{% continue %}{% endif %}"
        "{% if i == 4 %}{% break %}{% endif %}{% set ns.n = ns.n + i %}{% endfor %}"
        "{% generation %}{{ ns.n }}{% endgeneration %}"
    )
    assert render(source) == "5"


def test_the_date_is_todays() -> None:
    assert render("{{ strftime_now('%Y') }}") == time.strftime("%Y")


def test_loops_know_their_place() -> None:
    place = "{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}"
    source = "{% for m in messages %}" + place + "{% endfor %}"
    assert render(source, HI * 3) == "1/3,2/3,3/3"


def test_content_in_parts_becomes_one_string() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert render(ROLES, [{"role": "user", "content": parts}]) == "[user:ab]"


def test_a_template_that_wants_parts_gets_parts() -> None:
    source = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}"
    assert render(source) == "hi"


def test_null_content_is_empty() -> None:
    assert render(ROLES, [*HI, {"role": "assistant", "content": None}]) == "[user:hi][assistant:]"


def test_developer_is_system_where_the_template_knows_none() -> None:
    messages = [{"role": "developer", "content": "be brief"}, *HI]
    assert render(ROLES, messages) == "[system:be brief][user:hi]"
    assert render(ROLES + "{# developer #}", messages) == "[developer:be brief][user:hi]"
    picky = (
        "{% set developer = 1 %}{% for m in messages %}{% if m.role in ['system', 'user'] %}"
        "[{{ m.role }}:{{ m.content }}]{% endif %}{% endfor %}"
    )
    assert render(picky, messages) == "[system:be brief][user:hi]"


def test_no_tools_are_an_empty_list_where_the_template_loops_over_them() -> None:
    assert render("{% for t in tools %}{{ t }}{% endfor %}" + ROLES) == "[user:hi]"
    assert render("{% if tools is not none %}tools{% endif %}" + ROLES) == "[user:hi]"


def test_a_system_message_goes_to_the_user_where_the_template_refuses_it() -> None:
    source = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + ROLES
    )
    messages = [{"role": "system", "content": "be brief"}, *HI]
    assert render(source, messages) == "[user:be brief\n\nhi]"


def test_arguments_of_calls_are_what_the_template_takes() -> None:
    messages = [*HI, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    shown = "{% for m in messages %}{% for c in m.tool_calls or [] %}%s{% endfor %}{% endfor %}"
    assert (
        render(shown.replace("%s", "{{ c.function.arguments | tojson }}"), messages) == '{"a": 1}'
    )
    assert render(shown.replace("%s", "{{ '' + c.function.arguments }}"), messages) == '{"a": 1}'


def test_tools_reach_the_template() -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    source = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
    assert render(source, tools=tools) == "add"
    assert render(source) == ""


def test_the_embedded_template_renders_a_whole_conversation(root: Path) -> None:
    source = (root / "models/tiny-chat/template.jinja").read_text()
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "2", "tool_call_id": "call_1"},
    ]
    text = render(source, messages, enable_thinking=True)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nadd<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
        "<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n"
    )


def test_what_a_template_refuses_is_an_invalid_request_in_its_words() -> None:
    with pytest.raises(InvalidRequest) as caught:
        render("{{ raise_exception('roles\\nmust \\x1b[2J alternate') }}")
    assert caught.value.param == "messages"
    assert caught.value.message == (
        r"the chat template refuses these messages: roles\nmust \x1b[2J alternate"
    )


LOOP = "{% for i in range(99999) %}"
END = "{% endfor %}"
DOUBLING = "{% set ns = namespace(x='x') %}{% for i in range(99) %}%s{% endfor %}{{ ns.x }}"
Z = "z" * 10_000
HOSTILE = {
    "nested loops": LOOP * 3 + END * 3,
    "text": LOOP * 2 + Z + END * 2,
    "text in a macro": "{% macro m() %}" + LOOP * 2 + Z + END * 2 + "{% endmacro %}{{ m() }}",
    "output": "{% set b = 'x' * 1000000 %}" + LOOP + "{{ b }}" + END,
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "tree": "{% macro f(n) %}{{ f(n-1) ~ f(n-1) if n }}{% endmacro %}{{ f(60) }}",
    "recursive loop": "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "repeat": "{{ 'x' * 10**9 }}",
    "repeat a list": "{{ [0] * 10**9 }}",
    "power": "{{ 10 ** 10 ** 10 }}" + "{{ (2 ** 4000) ** 4000 }}",
    "concat": DOUBLING.replace("%s", "{% set ns.x = ns.x ~ ns.x %}"),
    "add": DOUBLING.replace("%s", "{% set ns.x = ns.x + ns.x %}"),
    "block set": DOUBLING.replace("%s", "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
    "list": DOUBLING.replace("%s", "{% set ns.x = [ns.x, ns.x] %}"),
    "tuple": DOUBLING.replace("%s", "{% set ns.x = ns.x, ns.x %}"),
    "dict": DOUBLING.replace("%s", "{% set ns.x = {'a': ns.x, 'b': ns.x} %}"),
    "namespace": DOUBLING.replace("%s", "{% set ns.x = namespace(a=ns.x, b=ns.x) %}"),
    "cycle": "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
    "percent width": "{{ '%999999999d' % 1 }}",
    "percent star": "{{ '%*d' % (999999999, 1) }}",
    "format width": "{{ '{:>999999999}'.format(1) }}",
    "format argument": "{{ '{:>{}}'.format(1, 999999999) }}",
    "ljust": "{{ 'x'.ljust(10 ** 9) }}",
    "zfill": "{{ 'x'['zfill'](10 ** 9) }}",
    "tabs": "{{ ('\t' * 100000).expandtabs(1000000) }}",
    "replace": "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
    "replace filter": "{{ ('a' * 1000000) | replace('', 'b' * 1000000) }}",
    "join": "{{ ('a' * 1000000).join(['x'] * 10000) }}",
    "join filter": "{{ (['x'] * 10000) | join('a' * 1000000) }}",
    "map": "{{ (['x' * 1000000] * 8) | map('upper') | join | length }}" * 20,
    "indent": "{{ ('\n' * 4000000) | indent(1000) }}",
    "center": "{{ 'x' | center(10 ** 9) }}",
    "wordwrap": "{{ 'x' | wordwrap(1) }}",
    "slice": "{{ [1] | slice(10 ** 9) | list }}",
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "class item": "{{ ''['__class__']['__mro__'] }}",
    "class filter": "{{ (messages | attr('clear'))() }}",
    "globals": "{{ raise_exception.__globals__['json'] }}",
    "format attribute": "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "mutation": "{{ messages.clear() }}",
    "appending": LOOP + "{% set _ = messages.append([messages] * 9999) %}" + END,
    "append for ever": "{% for m in messages %}{% set _ = messages.append(m) %}{% endfor %}",
    "append itself": "{% set _ = messages.append(messages) %}{{ messages }}",
    "range": "{{ range(10 ** 9) | list }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "minus": "{{ " + "-" * 100_000 + "1 }}",
    "deep blocks": "{% for i in range(2) %}" * 30 + "{% endfor %}" * 30,
    "unfinished": "{% for",
    "huge": "x" * (2**20 + 1),
    "division": "{{ 1 / 0 }}",
    "undefined": "{{ nothing.at.all }}",
    "surprise": "{{ 'x'.encode().decode('utf-16') }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends_soon_in_one_line(name: str) -> None:
    before = time.thread_time()
    with pytest.raises(EngineError) as caught:
        render(HOSTILE[name])
    assert isinstance(caught.value, (ConfigError, InvalidRequest))
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 600
    assert time.thread_time() - before < 12


def test_a_template_that_never_ends_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(ConfigError, match="ran for more than 3 s"):
        ChatTemplate(HOSTILE["tree"], "", "")


def test_a_long_conversation_is_no_attack() -> None:
    messages = [{"role": "user", "content": "word " * 200}] * 4000
    assert len(render(ROLES, messages)) == 4000 * (1000 + len("[user:]"))


def test_templates_render_in_several_threads_at_once() -> None:
    template = ChatTemplate(ROLES, "", "")
    found: list[str] = []

    def work(name: str) -> None:
        for _ in range(50):
            found.append(template.render([{"role": name, "content": name}]))

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"[{n}:{n}]" for n in range(4) for _ in range(50))


def test_the_template_is_the_files_the_models_or_chatml(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("own")
    with FakeHost(template="models") as host:
        info = host.info()
    assert ChatTemplate.of(info, str(file)).render(HI) == "own"
    assert ChatTemplate.of(info).render(HI) == "models"
    assert not caplog.records
    bare = ChatTemplate.of(replace(info, chat_template=None))
    assert bare.render(HI) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert "has no chat template, ChatML is used" in caplog.text


def test_a_template_file_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    with FakeHost() as host:
        info = host.info()
    with pytest.raises(ConfigError, match="No such file"):
        ChatTemplate.of(info, str(tmp_path / "none"))
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"model\.chat_template"):
        ChatTemplate.of(info, str(binary))


def test_the_beginning_of_text_is_never_doubled() -> None:
    with FakeHost() as host:
        written = ChatTemplate("{{ bos_token }}hi", "<s>", "</s>")
        bare = ChatTemplate("hi", "<s>", "</s>")
        expected = (256, *b"hi")
        assert prompt.of_messages(host, written, HI).tokens == expected
        assert prompt.of_messages(host, bare, HI).tokens == expected
        assert prompt.of_messages(host, written, HI).text == "<s>hi"


def test_what_cannot_fit_is_refused_before_it_is_tokenized() -> None:
    host = FakeHost(context=100)
    host.tokenize = lambda *_, **__: pytest.fail("it was tokenized")  # type: ignore[method-assign]
    with pytest.raises(ContextLengthExceeded, match="at least 101"):
        prompt.of_text(host, "x" * 404)


def test_variables_may_have_any_name() -> None:
    host = FakeHost()
    host._info = replace(host.info(), needs_checkpoints=True)
    template = ChatTemplate("{{ text }}{{ tokens }}|{{ messages[0].content }}", "<s>", "</s>")
    with host:
        found = prompt.of_messages(host, template, HI, text="a", tokens="b")
    assert found.text.startswith("ab|")
