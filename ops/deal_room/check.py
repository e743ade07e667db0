#!/usr/bin/env python3
"""Checks the sample deal room: counts, references, formats and answers.

Standard library only. Prints every problem and exits with 1 if there is one.
"""
import datetime as dt
import email
import html
import json
import re
import sys
from collections import Counter
from email import policy
from pathlib import Path

ROOT = Path(__file__).resolve().parent
FIRST, LAST = "2026-03-01", "2026-06-30"
STAGES = ["qualification", "discovery", "demo", "proposal", "negotiation", "closed_won", "closed_lost"]
CUE = re.compile(r"(\d\d):([0-5]\d):([0-5]\d)[.,](\d{3}) --> (\d\d):([0-5]\d):([0-5]\d)[.,](\d{3})")
problems = []


def need(ok, message):
    if not ok:
        problems.append(message)
    return bool(ok)


def lines_of_json(name):
    rows = []
    for i, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except ValueError as e:
            need(False, f"{name}:{i}: not JSON: {e}")
    return rows


def table(name, fields):
    rows = json.loads((ROOT / "crm" / f"{name}.json").read_text(encoding="utf-8"))
    for r in rows:
        missing = [f for f in ["external_id", *fields] if f not in r]
        need(not missing, f"crm/{name}.json: {r.get('external_id')}: missing {missing}")
    twice = [k for k, n in Counter(r["external_id"] for r in rows).items() if n > 1]
    need(not twice, f"crm/{name}.json: external_id used twice: {twice}")
    return {r["external_id"]: r for r in rows}


def in_range(day, where):
    need(FIRST <= day <= LAST, f"{where}: {day} is outside {FIRST}..{LAST}")


def check_crm():
    teams = table("teams", ["name"])
    reps = table("reps", ["name", "email", "team"])
    table("products", ["name", "list_price"])
    accounts = table("accounts", ["name", "domain", "industry", "owner"])
    contacts = table("contacts", ["name", "email", "title", "account"])
    opps = table("opportunities", ["name", "account", "owner", "stage", "amount", "currency", "close_date", "stage_history"])
    need(len(teams) == 2, f"teams: {len(teams)}, expected 2")
    need(len(reps) == 4, f"reps: {len(reps)}, expected 4")
    need(len(accounts) >= 8, f"accounts: {len(accounts)}, expected at least 8")
    need(len(contacts) >= 20, f"contacts: {len(contacts)}, expected at least 20")
    need(len(opps) >= 12, f"opportunities: {len(opps)}, expected at least 12")
    for k, r in reps.items():
        need(r["team"] in teams, f"rep {k}: no team {r['team']}")
        need(r["email"].endswith(".example"), f"rep {k}: {r['email']} is not under .example")
    for k, a in accounts.items():
        need(a["owner"] in reps, f"account {k}: no rep {a['owner']}")
        need(a["domain"].endswith(".example"), f"account {k}: {a['domain']} is not under .example")
    for k, c in contacts.items():
        if need(c["account"] in accounts, f"contact {k}: no account {c['account']}"):
            domain = accounts[c["account"]]["domain"]
            need(c["email"].endswith("@" + domain), f"contact {k}: {c['email']} is not at {domain}")
    for k, o in opps.items():
        need(o["account"] in accounts, f"opportunity {k}: no account {o['account']}")
        need(o["owner"] in reps, f"opportunity {k}: no rep {o['owner']}")
        need(isinstance(o["amount"], (int, float)) and o["amount"] > 0, f"opportunity {k}: amount {o['amount']!r}")
        in_range(o["close_date"], f"opportunity {k}")
        hist = o["stage_history"]
        if need(hist, f"opportunity {k}: empty stage_history"):
            need(hist[-1]["stage"] == o["stage"], f"opportunity {k}: stage {o['stage']} is not the last of its history")
            days = [h["entered_at"] for h in hist]
            need(days == sorted(days), f"opportunity {k}: stage_history is not in order")
        for h in hist:
            need(h["stage"] in STAGES, f"opportunity {k}: unknown stage {h['stage']}")
            in_range(h["entered_at"], f"opportunity {k}")
    absent = set(STAGES) - {o["stage"] for o in opps.values()}
    need(not absent, f"opportunities: no row in stage {sorted(absent)}")
    return reps, accounts, contacts, opps


def ms(h, m, s, milli):
    return ((int(h) * 60 + int(m)) * 60 + int(s)) * 1000 + int(milli)


