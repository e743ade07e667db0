"""A tiny random model in the shape of Llama 3.1, the same in every language.

tests/cases/tiny_model.rs builds the same files, byte for byte. Grouped-query attention, the rope
factors of Llama 3.1, an untied head, a context of 131,072 tokens; the weights are noise.

Usage: tiny_llama.py FOLDER    writes tiny-<format>.gguf for each format
"""

import hashlib
import pathlib
import sys

import gguf
import numpy as np

LAYERS, HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, HEAD_SIZE = 2, 256, 512, 8, 2, 32
CONTEXT, EPSILON, ROPE_BASE = 131072, 1e-5, 500000.0
SPREAD = np.float32(0.2)
FORMATS = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]

# Per block format: bytes of a block, place of the scale, unit of the scale, and place and factor of
# a second scale, if there is one. The units make the weights as large as those of the F32 file.
BLOCKS = {
    "Q4_0": (18, 0, 9.4e-5, None),
    "Q4_1": (20, 0, 9.4e-5, (2, -7.5)),
    "Q5_0": (22, 0, 4.7e-5, None),
    "Q5_1": (24, 0, 4.7e-5, (2, -15.5)),
    "Q8_0": (34, 0, 5.8e-6, None),
    "Q4_K": (144, 0, 1.7e-6, (2, 7.5)),
    "Q5_K": (176, 0, 7.9e-7, (2, 15.5)),
    "Q6_K": (210, 208, 3.1e-7, None),
}


def splitmix64(start, count):
    """Numbers start to start + count - 1 of Vigna's generator splitmix64, seeded with 0."""
    with np.errstate(over="ignore"):
        n = np.arange(count, dtype=np.uint64) + np.uint64(start + 1)
        z = n * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(tensor, count):
    """f32 values in [-1, 1); `tensor` is the number of the tensor in the file."""
    top = (splitmix64(tensor << 32, count) >> np.uint64(40)).astype(np.float32)
    return top * np.float32(2.0**-23) - np.float32(1.0)


def to_bf16(values):
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def blocks(tensor, format, count):
    """`count` weights of a block format: random bytes, then scales of a sensible size."""
    size, scale_at, unit, second = BLOCKS[format]
    total = count // gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[format]][0] * size
    words = splitmix64(tensor << 32, (total + 7) // 8)
    bytes_ = words.astype("<u8").view(np.uint8)[:total].reshape(-1, size).copy()
    scale = (np.float32(unit) * (128 + bytes_[:, scale_at].astype(np.float32))).astype(np.float16)
    bytes_[:, scale_at : scale_at + 2] = scale.view(np.uint8).reshape(-1, 2)
    if second:
        at, factor = second
        other = (scale.astype(np.float32) * np.float32(factor)).astype(np.float16)
        bytes_[:, at : at + 2] = other.view(np.uint8).reshape(-1, 2)
    return bytes_


def rope_factors():
    """What divides the frequencies in Llama 3.1: factor 8, low 1, high 4, original context 8192."""
    pairs = np.arange(HEAD_SIZE // 2, dtype=np.float64)
    waves = 2 * np.pi * ROPE_BASE ** (2 * pairs / HEAD_SIZE)
    smooth = np.clip((8192 / waves - 1) / (4 - 1), 0, 1)
    return (1 / ((1 - smooth) / 8 + smooth)).astype(np.float32)


def vocabulary():
    """The bytes in GPT-2's spelling, a few words, and control tokens as Llama 3 has them."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in visible]
    spelling = {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(hidden)}
    bytes_ = [spelling[b] for b in range(256)]
    merges = ["Ġ t", "h e", "i n", "Ġt he", "e r", "o n", "Ġ a", "r e"]
    words = [merge.replace(" ", "") for merge in merges]
    control = ["begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id"]
    control += [f"reserved_special_token_{i}" for i in range(19)]
    tokens = bytes_ + words + [f"<|{name}|>" for name in control]
    kinds = [1] * (len(bytes_) + len(words)) + [3] * len(control)
    return tokens, kinds, merges


def shapes():
    """Names and shapes of the tensors in the order of the file; one dimension: always f32."""
    count = len(vocabulary()[0])
    q, kv = HEADS * HEAD_SIZE, KV_HEADS * HEAD_SIZE
    yield "rope_freqs.weight", (HEAD_SIZE // 2,)
    yield "token_embd.weight", (count, HIDDEN)
    for layer in range(LAYERS):
        yield f"blk.{layer}.attn_norm.weight", (HIDDEN,)
        yield f"blk.{layer}.attn_q.weight", (q, HIDDEN)
        yield f"blk.{layer}.attn_k.weight", (kv, HIDDEN)
        yield f"blk.{layer}.attn_v.weight", (kv, HIDDEN)
        yield f"blk.{layer}.attn_output.weight", (HIDDEN, q)
        yield f"blk.{layer}.ffn_norm.weight", (HIDDEN,)
        yield f"blk.{layer}.ffn_gate.weight", (FEED_FORWARD, HIDDEN)
        yield f"blk.{layer}.ffn_up.weight", (FEED_FORWARD, HIDDEN)
        yield f"blk.{layer}.ffn_down.weight", (HIDDEN, FEED_FORWARD)
    yield "output_norm.weight", (HIDDEN,)
    yield "output.weight", (count, HIDDEN)


def tensors(format):
    """(name, array as gguf wants it, type) in the order of the file."""
    kind = gguf.GGMLQuantizationType[format]
    for index, (name, shape) in enumerate(shapes()):
        if name == "rope_freqs.weight":
            yield name, rope_factors(), gguf.GGMLQuantizationType.F32
        elif len(shape) == 1:
            norm = np.float32(1.0) + np.float32(0.5) * uniform(index, shape[0])
            yield name, norm, gguf.GGMLQuantizationType.F32
        elif format in BLOCKS:
            packed = blocks(index, format, shape[0] * shape[1])
            yield name, packed.reshape(shape[0], -1), kind
        else:
            values = (SPREAD * uniform(index, shape[0] * shape[1])).reshape(shape)
            if format == "F16":
                values = values.astype(np.float16)
            if format == "BF16":
                values = to_bf16(values).view(np.uint8).reshape(shape[0], -1)
            yield name, values, kind


def write(path, format, with_rope_factors=True):
    """Writes the file and returns its SHA-256."""
    tokens, kinds, merges = vocabulary()
    first_control = kinds.index(3)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_SIZE)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(first_control)
    writer.add_eos_token_id(first_control + 4)
    for name, array, kind in tensors(format):
        if name != "rope_freqs.weight" or with_rope_factors:
            writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def weights(format):
    """The values of the weights, unpacked by the gguf package to f32."""
    for (name, array, kind), (_, shape) in zip(tensors(format), shapes()):
        yield name, gguf.dequantize(array, kind).reshape(shape)


if __name__ == "__main__":
    for format in FORMATS:
        path = pathlib.Path(sys.argv[1]) / f"tiny-{format.lower()}.gguf"
        print(write(path, format), path.name)
