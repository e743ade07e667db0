"""all-MiniLM-L6-v2 in ONNX Runtime, f32.

The graph is written with the operators that ONNX Runtime's own optimiser fuses BERT into (`Attention`,
`SkipLayerNormalization`, `BiasGelu` of com.microsoft), so it is the fastest form that this peer has.
"""

import json
import pathlib
import struct
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

VERSION = f"ONNX Runtime {onnxruntime.__version__}"
DOMAIN = "com.microsoft"


def read_tensors(path):
    """The f32 tensors of a safetensors file (8 bytes of length, a JSON header, the bytes)."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, last = entry["data_offsets"]
            values = np.frombuffer(data, np.float32, (last - first) // 4, 8 + length + first)
            tensors[name] = values.reshape(entry["shape"])
    return tensors


class Graph:
    def __init__(self):
        self.nodes, self.weights, self.count = [], [], 0

    def weight(self, values):
        self.count += 1
        name = f"w{self.count}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind, inputs, domain=DOMAIN, outputs=1, **attributes):
        self.count += 1
        names = [f"t{self.count}"] + [f"t{self.count}_{i}" for i in range(1, outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names


def build(bert_dir):
    config = json.loads(pathlib.Path(bert_dir, "config.json").read_text())
    tensors = read_tensors(pathlib.Path(bert_dir, "model.safetensors"))
    graph = Graph()

    def of(name):
        return graph.weight(tensors[name])

    epsilon = config["layer_norm_eps"]
    embeddings = "embeddings.{}_embeddings.weight"
    x, lengths = graph.node(
        "EmbedLayerNormalization",
        ["ids", "kinds"]
        + [of(embeddings.format(part)) for part in ("word", "position", "token_type")]
        + [of("embeddings.LayerNorm.weight"), of("embeddings.LayerNorm.bias"), "mask"],
        outputs=2,
        epsilon=epsilon,
    )
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}."

        def linear(part):
            return tensors[f"{name}{part}.weight"].T, tensors[f"{name}{part}.bias"]

        heads = [linear(f"attention.self.{part}") for part in ("query", "key", "value")]
        weights = np.concatenate([weight for weight, _ in heads], axis=1)
        bias = np.concatenate([bias for _, bias in heads])
        attended = graph.node(
            "Attention",
            [x, graph.weight(weights), graph.weight(bias), lengths],
            num_heads=config["num_attention_heads"],
        )

        def dense(part, rows):
            weight, bias = linear(part)
            return graph.node("MatMul", [rows, graph.weight(weight)], domain=""), graph.weight(bias)

        def add_and_norm(part, rows, bias, beside):
            scale, shift = of(f"{name}{part}.LayerNorm.weight"), of(f"{name}{part}.LayerNorm.bias")
            return graph.node("SkipLayerNormalization", [rows, beside, scale, shift, bias], epsilon=epsilon)

        x = add_and_norm("attention.output", *dense("attention.output.dense", attended), x)
        wide = graph.node("BiasGelu", list(dense("intermediate.dense", x)))
        x = add_and_norm("output", *dense("output.dense", wide), x)
    graph.nodes.append(helper.make_node("Identity", [x], ["hidden"]))
    integers = [
        helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "tokens"]) for name in ("ids", "kinds", "mask")
    ]
    hidden = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", "tokens", config["hidden_size"]])
    return helper.make_model(
        helper.make_graph(graph.nodes, "minilm", integers, [hidden], graph.weights),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)],
        ir_version=8,
    )


class Model:
    def __init__(self, bert_dir, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = build(bert_dir).SerializeToString()
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def batch(self, rows):
        width = max(len(row) for row in rows)
        ids = np.zeros((len(rows), width), np.int32)
        mask = np.zeros((len(rows), width), np.int32)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        inputs = {"ids": ids, "kinds": np.zeros_like(ids), "mask": mask}
        (hidden,) = self.session.run(None, inputs)
        vectors = (hidden * mask[:, :, None]).sum(axis=1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed(self, sequences, at_once):
        """The vectors, and texts per second after a warm-up."""
        self.batch(sequences[:at_once])
        start = time.perf_counter()
        batches = [self.batch(sequences[first : first + at_once]) for first in range(0, len(sequences), at_once)]
        return np.concatenate(batches), len(sequences) / (time.perf_counter() - start)
