"""`llmengine chat`: a conversation in the terminal."""

from __future__ import annotations

import sys

from llmengine.cli import pairs
from llmengine.cli.options import takes_settings
from llmengine.cli.run import SETTINGS, PairsOption, SystemOption, declaration
from llmengine.cli.stdin import check_text, is_piped, read_prompt
from llmengine.config import Config
from llmengine.errors import InvalidRequest
from llmengine.settings import Settings

__all__ = ["chat", "declaration"]


@takes_settings(*SETTINGS, quiet=True)
def chat(
    settings: Settings,
    system: SystemOption = "",
    option: PairsOption = [],  # noqa: B006  (typer reads it, nobody writes it)
) -> None:
    """Talk with a model; /help in it lists the commands. In a pipe it is `llmengine run`."""
    system = check_text(system, "the system prompt")
    given = pairs.split(option)
    if is_piped(sys.stdin):
        from llmengine.cli.once import Once

        once = Once(settings.config, system=system, given=given)
        once.answer(lambda: read_prompt(None, sys.stdin))
    elif sys.stdin is None:
        raise InvalidRequest("no input: stdin is closed")
    else:
        _talk(settings.config, system, given)


def _talk(config: Config, system: str, given: dict[str, str]) -> None:
    from llmengine.cli import local, sampling_values
    from llmengine.cli.client import Client
    from llmengine.cli.repl.conversation import Conversation
    from llmengine.cli.repl.loop import Repl
    from llmengine.cli.repl.terminal import Terminal

    values = sampling_values.parse_all(given)
    if sys.stderr.isatty():
        print("Loading ...", end="\r", file=sys.stderr, flush=True)  # the next line is longer
    with local.engine_while(config, Terminal) as (host, terminal):
        client = Client(host, config.model.chat_template, config.model.overflow)
        conversation = Conversation(client, params=client.defaults(config.sampling), system=system)
        conversation.settings = values
        Repl(host, conversation, terminal).run()
