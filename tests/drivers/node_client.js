// node-postgres as an application uses it; one JSON line for each check.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const { setTimeout: pause } = require('node:timers/promises');
const { Client, Query } = require('pg');
const Cursor = require('pg-cursor');

// Written by mod.rs: where to connect, what to ask, and the SQL that all drivers run.
const spec = JSON.parse(process.env.SALESAI_DRIVER_TEST);
const { sql, prompt, questions } = spec;
// PgBouncer's transaction pooling, which has TLS towards us and keeps no prepared statement.
const isPooled = spec.authority !== null;
const LIMIT_MS = 60_000;
const answers = [];

async function main() {
    const run = [insight, stream, insight_stream, cursor, cancel, statement_timeout, timeout_ms, prepared];
    if (isPooled) run.push(role_ends_with_transaction, other_authority_is_refused);
    for (const each of run) await check(each);
}

/** Prints whether it passed; a failure does not stop what comes after it. */
async function check(each) {
    const outcome = { check: each.name, ok: true };
    try {
        await each();
    } catch (error) {
        console.error(error);
        Object.assign(outcome, { ok: false, error: String(error) });
    }
    console.log(JSON.stringify(outcome));
}

/** Runs `use` with as many clients as it takes, and closes them. */
async function connected(use, changes = {}) {
    const { host, port, user, password, database } = spec;
    const ssl = isPooled && { ca: fs.readFileSync(spec.authority) };
    const clients = Array.from(
        { length: use.length },
        () => new Client({ host, port, user, password, database, ssl, ...changes }),
    );
    try {
        await Promise.all(clients.map((client) => client.connect()));
        return await use(...clients);
    } finally {
        await Promise.allSettled(clients.map((client) => client.end()));
    }
}

async function insight() {
    await connected(async (client) => {
        for (const question of questions) answers.push(await row(client, sql.insight, question));
    });
    for (const [answer, method] of answers) {
        assert(answer && ['generated', 'extractive'].includes(method), `${method}: ${answer}`);
    }
}

async function stream() {
    await connected(async (client, watch) => {
        await waitUntilBusy(watch, false);
        await client.query('begin');
        const pid = await row(client, sql.backend_pid);
        let wasActive;
        const pieces = await rowByRow(client, sql.stream, [prompt], () => {
            wasActive = row(watch, sql.is_active, pid);
        });
        await client.query('commit');
        // Were rows only sent together, their backend would have been at rest at the first.
        assert.deepStrictEqual(await wasActive, [true], 'the first piece came with the last');
        assert(pieces.length > 1, String(pieces.length));
    });
}

/** The first column of the rows of a query, and a call when the first has come. */
function rowByRow(client, text, values, atFirst) {
    return new Promise((resolve, reject) => {
        const pieces = [];
        const query = client.query(new Query({ text, values, rowMode: 'array' }));
        query.on('row', ([piece]) => {
            if (pieces.push(piece) === 1) atFirst();
        });
        query.on('end', () => resolve(pieces));
        query.on('error', reject);
    });
}

/** By the portals of pg-cursor, one row at a time. */
async function insight_stream() {
    await connected(async (client) => {
        await client.query('begin');
        const portal = client.query(new Cursor(sql.insight_stream, questions[0], { rowMode: 'array' }));
        const pieces = [];
        for (let rows; (rows = await portal.read(1)).length > 0;) pieces.push(rows[0][0]);
        await portal.close();
        await client.query('commit');
        assert(pieces.length > 0 && pieces.every((piece) => piece.trim() !== ''), JSON.stringify(pieces));
    });
}

async function cursor() {
    await connected(async (client, watch) => {
        await waitUntilBusy(watch, false);
        await client.query('begin');
        await client.query(sql.declare);
        assert.strictEqual((await client.query(sql.fetch)).rowCount, 1);
        assert(await isBusy(watch), 'everything was generated for one row');
        await client.query(sql.close);
        await client.query('commit');
        await assertUsable(client);
    });
}

/** node-postgres has no cancel of its own: another connection asks the server. */
async function cancel() {
    await connected(async (client, watch) => {
        await waitUntilBusy(watch, false);
        await expectCancelled(client, async () => {
            const pid = await row(client, sql.backend_pid);
            const generation = client.query(sql.generate, [prompt]);
            const cancelled = waitUntilBusy(watch, true).then(() => row(watch, sql.cancel, pid));
            const [outcome, sent] = await Promise.allSettled([generation, cancelled]);
            assert.deepStrictEqual(sent.value, [true], String(sent.reason));
            if (outcome.status === 'rejected') throw outcome.reason;
        });
    });
}

async function statement_timeout() {
    await connected(async (client) => {
        await expectCancelled(client, async () => {
            await client.query(sql.set_timeout);
            await client.query(sql.generate, [prompt]);
        });
        assert.deepStrictEqual(await row(client, 'show statement_timeout'), ['0']);
    });
}

async function timeout_ms() {
    await connected((client) => expectCancelled(client, () => client.query(sql.timeout_ms, questions[0])));
}

async function prepared() {
    await connected(async (client) => {
        await client.query('begin');
        // The next transaction may meet another server connection, which lacks what this one prepared.
        const name = isPooled ? undefined : 'ask';
        for (const [index, values] of questions.entries()) {
            const result = await client.query({ name, text: sql.insight, values, rowMode: 'array' });
            assert.deepStrictEqual(result.rows, [answers[index]]);
        }
        const count = await row(client, sql.prepared_count, [sql.insight]);
        await client.query('commit');
        assert.deepStrictEqual(count, [isPooled ? 0 : 1]);
    });
}

async function role_ends_with_transaction() {
    const database = spec.single_database;
    await connected(async (one, other) => {
        await one.query('begin');
        await one.query(sql.set_role);
        const [pid, role, visible] = await row(one, sql.who);
        await one.query('commit');
        const [otherPid, otherRole, allVisible] = await row(other, sql.who);
        assert.strictEqual(pid, otherPid, 'they did not share the connection');
        assert.deepStrictEqual([role, otherRole], [spec.role, spec.user]);
        assert(visible < allVisible, `${visible} of ${allVisible}`);
    }, { database });
}

async function other_authority_is_refused() {
    const ssl = { ca: fs.readFileSync(spec.other_authority) };
    await assert.rejects(connected(async (client) => client, { ssl }), /certificate/);
}

async function row(client, text, values) {
    const result = await client.query({ text, values, rowMode: 'array' });
    assert.strictEqual(result.rows.length, 1);
    return result.rows[0];
}

async function isBusy(watch) {
    const [busy] = await row(watch, sql.is_busy);
    return busy;
}

async function waitUntilBusy(watch, wanted) {
    for (const start = Date.now(); (await isBusy(watch)) !== wanted; await pause(20)) {
        assert(Date.now() - start < LIMIT_MS, `not after ${LIMIT_MS} ms`);
    }
}

async function expectCancelled(client, use) {
    await client.query('begin');
    await assert.rejects(use(), { code: '57014' });
    await client.query('rollback');
    await assertUsable(client);
}

async function assertUsable(client) {
    assert.deepStrictEqual(await row(client, 'select 1'), [1]);
}

main();
