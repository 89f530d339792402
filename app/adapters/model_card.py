"""The README.md that travels with an adapter: what it is, from what, how good, how to use it."""

import json
from importlib import metadata
from pathlib import Path

from sqlalchemy.orm import object_session

from app.core.models import BaseModel, DatasetVersion, Job
from app.datasets.questions import reviewing
from app.jobs import cuts, practice
from app.training.config import TrainConfig
from app.training.events import DoneEvent

_CARD = """\
---
{base_yaml}library_name: peft
pipeline_tag: text-generation
license: {licence_yaml}
tags:
- lora
- etude
---

# {name}

A LoRA adapter: a small addition to **{base}** that was trained on the data named below. It was
made with Etude {version}, on the owner's own machine. It works only together with that starting
model.{whole}

## Where it comes from

| | |
| --- | --- |
| Starting model | {base} |
| Which came from | {origin} |
| About its weights | {base_note} |
| SHA-256 of the starting model's manifest | `{base_hash}` |
{started_from}| Computed with | {computed_with} |
| Data | {data} |
| SHA-256 of the examples | `{data_hash}` |
| Examples | {num_train} to practise{num_check}, {num_test} to test |
{cut}{practised_before}| Job | {job} |
| Tokens that end an answer | {end_tokens} |
| Files | `MANIFEST.json` names each with its SHA-256 |

## How well it did

{not_counted}

{loss_means} {who_chose}{unchecked}

| | loss |
| --- | --- |
| {asked} set, {before_what} | {before:.4f} |
| {asked} set, with this adapter (step {best_step}) | {after:.4f} |
| Practice set, mean of the last steps | {train_loss:.4f} |

{preferred}{early}Trained on {trained_tokens:,} tokens in {seconds:,.0f} seconds.

## How to use it

```python
import os
os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is looked up elsewhere
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file lies
base = "starting-model"  # the folder in which you have {base_plain}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(base)
model = PeftModel.from_pretrained(model, folder)

# The losses above are for exactly the weights that the manifest names; a copy of the same name from
# elsewhere may be rounded differently.
messages = [{{"role": "user", "content": "Your question"}}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
answer = model.generate(**inputs, max_new_tokens=200, do_sample=False{ends})
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


# Stands in a card until somebody has counted.
NOT_COUNTED = "How many of its answers are right has not been counted."
_WELL = "## How well it did\n"
_USE, _AFTER_USE = "## How to use it\n", "## Intended use and limits\n"
_WHO_CHOSE = {
    "check": """\
The model never learned from the check set, which chose
the step; nor from the test set, which chose nothing and whose loss is not measured.""",
    "test": """\
The model never learned from the test set. It chose the step
as well, so that a result on it looks a little better than it is.""",
    "practice": """\
