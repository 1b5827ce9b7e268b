"""The certificate that the server shows."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn

from llmengine.config import ServerConfig
from llmengine.errors import ConfigError


def context(config: ServerConfig) -> ssl.SSLContext | None:
    """None where none is set. Raises ConfigError for files that are no certificate and its key."""
    if not config.tls_cert:
        if config.tls_key:
            raise ConfigError("server.tls_key is set without server.tls_cert")
        return None
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    found.set_alpn_protocols(["http/1.1"])
    certificate = Path(config.tls_cert).expanduser()
    key = Path(config.tls_key).expanduser() if config.tls_key else certificate
    try:
        found.load_cert_chain(certificate, key, password=_locked)
    except ssl.SSLError as error:
        reason = (error.reason or "no PEM").replace("_", " ").lower()
        raise ConfigError(
            f"{certificate} and {key} are no certificate and key: {reason}"
        ) from error
    except OSError as error:
        raise ConfigError(f"server.tls_cert, server.tls_key: {error}") from error
    return found


def _locked() -> NoReturn:
    # OpenSSL would ask the terminal, and wait.
    raise ConfigError("server.tls_key: the key is locked by a password: store it without one")
