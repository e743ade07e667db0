#!/usr/bin/env python3
"""Prints the SQL that loads a deal room: crm/*.json, and the interactions named in manifest.jsonl.

One transaction; ingesting is idempotent by source and external id, so loading twice changes nothing.
A line of the manifest:
    {"kind": "call", "source": "zoom", "external_id": "c-1", "file": "calls/1.vtt", "account": "Halden Freight", ...}
"""

import json
import sys
from pathlib import Path

CRM_SOURCE = "sample"
CRM = {"teams": "team", "reps": "rep", "accounts": "account", "contacts": "contact", "opportunities": "opportunity"}
# The argument of salesai.ingest_<kind> that takes the file's content, and its SQL type.
BODY = {"call": ("transcript", "text"), "email": ("message", "bytea"), "note": ("body", "text")}
# Its other arguments: the key of the manifest, and the SQL type. An email tells its own subject and time.
ARGUMENTS = {
    "call": {"format": ("format", "text"), "account": ("account", "text"), "opportunity": ("opportunity", "text"),
             "started_at": ("occurred_at", "timestamptz"), "participants": ("participants", "jsonb"),
             "subject": ("subject", "text")},
    "email": {"account": ("account", "text"), "opportunity": ("opportunity", "text")},
    "note": {"account": ("account", "text"), "opportunity": ("opportunity", "text"),
             "occurred_at": ("occurred_at", "timestamptz"), "subject": ("subject", "text")},
}


def literal(value, sql_type):
    if sql_type == "bytea":
        text = "\\x" + value.hex()
    elif sql_type == "jsonb":
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = str(value)
    if "\0" in text:
        raise ValueError("text holds a NUL character")
    # standard_conforming_strings is on (set below), so a quote is the only special character.
    return "'" + text.replace("'", "''") + "'::" + sql_type


def crm_statements(room):
    for name, kind in CRM.items():
        records = json.loads((room / "crm" / f"{name}.json").read_text(encoding="utf-8"))
        yield f"select * from salesai.ingest_crm('{CRM_SOURCE}', '{kind}', {literal(records, 'jsonb')});"


def interaction_statement(room, entry):
    kind = entry["kind"]
    body_name, body_type = BODY[kind]
    body = (room / entry["file"]).read_bytes()
    arguments = [
        f"source => {literal(entry['source'], 'text')}",
        f"external_id => {literal(entry['external_id'], 'text')}",
        f"{body_name} => {literal(body if body_type == 'bytea' else body.decode('utf-8'), body_type)}",
    ]
    for name, (key, sql_type) in ARGUMENTS[kind].items():
        if entry.get(key) is not None:
            arguments.append(f"{name} => {literal(entry[key], sql_type)}")
    return f"select salesai.ingest_{kind}({', '.join(arguments)});"


def interaction_statements(room):
    lines = (room / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield interaction_statement(room, json.loads(line))
        except (KeyError, ValueError, OSError) as error:
            sys.exit(f"manifest.jsonl, line {number}: {type(error).__name__}: {error}")


def main():
    room = Path(sys.argv[1])
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    # An error leaves the transaction without its commit, so nothing is stored.
    print("set client_encoding = 'UTF8';\nset standard_conforming_strings = on;\nbegin;")
    for statement in crm_statements(room):
        print(statement)
    for statement in interaction_statements(room):
        print(statement)
    print("commit;")


main()
