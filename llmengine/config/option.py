"""What every section is made of."""

from __future__ import annotations

from typing import Any

from msgspec import Meta, Struct


def option(
    description: str,
    *,
    env: str = "",
    flag: str = "",
    secret: bool = False,
    live: bool = False,
    **bounds: Any,
) -> Meta:
    """What is said of an option beside its type and default.

    `env` is a second, shorter name of its environment variable, `flag` its name on the command
    line where that is not the key itself; what is `secret` is never shown; what is `live` may
    change while a server runs.
    """
    extra = {"env": env, "flag": flag, "secret": secret, "live": live}
    return Meta(description=description, extra=extra, **bounds)


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass
