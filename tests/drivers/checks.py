"""What the Python clients here are told, and how they report."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Written by mod.rs: where to connect, what to ask, and the SQL that all drivers run.
SPEC: dict[str, Any] = json.loads(os.environ["SALESAI_DRIVER_TEST"])
SQL: dict[str, str] = SPEC["sql"]
PROMPT: str = SPEC["prompt"]
QUESTIONS: list[list[str]] = SPEC["questions"]
# PgBouncer's transaction pooling, which has TLS towards us and keeps no prepared statement.
POOLED: bool = SPEC["authority"] is not None

METHODS = {"generated", "extractive"}
QUERY_CANCELED = "57014"
LIMIT_S = 60.0
POLL_S = 0.02


@contextmanager
def check(name: str) -> Iterator[None]:
    """Prints whether the block passed; a failure does not stop what comes after it."""
    outcome: dict[str, Any] = {"check": name, "ok": True}
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        outcome |= {"ok": False, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(outcome), flush=True)


def polls() -> Iterator[float]:
    """Pauses between looks at something that must come true within the limit."""
    start = time.monotonic()
    while time.monotonic() - start < LIMIT_S:
        yield POLL_S
    raise AssertionError(f"not after {LIMIT_S} s")
