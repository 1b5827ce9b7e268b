"""A grammar of JSON objects (RFC 8259)."""

from __future__ import annotations

# White space and digits are bounded: a model that falls into blanks or zeros would never end.
_OBJECT = r"""
object ::= "{" ws ( member ( "," ws member )* )? "}"
member ::= string ":" ws value ws
array ::= "[" ws ( value ws ( "," ws value ws )* )? "]"
value ::= object | array | string | number | "true" | "false" | "null"
string ::= "\"" char* "\""
char ::= [^"\\\x00-\x1F] | "\\" ( ["\\/bfnrt] | "u" hex hex hex hex )
hex ::= [0-9a-fA-F]
number ::= "-"? ( "0" | [1-9] [0-9]{0,15} ) ( "." [0-9]{1,16} )? ( [eE] [-+]? [0-9]{1,2} )?
ws ::= ( " " | "\n" [ \t]{0,32} )?
"""

# Where the prompt has opened the thinking, the object comes after its end.
_THINKING = r"""
thinking ::= ( [^<] | "<" [^/<] )* "</think>" [ \n]{0,2}
"""


def json_object(*, thinking: bool = False) -> str:
    """GBNF for one JSON object, with `thinking` for the end of a `<think>` block before it."""
    if thinking:
        return f"root ::= thinking object\n{_THINKING}{_OBJECT}"
    return f"root ::= object\n{_OBJECT}"
