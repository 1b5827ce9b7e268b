"""Grammars that must not reach llama.cpp's parser, and those that may."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmengine.errors import InvalidRequest
from llmengine.grammar import gbnf

DEEP = "(" * 100 + '"a"' + ")" * 100


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ('root ::= "a\0b"', "NUL"),
        (f"root ::= {DEEP}", "nests deeper than 100"),
        ('root ::= "a"{5,2}', "{5,2}: the first count is the larger"),
        ('root ::= "a"{2001}', "{2001}: 2000 times at most"),
        ('root ::= "a"{1,2001}', "{1,2001}: 2000 times at most"),
        ('root ::= "a"{2001,}', "{2001,}: 2000 times at most"),
        ('root ::= "a"{ 1 , ' + "9" * 5000 + "}", "2000 times at most"),
        ('root ::= "\ud800"', "surrogate"),
        ('root ::= (("a"? "b"?){0,5} "c"?){0,5}', "repeats optional parts 5 times in {0,5}"),
        ('root ::= (("a" | ){5} "c"){5}', "repeats optional parts 5 times"),
        ('root ::= list{1,5}\nlist ::= item{2,9} ""\nitem ::= "a"', "optional parts 9 times"),
        ('root ::= ((("a" b{0,3}){2}){2}){2}\nb ::= "b"', "optional parts"),
        ("".join(f"r{n} ::= r{n + 1}\n" for n in range(501)), "more than 500 rules"),
    ],
)
def test_refused(grammar: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        gbnf.check(grammar)
    assert reason in caught.value.message
    assert caught.value.param == "grammar"


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "a"{2,5} | [0-9]{2000} | ("b" "c"){3,} | "d"{0,4}',
        'root ::= "' + "(" * 500 + '"  # ' + "(" * 500 + "\n",
        "root ::= [" + "(" * 500 + "{5,2}]",
        'root ::= "\\"{5,2}"',
        "root ::= " + "(" * 99 + '"a"' + ")" * 99,
        "root ::=",
        'root ::= ([0-9]{4} "-" [0-9]{2}){0,100}',
        'root ::= root2{0,4}\nroot2 ::= "a"? ("b" root){0,4} | root',
        'root ::= "{" pair ("," pair)* "}"\npair ::= "\\"" [a-z]{1,20} "\\":" [0-9]{1,9}',
    ],
)
def test_allowed(grammar: str) -> None:
    gbnf.check(grammar)


@given(st.text(alphabet='ab(){}[]"\\|?*+,0123 :=#\n', max_size=60))
def test_any_text_is_taken_or_refused(text: str) -> None:
    with suppress(InvalidRequest):
        assert gbnf.check("root ::= " + text) is None
