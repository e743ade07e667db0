"""The texts that embeddings are measured on, as token ids."""

import json
import pathlib

import tokenizers

# Words of each text in turn: with what people say in meetings, a mean of about 92 tokens.
WORDS = [8, 150, 40, 90, 20, 120, 60, 75, 30, 105]
TOKENS_MAX = 256


def sequences(bert_dir, shared_data, own_text, count):
    """Token ids of `count` texts with their special tokens, and what the texts are.

    From QMSum's meetings in `shared_data`; where that is absent, from the two sample calls, over and over.
    """
    files = sorted(pathlib.Path(shared_data, "qmsum", "val").glob("*.json"))
    if files:
        turns = [turn["content"] for file in files for turn in json.loads(file.read_text())["meeting_transcripts"]]
        source = "turns of QMSum's meetings (val), joined in their order"
    else:
        turns = pathlib.Path(own_text).read_text().splitlines()
        source = "turns of the two sample calls, since shared/data/qmsum is absent"
    tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(bert_dir, "tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS_MAX)
    texts, words = [], []
    while len(texts) < count:
        for turn in turns:
            words += turn.split()
            wanted = WORDS[len(texts) % len(WORDS)]
            if len(words) >= wanted:
                texts.append(" ".join(words[:wanted]))
                words = []
            if len(texts) == count:
                break
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)], source
