"""`python -m worker.inference.convert`: models and adapters -> files that llama.cpp reads.

A child process that may load torch. It reads a ConvertRequest from standard input, one JSON line,
and writes {"progress": {"doing": …}} lines and at last {"result": [one for each step]} or {"error":
"a sentence"}. Standard input staying open is its licence to live. It stands within walls
(app/training/isolation).

What is written has no vocabulary, for nothing but ids goes in and out.
"""

import fcntl
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.training import isolation, manifests
from app.training.chat import ChatError, ChatFormat
from app.training.plan.machine import free_memory, total_memory
from worker.inference import agreement, gguf_files, gguf_writing
from worker.inference.engine import EngineError
from worker.inference.gguf_files import Agreement, Form
from worker.inference.gguf_writing import Unusable, new_file
from worker.inference.llama_cpp import LlamaCpp

# The reference in float32, and what its answers and llama.cpp take beside it.
_REFERENCE_BYTES, _REFERENCE_ROOM_BYTES = 4, 2 * 1024**3
# For what is written: no form is larger than the weights, but small models have large vocabularies.
_ROOM_BYTES = 1024**3
_CPU_SECONDS = 7 * 24 * 3600
# All of them write into one folder; the numbers of jobs begin above it.
_CONVERTING = 0


class BaseStep(BaseModel):
    """Write the base model, and judge what was written."""

    kind: Literal["base"] = "base"
    target: Path
    form: Form = "q8_0"


class AdapterStep(BaseModel):
    """Write an adapter to be loaded beside the base model, in that one's form."""

    kind: Literal["adapter"] = "adapter"
    target: Path
    form: Form = "q8_0"
    folder: Path  # PEFT's
    manifest_sha256: str


class MergedStep(BaseModel):
    """Write the base model with an adapter merged into it."""

    kind: Literal["merged"] = "merged"
    target: Path
    folder: Path  # PEFT's
    manifest_sha256: str
    form: Form = "q8_0"


class ConvertRequest(BaseModel):
    """What to write, of which base model."""

    base: Path
    manifest_sha256: str
    steps: list[Annotated[BaseStep | AdapterStep | MergedStep, Field(discriminator="kind")]]
    num_threads: int = 1


def main() -> None:
    request = ConvertRequest.model_validate_json(sys.stdin.readline())
    os.nice(10)
    logging.disable(logging.WARNING)  # the converter's and transformers', for their developers
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    try:
        confine(request)  # before the first thread
        threading.Thread(target=_die_with_parent, daemon=True).start()
        _tell(result=[result.model_dump() for result in convert(request)])
    except (Unusable, EngineError, isolation.WallsMissing) as error:
        _tell(error=str(error))
    except MemoryError:
        said = "This machine has too little memory to prepare this model for answering."
        _tell(error=said, is_passing=True)
    except OSError as error:
        print(error, file=sys.stderr)  # for the log
        said = "The model could not be prepared for answering: its files cannot be read or written."
        _tell(error=said, is_passing=True)


def confine(request: ConvertRequest) -> None:
    """Keep the model's and the adapters' files, and the folders of what is made.

    Raises:
        WallsMissing: this machine cannot see to it.
    """
    folders = [step.folder for step in request.steps if not isinstance(step, BaseStep)]
    targets = {step.target.parent for step in request.steps}
    for target in targets:
        target.mkdir(parents=True, exist_ok=True)
    weights = sum(path.stat().st_size for path in request.base.glob("*.safetensors"))
    isolation.confine(
        isolation.Needs(
            reads=[request.base, *folders],
            writes=sorted(targets),
            work=_CONVERTING,
            limits=isolation.Limits(
                data_bytes=total_memory(),
                cpu_seconds=_CPU_SECONDS,
                open_files=1024,
                file_bytes=weights * 2 + _ROOM_BYTES,
            ),
        )
    )


class StepResult(BaseModel):
    file: Path
    size_bytes: int
    agreement: Agreement | None = None  # of a base model


def convert(request: ConvertRequest) -> list[StepResult]:
    """Do all steps, in order; what is there already is not written again.

    Raises:
        Unusable, EngineError: a file is not what it should be, or nothing that llama.cpp can take.
    """
    _verify(request.base, request.manifest_sha256, "The model's files")
    gguf_writing.use_converter()
    hparams = gguf_writing.hparams(request.base)
    results = []
    for step in request.steps:
        with _alone(step.target.parent):
            found = None
            if isinstance(step, BaseStep):
                found = _base(request, hparams, step)
            elif not step.target.exists():
                _verify(step.folder, step.manifest_sha256, "The trained model's files")
                if isinstance(step, AdapterStep):
                    _adapter(request.base, hparams, step)
                else:
                    _merged(request.base, hparams, step)
            size = step.target.stat().st_size
        results.append(StepResult(file=step.target, size_bytes=size, agreement=found))
    return results


