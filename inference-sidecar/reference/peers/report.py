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


def memory_roofline(memory):
    return (
        f"Memory was read at {spread(memory.limits)} GB/s beside each run of one stream, which reached "
        f"{spread(memory.shares)} % of what that allows when each token reads all weights once."
    )


def product_roofline(products):
    return (
        f"The processor multiplied {spread(products.limits)} GOP/s at 8 bits beside each prompt, which reached "
        f"{spread(products.shares)} % of that, its attention counted as if it were in 8 bits too."
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


HEAD = """# Benchmarks

Written by `make bench-peers`, section by section. The engines took turns; figures are medians of their rounds with the
ranges, each behind a warm-up. A ratio is ours over the peer's: of times, a small one is good. An empty cell was not
measured. `inference-sidecar/reference/peers/` has the programs.
"""


class Page:
    """Sections that are measured anew one by one."""

    def __init__(self, path):
        self.path, self.sections = path, {}
        if path.exists():
            parts = re.split(r"<!-- section (\w+) -->\n", path.read_text())
            self.sections = dict(zip(parts[1::2], (part.strip("\n") for part in parts[2::2]), strict=True))

    def write(self, name, facts, sections):
        """Puts sections in place of those of that name; `facts`: of the machine and the run."""
        if sections:
            date = datetime.date.today().isoformat()
            self.sections[name] = "\n\n".join([*sections, f"<sub>{date}; {'; '.join(facts)}</sub>"])
        texts = [f"<!-- section {name} -->\n{text}" for name, text in self.sections.items()]
        self.path.write_text("\n\n".join([HEAD.strip("\n"), *texts]) + "\n")
