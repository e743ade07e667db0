#!/usr/bin/env python3
"""Measures the model server's engines beside others and writes docs/benchmarks.md.

    bench.py PROGRAMS MODEL.gguf BERT_DIR SHARED_DATA OUT.md [--candle PROGRAMS]

All engines run on the same inputs and threads, in turn, ROUNDS times, each round beginning with another one;
every figure of the page is one that this program measured. PROGRAMS is the folder of the examples `throughput`,
`embed_tokens`, `limits` and `verify_model`; that of `--candle` has `candle_llama` and `embed_tokens` as a release
build, since candle would suffer from the checks of the other one. Q4_0 and Q8_0 files are made from MODEL, in
the folder `requantized` beside its own. `--plain`: see llama.py.
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

import llama
import minilm
import report
import texts

ROUNDS = 5
TEXTS = 600
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
    return {name: float(value) for name, value in re.findall(r"^(.+): ([0-9.]+) (?:tokens|texts)/s$", output, re.M)}


def add(figures, engine, found):
    for name, value in found.items():
        figures.setdefault(name, {}).setdefault(engine, []).append(value)


def in_turn(measures):
    """Figures by name and engine, of ROUNDS rounds over the engines' measures."""
    figures, engines = {}, list(measures)
    for index in range(ROUNDS):
        first = index % len(engines)
        for engine in engines[first:] + engines[:first]:
            for name, value in measures[engine]().items():
                figures.setdefault(name, {}).setdefault(engine, []).append(value)
    return figures


def measure_limits(programs):
    return dict(re.findall(r"^(.+): (.+)$", run(programs / "limits"), re.M))


def measure_language(arguments, model, bandwidths):
    """The figures; `bandwidths` gets what memory allows in GB/s each time that our engine has run."""

    def salesai():
        found = speeds(run(arguments.programs / "throughput", 1, model))
        bandwidths.append(float(measure_limits(arguments.programs)["read from memory"].split()[0]))
        return found

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
    return in_turn(measures)


def agreement(arguments, model):
    """What the checker says of our logits and llama.cpp's on the same tokens."""
    with tempfile.TemporaryDirectory() as folder:
        text = REFERENCE / "perplexity.txt"
        run(sys.executable, REFERENCE / "run_llama_cpp.py", model, text, folder)
        # It fails, too, where a file made anew predicts the text worse than the original.
        output = run(arguments.programs / "verify_model", model, "--llama-cpp", folder, may_fail=True)
    return re.search(r"^agreement with llama.cpp: (.+)$", output, re.M).group(1)


def measure_embedding(arguments):
    sequences, source = texts.sequences(
        arguments.bert_dir, arguments.shared_data, REFERENCE / "perplexity.txt", TEXTS
    )
    peer = minilm.Model(arguments.bert_dir, THREADS)
    orders = {"in the order of requests": sequences, "the shortest first": sorted(sequences, key=len)}
    vectors = {}
    with tempfile.TemporaryDirectory() as folder:
        tokens, out = pathlib.Path(folder, "tokens.json"), pathlib.Path(folder, "vectors.f32")

        def own(name, programs, *mode):
            tokens.write_text(json.dumps(orders[name]))
            found = speeds(run(programs / "embed_tokens", arguments.bert_dir, tokens, out, AT_ONCE, *mode))
            return found["speed"]

        def salesai():
            found = {name: own(name, arguments.programs) for name in reversed(orders)}
            vectors["salesai"] = np.fromfile(out, np.float32).reshape(len(sequences), -1)
            return found

        def onnx():
            found = {}
            for name in reversed(orders):
                vectors["onnx"], found[name] = peer.embed(orders[name], AT_ONCE)
            return found

        measures = {"salesai": salesai, "ONNX Runtime": onnx}
        if arguments.candle:
            measures["candle"] = lambda: {name: own(name, arguments.candle, "candle") for name in orders}
        figures = in_turn(measures)
    cosines = (vectors["salesai"] * vectors["onnx"]).sum(axis=1)
    mean_tokens = statistics.mean(map(len, sequences))
    notes = [
        f"{len(sequences)} texts, {mean_tokens:.0f} tokens on average: {source}; {AT_ONCE} at once, tokens given. "
        "Linear layers: ours in bf16, the others in f32.",
        f"Cosine of our vectors with ONNX Runtime's: lowest {cosines.min():.6f}, mean {cosines.mean():.6f}.",
    ]
    return figures, notes


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("programs", "model", "bert_dir", "shared_data", "out"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--candle", type=pathlib.Path, metavar="PROGRAMS")
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    llama.silence()
    folder = arguments.model.parent.parent / "requantized"
    folder.mkdir(exist_ok=True)
    models = [arguments.model] + [
        pathlib.Path(llama.requantize(str(arguments.model), str(folder), f"{arguments.model.stem}.{name}.gguf", kind))
        for name, kind in [("Q4_0", 2), ("Q8_0", 7)]
    ]
    facts = machine(arguments.programs)
    sections = []
    for model in models:
        print(f"measuring {model.name}", flush=True)
        bandwidths = []
        figures = measure_language(arguments, model, bandwidths)
        notes = [f"Logits on the same tokens: {agreement(arguments, model)}."]
        notes += report.rooflines(figures, model, bandwidths)
        sections.append(report.section(f"Language model: {model.name}", "tokens/s", figures, notes))
    print("measuring embeddings", flush=True)
    figures, notes = measure_embedding(arguments)
    sections.append(report.section("Embeddings: all-MiniLM-L6-v2", "texts/s", figures, notes))
    arguments.out.write_text(report.page(facts, ROUNDS, sections))


main()
