#!/usr/bin/env python3
"""Measures the model server's engines beside others and writes docs/benchmarks.md.

    bench.py PROGRAMS MODEL.gguf BERT_DIR SHARED_DATA OUT.md --servers OURS LLAMA_SERVER
        [--candle PROGRAMS] [--large MODEL.gguf] [--postgres BIN_DIR] [--only SECTION] [--rounds 5]

All engines run on the same inputs and threads, in turn, `--rounds` times, each round beginning with another one;
every figure of the page is one that this program measured. PROGRAMS is the folder of our examples; that of
`--candle` has `candle_llama` and `embed_tokens` as a release build, since candle would suffer from the checks of the
other one. Q4_0 and Q8_0 files are made from MODEL, in the folder `requantized` beside its own. `--large`: a model
of which loading, memory and one stream alone are measured. `--postgres`: the programs of a PostgreSQL whose server
libpq's environment names. `--only` makes one section of the page anew: language, clients, adapters, drafts, large,
sharing or embeddings. `--plain`: see llama.py.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile

import numpy as np

import clients
import llama
import minilm
import report
import retrieval
import sharing
import texts

TEXTS = 2000
ADAPTER_STEPS = 400
AT_ONCE = 32
REFERENCE = pathlib.Path(__file__).parent.parent


THREADS = len(os.sched_getaffinity(0))
# What our programs and candle's read.
ENVIRONMENT = {**os.environ, "RAYON_NUM_THREADS": str(THREADS), "CANDLE_NUM_THREADS": str(THREADS)}


def run(program, *arguments, may_fail=False):
    """What the program prints."""
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT)
    if done.returncode != 0 and not may_fail:
        sys.exit(f"{program} failed:\n{done.stderr}")
    return done.stdout


def speeds(output):
    """The lines that tell a speed."""
    return {name: float(value) for name, value in re.findall(r"^(.+): ([0-9.]+) (?:tokens|texts)/s$", output, re.M)}


def in_turn(rounds, measures):
    """Figures by name and engine, of so many rounds over the engines' measures."""
    figures, engines = {}, list(measures)
    for index in range(rounds):
        first = index % len(engines)
        for engine in engines[first:] + engines[:first]:
            for name, value in measures[engine]().items():
                figures.setdefault(name, {}).setdefault(engine, []).append(value)
    return figures


def measure_limits(programs):
    return dict(re.findall(r"^(.+): (.+)$", run(programs / "limits"), re.M))


class Roofline:
    """What `throughput` says the machine can do at most, and the percentage of that which is reached: GB/s beside one
    stream, GOP/s at 8 bits beside a prompt."""

    MEMORY = (r"^read from memory: (.+) GB/s$", r"^share of that: (.+) %$")
    PRODUCTS = (r"^multiplied at 8 bits: (.+) GOP/s$", r"^share of that by prefill: (.+) %$")

    def __init__(self, lines):
        self.lines, self.limits, self.shares = lines, [], []

    def note(self, output):
        for line, found in zip(self.lines, (self.limits, self.shares), strict=True):
            found.append(float(re.search(line, output, re.M).group(1)))


def measure_language(arguments, model, rooflines):
    def salesai():
        output = run(arguments.programs / "throughput", 1, model)
        for roofline in rooflines:
            roofline.note(output)
        return speeds(output)

    def llama_cpp():
        peer = llama.Model(str(model), THREADS, arguments.plain)
        found = peer.figures()
        peer.close()
        return found

    measures = {
        "salesai": salesai,
        "llama.cpp": llama_cpp,
    }
    if arguments.candle:
        measures["candle"] = lambda: speeds(run(arguments.candle / "candle_llama", model))
    return in_turn(arguments.rounds, measures)


def language(arguments, models):
    sections = []
    for model in models:
        memory, products = Roofline(Roofline.MEMORY), Roofline(Roofline.PRODUCTS)
        figures = measure_language(arguments, model, [memory, products])
        notes = [
            f"Logits on the same tokens: {agreement(arguments, model)}.",
            report.memory_roofline(memory),
            report.product_roofline(products),
            report.losses(figures),
        ]
        sections.append(report.section(f"Language model: {model.name}", "tokens/s", figures, notes))
    return sections


def measure_clients(arguments, models):
    ours, peer = arguments.servers
    sections = []
    for model in models[:2]:
        figures = in_turn(arguments.rounds, clients.measures(ours, peer, model, THREADS))
        notes = [
            "Whole servers, started anew for each round: ours, and llama.cpp's own with 8 slots. "
            f"`inference-sidecar bench {clients.SHARED}`, then `{clients.ALONE}`; the same prompts for both."
        ]
        sections.append(report.section(f"Clients of a server: {model.name}", "", figures, notes))
    return sections