def read_cues(entry, text):
    """[(speaker, text)] of a call file; every departure from the format is a problem."""
    name, fmt, cues = entry["file"], entry["format"], []
    if fmt == "plain":
        for i, line in enumerate(text.splitlines(), 1):
            m = re.fullmatch(r"([^:]+): (.+)", line)
            if need(m, f"{name}:{i}: not 'Speaker: text'"):
                cues.append(m.groups())
        return cues
    blocks = re.split(r"\n\n+", text.strip())
    if fmt == "vtt" and need(blocks[0] == "WEBVTT", f"{name}: does not begin with WEBVTT and a blank line"):
        blocks = blocks[1:]
    last = -1
    for n, block in enumerate(blocks, 1):
        part = block.split("\n")
        if not need(len(part) == 3, f"{name}: cue {n}: {len(part)} lines, expected 3"):
            continue
        teams = entry["source"] == "teams"
        need(part[0].endswith(f"/{n}-0") if teams else part[0] == str(n), f"{name}: cue {n}: id {part[0]!r}")
        m = CUE.fullmatch(part[1])
        if need(m and ("," in part[1]) == (fmt == "srt"), f"{name}: cue {n}: times {part[1]!r}"):
            g = m.groups()
            start, end = ms(*g[:4]), ms(*g[4:])
            need(start < end, f"{name}: cue {n}: ends before it starts")
            need(start >= last, f"{name}: cue {n}: starts before the cue before it")
            last = start
        m = re.fullmatch(r"<v ([^>]+)>(.+)</v>" if teams else r"([^:]+): (.+)", part[2])
        if need(m, f"{name}: cue {n}: text {part[2]!r}"):
            cues.append(m.groups())
            need(len(m[2].split()) <= 45, f"{name}: cue {n}: {len(m[2].split())} words")
    return cues


def check_call(entry, text, known):
    name = entry["file"]
    people = entry.get("participants") or []
    cues = read_cues(entry, text)
    need(40 <= len(cues) <= 110, f"{name}: {len(cues)} cues, expected 40 to 110")
    labels, names = {s for s, _ in cues}, {p["name"] for p in people}
    need(labels == names, f"{name}: speakers and participants differ: {sorted(labels ^ names)}")
    sides = {p["side"] for p in people}
    need(sides == {"internal", "external"}, f"{name}: sides {sorted(sides)}")
    for p in people:
        need(p.get("role"), f"{name}: {p['name']} has no role")
        own = p["email"].endswith("@tessellate.example")
        need(own == (p["side"] == "internal"), f"{name}: {p['name']} is on the wrong side")
        need(own or known.get(p["name"]) == p["email"], f"{name}: {p['name']} <{p['email']}> is no contact")
    return [t for _, t in cues]


def check_email(entry, raw, ids, known):
    name = entry["file"]
    msg = email.message_from_bytes(raw, policy=policy.default)
    for h in ("Message-ID", "Date", "From", "To", "Subject"):
        need(msg[h], f"{name}: no {h}")
    when = msg["Date"].datetime.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    need(when == entry["occurred_at"], f"{name}: Date {when}, manifest {entry['occurred_at']}")
    need(msg["Subject"] == entry["subject"], f"{name}: subject differs from the manifest")
    for h in ("From", "To", "Cc"):
        for a in msg[h].addresses if msg[h] else ():
            need(known.get(a.display_name) == a.addr_spec, f"{name}: {h}: {a} is not known")
    parent = msg["In-Reply-To"]
    if parent:
        need(parent in ids, f"{name}: In-Reply-To {parent} is no mail here")
        need(ids.get(parent, "9") < when, f"{name}: answers a later mail")
        refs = (msg["References"] or "").split()
        need(refs and refs[-1] == parent, f"{name}: References does not end with In-Reply-To")
        need(all(r in ids for r in refs), f"{name}: References names an unknown mail")
    lines = [str(msg["Subject"])]
    for part in msg.walk():
        if part.get_content_maintype() == "text":
            body = part.get_content()
            if part.get_content_subtype() == "html":
                body = html.unescape(re.sub(r"<[^>]+>", "", body))
            lines += body.splitlines()
    return lines, msg


