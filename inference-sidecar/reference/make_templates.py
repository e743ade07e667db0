"""Writes tests/fixtures/templates.json: what Hugging Face renders from templates of Llama's kinds.

Usage: make_templates.py

The templates in `templates/` were written for this test, with the constructs that the published
ones of the same names use. Needs transformers without torch.
"""

import json
import pathlib

import transformers
from transformers.utils.chat_template_utils import render_jinja_template

here = pathlib.Path(__file__).parent
chosen = json.loads((here / "llama31_conversations.json").read_text())
tokens = {"llama-2": ("<s>", "</s>"), "smollm2": ("<|im_start|>", "<|im_end|>")}
llama_3 = ("<|begin_of_text|>", "<|eot_id|>")

lines = []
for path in sorted((here / "templates").glob("*.jinja")):
    template = path.read_text()
    bos, eos = tokens.get(path.stem, llama_3)
    cases = []
    for messages in chosen:
        try:
            # The date that the templates fall back to when they cannot ask for today's.
            rendered, _ = render_jinja_template(
                conversations=[messages],
                chat_template=template,
                add_generation_prompt=True,
                bos_token=bos,
                eos_token=eos,
                date_string="26 Jul 2024",
            )
            cases.append(rendered[0])
        except Exception:
            cases.append(None)
    item = {"name": path.stem, "template": template, "bos": bos, "eos": eos, "rendered": cases}
    refused = cases.count(None)
    print(path.stem, len(cases), "conversations,", refused, "refused")
    lines.append(json.dumps(item, ensure_ascii=False, separators=(",", ":")))

header = {"made_with": f"transformers {transformers.__version__}"}
out = here.parent / "tests" / "fixtures" / "templates.json"
body = ",\n".join(lines)
out.write_text(json.dumps(header)[:-1] + f', "templates": [\n{body}\n]}}\n')
print(out, out.stat().st_size)
