#!/usr/bin/env python3
"""Measures the language model beside llama.cpp: both in turn, five times, on the same machine.

    peer_speed.py target/debug/examples/throughput MODEL.gguf [MORE.gguf ...]

Needs llama-cpp-python, built with GGML_NATIVE=ON so that it uses all that the processor has. Both sides use
all cores. Prints for each figure the medians, their ranges and the ratio, as a table in Markdown.
`--plain` denies llama.cpp its repacked and AMX weight buffers: they crash on some virtual machines with AMX.
It has none for Q4_1 but AMX's, so for that format only AMX is left out; other formats are then no fair match.
`--requantize DIR` makes a Q4_0 and a Q8_0 file from the first model there and measures them as well.
"""

import argparse
import ctypes
import os
import re
import statistics
import subprocess
import time

import llama_cpp

ROUNDS = 5
DECODES = [(1, 0), (8, 0), (16, 0), (1, 2048)]
DECODE_TOKENS = 64
PROMPT_TOKENS = 512


class Peer:
    """A model in llama.cpp."""

    def __init__(self, path, plain):
        threads = len(os.sched_getaffinity(0))
        options = llama_cpp.llama_model_default_params()
        options.use_extra_bufts = not plain
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), options)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = 4096
        parameters.n_batch = parameters.n_ubatch = PROMPT_TOKENS
        parameters.n_seq_max = 16
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = True
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        self.batch = llama_cpp.llama_batch_init(PROMPT_TOKENS, 0, 16)

    def close(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def step(self, entries, last_only=False):
        """Reads (token, position, sequence) entries."""
        self.batch.n_tokens = len(entries)
        for index, (token, position, sequence) in enumerate(entries):
            self.batch.token[index] = token
            self.batch.pos[index] = position
            self.batch.n_seq_id[index] = 1
            self.batch.seq_id[index][0] = sequence
            self.batch.logits[index] = not last_only or index == len(entries) - 1
        if llama_cpp.llama_decode(self.context, self.batch) != 0:
            raise RuntimeError("llama_decode failed")
        llama_cpp.llama_synchronize(self.context)

    def read(self, count):
        for first in range(0, count, PROMPT_TOKENS):
            last = min(first + PROMPT_TOKENS, count)
            self.step([(1000 + i * 7, i, 0) for i in range(first, last)], last_only=True)

    def decode(self, count, depth):
        for index in range(DECODE_TOKENS):
            self.step([(1000 + index * 7, depth + index, sequence) for sequence in range(count)])

    def figures(self):
        """One run after a warm-up, as the example does it."""
        found = {}

        def measure(name, tokens, prepare, work):
            for _ in range(2):
                self.clear()
                prepare()
                start = time.perf_counter()
                work()
                found[name] = tokens / (time.perf_counter() - start)

        measure(f"prefill {PROMPT_TOKENS}", PROMPT_TOKENS, lambda: None, lambda: self.read(PROMPT_TOKENS))
        for count, depth in DECODES:
            measure(
                f"decode {count} at {depth}",
                count * DECODE_TOKENS,
                lambda: self.read(depth),
                lambda: self.decode(count, depth),
            )
        return found


def own_figures(program, model):
    output = subprocess.run([program, "1", model], check=True, capture_output=True, text=True).stdout
    return {name: float(value) for name, value in re.findall(r"^(.+): ([0-9.]+) tokens/s$", output, re.M)}


def requantize(model, folder, name, kind):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype = kind
        parameters.allow_requantize = True
        code = llama_cpp.llama_model_quantize(model.encode(), path.encode(), ctypes.byref(parameters))
        if code != 0:
            raise RuntimeError(f"could not make {path}")
    return path


def spread(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def compare(program, model, plain):
    own, peer = {}, {}
    for _ in range(ROUNDS):
        for name, value in own_figures(program, model).items():
            own.setdefault(name, []).append(value)
        loaded = Peer(model, plain)
        for name, value in loaded.figures().items():
            peer.setdefault(name, []).append(value)
        loaded.close()
    print(f"\n{os.path.basename(model)}\n")
    print("| tokens/s | salesai | llama.cpp | ratio |\n|---|---|---|---|")
    for name, values in own.items():
        ratio = statistics.median(values) / statistics.median(peer[name])
        print(f"| {name} | {spread(values)} | {spread(peer[name])} | {ratio:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--requantize", metavar="DIR")
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    models = list(arguments.models)
    if arguments.requantize:
        for name, kind in [("q4_0.gguf", 2), ("q8_0.gguf", 7)]:
            models.append(requantize(models[0], arguments.requantize, name, kind))
    print(f"llama-cpp-python {llama_cpp.__version__}: {llama_cpp.llama_print_system_info().decode().strip()}")
    for model in models:
        compare(arguments.program, model, arguments.plain)


main()
