"""Clients of whole servers, ours and llama.cpp's own: both answer the same prompts, for as many clients at once.

Each measurement begins with a fresh server, which has nothing in its cache.
"""

import concurrent.futures
import contextlib
import http.client
import json
import math
import pathlib
import socket
import statistics
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


def wait(server, log, is_ready):
    end = time.monotonic() + START_SECONDS
    while not is_ready():
        if server.poll() is not None or time.monotonic() > end:
            log.seek(0)
            raise RuntimeError(f"a server does not start:\n{log.read().decode(errors='replace')[-2000:]}")
        time.sleep(0.05)


@contextlib.contextmanager
def process(is_ready, *arguments):
    """A server that is ready."""
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(list(map(str, arguments)), stdout=log, stderr=log)
        try:
            wait(server, log, is_ready)
            yield
        finally:
            server.terminate()
            server.wait()


@contextlib.contextmanager
def sidecar(binary, config):
    """A server of ours with some lines of configuration; gives its socket."""
    with tempfile.TemporaryDirectory() as folder:
        path, file = pathlib.Path(folder, "socket"), pathlib.Path(folder, "sidecar.toml")
        file.write_text(f'socket = "{path}"\nlog = "error"\n{config}')
        check = [binary, "--config", file, "--check"]

        def is_ready():
            return subprocess.run(check, stderr=subprocess.DEVNULL).returncode == 0

        with process(is_ready, binary, "--config", file):
            yield path


@contextlib.contextmanager
def salesai(binary, model, threads):
    config = f'threads = {threads}\n[[language_model]]\nname = "m"\npath = "{model}"\n'
    with sidecar(binary, config) as path:
        yield path


@contextlib.contextmanager
def llama_cpp(binary, model, threads):
    """llama.cpp's server, with eight slots; gives its port."""
    port = free_port()
    options = ["-m", model, "-t", threads, "-np", 8, "-c", CONTEXT_TOKENS, "--host", "127.0.0.1", "--port", port]

    def is_healthy():
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200
        return False

    with process(is_healthy, binary, *options):
        yield port


def ask(binary, path, arguments):
    """What `inference-sidecar bench` measures."""
    command = [binary, "bench", "--socket", path, "--json", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{arguments}: {done.stderr}")
    return json.loads(done.stdout)


def answer(port, prompt, tokens, seed):
    """Seconds to the first piece of text, and the tokens of prompt, cache and answer."""
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "seed": seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    start, first, usage = time.perf_counter(), None, None
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"llama.cpp: {response.read().decode()}")
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if first is None and any(choice["delta"].get("content") for choice in event["choices"]):
            first = time.perf_counter() - start
        usage = event.get("usage") or usage
    connection.close()
    return first, usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"], usage["completion_tokens"]


def ask_llama_cpp(binary, port, arguments):
    """As `ask`, of the same prompts."""
    options = dict(zip(arguments.split()[::2], map(int, arguments.split()[1::2]), strict=True))
    prompts = subprocess.run([binary, "bench", "--print-prompts", *arguments.split()], capture_output=True, check=True)
    seed = options.get("--seed", 1)
    with concurrent.futures.ThreadPoolExecutor(options["--concurrency"]) as clients:
        start = time.perf_counter()
        answers = [
            clients.submit(answer, port, prompt, options["--output-tokens"], seed + index)
            for index, prompt in enumerate(json.loads(prompts.stdout))
        ]
        firsts, prompt_tokens, cached, written = zip(*(answer.result() for answer in answers), strict=True)
        seconds = time.perf_counter() - start
    firsts = sorted(first for first in firsts if first is not None)
    return {
        "completion_tokens_per_second": sum(written) / seconds,
        "time_to_first_token_ms": {
            "median": 1e3 * statistics.median_low(firsts),
            "p95": 1e3 * firsts[math.ceil(0.95 * len(firsts)) - 1],
        },
        "prompt_tokens": sum(prompt_tokens),
        "cached_tokens": sum(cached),
    }


def figures(server, ask_it):
    """Of one fresh server; times in seconds."""
    with server as place:
        ask_it(place, WARM_UP)
        shared = ask_it(place, SHARED)
        alone = ask_it(place, ALONE)
    first = shared["time_to_first_token_ms"]
    return {
        "8 clients: output tokens/s": shared["completion_tokens_per_second"],
        "8 clients: time to first token, p50, s": first["median"] / 1e3,
        "8 clients: time to first token, p95, s": first["p95"] / 1e3,
        "8 clients: cached prompt tokens, %": 100 * shared["cached_tokens"] / shared["prompt_tokens"],
        "1 client, 1,000 tokens: time to first token, s": alone["time_to_first_token_ms"]["median"] / 1e3,
    }


def measures(binary, llama_server, model, threads):
    """By engine."""
    return {
        "salesai": lambda: figures(salesai(binary, model, threads), lambda path, args: ask(binary, path, args)),
        "llama.cpp": lambda: figures(
            llama_cpp(llama_server, model, threads), lambda port, args: ask_llama_cpp(binary, port, args)
        ),
    }
