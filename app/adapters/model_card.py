"""The README.md that travels with an adapter: what it is, from what, how good, how to use it."""

import json

from sqlalchemy.orm import object_session

from app.core.models import DatasetVersion, Job
from app.datasets.questions import reviewing
from app.training.config import TrainConfig
from app.training.events import DoneEvent

_CARD = """\
---
base_model: {base_yaml}
library_name: peft
pipeline_tag: text-generation
license: {licence_yaml}
tags:
- lora
- etude
---

# {name}

A LoRA adapter: a small addition to **{base}** that was trained on the data named below. It was
made with Etude, on the owner's own machine. It works only together with that starting model.

## Where it comes from

| | |
| --- | --- |
| Starting model | {base} |
| About its weights | {base_note} |
| SHA-256 of the starting model's manifest | `{base_hash}` |
| Computed with | {computed_with} |
| Data | {data} |
| SHA-256 of the examples | `{data_hash}` |
| Examples | {num_train} to practise, {num_validation} to test |
| Job | {job} |
| Files | `MANIFEST.json` names each with its SHA-256 |

## How well it did

{loss_means} The model never learned from the test set.

| | loss |
| --- | --- |
| Test set, starting model alone | {before:.4f} |
| Test set, with this adapter (step {best_step}) | {after:.4f} |
| Practice set, at the end | {train_loss:.4f} |

{preferred}{early}Trained on {trained_tokens:,} tokens in {seconds:,.0f} seconds.

## How to use it

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file lies
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained({base_python})
model = PeftModel.from_pretrained(model, folder)

# The losses above are for exactly the weights that the manifest names; a copy of the same name from
# elsewhere may be rounded differently.
messages = [{{"role": "user", "content": "Your question"}}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
answer = model.generate(**inputs, max_new_tokens=200, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

## Intended use and limits

For the people and the subject that the data came from, with a person who checks the answers. Do not
rely on it alone: it can state wrong things fluently, above all on questions unlike its examples,
and it keeps the weaknesses of its starting model. It may repeat sentences of its data word for
word, so treat it as just as confidential as the data itself.

## Licence

The starting model's licence: {licence}. The adapter derives from that model and from the data; the
terms of both apply to it.

## Settings

| setting | value |
| --- | --- |
{settings}
"""


_ANSWER_LOSS = """\
The loss is the mean surprise, in nats, at a token of the right answer; lower is better."""
_PAIR_LOSS = """\
It learned to prefer the better of two answers (DPO). The loss is the mean over pairs, in nats:
0.69 is indifference, lower is better."""


def write(job: Job, done: DoneEvent) -> str:
    """Write the card of the adapter that a job has just made."""
    version, base = job.version, job.base_model
    config = TrainConfig.model_validate(job.config)
    settings = "\n".join(f"| {name} | {value} |" for name, value in config.model_dump().items())
    return _CARD.format(
        name=_one_line(job.name),
        base_note=_one_line(base.note) or "as they were imported",
        computed_with=_computed_with(job, config),
        base=_one_line(base.name),
        base_yaml=json.dumps(base.name),
        base_python=json.dumps(base.name),
        base_hash=base.manifest_sha256 or "unknown",
        licence=_one_line(base.licence) or "not known; ask where the model came from",
        licence_yaml=json.dumps(base.licence or "other"),
        data=_data(version),
        data_hash=version.examples_sha256 or "unknown",
        num_train=version.num_train,
        num_validation=version.num_validation,
        job=job.public_id,
        before=done.validation_loss_before,
        after=done.validation_loss_after,
        best_step=done.best_step,
        train_loss=done.train_loss,
        loss_means=_PAIR_LOSS if config.objective == "dpo" else _ANSWER_LOSS,
        preferred=""
        if done.preferred_share is None
        else f"It prefers the better of two answers to {done.preferred_share * 100:.0f}% of the "
        "questions of the test set, compared with the starting model. ",
        early="Training stopped early: results on the test set no longer improved. "
        if done.stopped_early
        else "",
        trained_tokens=done.trained_tokens,
        seconds=done.train_seconds,
        settings=settings,
    )


def _data(version: DatasetVersion) -> str:
    """Name the data; where a model made up its questions, say so."""
    named = f"{_one_line(version.dataset.name)}, version {version.number}"
    db = object_session(version)
    origin = reviewing.origin(db, version) if db is not None else ""
    return f"{named}: {_one_line(origin)}, each accepted by a person" if origin else named


def _computed_with(job: Job, config: TrainConfig) -> str:
    """Say in which numbers the frozen weights took part (docs/decisions/0006)."""
    kind = {"nf4": "", "bf16": "bfloat16", "fp32": "float32"}[
        (job.plan or {}).get("resident", "nf4")
    ]
    if config.method == "lora":
        return f"weights in {kind or 'bfloat16'}"
    unpacked = f", unpacked once to {kind}" if kind else ", unpacked in each pass"
    return f"weights rounded to 4 bits (NF4, double quantization){unpacked}"


def _one_line(text: str) -> str:
    # Names are people's text: none may end a table's cell or begin Markdown of its own.
    plain = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in r"\`*_[]<>#|" else sign for sign in plain)
