"""Answers that are held to a form, by the embedded model at a high temperature."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import schemas
from real import Result, chatml, config, request, run

from llmengine.core import Request
from llmengine.engine.engine import Engine
from llmengine.errors import InvalidRequest
from llmengine.grammar.compiler import Compiler
from llmengine.sampling import Constraint, SamplingParams

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(config(context_size=16384, max_concurrent_requests=16, enabled=False)) as found:
        yield found


def held(engine: Engine, name: str, kind: str, source: Any, **params: Any) -> Request:
    text = source if isinstance(source, str) else json.dumps(source)
    constraint = Constraint(kind, text, thinking=params.pop("thinking", None))  # type: ignore[arg-type]
    given = {"temperature": 1.5, "seed": 1, "max_tokens": 900, **params}
    return request(engine, name, chatml("Hello!"), constraint=constraint, **given)


def ask(engine: Engine, kind: str, source: Any, **params: Any) -> Result:
    return run(engine, [held(engine, "a", kind, source, **params)])["a"]


def test_a_hundred_schemas_are_satisfied_by_hot_samples(engine: Engine) -> None:
    assert len(schemas.ALL) == 100
    # Keys that may be anything hardly end; the bias helps a hot model to its closing quotes.
    closing = {engine.tokenize(each)[0]: 5.0 for each in ('"', "}", "]")}
    requests = [
        held(engine, f"{n}", "json_schema", each, logit_bias=closing, max_tokens=300)
        for n, each in enumerate(schemas.ALL)
    ]
    results = run(engine, requests)
    for number, schema in enumerate(schemas.ALL):
        result = results[f"{number}"]
        assert result.reason == "stop", (schema, result.text)
        checker = jsonschema.Draft202012Validator(
            schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        )
        assert list(checker.iter_errors(json.loads(result.text))) == [], (schema, result.text)


def test_eight_at_once_keep_their_own_forms(engine: Engine) -> None:
    """Compiled, and submitted, from threads of their own."""
    results: dict[int, Result] = {}

    def one(number: int) -> None:
        form = schemas.record(mine={"const": number}, n=schemas.array(schemas.INTEGER, 2, 9))
        results[number] = run(engine, [held(engine, f"t{number}", "json_schema", form)])[
            f"t{number}"
        ]

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [json.loads(results[number].text)["mine"] for number in range(8)] == list(range(8))


@pytest.mark.parametrize(
    ("kind", "source", "allowed"),
    [
        ("choice", ["yes", "yes, but", "no"], {"yes", "yes, but", "no"}),
        ("regex", "a{2}|b[0-1]", {"aa", "b0", "b1"}),
        ("lark", 'start: "x" | "y" "z"', {"x", "yz"}),
        ("gbnf", 'root ::= "a" | "b" root2\nroot2 ::= "c"', {"a", "bc"}),
    ],
)
def test_other_forms(engine: Engine, kind: str, source: Any, allowed: set[str]) -> None:
    flat = {"temperature": 50, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    results = run(engine, [held(engine, f"{n}", kind, source, seed=n, **flat) for n in range(24)])
    assert {result.text for result in results.values()} == allowed
    assert {result.reason for result in results.values()} == {"stop"}


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0},
        {"temperature": 0, "ignore_eos": True},
        {"top_k": 1},
        {"repeat_penalty": 1.3, "presence_penalty": 1.0},
        {"mirostat": 2},
        {"dry_multiplier": 0.8},
        {"logit_bias": {7: 100.0}},
    ],
)
def test_every_sampler_stays_within_the_form(engine: Engine, params: dict[str, Any]) -> None:
    form = schemas.record(a=schemas.array(schemas.INTEGER, 3, 3), b={"enum": ["left", "right"]})
    first = ask(engine, "json_schema", form, **params)
    jsonschema.validate(json.loads(first.text), form)
    assert first.reason == "stop"
    assert ask(engine, "json_schema", form, **params).text == first.text


def test_log_probabilities_are_the_models_own(engine: Engine) -> None:
    """A token that the form forced has the probability that the model gave it."""
    free = run(engine, [request(engine, "f", chatml("Hello!"), temperature=0, logprobs=0)])["f"]
    forced = ask(engine, "regex", "zzzz", temperature=0, logprobs=1)
    assert forced.text == "zzzz"
    first = forced.logprobs[0]
    assert first.top[0].token == free.logprobs[0].token
    assert first.logprob < first.top[0].logprob == pytest.approx(free.logprobs[0].logprob, abs=1e-3)


def test_the_form_begins_after_the_thinking(engine: Engine) -> None:
    for tags in (("", "</think>"), ("<think>", "</think>")):
        bias = {engine.tokenize("</think>", special=True)[0]: 12.0}
        result = ask(engine, "choice", ["yes", "no"], thinking=tags, logit_bias=bias)
        before, _, after = result.text.rpartition("</think>")
        assert after.strip() in ("yes", "no")
        assert "</think>" not in before
        assert result.reason == "stop"


def test_a_form_survives_preemption() -> None:
    form = schemas.array({"type": "integer", "minimum": 1000, "maximum": 9999}, 30, 30)
    with Engine(config(context_size=256, max_concurrent_requests=4)) as small:
        results = run(
            small,
            [held(small, f"{n}", "json_schema", form, seed=n, max_tokens=230) for n in range(4)],
        )
        assert small.stats().preemptions > 0
    for result in results.values():
        assert result.reason == "stop", result.text
        jsonschema.validate(json.loads(result.text), form)


def test_what_a_length_cuts_off_is_a_beginning(engine: Engine) -> None:
    result = ask(engine, "json_schema", schemas.record(word={"const": "a" * 50}), max_tokens=5)
    assert result.reason == "length"
    assert '{"word":"'.startswith(result.text.replace(" ", "").replace("\n", "")[:9])


def chain(length: int) -> dict[str, Any]:
    links = {f"a{n}": schemas.record(x=schemas.reference(f"a{n + 1}")) for n in range(length)}
    return {**schemas.reference("a0"), "$defs": links | {f"a{length}": {"type": "null"}}}


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("regex", "("), ("regex", "(?=a)b"), ("regex", ""), ("regex", "x{5,2}"),
        ("regex", "(" * 5000 + "a" + ")" * 5000),
        ("regex", "a\0"), ("regex", "\ud800"),
        ("choice", []), ("choice", [""]),
        ("lark", ""), ("lark", "start: missing"), ("lark", "start: start"),
        ("lark", "start: " + "(" * 50_000 + '"a"' + ")" * 50_000),
        ("lark", "start: r0\n" + "".join(f"r{n}: r{n + 1}\n" for n in range(9999)) + 'r9999: ""'),
        ("lark", f"start: %json {json.dumps(chain(20_000))}"), ("lark", "start: %json {"),
        ("lark", 'start: %json {"not": {}, "x-guidance": {"lenient": true}}'),
        ("gbnf", "root ::= root"), ("gbnf", "root ::= r0\n" + "r0 ::= r0 r0"),
        ("gbnf", "root ::= " + "(" * 50_000 + '"a"' + ")" * 50_000),
        ("json_schema", "{"), ("json_schema", "[" * 100_000), ("json_schema", False),
        ("json_schema", chain(20_000)),
        ("json_schema",
         {"allOf": [schemas.either({"minimum": n}, {"maximum": -n}) for n in range(16)]}),
        ("json_schema", {"type": "integer", "multipleOf": 99_999_999}),
        ("json_schema", {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}),
    ],
)  # fmt: skip
def test_hostile_forms_are_refused(engine: Engine, kind: str, source: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        engine.submit(held(engine, "h", kind, source), lambda outputs: None)
    assert caught.value.param == "grammar"
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a(b", "unclosed group"),
        ("(" + "a" * 300, "unclosed group"),
        ("[z-a]", "invalid character class range, the start must be <= the end"),
    ],
)
def test_what_is_wrong_with_a_regex_is_told(engine: Engine, pattern: str, reason: str) -> None:
    constraint = Constraint("regex", pattern, param="guided_regex")
    with pytest.raises(InvalidRequest) as refused:
        engine.submit(request(engine, "a", "hi", constraint=constraint), lambda _: None)
    assert refused.value.message.startswith("`guided_regex` cannot be enforced: ")
    assert refused.value.message.endswith(reason)


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("regex", "a{1,1000000}"), ("regex", "(a{1,300}){1,300}"), ("regex", "(.*a){50}"),
        ("regex", ".*(a|b){300}c"), ("json_schema", chain(300)),
        ("json_schema", {"enum": [f"value {n}" for n in range(5000)]}),
        ("json_schema", {"type": "array", "minItems": 10**7, "items": {"type": "integer"}}),
        ("json_schema", {"type": "object", "required": ["n"], "properties": {"n": {"$ref": "#"}}}),
        ("gbnf", 'root ::= "a" root | root "b" | "c"'),
        ("lark", "start: " + "(" * 12 + '"a"?' + "){0,9}" * 12),
    ],
)  # fmt: skip
def test_large_and_endless_forms_go_on(engine: Engine, kind: str, source: Any) -> None:
    assert ask(engine, kind, source, max_tokens=12).reason in ("length", "stop")


def test_a_form_that_grows_beyond_the_limits_ends_its_request_alone(engine: Engine) -> None:
    result = ask(engine, "regex", "a?" * 3000 + "a" * 3000)
    assert result.reason == "error"
    assert result.last is not None
    assert result.last.error is not None
    assert "cannot be held to it any longer" in result.last.error.message
    assert ask(engine, "regex", "ok").text == "ok"


def test_a_form_that_grew_beyond_the_limits_is_compiled_anew(engine: Engine) -> None:
    form = "x[yz]{3}|" + "a?" * 800 + "a" * 800
    results = [
        ask(engine, "regex", form, logit_bias={engine.tokenize(first)[0]: 100.0}) for first in "axx"
    ]
    assert [each.reason for each in results] == ["error", "stop", "stop"]
    assert results[1].text == results[2].text


def test_a_long_answer_that_never_strays_is_within_the_limits(engine: Engine) -> None:
    form = Constraint("regex", "((a|b)*a(a|b){12}c){3}")
    text = "".join(random.Random(1).choices("ab", k=30_000))
    with engine._model.in_use():
        matcher = Compiler(engine._model).matcher(form)
        assert all(map(matcher.take, engine.tokenize(text)))


def test_a_refused_form_leaves_the_engine_as_it_was(engine: Engine) -> None:
    with pytest.raises(InvalidRequest):
        ask(engine, "regex", "(")
    assert ask(engine, "regex", "ok").text == "ok"
    assert SamplingParams(constraint=Constraint("regex", "ok")).enforced is not None