def adapters(arguments, models):
    text = run(arguments.programs / "adapter_steps", ADAPTER_STEPS, models[0])
    note = f"One sitting, not in rounds: medians over {ADAPTER_STEPS} steps with adapters and {ADAPTER_STEPS} without, in turn."
    title = "LoRA adapters of rank 16 on all linear layers (`examples/adapter_steps`)"
    return [report.lines(title, f"{text.strip()}\n\n{note}")]


def drafts(arguments, models):
    notes = sorted((REFERENCE.parent.parent / "ops" / "deal_room" / "notes").iterdir())
    text = run(arguments.programs / "drafts", arguments.servers[0], models[0], arguments.rounds, *notes)
    return [report.lines("Drafts: the same answers without and with n-gram speculation (`examples/drafts`)", text)]


def large(arguments, _models):
    model = arguments.large
    if not model:
        return []
    memory, loads, peaks = Roofline(Roofline.MEMORY), [], []

    def salesai():
        output = run(arguments.programs / "throughput", 1, model, "--decode-alone")
        loads.append(float(re.search(r"^load: (.+) s$", output, re.M).group(1)))
        peaks.append(float(re.search(r"^peak until loaded: (.+) MiB$", output, re.M).group(1)))
        memory.note(output)
        return speeds(output)

    def llama_cpp():
        peer = llama.Model(str(model), THREADS, arguments.plain)
        found = peer.figures([(1, 0)])
        peer.close()
        return found

    figures = in_turn(arguments.rounds, {"salesai": salesai, "llama.cpp": llama_cpp})
    size = model.stat().st_size
    notes = [
        f"Random weights of the shape of Llama 3.1 8B (`reference/make_llama_8b.py`), {size / 2**20:.0f} MiB. "
        f"Loaded in {report.spread(loads)} s; peak until loaded {report.spread(peaks)} MiB, "
        f"{statistics.median(peaks) * 2**20 / size:.2f} times the file.",
        report.memory_roofline(memory),
    ]
    return [report.section(f"A large model: {model.name}", "tokens/s", figures, notes)]


def share(arguments, models):
    if not arguments.postgres:
        return []
    ours = arguments.servers[0]
    with sharing.Postgres(arguments.postgres) as postgres:
        # The fewer threads are one core left to PostgreSQL.
        counts = sorted({THREADS, max(THREADS - 1, 1)}, reverse=True)
        figures = {}
        for _ in range(arguments.rounds):
            for count in counts:
                for name, value in sharing.figures(ours, models[0], count, postgres).items():
                    figures.setdefault(name, {}).setdefault("salesai", []).append(value)
    notes = [
        f"`pgbench {' '.join(sharing.LOAD[:-2])}` at scale {sharing.SCALE} and `inference-sidecar bench {sharing.TALK}` "
        "on the same cores; PostgreSQL 18 as `make up` starts it."
    ]
    return [report.section("Beside PostgreSQL", "", figures, notes)]


def agreement(arguments, model):
    """What the checker says of our logits and llama.cpp's on the same tokens."""
    with tempfile.TemporaryDirectory() as folder:
        text = REFERENCE / "perplexity.txt"
        run(sys.executable, REFERENCE / "run_llama_cpp.py", model, text, folder)
        # It fails, too, where a file made anew predicts the text worse than the original.
        output = run(arguments.programs / "verify_model", model, "--llama-cpp", folder, may_fail=True)
    return re.search(r"^agreement with llama.cpp: (.+)$", output, re.M).group(1)


def embeddings(arguments, _models):
    figures, notes = measure_embedding(arguments)
    return [report.section("Embeddings: all-MiniLM-L6-v2", "texts/s", figures, notes)]


