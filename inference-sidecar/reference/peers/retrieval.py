"""How well vectors find the documents of SciFact (Wadden et al. 2020, the form of BEIR): nDCG at 10."""

import gzip
import json
import math
import pathlib

import numpy as np
import tokenizers

TOKENS_MAX = 256
FIRST = 10


def lines(path):
    text = gzip.open(path, "rt") if path.suffix == ".gz" else open(path)
    with text:
        return [json.loads(line) for line in text]


class SciFact:
    """Documents, queries, and which documents answer each query; None where `shared_data` lacks them."""

    @classmethod
    def find(cls, shared_data, bert_dir):
        folder = pathlib.Path(shared_data, "scifact")
        return cls(folder, bert_dir) if folder.is_dir() else None

    def __init__(self, folder, bert_dir):
        tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(bert_dir, "tokenizer.json")))
        tokenizer.no_padding()
        tokenizer.enable_truncation(TOKENS_MAX)

        def encode(texts):
            return [encoding.ids for encoding in tokenizer.encode_batch(texts)]

        documents = lines(folder / "corpus.jsonl.gz")
        rows = {document["_id"]: row for row, document in enumerate(documents)}
        self.relevant = {}
        for line in (folder / "qrels_train.tsv").read_text().splitlines()[1:]:
            query, document, score = line.split("\t")
            if int(score) > 0:
                self.relevant.setdefault(query, set()).add(rows[document])
        queries = [query for query in lines(folder / "queries_train.jsonl") if query["_id"] in self.relevant]
        self.query_ids = [query["_id"] for query in queries]
        self.documents = encode([f"{document['title']} {document['text']}" for document in documents])
        self.queries = encode([query["text"] for query in queries])

    def ndcg(self, vectors):
        """Mean over the queries; `vectors`: those of the documents, then those of the queries."""
        documents, queries = np.split(vectors, [len(self.documents)])
        gains = []
        for query, scores in zip(self.query_ids, queries @ documents.T, strict=True):
            best = np.argsort(-scores, kind="stable")[:FIRST]
            found = sum(1 / math.log2(rank + 2) for rank, row in enumerate(best) if row in self.relevant[query])
            ideal = sum(1 / math.log2(rank + 2) for rank in range(min(FIRST, len(self.relevant[query]))))
            gains.append(found / ideal)
        return sum(gains) / len(gains)
