"""The language model in llama.cpp: the same steps as `examples/throughput`."""

import ctypes
import os
import time

import llama_cpp

DECODES = [(1, 0), (8, 0), (16, 0), (1, 2048)]
DECODE_TOKENS = 64
PROMPT_TOKENS = 512
VERSION = f"llama-cpp-python {llama_cpp.__version__}"


class Model:
    """`plain` denies llama.cpp its repacked and AMX weight buffers, which crash on some virtual machines with
    AMX. It has none for Q4_1 but AMX's, so for that format only AMX is left out; other formats are then no
    fair match."""

    def __init__(self, path, threads, plain):
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

    def figures(self, decodes=None):
        """One run after a warm-up, in tokens per second; `decodes`: of these alone."""
        found = {}

        def measure(name, tokens, prepare, work):
            for _ in range(2):
                self.clear()
                prepare()
                start = time.perf_counter()
                work()
                found[name] = tokens / (time.perf_counter() - start)

        if decodes is None:
            measure(f"prefill {PROMPT_TOKENS}", PROMPT_TOKENS, lambda: None, lambda: self.read(PROMPT_TOKENS))
        for count, depth in decodes or DECODES:
            measure(
                f"decode {count} at {depth}",
                count * DECODE_TOKENS,
                lambda: self.read(depth),
                lambda: self.decode(count, depth),
            )
        return found


def system_info():
    return llama_cpp.llama_print_system_info().decode().replace(" = 1", "").strip(" |")


def silence():
    llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))


# The library keeps the pointer.
SILENT = llama_cpp.llama_log_callback(lambda *_: None)


def requantize(model, folder, name, kind):
    """A copy of `model` in another format, made once."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype = kind
        parameters.allow_requantize = True
        part = path + ".part"
        if llama_cpp.llama_model_quantize(model.encode(), part.encode(), ctypes.byref(parameters)) != 0:
            raise RuntimeError(f"could not make {path}")
        os.rename(part, path)
    return path