There was no check set: the adapter is that of the last step, and
the loss is on rows that it practised. It says nothing about others.""",
}
_WHOLE = """ What the
adapter that it started from had learned is part of it; that one need not be loaded."""
_ANSWER_LOSS = """\
The loss is the mean surprise, in nats, at a token of the right answer; lower is better."""
_PAIR_LOSS = """\
It learned to prefer the better of two answers (DPO). The loss is the mean over pairs, in nats:
0.69 is indifference, lower is better."""


def write(job: Job, done: DoneEvent) -> str:
    """Write the card of the adapter that a job has just made."""
    version, base = job.version, job.base_model
    db = object_session(job)
    held_out = (
        db.get(DatasetVersion, job.validation_version_id)
        if db is not None and job.validation_version_id is not None
        else None
    )
    sizes, asked = practice.sizes(job, held_out), practice.chosen_by(job)
    told = cuts.of_jobs(db, [job.id]).get(job.id) if db is not None else None
    cut = cuts.sentence(told, asked) if told else ""
    checked = (job.practised_before or {"is_checked": not job.lineage})["is_checked"]
    config = TrainConfig.model_validate(job.config)
    repo = _repo(base)
    rows = "\n".join(f"| {name} | {value} |" for name, value in config.model_dump().items())
    return _CARD.format(
        name=_one_line(job.name),
        base_note=_one_line(base.note) or "as they were imported",
        computed_with=_computed_with(job, config),
        base=_one_line(base.name),
        version=metadata.version("etude"),
        origin=_origin(base),
        base_yaml=f"base_model: {json.dumps(repo)}\n" if repo else "",
        base_plain=" ".join(base.name.split()),
        end_tokens=", ".join(map(str, done.end_token_ids)) or "not known",
        ends=f", eos_token_id={done.end_token_ids}" if done.end_token_ids else "",
        base_hash=base.manifest_sha256 or "unknown",
        licence=_one_line(base.licence) or "not known; ask where the model came from",
        licence_yaml=json.dumps(base.licence or "other"),
        data=_data(version),
        data_hash=version.examples_sha256 or "unknown",
        num_train=sizes.practice,
        num_check=f", {sizes.check} to check" if sizes.check else "",
        num_test=sizes.test,
        cut=f"| Cut | {cut} |\n" if cut else "",
        asked=asked.capitalize(),
        who_chose=_WHO_CHOSE[asked],
        started_from=_started_from(job),
        practised_before="".join(
            f"| Practised before | {sentence} |\n" for sentence in practice.sentences(job)
        ),
        unchecked="" if checked else " What an earlier adapter had learned is not known any more.",
        before_what="the adapter it started from" if job.lineage else "starting model alone",
        whole=_WHOLE if job.lineage else "",
        job=job.public_id,
        before=done.validation_loss_before,
        after=done.validation_loss_after,
        best_step=done.best_step,
        train_loss=done.train_loss,
        not_counted=NOT_COUNTED,
        loss_means=_PAIR_LOSS if config.objective == "dpo" else _ANSWER_LOSS,
        preferred=""
        if done.preferred_share is None
        else f"It prefers the better of two answers to {done.preferred_share * 100:.0f}% of the "
        f"questions of the {asked} set, compared with "
        f"{'the adapter it started from' if job.lineage else 'the starting model'}. ",
        early=f"Training stopped early: results on the {asked} set no longer improved. "
        if done.stopped_early
        else "",
        trained_tokens=done.trained_tokens,
        seconds=done.train_seconds,
        settings=rows,
    )


def _repo(base: BaseModel) -> str | None:
    """Return what the hub calls a starting model; None: nobody else has it under any name."""
    if base.source["kind"] == "starter":
        return base.name
    return str(base.source["repo"]) if base.source["kind"] == "hub" else None


def _origin(base: BaseModel) -> str:
    """Say where a starting model was imported from; a file or folder of a site has no other name.

    Whose hash says more of it than a path of that machine.
    """
    gguf = base.source.get("gguf")
    file = f"the GGUF file {_one_line(gguf['name'])}, SHA-256 `{gguf['sha256']}`" if gguf else None
    match base.source["kind"]:
        case "starter":
            return f"{file or 'a GGUF file'}, which Etude brings along"
        case "hub":
            revision = base.source.get("revision")
            which = f", revision {_one_line(str(revision))}" if revision else ""
            return f"{_one_line(str(base.source['repo']))} on the Hugging Face Hub{which}"
        case "upload":
            return file or "an uploaded folder, whose files the manifest below names"
        case _:
            name = _one_line(Path(base.source["path"]).name)
            return file or f"a folder called {name}, whose files the manifest below names"


def with_count(card: str, counted: str) -> str:
    """Return a card, as it was written, with how many answers are right."""
    if NOT_COUNTED in card:
        return card.replace(NOT_COUNTED, counted, 1)
    return card.replace(_WELL, f"{_WELL}\n{counted}\n", 1)


def with_use(card: str, use: str) -> str:
    """Return a card with another way to use what it is about, also where it had none."""
    before, found, after = card.partition(_USE)
    if not found:
        return f"{card.rstrip()}\n\n{use}"
    return f"{before}{use}\n{_AFTER_USE}{after.partition(_AFTER_USE)[2]}"


def _started_from(job: Job) -> str:
    """Name the adapters that it was trained further from, the nearest first."""
    return "".join(
        f"| {'Started from' if place == 0 else 'which started from'} | {_one_line(one['name'])}, "
        f"`{one['public_name']}`, SHA-256 of its manifest `{one['manifest_sha256']}` |\n"
        for place, one in enumerate(job.lineage)
    )


def _data(version: DatasetVersion) -> str:
    """Name the data; where a model made up its questions, say so."""
    name, number = _one_line(version.dataset.name), version.number
    db = object_session(version)
    origin = reviewing.origin(db, version) if db is not None else ""
    if origin:
        return f"{name}, version {number}: {_one_line(origin)}, each accepted by a person"
    return f"{name}, version {number}"


def _computed_with(job: Job, config: TrainConfig) -> str:
    """Say in which numbers the frozen weights took part (docs/decisions/0006)."""
    resident = (job.plan or {}).get("resident", "nf4")
    if config.method == "lora":
        return "weights in float32" if resident == "fp32" else "weights in bfloat16"
    return {
        "nf4": "weights rounded to 4 bits (NF4, double quantization), unpacked in each pass",
        "bf16": "weights rounded to 4 bits (NF4, double quantization), unpacked once to bfloat16",
        "fp32": "weights rounded to 4 bits (NF4, double quantization), unpacked once to float32",
    }[resident]


def _one_line(text: str) -> str:
    # Names are people's text: none may end a table's cell or begin Markdown of its own.
    plain = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in r"\`*_[]<>#|" else sign for sign in plain)
