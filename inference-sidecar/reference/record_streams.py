"""Records what the real server of llama-cpp-python sends, byte for byte, for the tests of the router.

usage: record_streams.py HOST PORT DIRECTORY

Each case becomes NAME.request.json, the body that the router sends, and NAME.http, the whole answer.
"""

import json
import pathlib
import socket
import sys

COMMON = {
    "model": "smol",
    "max_tokens": 12,
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "repeat_last_n": 131072,
    "cache_prompt": False,
    "timings_per_token": True,
}
SCHEMA = {
    "type": "object",
    "properties": {"zip": {"type": "integer"}, "city": {"type": "string", "maxLength": 12}},
    "required": ["zip", "city"],
}


def case(content, **fields):
    return {**COMMON, "messages": [{"role": "user", "content": content}], **fields}


CASES = {
    "length": case("Say hello."),
    "end": case("Answer with one word: what is the capital of France?", max_tokens=40),
    "unicode": case("Repeat: größer, 日本語, 🦙🎉", max_tokens=40, grammar='root ::= "größer, 日本語, 🦙🎉"'),
    "stop": case("Say hello.", max_tokens=40, stop=[" here", " help"]),
    "logprobs": case("Say hello.", max_tokens=4, logprobs=True, top_logprobs=2),
    "sampled": case("Say hello.", temperature=0.7, top_p=0.9, min_p=0.05, repeat_penalty=1.1, seed=42),
    "schema": case(
        "Name a city and its zip code as JSON.",
        max_tokens=60,
        response_format={"type": "json_object", "schema": SCHEMA},
    ),
    "choices": case("Is water wet?", max_tokens=8, grammar='root ::= "yes" | "no" | "say \\"maybe\\""'),
    "too_long": case("word " * 5000),
}


def answer(host, port, body):
    """The bytes of the whole answer; the server closes the connection after it."""
    text = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n"
        f"content-type: application/json\r\naccept: text/event-stream\r\ncontent-length: {len(text)}\r\n\r\n"
    )
    with socket.create_connection((host, port), timeout=120) as connection:
        connection.sendall(head.encode() + text)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def main():
    host, port, directory = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
    directory.mkdir(parents=True, exist_ok=True)
    for name, body in CASES.items():
        recorded = answer(host, port, body)
        if name != "too_long":
            request = json.dumps(body, ensure_ascii=False, indent=1)
            (directory / f"{name}.request.json").write_text(request + "\n")
        (directory / f"{name}.http").write_bytes(recorded)
        print(name, recorded.split(b"\r\n", 1)[0].decode(), len(recorded))


main()
