"""Measure and ask a model with and without an adapter: plain transformers and peft, no Etude.

    python compare.py BASE_MODEL_FOLDER ADAPTER_FOLDER HELD_OUT.csv "A question?"

Prints one JSON object. The loss is the mean, in nats, over the tokens of the answers.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

MAX_NEW_TOKENS = 60


def main(base: str, adapter: str, held_out: str, question: str) -> None:
    """Load both, measure both, ask both."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    bare = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(bare, adapter).eval()
    with Path(held_out).open(encoding="utf-8", newline="") as file:
        examples = [(row["question"], row["answer"]) for row in csv.DictReader(file)]
    with torch.inference_mode():
        after = mean_loss(model, tokenizer, examples), answer(model, tokenizer, question)
        with model.disable_adapter():
            before = mean_loss(model, tokenizer, examples), answer(model, tokenizer, question)
    result = {
        "loss_before": before[0],
        "loss_after": after[0],
        "answer_before": before[1],
        "answer_after": after[1],
    }
    print(json.dumps(result))


def mean_loss(model: Any, tokenizer: Any, examples: list[tuple[str, str]]) -> float:
    """Average the loss over all tokens of all answers; questions do not count."""
    loss_sum, num_tokens = 0.0, 0
    for question, reference in examples:
        prompt = prompt_for(tokenizer, question)
        messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": reference},
        ]
        text = tokenizer.apply_chat_template(messages, tokenize=False).rstrip("\n")
        encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
        labels = [
            token if start >= len(prompt) else -100
            for token, (start, _) in zip(
                encoded["input_ids"], encoded["offset_mapping"], strict=True
            )
        ]
        ids = torch.tensor([encoded["input_ids"]])
        counted = sum(label != -100 for label in labels[1:])
        loss_sum += model(input_ids=ids, labels=torch.tensor([labels])).loss.item() * counted
        num_tokens += counted
    return loss_sum / num_tokens


def answer(model: Any, tokenizer: Any, question: str) -> str:
    """Answer a question, word by word the likeliest."""
    encoded = tokenizer(
        prompt_for(tokenizer, question), return_tensors="pt", add_special_tokens=False
    )
    ids = model.generate(**encoded, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    said: str = tokenizer.decode(ids[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    return " ".join(said.split())


def prompt_for(tokenizer: Any, question: str) -> str:
    """Render the conversation up to where the answer begins."""
    messages = [{"role": "user", "content": question}]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text


if __name__ == "__main__":
    main(*sys.argv[1:])
