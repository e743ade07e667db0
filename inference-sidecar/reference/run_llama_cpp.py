"""Writes what llama.cpp computes for a text, for `make verify-model`.

Usage: run_llama_cpp.py MODEL.gguf TEXT FOLDER

tokens.json: the text's token ids, and the number of likeliest tokens per step. steps.bin: for each of
the first 512 positions the ids (u32) of the likeliest tokens in falling order, then their
log-probabilities over the whole vocabulary (f32), little-endian. Keys and values are kept in f32.
"""

import json
import pathlib
import struct
import sys

import llama_cpp
import numpy as np

STEPS, TOP, BATCH = 512, 64, 64


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


model, text, folder = sys.argv[1], pathlib.Path(sys.argv[2]).read_bytes(), pathlib.Path(sys.argv[3])
f32 = llama_cpp.GGML_TYPE_F32
llm = llama_cpp.Llama(
    model, n_ctx=STEPS, n_batch=BATCH, logits_all=True, verbose=False, flash_attn=False, type_k=f32, type_v=f32
)
tokens = llm.tokenize(text, add_bos=True, special=False)
packed = bytearray()
read = tokens[:STEPS]
llm.eval(read)
for row in llm.scores[: len(read)]:
    top = np.argsort(-row, kind="stable")[:TOP]
    packed += struct.pack(f"<{TOP}I", *top) + struct.pack(f"<{TOP}f", *log_softmax(row)[top])
(folder / "tokens.json").write_text(json.dumps({"tokens": tokens, "top": TOP}))
(folder / "steps.bin").write_bytes(packed)
