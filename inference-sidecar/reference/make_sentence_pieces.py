"""Writes tests/fixtures/sentence_pieces.json: a small vocabulary like Llama 2's and its encodings.

Usage: make_sentence_pieces.py TEXT_FILE

Trains byte pairs with byte fallback on TEXT_FILE (README.md of this repository was used) with the
settings of Llama 2's vocabulary, and encodes `sentence_texts.json` with sentencepiece itself.
"""

import io
import json
import pathlib
import sys

import sentencepiece

here = pathlib.Path(__file__).parent
texts = json.loads((here / "sentence_texts.json").read_text())
assert len(texts) == 40

model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(pathlib.Path(sys.argv[1]).read_text().splitlines()),
    model_writer=model,
    model_type="bpe",
    vocab_size=700,
    byte_fallback=True,
    split_digits=True,
    allow_whitespace_only_pieces=True,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    add_dummy_prefix=True,
    character_coverage=0.999,
    minloglevel=2,
)
processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def kind(id):
    if processor.is_unknown(id):
        return 2
    if processor.is_control(id):
        return 3
    return 6 if processor.is_byte(id) else 1


pieces = [
    [processor.id_to_piece(id), round(processor.get_score(id), 3), kind(id)]
    for id in range(processor.get_piece_size())
]
header = {"made_with": f"sentencepiece {sentencepiece.__version__}"}
items = [{"text": text, "ids": processor.encode(text)} for text in texts]


def lines(values):
    dumped = (json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in values)
    return ",\n".join(dumped)


out = here.parent / "tests" / "fixtures" / "sentence_pieces.json"
body = f', "pieces": [\n{lines(pieces)}\n], "texts": [\n{lines(items)}\n]}}\n'
out.write_text(json.dumps(header)[:-1] + body)
print(out, out.stat().st_size, "bytes", sum(len(item["ids"]) for item in items), "ids")