def check_interactions(reps, accounts, contacts, opps):
    entries = lines_of_json("manifest.jsonl")
    known = {r["name"]: r["email"] for r in [*reps.values(), *contacts.values()]}
    for e in entries:
        for p in e.get("participants") or []:
            if p["side"] == "internal":
                need(known.setdefault(p["name"], p["email"]) == p["email"], f"{e['file']}: {p['name']} has two addresses")
    by_name = {a["name"]: k for k, a in accounts.items()}
    twice = [k for k, n in Counter(e["external_id"] for e in entries).items() if n > 1]
    need(not twice, f"manifest.jsonl: external_id used twice: {twice}")
    kinds = Counter(e["kind"] for e in entries)
    need(len(entries) >= 30, f"interactions: {len(entries)}, expected at least 30")
    formats = Counter((e.get("format"), e["source"] == "teams") for e in entries if e["kind"] == "call")
    for key, least in {("vtt", False): 12, ("vtt", True): 2, ("srt", False): 1, ("plain", False): 1}.items():
        need(formats[key] >= least, f"calls of format {key}: {formats[key]}, expected at least {least}")
    need(kinds["email"] >= 10 and kinds["note"] >= 4, f"interactions by kind: {dict(kinds)}")
    on_disk = {f"{d}/{p.name}" for d in ("calls", "emails", "notes") for p in (ROOT / d).iterdir()}
    listed = {e["file"] for e in entries}
    need(on_disk == listed, f"files and manifest differ: {sorted(on_disk ^ listed)}")
    ids = {f"<{e['external_id']}@mail.tessellate.example>": e["occurred_at"] for e in entries if e["kind"] == "email"}
    texts, mails = {}, []
    for e in entries:
        where = e["external_id"]
        need(Path(e["file"]).stem == where, f"{where}: file is {e['file']}")
        if need(e["account"] in by_name, f"{where}: no account named {e['account']!r}") and e["opportunity"]:
            if need(e["opportunity"] in opps, f"{where}: no opportunity {e['opportunity']}"):
                need(opps[e["opportunity"]]["account"] == by_name[e["account"]], f"{where}: opportunity of another account")
        need(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", e["occurred_at"]), f"{where}: occurred_at {e['occurred_at']!r}")
        in_range(e["occurred_at"][:10], where)
        if e["file"] not in on_disk:
            continue
        raw = (ROOT / e["file"]).read_bytes()
        if e["kind"] == "call":
            texts[where] = check_call(e, raw.decode("utf-8"), known)
        elif e["kind"] == "email":
            texts[where], msg = check_email(e, raw, ids, known)
            mails.append(msg)
        elif need(e["kind"] == "note", f"{where}: kind {e['kind']!r}"):
            texts[where] = raw.decode("utf-8").splitlines()
            need(e.get("author") in known.values(), f"{where}: author {e.get('author')!r}")
    roots = {(m["References"] or "").split()[0] for m in mails if m["References"]}
    need(len(roots) >= 3, f"mail threads: {len(roots)}, expected at least 3")
    need(any(m["Content-Transfer-Encoding"] == "quoted-printable" for m in mails), "no quoted-printable mail")
    need(any(m.get_content_type() == "multipart/alternative" for m in mails), "no multipart/alternative mail")
    return {e["external_id"]: e for e in entries}, texts


def check_questions(entries, texts):
    questions = lines_of_json("questions.jsonl")
    need([q["id"] for q in questions] == list(range(1, 21)), "questions.jsonl: ids are not 1 to 20")
    for q in questions:
        where, at = f"question {q['id']}", q["interaction"]
        if not need(at in entries, f"{where}: no interaction {at}"):
            continue
        need(q["account"] in (None, entries[at]["account"]), f"{where}: {at} is of another account")
        need(q["answer_contains"], f"{where}: no answer")
        for s in q["answer_contains"]:
            need(any(s in line for line in texts.get(at, [])), f"{where}: {s!r} stands in no line of {at}")
            for other, lines in texts.items():
                joined = " ".join(" ".join(lines).split()).lower()
                need(other == at or s.lower() not in joined, f"{where}: {s!r} stands in {other} too")
    return questions


def main():
    reps, accounts, contacts, opps = check_crm()
    entries, texts = check_interactions(reps, accounts, contacts, opps)
    questions = check_questions(entries, texts)
    for p in problems:
        print("deal room:", p, file=sys.stderr)
    if problems:
        sys.exit(1)
    kinds = Counter(e["kind"] for e in entries.values())
    print(
        f"deal room: ok: {len(accounts)} accounts, {len(opps)} opportunities, {len(contacts)} contacts, "
        f"{len(reps)} reps, {len(entries)} interactions ({kinds['call']} calls, {kinds['email']} mails, "
        f"{kinds['note']} notes), {len(questions)} questions"
    )


if __name__ == "__main__":
    main()
