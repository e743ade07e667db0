"""Figures as a page of Markdown."""

import datetime
import statistics

OWN = "salesai"


def spread(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


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


def rooflines(figures, model, bandwidths):
    """The share of what memory allows that one stream reaches, and what is lost at a depth of 2,048."""

    def median(name):
        return statistics.median(figures[name][OWN])

    roofline = statistics.median(bandwidths) * 1e9 / model.stat().st_size
    alone = median("decode 1 at 0")
    note = ", int8 keys and values"
    lost = 100 * (1 - median("decode 1 at 2048") / alone)
    lost_int8 = 100 * (1 - median(f"decode 1 at 2048{note}") / median(f"decode 1 at 0{note}"))
    return [
        f"Memory was read at {spread(bandwidths)} GB/s (`limits`, in each round): the whole file for each token would "
        f"allow {roofline:.0f} tokens/s, and one stream reaches {100 * alone / roofline:.0f} % of that.",
        f"After 2,048 tokens one stream is {lost:.0f} % slower, with int8 keys and values {lost_int8:.0f} %.",
    ]


def page(facts, rounds, sections):
    date = datetime.date.today().isoformat()
    head = [
        "# Benchmarks",
        "",
        f"Written by `make bench-peers` on {date}. Medians of {rounds} rounds in which the engines took turns, with "
        "their ranges; each figure of a round follows a warm-up. A ratio is ours over the peer's.",
        "`inference-sidecar/reference/peers/` has the programs. An empty cell was not measured.",
        "",
    ]
    head += [f"- {fact}" for fact in facts]
    return "\n".join(head) + "\n\n" + "\n\n".join(sections) + "\n"
