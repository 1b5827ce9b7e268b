"""GBNF: what is taken and refused, and that the grammar keeps its language on the way to Lark."""

from __future__ import annotations

from contextlib import suppress

import pytest
from grammars import accepts
from hypothesis import given
from hypothesis import strategies as st

from llmengine.errors import InvalidRequest
from llmengine.grammar import lark
from llmengine.sampling import Constraint

JSON = r"""
# objects and arrays of anything
root   ::= object
value  ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}"
array  ::= "[" ws (
  value
  ("," ws value)*
)? "]"
string ::= "\"" ( [^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}) )* "\""
number ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]+)?
ws     ::= | " " | "\n" [ \t]{0,20}
"""
SUMS = """root ::= (sum "=" [0-9]+ "\\n")+
sum ::= term ([-+] term)*
term ::= [a-z] [a-z0-9_]* | "(" sum ")"
"""


@pytest.mark.parametrize(
    ("grammar", "texts", "others"),
    [
        (JSON, ["{}", '{"a": [1, -2.5,{"é\\u00e9":null}],\n\t"c":"x"}'], ["[]", '{"a"}', "{} "]),
        (SUMS, ["a+b1=12\n", "((a)-b)=0\nc=1\n"], ["a=b\n", "(a=1\n", "a=1"]),
        # Characters, not words: a lexer that takes all letters would never find its x.
        ('root ::= [a-z]+ "x"', ["ax", "xx", "axbx"], ["x", "ab"]),
        ('root ::= "a" | "ab" | "abc" [^d]', ["a", "ab", "abc\n", "abcé"], ["abc", "abcd"]),
        ('root ::= "(" root? ")"', ["()", "(())"], ["", "(()"]),
        ('root ::= "a"{2,3} b\nb ::= "\\n" | [\\x41-\\u0043]', ["aa\n", "aaaB"], ["aB", "aaD"]),
        ("root ::= .", ["\n", "é", "😀"], ["", "ab"]),
        ('root ::= "" | "x" root', ["", "xx"], ["y"]),
        ("root ::= (((((((((([ab]+ [c])*)?)+)))))))", ["", "ac", "abacbc"], ["a"]),
        (r'root ::= "\"\\/" [\]\[^-]+', ['"\\/][^-'], ['"\\/a']),
        ('root ::= "\\U0001F600\\x01\x7f" [あ-ん]', ["😀\x01\x7fか"], ["😀\x01\x7fカ"]),
        ('root ::= # said\n "a" |\n  "b" # twice\n\n# end', ["a", "b"], ["ab"]),
        ('root ::= a-b aB a_b\na-b ::= "1"\naB ::= "2"\na_b ::= "3"', ["123"], ["12"]),
        ('root ::= "a"\r\nroot ::= "b"\r\n', ["b"], ["a"]),
        ('root ::= x* "."\nx ::= "a" | "(" x ")"', [".", "a(a)."], ["(."]),
    ],
)
def test_the_language_is_kept(grammar: str, texts: list[str], others: list[str]) -> None:
    constraint = Constraint("gbnf", grammar)
    assert [text for text in texts if not accepts(constraint, text)] == []
    assert [text for text in others if accepts(constraint, text)] == []


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("", "no rule `root`"),
        (" \n", "no rule `root`"),
        ("other ::= [a]", "no rule `root`"),
        ("root ::= missing", "names a rule `missing`"),
        ("root ::= (", "expected ) in line 1"),
        ('root ::= "a', "expected the end of a literal"),
        ("root ::= [a", "expected the end of a literal"),
        ('root ::= "a" ]', "expected a line's end in line 1 before ']'"),
        ("root := [a]", "expected ::="),
        ("= [a]", "expected the name of a rule"),
        ("root ::= []", "an empty []"),
        ("root ::= [b-a]", "the range b-a"),
        ('root ::= "\\q"', "an escape"),
        ('root ::= "\\ud800"', "which is no character"),
        ('root ::= "\\U00110000"', "which is no character"),
        ("root ::= <think>", "a token's number"),
        ('root ::= "a"{5,2}', "{5,2}: the first count is the larger"),
        ('root ::= "a"{,2}', "{m}, {m,} or {m,n}"),
        ('root ::= "a"{100001}', "repeats more than 100000 times"),
        ('root ::= "a"{ 1 , ' + "9" * 5000 + "}", "repeats more than"),
        ("root ::= " + "(" * 101 + '"a"' + ")" * 101, "nests deeper than 100"),
        ("root ::= r0\n" + "".join(f"r{n} ::= r{n + 1}\n" for n in range(1000)), "than 1000 rules"),
    ],
)
def test_refused(grammar: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        lark.from_gbnf(grammar, "grammar")
    assert reason in caught.value.message
    assert caught.value.param == "grammar"


def test_tokens_are_named_by_their_numbers() -> None:
    text = lark.from_gbnf("root ::= <[7]> !<[8]>*", "grammar")
    assert text == "start: r0\nr0: (<[7]> (<[^8]>){0,})\n"


@given(st.text(alphabet='ab(){}[]"\\|?*+.,0123 :=#<>!^-\n', max_size=60))
def test_any_text_is_taken_or_refused(text: str) -> None:
    with suppress(InvalidRequest):
        assert lark.from_gbnf("root ::= " + text, "grammar").startswith("start: ")
