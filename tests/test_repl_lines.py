"""When Enter sends a message and when it begins a new line of it."""

from __future__ import annotations

import pytest

from llmengine.cli.repl.lines import continues, message


@pytest.mark.parametrize(
    ("text", "goes_on"),
    [
        ("hi", False),
        ("hi\\", True),
        ("a\nb", False),
        ('"""', True),
        ('"""a\nb', True),
        ('"""a\nb"""', False),
        ('"""a\\', True),
        ('say """', False),
        ('"""Doc."""\ndef f(): ...', False),
    ],
)
def test_enter(text, goes_on):
    assert continues(text) is goes_on


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("hi ", "hi "),
        ('"""a\nb"""', "a\nb"),
        ('"""\n  a\n\n"""\n', "  a\n"),
        ('"""', '"""'),
        ('"""Doc."""\ndef f(): ...', '"""Doc."""\ndef f(): ...'),
        ("for \\\n done", "for \\\n done"),
    ],
)
def test_what_a_message_means(text, meant):
    assert message(text) == meant
