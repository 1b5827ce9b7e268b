"""Where the server listens, to whom, and how much it takes."""

from __future__ import annotations

from typing import Annotated

from llmengine.config.option import Section, option


class ServerConfig(Section, frozen=True):
    host: Annotated[str, option("Address to listen on.", env="LLM_ENGINE_HOST")] = "127.0.0.1"
    port: Annotated[
        int, option("Port to listen on; 0 takes a free one.", env="LLM_ENGINE_PORT", ge=0, le=65535)
    ] = 8000
    api_key: Annotated[
        str,
        option(
            "Key that clients must send; empty: none.",
            env="LLM_ENGINE_API_KEY",
            secret=True,
            live=True,
        ),
    ] = ""
    admin_key: Annotated[
        str,
        option(
            "Key for /v1/cache; empty: the api_key serves for it too.",
            env="LLM_ENGINE_ADMIN_KEY",
            secret=True,
            live=True,
        ),
    ] = ""
    api_keys: Annotated[
        tuple[str, ...],
        option(
            "More keys for clients, each NAME:KEY; the name is told in logs.",
            env="LLM_ENGINE_API_KEYS",
            secret=True,
            live=True,
        ),
    ] = ()
    keys_file: Annotated[
        str,
        option("File of the keys that `llmengine keys` makes; empty: in the user's config folder."),
    ] = ""
    insecure: Annotated[
        bool, option("Listen beyond this machine without a key: whoever reaches it may use it.")
    ] = False
    allowed_hosts: Annotated[
        tuple[str, ...],
        option("Names, beside addresses, that clients may call the server by."),
    ] = ()
    tls_cert: Annotated[
        str, option("PEM file of the certificate, and those that vouch for it; empty: no TLS.")
    ] = ""
    tls_key: Annotated[
        str, option("PEM file of its private key; empty: it is in the file of tls_cert.")
    ] = ""
    max_concurrent_requests: Annotated[
        int, option("Requests that run at once.", flag="slots", ge=1, le=128)
    ] = 16
    max_queue: Annotated[
        int, option("Requests that may wait; more are refused with 503.", ge=0, le=1_000_000)
    ] = 256
    request_timeout_seconds: Annotated[
        float,
        option("Seconds after which a request is ended; 0: never.", ge=0, le=86_400, live=True),
    ] = 0.0
    keepalive_seconds: Annotated[
        float,
        option(
            "Seconds of silence after which a stream says that it lives; proxies often wait 30.",
            gt=0,
            le=86_400,
        ),
    ] = 15.0
    drain_seconds: Annotated[
        float,
        option(
            "Seconds that running requests get to finish at shutdown.", ge=0, le=86_400, live=True
        ),
    ] = 30.0
    max_body_mb: Annotated[int, option("Largest request body, in MiB.", ge=1, le=1024)] = 16
    media_hosts: Annotated[
        tuple[str, ...],
        option(
            "Hosts from which images and sound given by URL are fetched, like example.com, "
            "*.example.com, or * for any; none: only what comes in the request itself is taken."
        ),
    ] = ()
    media_max_mb: Annotated[
        int, option("Largest image or recording that is fetched, in MiB.", ge=1, le=1024)
    ] = 16
    media_timeout_seconds: Annotated[
        float, option("Seconds that fetching one may take.", ge=0.1, le=600)
    ] = 10.0
    enable_cors: Annotated[
        bool, option("Answer browsers of other origins (those in cors_origins).")
    ] = False
    cors_origins: Annotated[
        tuple[str, ...], option("Origins that CORS allows, each like https://app.example.com.")
    ] = ()
    strict_parameters: Annotated[
        bool, option("Refuse unknown request parameters instead of warning.", live=True)
    ] = False
    responses_path: Annotated[
        str, option("Folder of the stored /v1/responses; empty: in the user's cache folder.")
    ] = ""
    responses_max_size_mb: Annotated[
        int, option("Disk for stored /v1/responses, in MiB; 0: none are stored.", ge=0, le=2**30)
    ] = 256
    responses_ttl_seconds: Annotated[
        float, option("Seconds that a response stays stored; 0: no limit.", ge=0)
    ] = 2_592_000.0
    files_path: Annotated[
        str, option("Folder of /v1/files and /v1/batches; empty: in the user's data folder.")
    ] = ""
    files_max_size_mb: Annotated[
        int, option("Disk for files and batches, in MiB; 0: there are none.", ge=0, le=2**30)
    ] = 256
    files_ttl_seconds: Annotated[
        float, option("Seconds that files and ended batches stay; 0: no limit.", ge=0)
    ] = 2_592_000.0
    batch_concurrency: Annotated[
        int, option("Requests of batches that are answered at once.", ge=1, le=128)
    ] = 2
