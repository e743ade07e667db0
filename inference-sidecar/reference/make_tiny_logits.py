"""Writes tests/fixtures/tiny_llama.{json,bin}: what llama.cpp computes for the tiny random models.

Usage: make_tiny_logits.py

A prompt of 8,448 random tokens through the F32 file, and its first 64 through the file of each
format; logits at the positions that the JSON names, f32 little-endian, in its order. Keys and values
are kept in f32 and without flash attention, so that the F32 file is computed in f32 throughout.

The same model is computed here in f64 too, from the same weights: "error" is the largest
difference of llama.cpp's logits from that, and "divergence" the largest Kullback-Leibler divergence.
Both say how far apart two right implementations may be.
"""

import json
import pathlib
import tempfile

import llama_cpp
import numpy as np

import tiny_llama as tiny

LONG, SHORT, PROMPT_STREAM = 8448, 64, 1000
LONG_POSITIONS = [*range(8), 100, 1000, 4095, 4096, 7000, *range(8186, 8200), 8300, 8400, 8446, 8447]
SHORT_POSITIONS = [0, 1, 2, 3, 7, 15, 31, 47, 63]
fixtures = pathlib.Path(__file__).parent.parent / "tests" / "fixtures"


def prompt():
    normal = tiny.vocabulary()[1].count(1)
    return [int(n % normal) for n in tiny.splitmix64(PROMPT_STREAM << 32, LONG)]


def llama_cpp_logits(path, tokens, positions):
    f32 = llama_cpp.GGML_TYPE_F32
    llm = llama_cpp.Llama(
        str(path), n_ctx=len(tokens), n_batch=256, logits_all=True, verbose=False, flash_attn=False,
        type_k=f32, type_v=f32, n_threads=2,
    )
    llm.eval(tokens)
    return np.array(llm.scores[positions], dtype=np.float32)


def exact_logits(weights, tokens, positions, factors):
    """The forward pass of Llama in f64, with the pairs of a head next to each other as in GGUF."""
    w = {name: values.astype(np.float64) for name, values in weights}
    groups, size = tiny.HEADS // tiny.KV_HEADS, tiny.HEAD_SIZE
    frequencies = tiny.ROPE_BASE ** (-np.arange(0, size, 2) / size) / factors
    angles = np.arange(len(tokens))[:, None] * frequencies
    turn = np.exp(1j * angles)[:, None, :]

    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + tiny.EPSILON) * w[name]

    def heads(x, name, count):
        return (x @ w[name].T).reshape(len(x), count, size)

    def rotate(x):
        return np.ascontiguousarray((np.ascontiguousarray(x).view(np.complex128) * turn)).view(np.float64)

    x = w["token_embd.weight"][tokens]
    for layer in range(tiny.LAYERS):
        blk = f"blk.{layer}."
        h = norm(x, blk + "attn_norm.weight")
        q = rotate(heads(h, blk + "attn_q.weight", tiny.HEADS))
        k = rotate(heads(h, blk + "attn_k.weight", tiny.KV_HEADS))
        v = heads(h, blk + "attn_v.weight", tiny.KV_HEADS)
        mixed = np.empty((len(tokens), tiny.HEADS, size))
        for start in range(0, len(tokens), 512):
            rows = np.arange(start, min(start + 512, len(tokens)))
            end = rows[-1] + 1
            hidden_from = np.arange(end)[None, :] > rows[:, None]
            for head in range(tiny.HEADS):
                scores = q[rows, head] @ k[:end, head // groups].T / np.sqrt(size)
                scores[hidden_from] = -np.inf
                scores = np.exp(scores - scores.max(-1, keepdims=True))
                scores /= scores.sum(-1, keepdims=True)
                mixed[rows, head] = scores @ v[:end, head // groups]
        x = x + mixed.reshape(len(tokens), -1) @ w[blk + "attn_output.weight"].T
        h = norm(x, blk + "ffn_norm.weight")
        gate, up = h @ w[blk + "ffn_gate.weight"].T, h @ w[blk + "ffn_up.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[blk + "ffn_down.weight"].T
    return norm(x[positions], "output_norm.weight") @ w["output.weight"].T


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def compare(logits, exact):
    p, q = log_softmax(logits), log_softmax(exact)
    return {
        "error": float(f"{np.abs(logits - exact).max():.3g}"),
        "divergence": float(f"{(np.exp(p) * (p - q)).sum(-1).max():.3g}"),
    }


def main():
    tokens, runs, packed = prompt(), [], bytearray()
    jobs = [("F32", tokens, LONG_POSITIONS)]
    jobs += [(format, tokens[:SHORT], SHORT_POSITIONS) for format in tiny.FORMATS]
    for format, tokens, positions in jobs:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "tiny.gguf"
            sha256 = tiny.write(path, format)
            logits = llama_cpp_logits(path, tokens, positions)
        exact = exact_logits(tiny.weights(format), tokens, positions, tiny.rope_factors())
        run = {"format": format, "sha256": sha256, "tokens": len(tokens), "positions": positions}
        runs.append(run | compare(logits, exact))
        print(format, len(tokens), compare(logits, exact), f"spread of the logits {exact.std():.3g}")
        packed += logits.astype("<f4").tobytes()
        if len(tokens) == LONG:
            bare = exact_logits(tiny.weights(format), tokens, positions, np.ones(tiny.HEAD_SIZE // 2))
            print("without rope factors", np.abs(bare - exact).max(-1).round(3))
    header = {"made_with": f"llama-cpp-python {llama_cpp.__version__}", "prompt_stream": PROMPT_STREAM}
    lines = ",\n".join(json.dumps(run, separators=(",", ":")) for run in runs)
    text = json.dumps(header)[:-1] + f', "runs": [\n{lines}\n]}}\n'
    (fixtures / "tiny_llama.json").write_text(text)
    (fixtures / "tiny_llama.bin").write_bytes(packed)


if __name__ == "__main__":
    main()
