"""Writes tests/fixtures/llama_steps.{json,bin} and llama_f32_steps.bin: what llama.cpp computes for
fixed conversations.

Usage: make_logits.py MODEL.gguf [COMPARE_BINARY [candle]]

Per conversation: the prompt's token ids, and 48 greedy steps. Per step the 64 likeliest tokens with
their log-probabilities over the whole vocabulary, and the margin between the two highest logits.
llama_f32_steps.bin has the same for the same tokens, computed from a copy of the model whose weights
are unpacked to f32, with keys and values in f32 and without flash attention.
With COMPARE_BINARY (target/debug/examples/teacher_forced) the full-vocabulary KL divergence of the
sidecar's model is measured too and printed; nothing of it goes into the fixtures.
"""

import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import jinja2
import llama_cpp
import numpy as np

from unpacked import write_unpacked

STEPS, TOP = 48, 64
here = pathlib.Path(__file__).parent
fixtures = here.parent / "tests" / "fixtures"

llm = llama_cpp.Llama(sys.argv[1], n_ctx=2048, n_batch=512, logits_all=True, verbose=False)
environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
template = environment.from_string(llm.metadata["tokenizer.chat_template"])


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def pack(row):
    top = np.argsort(-row, kind="stable")[:TOP]
    return struct.pack(f"<{TOP}I", *top) + struct.pack(f"<{TOP}f", *log_softmax(row)[top])


def long_text():
    rows = [f"Call {i}: the buyer asked about price, delivery in week {i} and support." for i in range(36)]
    return "\n".join(rows) + "\nWhat did the buyer ask about?"


def run(messages):
    rendered = template.render(messages=messages, add_generation_prompt=True)
    prompt = llm.tokenize(rendered.encode(), add_bos=False, special=True)
    llm.reset()
    llm.eval(prompt)
    tokens, logits = [], []
    for _ in range(STEPS):
        row = llm.scores[llm.n_tokens - 1].copy()
        logits.append(row)
        token = int(row.argmax())
        tokens.append(token)
        if token == llm.token_eos():
            break
        llm.eval([token])
    return prompt, tokens, np.stack(logits)


def f32_logits(llm, conversation):
    prompt, tokens = conversation["prompt"], conversation["tokens"]
    llm.reset()
    llm.eval(prompt + tokens[:-1])
    return llm.scores[len(prompt) - 1 : llm.n_tokens].copy()


conversations, packed, references = [], bytearray(), []
for messages in json.loads((here / "conversations.json").read_text()):
    if messages[0]["content"] == "LONG":
        messages[0]["content"] = long_text()
    prompt, tokens, logits = run(messages)
    margins = []
    for row in logits:
        top = np.argsort(-row, kind="stable")[:2]
        margins.append(round(float(row[top[0]] - row[top[1]]), 4))
        packed += pack(row)
    conversations.append(
        {"messages": messages, "prompt": prompt, "tokens": tokens, "margins": margins}
    )
    references.append(logits)

header = {"made_with": f"llama-cpp-python {llama_cpp.__version__}", "top": TOP}
lines = ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in conversations)
text = json.dumps(header)[:-1] + f', "conversations": [\n{lines}\n]}}\n'
(fixtures / "llama_steps.json").write_text(text)
(fixtures / "llama_steps.bin").write_bytes(packed)
print("prompt tokens", [len(c["prompt"]) for c in conversations])
print("steps", sum(len(c["tokens"]) for c in conversations), "bytes", len(packed))

del llm
with tempfile.TemporaryDirectory() as folder:
    write_unpacked(sys.argv[1], f"{folder}/f32.gguf")
    f32 = llama_cpp.GGML_TYPE_F32
    llm = llama_cpp.Llama(
        f"{folder}/f32.gguf", n_ctx=2048, n_batch=512, logits_all=True, verbose=False, flash_attn=False,
        type_k=f32, type_v=f32,
    )
    packed = bytearray()
    for conversation, logits in zip(conversations, references):
        exact = f32_logits(llm, conversation)
        assert len(exact) == len(logits)
        for row in exact:
            packed += pack(row)
    del llm
(fixtures / "llama_f32_steps.bin").write_bytes(packed)

if len(sys.argv) > 2:
    divergences, differing = [], 0
    for conversation, logits in zip(conversations, references):
        with tempfile.TemporaryDirectory() as folder:
            job, out = f"{folder}/job.json", f"{folder}/logits.f32"
            pathlib.Path(job).write_text(json.dumps(conversation))
            subprocess.run([sys.argv[2], sys.argv[1], job, out, *sys.argv[3:]], check=True)
            ours = np.fromfile(out, dtype="<f4").reshape(logits.shape)
        for reference, own in zip(logits, ours):
            p, q = log_softmax(reference), log_softmax(own)
            divergences.append(float((np.exp(p) * (p - q)).sum()))
            differing += int(reference.argmax() != own.argmax())
    print(f"full-vocabulary KL: mean {np.mean(divergences):.2e} max {np.max(divergences):.2e}")
    print(f"arg-max differs in {differing} of {len(divergences)} steps")
