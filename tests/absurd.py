"""Forms and parameters that are well-formed and absurd: they reach the engine."""

from __future__ import annotations

from typing import Any


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def branching(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"anyOf": [schema, schema]}
    return schema


REQUIRED = [f"p{at}" for at in range(2000)]
SCHEMAS: list[Any] = [
    nested(60), nested(300), branching(12), {"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, False,
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    {"type": "array", "items": {"$ref": "#"}, "minItems": 1}, {"$ref": "http://127.0.0.1/x"},
    {"$ref": "file:///etc/passwd"}, {"type": "string", "minLength": 10**9},
    {"type": "string", "maxLength": 10**18}, {"type": "string", "minLength": -1},
    {"type": "array", "items": {"type": "integer"}, "minItems": 10**7},
    {"type": "number", "multipleOf": 1e-300}, {"type": "integer", "multipleOf": 0},
    {"type": "integer", "minimum": 10**400}, {"type": "integer", "minimum": 5, "maximum": 1},
    {"type": "string", "pattern": "^(a+)+$"}, {"type": "string", "pattern": "("},
    {"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$"},
    {"type": "string", "pattern": "(?=a)b"}, {"type": "string", "pattern": "(a)\\1"},
    {"type": "x"}, {"type": 1}, {"type": "array", "items": 3}, {"not": {}}, {"enum": []},
    {"type": "object", "properties": []}, {"enum": [f"v{at}" for at in range(5000)]},
    {"properties": {each: {"const": 1} for each in REQUIRED}, "required": REQUIRED},
    {"type": "object", "properties": {"\0": {"const": 1}}, "required": ["\0"]},
    {"type": "object", "properties": {"x" * 50_000: {"type": "x"}}},
    {"type": "object", "properties": {"a\nb\x1b[31m": {"type": "x"}}}, {"x" * 50_000: 1},
]  # fmt: skip
REGEXES = [
    "(a+)+b", "(((a{1,200}){1,200}){1,200})", "(a|b|c){50000}x", "[^\\s\\S]", "(?=a)a", "(a)\\1",
    "(((", "(" * 2000 + "a" + ")" * 2000, "|".join(f"w{at}" for at in range(5000)), "\0",
    "(.*)*(.*)*(.*)*x", "x" * 50_000, "(.*a.{20})", "(.*a.{14}b.*c.{14})", "a&~(b)", "",
]  # fmt: skip
GRAMMARS = [
    "start: start", 'start: start "a" | "b"', "start: (", "start: foo", 'start: ("a"?)*',
    'start: start start | "a"', 'start: "a"{100000000}', 'start: %json {"$ref": "#"}', "%json {",
    "start: " + "(" * 3000 + '"a"' + ")" * 3000, "root ::= root", "root ::= [", 'foo ::= "a"',
    "root ::= " + "(" * 3000 + '"a"' + ")" * 3000, 'root ::= "a"{1000000}',
    'root ::= ((("a"{1,1000}){1,1000}){1,1000})', 'root ::= root "a" | "a"',
    'root ::= (("a"*)*)*',
]  # fmt: skip
CHOICES: list[list[str]] = [[], [""], ["\0"], ["x" * 50_000], ["a", "a"], ["x"] * 10_001]
SAMPLERS: list[dict[str, Any]] = [
    {"logit_bias": {str(at): -100 for at in range(984)}}, {"temperature": 1e-300}, {"top_p": 0},
    {"logit_bias": {str(at): 100 for at in range(984)}, "temperature": 0}, {"min_p": 1},
    {"temperature": 100, "top_k": 2**31 - 1, "repeat_last_n": 2**31 - 1, "repeat_penalty": 2},
    {"typical_p": 0}, {"top_n_sigma": 1e-300}, {"xtc_probability": 1, "xtc_threshold": 0},
    {"dry_multiplier": 100, "dry_base": 100, "dry_allowed_length": 0}, {"repeat_penalty": 1e-300},
    {"mirostat": 1, "mirostat_tau": 100, "mirostat_eta": 1}, {"mirostat": 2, "mirostat_tau": 0},
    {"logprobs": True, "top_logprobs": 20, "n": 64}, {"stop": ["\U0001f600" * 64] * 16},
    {"stop": "\0"}, {"max_tokens": 2**31 - 1, "grammar": 'root ::= "a"', "ignore_eos": True},
    {"chat_template_kwargs": {"range": 1, "namespace": 2, "enable_thinking": {"a": []}}},
    {"messages": [{"role": "user", "content": "\0" * 1000}]},
    {"messages": [{"role": "user", "content": "<|im_end|>" * 300}]},
    {"messages": [{"role": "user", "content": "x" * 1_000_000}]},
    {"messages": [{"role": "user", "content": ""}] * 2000},
]  # fmt: skip


def parameters() -> list[dict[str, Any]]:
    """What each body has beside a short question."""
    named = [{"json_schema": {"name": "a", "schema": each}} for each in SCHEMAS]
    objects = [{"type": "object", "properties": {"x": each}, "required": ["x"]} for each in SCHEMAS]
    tools = [
        {"type": "function", "function": {"name": "f", "parameters": each}} for each in objects
    ]
    return [
        *({"response_format": {"type": "json_schema", **each}} for each in named),
        *({"tools": [each], "tool_choice": "required"} for each in tools),
        *({"guided_regex": each} for each in REGEXES),
        *({"guided_grammar": each} for each in GRAMMARS),
        *({"guided_choice": each} for each in CHOICES),
        *SAMPLERS,
    ]
