"""Figures as a page of Markdown."""

import datetime
import re
import statistics

OWN = "salesai"


def number(value):
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(values):
    return f"{number(statistics.median(values))} ({number(min(values))} to {number(max(values))})"


def section(title, unit, figures, notes):
    """`figures`: name, engine, values."""
    engines = []
    for found in figures.values():
        engines += [engine for engine in found if engine not in engines]
    peers = [engine for engine in engines if engine != OWN]
    lines = [f"## {title}", ""]
    lines.append("| " + " | ".join([unit, OWN] + [c for p in peers for c in (p, "ratio")]) + " |")
    lines.append("|" + "---|" * (2 + 2 * len(peers)))
    for name, found in figures.items():
        row = [name, spread(found[OWN]) if OWN in found else ""]
        for peer in peers:
            both = peer in found and OWN in found
            ratio = statistics.median(found[OWN]) / statistics.median(found[peer]) if both else None
            row += [spread(found[peer]) if peer in found else "", f"{ratio:.2f}" if both else ""]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines + [""] + notes)


def lines(title, text):
    """What a program printed."""
    return "\n".join([f"## {title}", "", text.strip()])


def roofline(size, bandwidths, shares):
    """The share of what memory allows that one stream reaches."""
    allowed = statistics.median(bandwidths) * 1e9 / size
    return (
        f"Memory was read at {spread(bandwidths)} GB/s, beside each run of one stream: the whole file for each token "
        f"would allow {number(allowed)} tokens/s. One stream reaches {spread(shares)} % of what memory allowed just then."
    )


def losses(figures):
    """What is lost at a depth of 2,048."""

    def lost(note):
        alone, deep = (statistics.median(figures[f"decode 1 at {depth}{note}"][OWN]) for depth in (0, 2048))
        return f"{100 * (1 - deep / alone):.0f} %"

    return (
        f"After 2,048 tokens one stream is {lost('')} slower, with int8 keys and values "
        f"{lost(', int8 keys and values')}."
    )


def write(path, facts, rounds, name, sections):
    """Puts the sections of that name in place of those that the page has, which may be of another day."""
    date = datetime.date.today().isoformat()
    head = [
        "# Benchmarks",
        "",
        f"Written by `make bench-peers`. Medians of {rounds} rounds in which the engines took turns, with their ranges; "
        "each figure of a round follows a warm-up. A ratio is ours over the peer's: of times, a small one is good.",
        "`inference-sidecar/reference/peers/` has the programs. An empty cell was not measured.",
        "",
    ]
    head += [f"- {fact}" for fact in facts]
    kept = {}
    if path.exists():
        parts = re.split(r"<!-- (\w+), .* -->\n", path.read_text())
        marks = re.findall(r"<!-- .* -->\n", path.read_text())
        kept = {part: mark + text for part, mark, text in zip(parts[1::2], marks, parts[2::2], strict=True)}
    if sections:
        kept[name] = f"<!-- {name}, {date} -->\n" + "\n\n".join(sections) + "\n"
    path.write_text("\n\n".join(["\n".join(head)] + [text.strip("\n") for text in kept.values()]) + "\n")
