"""Clients of whole servers: ours, and llama.cpp's own behind a route of ours, so that one program asks both the same.

Each measurement begins with a fresh server, which has nothing in its cache.
"""

import contextlib
import json
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

# `inference-sidecar bench`: about 900 tokens that all prompts begin with, and 100 of their own.
SHARED = "--concurrency 8 --requests 32 --prompt-tokens 1000 --shared-prefix 90 --output-tokens 64"
ALONE = "--concurrency 1 --requests 1 --prompt-tokens 1000 --output-tokens 8 --seed 2"
WARM_UP = "--concurrency 1 --requests 1 --prompt-tokens 8 --output-tokens 8"
# Room for all eight.
CONTEXT_TOKENS = 8 * 2048
START_SECONDS = 120


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(is_ready):
    end = time.monotonic() + START_SECONDS
    while not is_ready():
        if time.monotonic() > end:
            raise RuntimeError("a server does not start")
        time.sleep(0.05)


@contextlib.contextmanager
def process(*arguments):
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(list(map(str, arguments)), stdout=log, stderr=log)
        try:
            yield server
        finally:
            server.terminate()
            server.wait()


@contextlib.contextmanager
def sidecar(binary, config):
    """A server of ours with some lines of configuration; gives its socket."""
    with tempfile.TemporaryDirectory() as folder:
        path, file = pathlib.Path(folder, "socket"), pathlib.Path(folder, "sidecar.toml")
        file.write_text(f'socket = "{path}"\nlog = "error"\n{config}')
        with process(binary, "--config", file):
            check = [binary, "--config", file, "--check"]
            wait(lambda: subprocess.run(check, stderr=subprocess.DEVNULL).returncode == 0)
            yield path


@contextlib.contextmanager
def salesai(binary, model, threads):
    config = f'threads = {threads}\n[[language_model]]\nname = "m"\npath = "{model}"\n'
    with sidecar(binary, config) as path:
        yield path


@contextlib.contextmanager
def llama_cpp(binary, llama_server, model, threads):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["-m", model, "-t", threads, "-np", 8, "-c", CONTEXT_TOKENS, "--host", "127.0.0.1", "--port", port]

    def is_healthy():
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return urllib.request.urlopen(f"{url}/health", timeout=5).status == 200
        return False

    route = f'allowed_hosts = ["127.0.0.1:{port}"]\n[[route]]\nmodel = "m"\ntokens_max = 2048\n'
    upstream = f'[[route.upstream]]\nkind = "llama.cpp"\nurl = "{url}"\nmodel = "m"\nfirst_token_timeout_ms = 600000\n'
    with process(llama_server, *options):
        wait(is_healthy)
        with sidecar(binary, route + upstream) as path:
            yield path


def ask(binary, path, arguments):
    command = [binary, "bench", "--socket", path, "--json", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{arguments}: {done.stderr}")
    return json.loads(done.stdout)


def figures(server, binary):
    """Of one fresh server; times in seconds."""
    with server as path:
        ask(binary, path, WARM_UP)
        shared = ask(binary, path, SHARED)
        alone = ask(binary, path, ALONE)
    first = shared["time_to_first_token_ms"]
    return {
        "8 clients: output tokens/s": shared["completion_tokens_per_second"],
        "8 clients: time to first token, p50, s": first["median"] / 1e3,
        "8 clients: time to first token, p95, s": first["p95"] / 1e3,
        "8 clients: cached prompt tokens, %": 100 * shared["cached_tokens"] / shared["prompt_tokens"],
        "1 client, 1,000 tokens: time to first token, s": alone["time_to_first_token_ms"]["median"] / 1e3,
    }
