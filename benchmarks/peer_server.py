"""A server of others in this process, for `benchmarks.peers`, until it is told to end.

    python -m benchmarks.peer_server llama-server MODEL --slots 8 --context 8192 --threads 2

Its first line on stdout is JSON: the URL, what it is, and the CPU features that it was built for,
if it tells them.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import NoReturn
from urllib.error import URLError
from urllib.request import urlopen

START_SECONDS = 600.0


def announce(url: str, name: str, features: str) -> None:
    print(json.dumps({"url": url, "name": name, "features": features}), flush=True)


def llama_server(arguments: argparse.Namespace) -> NoReturn:
    """llama.cpp's own server, with the settings that it has by default."""
    if arguments.program:
        run_program(arguments)
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


def run_program(arguments: argparse.Namespace) -> NoReturn:
    """The same server as a program that somebody built, for a GPU or for all that this CPU has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [arguments.program, "--model", arguments.model, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--parallel", str(arguments.slots), "--kv-unified", "--jinja"]
    command += ["--ctx-size", str(arguments.context), "--threads", str(arguments.threads)]
    url = f"http://127.0.0.1:{port}"
    with tempfile.NamedTemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_for(url, process, Path(log.name))
            asked = [arguments.program, "--version"]
            told = subprocess.run(asked, capture_output=True, text=True, check=True)
            version = re.search(r"version: (.*)", told.stdout + told.stderr)
            announce(url, f"llama-server {version[1] if version else ''}", "")
            sys.exit(process.wait())
        finally:
            process.terminate()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it has loaded its model."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            sys.exit(f"it ended: {log.read_text(errors='replace')[-400:]}")
        try:
            with urlopen(f"{url}/health"):
                return
        except (URLError, ConnectionError):  # not listening yet, or 503 while it loads
            time.sleep(0.1)
    sys.exit(f"it did not answer within {START_SECONDS:.0f} s")


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
    parser.add_argument("--program", default="", help="a llama-server to run in place of xllamacpp")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    PEERS[arguments.peer](arguments)


if __name__ == "__main__":
    main()