def measure_embedding(arguments):
    sequences, source = texts.sequences(
        arguments.bert_dir, arguments.shared_data, REFERENCE / "perplexity.txt", TEXTS
    )
    peer = minilm.Model(arguments.bert_dir, THREADS)
    orders = {"in the order of requests": sequences, "the shortest first": sorted(sequences, key=len)}
    vectors = {}

    def own(programs, given, *mode):
        with tempfile.TemporaryDirectory() as folder:
            tokens, out = pathlib.Path(folder, "tokens.json"), pathlib.Path(folder, "vectors.f32")
            tokens.write_text(json.dumps(given))
            found = speeds(run(programs / "embed_tokens", arguments.bert_dir, tokens, out, AT_ONCE, *mode))
            return np.fromfile(out, np.float32).reshape(len(given), -1), found["speed"]

    def salesai():
        found = {}
        for order, given in reversed(orders.items()):
            vectors["bf16"], found[order] = own(arguments.programs, given)
            vectors["int8"], found[f"{order}, linear layers in int8"] = own(arguments.programs, given, "int8")
        return found

    def onnx():
        found = {}
        for order, given in reversed(orders.items()):
            vectors["onnx"], found[order] = peer.embed(given, AT_ONCE)
        return found

    measures = {"salesai": salesai, "ONNX Runtime": onnx}
    if arguments.candle:
        measures["candle"] = lambda: {
            order: own(arguments.candle, given, "candle")[1] for order, given in orders.items()
        }
    figures = in_turn(arguments.rounds, measures)
    mean_tokens = statistics.mean(map(len, sequences))
    notes = [
        f"{len(sequences)} texts, {mean_tokens:.0f} tokens on average: {source}; {AT_ONCE} at once, tokens given. "
        "Linear layers: ours in bf16 unless it says int8, the others in f32.",
    ]
    for precision in ("bf16", "int8"):
        cosines = (vectors[precision] * vectors["onnx"]).sum(axis=1)
        notes.append(
            f"Cosine of our vectors in {precision} with ONNX Runtime's: lowest {cosines.min():.6f}, mean "
            f"{cosines.mean():.6f}."
        )
    found = retrieval.SciFact.find(arguments.shared_data, arguments.bert_dir)
    if found is None:
        notes.append("shared/data/scifact is absent: what int8 loses in retrieval was not measured.")
        return figures, notes
    given = found.documents + found.queries
    quality = {
        "bf16": found.ndcg(own(arguments.programs, given)[0]),
        "int8": found.ndcg(own(arguments.programs, given, "int8")[0]),
        "f32 (ONNX Runtime)": found.ndcg(in_order(peer, given)),
    }
    scores = ", ".join(f"{name} {score:.4f}" for name, score in quality.items())
    notes.append(f"SciFact, {len(found.queries)} queries of its training part, nDCG at 10: {scores}.")
    return figures, notes


def in_order(peer, given):
    """The peer's vectors, computed the shortest first."""
    order = sorted(range(len(given)), key=lambda index: len(given[index]))
    vectors, _ = peer.embed([given[index] for index in order], AT_ONCE)
    result = np.empty_like(vectors)
    result[order] = vectors
    return result


def machine(programs):
    cpu = re.search(r"^model name\s*: (.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    limits = measure_limits(programs)
    lock = pathlib.Path(REFERENCE.parent.parent, "Cargo.lock").read_text()
    candle = re.search(r'name = "candle-transformers"\nversion = "([^"]+)"', lock).group(1)
    return [
        f"{cpu.group(1) if cpu else platform.processor()}, {THREADS} cores, {limits['instructions']}",
        f"multiplies {limits['int8 products']} (`limits`, the best of 5)",
        f"{llama.VERSION} ({llama.system_info()})",
        f"{minilm.VERSION}; candle {candle}, which has no vector kernel for Q4_1",
    ]


SECTIONS = {
    "language": language,
    "clients": measure_clients,
    "large": large,
    "embeddings": embeddings,
    "adapters": adapters,
    "drafts": drafts,
    "sharing": share,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("programs", "model", "bert_dir", "shared_data", "out"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--servers", type=pathlib.Path, nargs=2, required=True, metavar=("OURS", "LLAMA_SERVER"))
    parser.add_argument("--candle", type=pathlib.Path, metavar="PROGRAMS")
    parser.add_argument("--large", type=pathlib.Path, metavar="MODEL")
    parser.add_argument("--postgres", type=pathlib.Path, metavar="BIN_DIR")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=SECTIONS)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    llama.silence()
    folder = arguments.model.parent.parent / "requantized"
    folder.mkdir(exist_ok=True)
    models = [arguments.model] + [
        pathlib.Path(llama.requantize(str(arguments.model), str(folder), f"{arguments.model.stem}.{name}.gguf", kind))
        for name, kind in [("Q4_0", 2), ("Q8_0", 7)]
    ]
    page = report.Page(arguments.out)
    facts = machine(arguments.programs)
    for name, measure in SECTIONS.items():
        if arguments.only in (None, name):
            print(f"measuring: {name}", flush=True)
            rounds = [] if name == "adapters" else [f"{arguments.rounds} rounds"]
            page.write(name, rounds + facts, measure(arguments, models))


main()
