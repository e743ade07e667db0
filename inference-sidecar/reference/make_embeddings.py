"""Writes tests/fixtures/embeddings.json: vectors of sentence-transformers for fixed texts.

Usage: make_embeddings.py MODEL_DIR
"""

import json
import pathlib
import sys

import sentence_transformers
import torch

here = pathlib.Path(__file__).parent
texts = json.loads((here / "embedding_texts.json").read_text())
# Longer than the 256 tokens of the model: only the beginning counts.
texts.append(" ".join(f"Point {i}: the buyer wants delivery in week {i % 52}." for i in range(60)))

model = sentence_transformers.SentenceTransformer(sys.argv[1], device="cpu")
assert model.max_seq_length == 256
with torch.no_grad():
    # One by one: no padding is involved.
    vectors = [model.encode(text, convert_to_numpy=True) for text in texts]
made_with = f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}"
items = [
    {"text": text, "vector": [round(float(x), 7) for x in vector]}
    for text, vector in zip(texts, vectors)
]
out = here.parent / "tests" / "fixtures" / "embeddings.json"
lines = ",\n".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in items)
out.write_text(f'{{"made_with":"{made_with}","items":[\n{lines}\n]}}\n')
print(out, out.stat().st_size)