def _base(request: ConvertRequest, hparams: dict[str, Any], step: BaseStep) -> Agreement:
    known = gguf_files.read_agreement(step.target)
    if step.target.exists() and known is not None:
        return known
    if not step.target.exists():
        _tell(progress={"doing": "preparing the model for answering"})
        _write_base(request.base, hparams, step.form, step.target)
    found = _judge(request, hparams, step)
    gguf_files.write_agreement(step.target, found)
    return found


def _judge(request: ConvertRequest, hparams: dict[str, Any], step: BaseStep) -> Agreement:
    """Hold a base model's file against the reference, its 16 bits first.

    Errors of a conversion can hide in the rounding of fewer bits, so the strict bound comes first.
    """
    if free_memory() < _reference_bytes(request.base) + _REFERENCE_ROOM_BYTES:
        return Agreement(form=step.form, is_checked=False)
    _tell(progress={"doing": "comparing the model's answers with the original's"})
    answers = _reference_answers(request)
    if step.form != "f16":
        exact = step.target.with_suffix(".f16.tmp")
        try:
            _write_base(request.base, hparams, "f16", exact)
            found = _compare(exact, answers, "f16", request.num_threads)
        finally:
            exact.unlink(missing_ok=True)
        if not found.is_fit:
            return found
    return _compare(step.target, answers, step.form, request.num_threads)


def _reference_answers(request: ConvertRequest) -> list[agreement.Answer]:
    import torch

    torch.set_num_threads(request.num_threads)
    try:
        chat = ChatFormat.load(request.base)
        prompts = [chat.encode_prompt([{"role": "user", "content": p}]) for p in agreement.PROMPTS]
    except ChatError as error:
        raise Unusable(str(error)) from None
    return agreement.reference_answers(load_reference(request.base), prompts)


def _compare(gguf: Path, answers: list[agreement.Answer], form: Form, threads: int) -> Agreement:
    longest = max(len(answer.prompt_ids) + len(answer.answer_ids) for answer in answers)
    engine = LlamaCpp(gguf, context_tokens=longest, num_threads=threads)
    try:
        return agreement.compare(engine, answers, form)
    finally:
        engine.close()


def load_reference(base: Path) -> Any:
    """Load a base model as the reference has it: float32, computed the plain way."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=torch.float32,
        attn_implementation="eager",
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    return model.eval()


def _write_base(
    base: Path,
    hparams: dict[str, Any],
    form: Form,
    target: Path,
    tensors: Mapping[str, Any] | None = None,
) -> None:
    """Write a base model in a form, with other tensors where they are given."""
    import torch

    with torch.inference_mode(), new_file(target) as partial:
        file = gguf_writing.model_file(
            *(base, hparams, form, partial),
            name="base",
            set_vocabulary=_count_vocabulary,
            tensors=tensors,
        )
        gguf_writing.write(file)


def _count_vocabulary(file: Any) -> None:
    """Say how many words a model has, and none of them.

    Ids alone go in and out, so made-up tokenizers and those without tokenizer.model are as good as
    any.
    """
    import gguf

    writer = file.gguf_writer
    writer.add_tokenizer_model("none")
    writer.remove_key(gguf.Keys.LLM.VOCAB_SIZE.format(arch=writer.arch))
    writer.add_vocab_size(writer.tensors[0]["token_embd.weight"].shape[0])


def _adapter(base: Path, hparams: dict[str, Any], step: AdapterStep) -> None:
    import torch

    _tell(progress={"doing": "preparing the trained model for answering"})
    with torch.inference_mode(), new_file(step.target) as partial:
        gguf_writing.write(
            gguf_writing.adapter_file(base, hparams, step.folder, step.form, partial)
        )


def _merged(base: Path, hparams: dict[str, Any], step: MergedStep) -> None:
    """Write the base model with an adapter merged into its 16-bit weights, in float32."""
    from peft import PeftModel

    _tell(progress={"doing": "merging what was learned into the starting model"})
    model = PeftModel.from_pretrained(load_reference(base), step.folder)
    merged = model.merge_and_unload(safe_merge=True)
    tied = set(merged.all_tied_weights_keys) if merged.config.tie_word_embeddings else set()
    tensors = {name: value for name, value in merged.state_dict().items() if name not in tied}
    _write_base(base, hparams, step.form, step.target, tensors)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until nobody else writes files into a folder: they would begin the same one."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _verify(folder: Path, manifest_sha256: str, what: str) -> None:
    try:
        found = manifests.verify_manifest(folder)
    except ValueError as error:
        print(error, file=sys.stderr)  # for the log alone: it names places on this machine
        raise Unusable(
            f"{what} on the server are damaged, or not all there; ask your administrator to "
            "restore them from a backup."
        ) from None
    if found != manifest_sha256:
        raise Unusable(f"{what} are not those that were imported; import it again.")


def _reference_bytes(base: Path) -> int:
    stored = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    return stored * _REFERENCE_BYTES // 2


def _tell(**message: Any) -> None:
    print(json.dumps(message, default=str), flush=True)


def _die_with_parent() -> None:
    while sys.stdin.read(65536):
        pass
    os._exit(70)


if __name__ == "__main__":
    main()
