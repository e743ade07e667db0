"""asyncpg as an application uses it; one JSON line for each check."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from checks import METHODS, POOLED, PROMPT, QUERY_CANCELED, QUESTIONS, SPEC, SQL, check, polls

answers: list[tuple[Any, ...]] = []


async def main() -> None:
    run = [insight, stream, insight_stream, cursor, cancel, statement_timeout, timeout_ms, prepared]
    if POOLED:
        run += [role_ends_with_transaction, other_authority_is_refused]
    for each in run:
        with check(each.__name__):
            await each()


@asynccontextmanager
async def connect(**changes: Any) -> AsyncIterator[asyncpg.Connection]:
    options = {name: SPEC[name] for name in ("host", "port", "user", "password", "database")}
    if POOLED:
        # The next statement may meet another server connection, which lacks what this one prepared.
        options |= {"ssl": ssl.create_default_context(cafile=SPEC["authority"]), "statement_cache_size": 0}
    client = await asyncpg.connect(**(options | changes))
    try:
        yield client
    finally:
        await client.close()


async def insight() -> None:
    async with connect() as client:
        for question in QUESTIONS:
            answers.append(await one_row(client, "insight", *question))
    for answer, method in answers:
        assert answer and method in METHODS, (answer, method)


async def stream() -> None:
    """asyncpg reads a result at once; to have its rows one by one it has portals (its cursors)."""
    async with connect() as client, connect() as watch:
        await wait_until_busy(watch, False)
        async with client.transaction():
            portal = await client.cursor(SQL["long_stream"], PROMPT)
            first = await portal.fetchrow()
            assert first and await is_busy(watch), "everything was generated for one row"
            more = await portal.fetch(3)
            assert len(more) == 3, more
        await assert_usable(client)


async def insight_stream() -> None:
    async with connect() as client, client.transaction():
        pieces = [piece async for (piece,) in client.cursor(SQL["insight_stream"], *QUESTIONS[0])]
    assert pieces and all(piece.strip() for piece in pieces), pieces


async def cursor() -> None:
    async with connect() as client, connect() as watch:
        await wait_until_busy(watch, False)
        async with client.transaction():
            await client.execute(SQL["declare"])
            assert len(await client.fetch(SQL["fetch"])) == 1
            assert await is_busy(watch), "everything was generated for one row"
            await client.execute(SQL["close"])
        await assert_usable(client)


async def cancel() -> None:
    async with connect() as client, connect() as watch:
        await wait_until_busy(watch, False)
        transaction = client.transaction()
        await transaction.start()
        generation = asyncio.create_task(client.fetchval(SQL["generate"], PROMPT))
        await wait_until_busy(watch, True)
        generation.cancel()
        try:
            await generation
            raise AssertionError("it was not cancelled")
        except asyncio.CancelledError:
            pass
        # The driver keeps the server's error to itself; a transaction that had one takes no more statements.
        try:
            await client.execute("select 1")
            raise AssertionError("the server did not hear of it")
        except asyncpg.InFailedSQLTransactionError:
            await transaction.rollback()
        await assert_usable(client)


async def statement_timeout() -> None:
    async with connect() as client:

        async def generate() -> None:
            await client.execute(SQL["set_timeout"])
            await client.fetchval(SQL["generate"], PROMPT)

        await expect_cancelled(client, generate)
        async with client.transaction():
            assert await client.fetchval("show statement_timeout") == "0"


async def timeout_ms() -> None:
    async with connect() as client:
        await expect_cancelled(client, lambda: client.fetchval(SQL["timeout_ms"], *QUESTIONS[0]))


async def prepared() -> None:
    async with connect() as client, client.transaction():
        if POOLED:
            # A named one would stay behind on the server connection, for the next client to collide with.
            rows = [await client_row(client, "insight", *question) for question in QUESTIONS]
        else:
            statement = await client.prepare(SQL["insight"])
            rows = [tuple(await statement.fetchrow(*question)) for question in QUESTIONS]
        assert rows == answers, (rows, answers)
        count = await client.fetchval(SQL["prepared_count"], SQL["insight"])
        assert count == (0 if POOLED else 1), count


async def role_ends_with_transaction() -> None:
    database = SPEC["single_database"]
    async with connect(database=database) as one, connect(database=database) as other:
        async with one.transaction():
            await one.execute(SQL["set_role"])
            pid, role, visible = await client_row(one, "who")
        other_pid, other_role, all_visible = await one_row(other, "who")
    assert pid == other_pid, "they did not share the connection"
    assert (role, other_role) == (SPEC["role"], SPEC["user"])
    assert visible < all_visible, (visible, all_visible)


async def other_authority_is_refused() -> None:
    context = ssl.create_default_context(cafile=SPEC["other_authority"])
    try:
        async with connect(ssl=context):
            raise AssertionError("it trusted a stranger")
    except ssl.SSLCertVerificationError:
        pass


async def one_row(client: asyncpg.Connection, sql: str, *parameters: Any) -> tuple[Any, ...]:
    # asyncpg parses and binds in two steps, and only a transaction keeps the connection between them.
    async with client.transaction():
        return await client_row(client, sql, *parameters)


async def client_row(client: asyncpg.Connection, sql: str, *parameters: Any) -> tuple[Any, ...]:
    row = await client.fetchrow(SQL[sql], *parameters)
    assert row is not None
    return tuple(row)


async def is_busy(watch: asyncpg.Connection) -> bool:
    return await one_row(watch, "is_busy") == (True,)


async def wait_until_busy(watch: asyncpg.Connection, wanted: bool) -> None:
    for pause in polls():
        if await is_busy(watch) == wanted:
            return
        await asyncio.sleep(pause)


async def expect_cancelled(client: asyncpg.Connection, run: Callable[[], Awaitable[object]]) -> None:
    try:
        async with client.transaction():
            await run()
    except asyncpg.PostgresError as error:
        assert error.sqlstate == QUERY_CANCELED, error
    else:
        raise AssertionError("it was not cancelled")
    await assert_usable(client)


async def assert_usable(client: asyncpg.Connection) -> None:
    async with client.transaction():
        assert await client.fetchval("select 1") == 1


asyncio.run(main())
