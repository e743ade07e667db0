"""psycopg 3 as an application uses it; one JSON line for each check."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg

from checks import METHODS, POOLED, PROMPT, QUERY_CANCELED, QUESTIONS, SPEC, SQL, check, polls

answers: list[tuple[Any, ...]] = []


def main() -> None:
    run = [insight, stream, insight_stream, cursor, cancel, statement_timeout, timeout_ms, prepared]
    if POOLED:
        run += [role_ends_with_transaction, other_authority_is_refused]
    for each in run:
        with check(each.__name__):
            each()


def connect(**changes: Any) -> psycopg.Connection:
    options = {name: SPEC[name] for name in ("host", "port", "user", "password")}
    options["dbname"] = SPEC["database"]
    if POOLED:
        # The next statement may meet another server connection, which lacks what this one prepared.
        options |= {"sslmode": "verify-full", "sslrootcert": SPEC["authority"], "prepare_threshold": None}
    # Raw: parameters are $1, as for all drivers here.
    return psycopg.connect(autocommit=True, cursor_factory=psycopg.RawCursor, **(options | changes))


def insight() -> None:
    with connect() as client:
        for question in QUESTIONS:
            answers.append(one_row(client, "insight", question))
    for answer, method in answers:
        assert answer and method in METHODS, (answer, method)


def stream() -> None:
    with connect() as client, connect() as watch, client.transaction():
        wait_until_busy(watch, False)
        pid = one_row(client, "backend_pid")
        # Closed first: while it is open, it keeps the connection from ending the transaction.
        with closing(client.cursor().stream(SQL["stream"], [PROMPT])) as pieces:
            first = next(pieces)
            # Were rows only sent together, their backend would be at rest by now.
            assert one_row(watch, "is_active", pid) == (True,), "the first piece came with the last"
            text = "".join(piece for (piece,) in [first, *pieces])
        assert len(text) > len(first[0]), text


def insight_stream() -> None:
    with connect() as client:
        pieces = [piece for (piece,) in client.cursor().stream(SQL["insight_stream"], QUESTIONS[0])]
    assert pieces and all(piece.strip() for piece in pieces), pieces


def cursor() -> None:
    with connect() as client, connect() as watch:
        wait_until_busy(watch, False)
        with client.transaction():
            client.execute(SQL["declare"])
            assert len(client.execute(SQL["fetch"]).fetchall()) == 1
            assert is_busy(watch), "everything was generated for one row"
            client.execute(SQL["close"])
        assert_usable(client)


def cancel() -> None:
    with connect() as client, connect() as watch, ThreadPoolExecutor(1) as threads:
        wait_until_busy(watch, False)

        def generate() -> None:
            generation = threads.submit(client.execute, SQL["generate"], [PROMPT])
            wait_until_busy(watch, True)
            client.cancel_safe()
            generation.result()

        expect_cancelled(client, generate)


def statement_timeout() -> None:
    with connect() as client:

        def generate() -> None:
            client.execute(SQL["set_timeout"])
            client.execute(SQL["generate"], [PROMPT])

        expect_cancelled(client, generate)
        assert client.execute("show statement_timeout").fetchone() == ("0",)


def timeout_ms() -> None:
    with connect() as client:
        expect_cancelled(client, lambda: client.execute(SQL["timeout_ms"], QUESTIONS[0]))


def prepared() -> None:
    with connect() as client, client.transaction():
        # Pooled, psycopg keeps no statement, whatever is asked of it.
        rows = [client.execute(SQL["insight"], each, prepare=True).fetchone() for each in QUESTIONS]
        assert rows == answers, (rows, answers)
        assert one_row(client, "prepared_count", [SQL["insight"]]) == (0 if POOLED else 1,)


def role_ends_with_transaction() -> None:
    database = SPEC["single_database"]
    with connect(dbname=database) as one, connect(dbname=database) as other:
        with one.transaction():
            one.execute(SQL["set_role"])
            pid, role, visible = one_row(one, "who")
        other_pid, other_role, all_visible = one_row(other, "who")
    assert pid == other_pid, "they did not share the connection"
    assert (role, other_role) == (SPEC["role"], SPEC["user"])
    assert visible < all_visible, (visible, all_visible)


def other_authority_is_refused() -> None:
    try:
        connect(sslrootcert=SPEC["other_authority"]).close()
    except psycopg.OperationalError as error:
        assert "certificate" in str(error), error
    else:
        raise AssertionError("it trusted a stranger")


def one_row(client: psycopg.Connection, sql: str, parameters: Any = None) -> tuple[Any, ...]:
    row = client.execute(SQL[sql], parameters).fetchone()
    assert row is not None
    return row


def is_busy(watch: psycopg.Connection) -> bool:
    return one_row(watch, "is_busy") == (True,)


def wait_until_busy(watch: psycopg.Connection, wanted: bool) -> None:
    for pause in polls():
        if is_busy(watch) == wanted:
            return
        time.sleep(pause)


def expect_cancelled(client: psycopg.Connection, run: Callable[[], object]) -> None:
    try:
        with client.transaction():
            run()
    except psycopg.Error as error:
        assert error.sqlstate == QUERY_CANCELED, error
    else:
        raise AssertionError("it was not cancelled")
    assert_usable(client)


def assert_usable(client: psycopg.Connection) -> None:
    assert client.execute("select 1").fetchone() == (1,)


main()
