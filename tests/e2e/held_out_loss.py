"""held_out_loss.py BASE ADAPTER CSV: mean loss on a few answers, by plain transformers + peft.

Prints one JSON object {"base", "tuned"}; knows nothing of Etude.
"""

import csv
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)  # threads that wait for each other take long beside other work
base_dir, adapter_dir, rows_path = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(adapter_dir)
model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
with Path(rows_path).open(encoding="utf-8", newline="") as file:
    rows = list(csv.DictReader(file))


def mean_loss(model: torch.nn.Module) -> float:
    total, count = 0.0, 0
    for row in rows:
        question = [{"role": "user", "content": row["question"]}]
        answer = [*question, {"role": "assistant", "content": row["answer"]}]
        prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(
            tokenizer.apply_chat_template(answer, tokenize=False), return_tensors="pt"
        ).input_ids
        begin = len(tokenizer(prompt).input_ids)
        with torch.no_grad():
            logits = model(ids).logits[0, begin - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, ids[0, begin:], reduction="sum").item()
        count += ids.shape[1] - begin
    return total / count


losses = {"base": mean_loss(model)}
tuned = PeftModel.from_pretrained(model, adapter_dir)
losses["tuned"] = mean_loss(tuned)
print(json.dumps(losses))
