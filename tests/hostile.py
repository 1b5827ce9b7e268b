"""Bodies that nobody should send, made from a good one: the same table for every endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from llmengine.server.openapi import OPERATIONS, Operation

DEEP = 100_000
POSTS = [each for each in OPERATIONS if each.method == "post" and each.body]

# A good value of each member that a body may need.
SAMPLES: dict[str, Any] = {
    "completion_window": "24h",
    "content": "hi",
    "documents": ["hi"],
    "endpoint": "/v1/completions",
    "input": "hi",
    "input_file_id": "file-0",
    "max_tokens": 4,
    "messages": [{"role": "user", "content": "hi"}],
    "model": "fake",
    "prompt": "hi",
    "query": "hi",
    "tokens": [104, 105],
}
ONE_OF = ("input", "content", "prompt")  # what is needed where nothing is required by itself


def good(operation: Operation) -> dict[str, Any]:
    """The least that the endpoint answers."""
    assert operation.body is not None
    fields = msgspec.structs.fields(operation.body)
    names = [each.encode_name for each in fields if each.required]
    all_names = {each.encode_name for each in fields}
    names = names or [next(each for each in ONE_OF if each in all_names)]
    return {name: SAMPLES[name] for name in names}


BATCH = b'{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "hi"}}'

# In place of a body.
WHOLE = [
    b"", b"  \n", b"hello", b"[]", b"[{}]", b'"text"', b"1", b"-0", b"1e999", b"null", b"true",
    b"NaN", b"{}", b"{", b"}", b"{}{}", b"{},", b"{'a': 1}", b"{a: 1}", b'{"a"}', b'{"a":}',
    b'{"a": 1,}', b'{"": }', b'{1: 2}', b"{null: 1}", b"// {}", b"\0", b"{\0}", b"\x1f\x8b\x08",
    b"\xff\xfe{\0}\0", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"[" * DEEP, b"{" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    b'{"' + b"a" * 500_000, b"9" * 500_000, b"{}" + b" " * DEEP + b"x",
    b"model=fake&prompt=hi", b"<xml/>", b"--x\r\nContent-Disposition: form-data\r\n\r\n{}",
    b"data: {}\n\n", b"\x82\xa1a\x01",
]  # fmt: skip

# In place of the value of a body's first member.
VALUES = [
    b"null", b"true", b"-1.5", b"1e400", b"1e308", b"-1", b"{}", b'{"a": 1}', b"[]", b"[null]",
    b"[[]]", b"[[[1]]]", b"[{}]", b"[true]", b"[1.5]", b"[-1]", b"[99999999999999999999]",
    b"[2147483648]", b'["a", 1]', b"[1, [2]]", b'[{"role": "user"}]', b'[{"role": "x"}]',
    b'[{"role": "user", "content": 1}]', b'[{"role": "user", "content": {}}]',
    b'[{"role": "user", "content": [{}]}]', b'[{"role": "user", "content": [{"type": "x"}]}]',
    b'[{"content": "x"}]', b'[["user", "x"]]', b'{"role": "user", "content": "x"}',
    b'"\\ud800"', b'"\\udc00\\ud800"', b'["\\udfff"]', b'"\\x"', b'"\n"', b'"\xff"', b'"',
    b'"\\u12"', b'"\\ud83d"', b"[" * 999 + b"]" * 999, b'{"a":' * 999 + b"1" + b"}" * 999,
    b"[" * DEEP + b"]" * DEEP, b"NaN", b"-Infinity", b"0x10", b"01", b"+1", b".5", b"1.",
]  # fmt: skip

# Beside what a good body has.
MEMBERS = [
    b'"unknown_word": 1', b'"": 1', b'"\\u0000": 1', b'"\xff": 1', b'"__class__": {}',
    b'"unknown_word": NaN', b'"unknown_word": Infinity', b'"unknown_word": "\xff"',
    b'"unknown_word": ' + b"9" * 5000, b'"unknown_word": ' + b"[" * DEEP + b"]" * DEEP,
    b'"unknown_word": ' + b'{"a":' * 900 + b"1" + b"}" * 900, b'"unknown_word": {"a": 1, "a": 2}',
    b'"model": 1', b'"model": []', b'"model": ""', b'"model": "other"', b'"model": "\\u0000"',
    b'"model": "fake", "model": "fake"', b'"unknown_word" 1', b'"unknown_word": 1 2',
    b'"unknown_word": tru', b'"unknown_word": "', b'"unknown_word": [1', b'"unknown_word": 1e',
    b'"n": -1', b'"n": 0', b'"n": 1.5', b'"n": "1"', b'"n": true', b'"n": 129',
    b'"n": 999999999999999999999999', b'"n": []', b'"max_tokens": -5', b'"max_tokens": 0.5',
    b'"max_tokens": "4"', b'"max_tokens": 4294967296', b'"max_tokens": {}', b'"max_tokens": [4]',
    b'"temperature": NaN', b'"temperature": 1e999', b'"temperature": -1', b'"temperature": "hot"',
    b'"temperature": []', b'"top_p": 2', b'"top_p": -0.1', b'"top_p": {}', b'"top_k": -1',
    b'"top_k": 0.5', b'"stop": 1', b'"stop": [1]', b'"stop": {}', b'"stop": [""]',
    b'"stop": ' + json.dumps(["x"] * 10_000).encode(), b'"stop": "' + b"x" * 100_000 + b'"',
    b'"stop": "\\ud800"', b'"logit_bias": []', b'"logit_bias": {"a": 1}',
    b'"logit_bias": {"1": 1e9}', b'"logit_bias": {"-1": 1}', b'"logit_bias": {"999999": 1}',
    b'"logit_bias": {"99999999999999999999": 1}', b'"logit_bias": {"1": 1, "1": 2}',
    b'"logit_bias": ' + json.dumps({str(at): 1 for at in range(10_000)}).encode(),
    b'"logprobs": -1', b'"logprobs": "5"', b'"logprobs": 99', b'"top_logprobs": 21',
    b'"top_logprobs": -1', b'"seed": 0.5', b'"seed": "1"', b'"seed": 1e99', b'"stream": 1',
    b'"stream": "true"', b'"stream": []', b'"stream_options": 1', b'"stream_options": [1]',
    b'"echo": 2', b'"best_of": 0', b'"suffix": 1', b'"user": "\xc3\x28"',
    b'"response_format": 1', b'"response_format": {}', b'"response_format": {"type": "x"}',
    b'"response_format": {"type": "json_schema"}',
    b'"response_format": {"type": "json_schema", "json_schema": {"name": 1}}',
    b'"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": []}}',
    b'"tools": 1', b'"tools": {}', b'"tools": [1]', b'"tools": [{}]', b'"tools": [[]]',
    b'"tools": [{"type": "function"}]', b'"tools": [{"type": "function", "function": 1}]',
    b'"tools": [{"type": "function", "function": {"name": ""}}]',
    b'"tools": [{"type": "function", "function": {"name": "\\u0000"}}]',
    b'"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]',
    b'"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": 1}}}]',
    b'"tools": ' + json.dumps([{"type": "x"}] * 5000).encode(),
    b'"tool_choice": 1', b'"tool_choice": "required"', b'"tool_choice": {"type": "function"}',
    b'"chat_template_kwargs": 1', b'"chat_template_kwargs": {"messages": []}',
    b'"chat_template_kwargs": {"self": 1}', b'"guided_regex": 1',
    b'"' + b"x" * 5000 + b'": 1', b'"a\\nb": 1, "a\\nb": 2', b'"previous_response_id": 1',
    b'"instructions": 1', b'"text": 1', b'"system": 1', b'"thinking": 1',
    b'"guided_choice": {}', b'"guided_json": 1', b'"grammar": 1',
    b'"structured_outputs": {"a": 1}', b'"cache_salt": ""', b'"cache_salt": 1',
    b'"encoding_format": "hex"', b'"dimensions": 0', b'"dimensions": -1', b'"top_n": 0',
    b'"return_documents": "no"', b'"with_pieces": 1', b'"label": ""', b'"metadata": {"a": NaN}',
]  # fmt: skip


def bodies(operation: Operation) -> Iterator[bytes]:
    """The table, applied to what the endpoint would answer."""
    yield from WHOLE
    base = good(operation)
    name, *rest = base
    others = "".join(f", {json.dumps(each)}: {json.dumps(base[each])}" for each in rest).encode()
    start = b"{" + json.dumps(name).encode() + b": "
    for value in VALUES:
        yield start + value + others + b"}"
    whole = json.dumps(base).encode()
    for member in MEMBERS:
        yield whole[:-1] + b", " + member + b"}"
    for cut in range(1, 9):
        yield whole[: len(whole) * cut // 9]
