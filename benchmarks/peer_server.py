"""A server of others in this process, for `benchmarks.peers`, until it is told to end.

python -m benchmarks.peer_server llama-server MODEL --slots 8 --context 8192 --threads 2

Its first line on stdout is JSON: the URL, what it is, and the CPU features that it was built for.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
from importlib import metadata
from typing import NoReturn


def announce(url: str, name: str, features: str) -> None:
    print(json.dumps({"url": url, "name": name, "features": features}), flush=True)


def llama_server(arguments: argparse.Namespace) -> NoReturn:
    """llama.cpp's own server, with the settings that it has by default."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = arguments.slots
    params.n_ctx = arguments.context
    params.kv_unified = True
    params.use_jinja = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    server = xllamacpp.Server(params)
    version = metadata.version("xllamacpp")
    announce(server.listening_address, f"xllamacpp {version}", xllamacpp.get_system_info())
    while True:
        signal.pause()


def llama_cpp_python(arguments: argparse.Namespace) -> None:
    """llama-cpp-python's server: one request at a time."""
    import llama_cpp
    import uvicorn
    from llama_cpp.server.app import create_app
    from llama_cpp.server.settings import ModelSettings, ServerSettings

    listener = socket.create_server(("127.0.0.1", 0))
    model = ModelSettings(
        model=arguments.model,
        model_alias="peer",
        n_ctx=arguments.context,
        n_threads=arguments.threads,
        n_threads_batch=arguments.threads,
        cache=True,
        verbose=False,
    )
    app = create_app(
        server_settings=ServerSettings(interrupt_requests=False), model_settings=[model]
    )
    features = llama_cpp.llama_print_system_info().decode()
    version = metadata.version("llama-cpp-python")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    announce(url, f"llama-cpp-python {version} server", features)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


PEERS = {"llama-server": llama_server, "llama-cpp-python": llama_cpp_python}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("model")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    PEERS[arguments.peer](arguments)


if __name__ == "__main__":
    main()
