#!/usr/bin/env python3
"""Writes a GGUF file of the shape of Llama 3.1 8B with random weights in Q4_K, for measurements.

    make_llama_8b.py FILE.gguf [LAYERS]

About 4.5 GB with all 32 layers. The shape is that of the model card (Meta, Llama 3.1 8B); the words of the
vocabulary are numbers, so the file can be measured but not served. Block layout: ggml's block_q4_K, 144 bytes for 256 weights.
"""

import random
import struct
import sys

HIDDEN, FEED_FORWARD, KV, VOCABULARY, CONTEXT = 4096, 14336, 1024, 128256, 131072
Q4_K, F32 = 12, 0
ALIGNMENT = 32
U32, FLOAT, STRING, ARRAY = 4, 6, 8, 9
# Different blocks of which the weights are made, again and again.
BLOCKS = 1 << 15


def text(value):
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def entry(key, kind, value):
    packed = {
        U32: lambda: struct.pack("<I", value),
        FLOAT: lambda: struct.pack("<f", value),
        STRING: lambda: text(value),
        ARRAY: lambda: struct.pack("<IQ", STRING, len(value)) + b"".join(map(text, value)),
    }
    return text(key) + struct.pack("<I", kind) + packed[kind]()


def metadata(layers):
    def of_llama(key, kind, value):
        return entry(f"llama.{key}", kind, value)

    return [
        entry("general.architecture", STRING, "llama"),
        of_llama("block_count", U32, layers),
        of_llama("context_length", U32, CONTEXT),
        of_llama("embedding_length", U32, HIDDEN),
        of_llama("feed_forward_length", U32, FEED_FORWARD),
        of_llama("attention.head_count", U32, 32),
        of_llama("attention.head_count_kv", U32, 8),
        of_llama("attention.layer_norm_rms_epsilon", FLOAT, 1e-5),
        of_llama("rope.freq_base", FLOAT, 500000.0),
        of_llama("rope.dimension_count", U32, 128),
        of_llama("vocab_size", U32, VOCABULARY),
        entry("tokenizer.ggml.model", STRING, "no_vocab"),
        # Their number is the size of the vocabulary.
        entry("tokenizer.ggml.tokens", ARRAY, [str(number) for number in range(VOCABULARY)]),
    ]


def shapes(layers):
    """Name, rows, columns; a vector has no rows."""
    yield "token_embd.weight", VOCABULARY, HIDDEN
    for layer in range(layers):
        for name, rows, columns in [
            ("attn_norm", None, HIDDEN),
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", KV, HIDDEN),
            ("attn_v", KV, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_norm", None, HIDDEN),
            ("ffn_gate", FEED_FORWARD, HIDDEN),
            ("ffn_up", FEED_FORWARD, HIDDEN),
            ("ffn_down", HIDDEN, FEED_FORWARD),
        ]:
            yield f"blk.{layer}.{name}.weight", rows, columns
    yield "output_norm.weight", None, HIDDEN
    yield "output.weight", VOCABULARY, HIDDEN


def length(rows, columns):
    return columns * 4 if rows is None else rows * columns // 256 * 144


def random_blocks():
    source = random.Random(8)
    # Weights of about ±0.04: 15 · 63 · d and its half, so that nothing overflows on the way.
    scales = struct.pack("<ee", 4e-5, 3e-4)
    return b"".join(scales + source.randbytes(140) for _ in range(BLOCKS))


def main():
    path = sys.argv[1]
    layers = int(sys.argv[2]) if len(sys.argv) > 2 else 32
    tensors = list(shapes(layers))
    entries = metadata(layers)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join(entries)
    offset = 0
    for name, rows, columns in tensors:
        sizes = [columns] if rows is None else [columns, rows]
        head += text(name) + struct.pack("<I", len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)
        head += struct.pack("<IQ", F32 if rows is None else Q4_K, offset)
        offset += -(-length(rows, columns) // ALIGNMENT) * ALIGNMENT
    blocks = random_blocks()
    ones = struct.pack(f"<{HIDDEN}f", *[1.0] * HIDDEN)
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT))
        for _, rows, columns in tensors:
            left = length(rows, columns)
            while left > 0:
                part = ones if rows is None else blocks[: min(left, len(blocks))]
                file.write(part)
                left -= len(part)


main()
