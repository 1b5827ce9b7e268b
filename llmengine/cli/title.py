"""What other users of the machine see of this process in `ps`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from llmengine.config import Config
from llmengine.options import MASK, options


def conceal(secrets: Iterable[str]) -> None:
    """Mask `secrets` in the command line that the system shows."""
    shown = list(sys.argv)
    for secret in filter(None, secrets):
        shown = [each.replace(secret, MASK) for each in shown]
    if shown != sys.argv:
        import setproctitle

        setproctitle.setproctitle(" ".join(shown))


def secrets_of(config: Config) -> Iterator[str]:
    for option in options().values():
        if option.secret:
            value = getattr(getattr(config, option.section), option.key)
            yield from (value,) if isinstance(value, str) else value
