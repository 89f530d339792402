"""`python -m worker.inference.convert`: models and adapters -> files that llama.cpp reads.

A child process that may load torch. It reads a ConvertRequest from standard input, one JSON line,
and writes {"progress": {"doing": …}} lines and at last {"result": [one for each step]} or {"error":
"a sentence"}. Standard input staying open is its licence to live. It stands within walls
(app/training/isolation).

Names and shapes are llama.cpp's own converter's business. Three things are not: the vocabulary, for
nothing but ids goes in and out; adapters, whose rows are turned as the base model's are; and
writing, which leaves a whole file or none.
"""

import errno
import fcntl
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.training import isolation, manifests
from app.training.chat import ChatError, ChatFormat
from app.training.plan.machine import free_memory, total_memory
from worker.inference import agreement, gguf_files
from worker.inference.engine import EngineError
from worker.inference.gguf_files import Agreement, Form
from worker.inference.llama_cpp import LlamaCpp

_ADAPTER_PREFIX = "base_model.model."
_BLOCK = 32  # of Q8_0
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


class Unusable(Exception):
    """llama.cpp cannot take this; a sentence for a person."""


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
        # NumPy says of a full disk how many bytes it wrote, and no more.
        why = error.strerror or os.strerror(errno.ENOSPC)
        _tell(error=f"The model could not be prepared for answering: {why}.", is_passing=True)


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
    sys.path[:0] = [
        str(gguf_files.converter_folder() / part) for part in (".", "gguf-py")
    ]  # before anything loads the other gguf
    hparams = _hparams(request.base)
    results = []
    for step in request.steps:
        with _alone(step.target.parent):
            found = None
            if isinstance(step, BaseStep):
                found = _base(request, hparams, step)
            elif not step.target.exists():
                _verify(step.folder, step.manifest_sha256, "The adapter's files")
                config = json.loads((step.folder / "adapter_config.json").read_text())
                if isinstance(step, AdapterStep):
                    _adapter(request.base, hparams, step, config)
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
    import gguf
    import torch

    kind = _model_class(hparams)

    class BaseModelFile(kind):  # type: ignore[valid-type, misc]
        model_arch = kind.model_arch  # each class has to name its own

        def index_tensors(self, remote_hf_model_id: str | None = None) -> Any:
            if tensors is None:
                return super().index_tensors(remote_hf_model_id)
            named = ((name, lambda tensor=tensor: tensor) for name, tensor in tensors.items())
            return dict(filter(None, map(self.filter_tensors, named)))

        def set_vocab(self) -> None:
            # Ids alone go in and out, so made-up tokenizers and those without tokenizer.model are
            # as good as any.
            rows = self.gguf_writer.tensors[0]["token_embd.weight"].shape[0]
            self.gguf_writer.add_tokenizer_model("none")
            self.gguf_writer.remove_key(gguf.Keys.LLM.VOCAB_SIZE.format(arch=self.gguf_writer.arch))
            self.gguf_writer.add_vocab_size(rows)

        def modify_tensors(self, data_torch: Any, name: str, bid: int | None) -> Any:
            if name.endswith("embed_tokens.weight"):
                # Gemma 3's would lose the rows of ids that no word has; the reference has them.
                rows = [(self.map_tensor_name(name), data_torch)]
                if hparams["model_type"] in _NEVER_TIED and hparams.get("tie_word_embeddings"):
                    rows.append(
                        (gguf.TENSOR_NAMES[gguf.MODEL_TENSOR.OUTPUT] + ".weight", data_torch)
                    )
                return rows
            return super().modify_tensors(data_torch, name, bid)

        def prepare_metadata(self, vocab_only: bool) -> None:
            self.dir_model_card = None  # cards say nothing that counts here
            super().prepare_metadata(vocab_only)

    with torch.inference_mode(), _new_file(target) as partial:
        file = BaseModelFile(
            base,
            _form_type(form),
            partial,
            hparams=dict(hparams),
            model_name="base",
            eager=tensors is not None,
        )
        _write(file)


def _adapter(
    base: Path, hparams: dict[str, Any], step: AdapterStep, config: dict[str, Any]
) -> None:
    """Write an adapter's pairs of matrices under llama.cpp's names.

    What llama.cpp's converter does to a weight's rows is done to those of B, which are the same
    rows; A stays, since no weight's columns are changed. In Q8_0 the rank is filled up with zeros
    to whole blocks, and alpha grows with it: llama.cpp divides by the rank that it sees.
    """
    import gguf
    import torch
    from safetensors.torch import load_file

    _tell(progress={"doing": "preparing the adapter for answering"})
    if gguf_files.must_merge(config) or config.get("alpha_pattern"):
        raise Unusable("This adapter can only be answered with once it is merged into its model.")
    pairs = _pairs(load_file(step.folder / "adapter_model.safetensors"))
    rank = int(config["r"])
    filled = rank if step.form == "f16" else -(-rank // _BLOCK) * _BLOCK
    kind = _model_class(hparams)

    class AdapterFile(kind):  # type: ignore[valid-type, misc]
        model_arch = kind.model_arch

        def index_tensors(self, remote_hf_model_id: str | None = None) -> dict[str, Any]:  # noqa: ARG002
            return {}

        def get_tensors(self) -> Iterator[tuple[str, Any]]:
            for name, (_, matrix_b) in pairs.items():
                yield name, matrix_b

        def generate_extra_tensors(self) -> tuple[()]:
            return ()

        def modify_tensors(
            self, data_torch: Any, name: str, bid: int | None
        ) -> Iterator[tuple[str, Any]]:
            for new_name, rows in super().modify_tensors(data_torch, name, bid):
                more = filled - rows.shape[1]
                yield f"{new_name}.lora_a", torch.nn.functional.pad(pairs[name][0], (0, 0, 0, more))
                yield f"{new_name}.lora_b", torch.nn.functional.pad(rows, (0, more))

        def set_type(self) -> None:
            self.gguf_writer.add_type(gguf.GGUFType.ADAPTER)
            self.gguf_writer.add_string(gguf.Keys.Adapter.TYPE, "lora")

        def set_gguf_parameters(self) -> None:
            alpha = gguf_files.adapter_alpha(config) * filled / rank
            self.gguf_writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)

        def set_vocab(self) -> None:
            pass

        def prepare_metadata(self, vocab_only: bool) -> None:
            self.dir_model_card = None
            super().prepare_metadata(vocab_only)

    with torch.inference_mode(), _new_file(step.target) as partial:
        _write(
            AdapterFile(
                base,
                _form_type(step.form),
                partial,
                hparams=dict(hparams),
                model_name="adapter",
                eager=True,
            )
        )


def _form_type(form: Form) -> Any:
    import gguf

    return {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}[form]


def _pairs(tensors: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Sort PEFT's tensors into (A, B), by the name of the weight that they change."""
    found: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        weight, _, which = name.removeprefix(_ADAPTER_PREFIX).rpartition(".lora_")
        if which not in ("A.weight", "B.weight") or not name.startswith(_ADAPTER_PREFIX):
            raise Unusable(f"This adapter changes {name}, which llama.cpp cannot do.")
        found.setdefault(f"{weight}.weight", {})[which[0]] = tensor.float()
    return {name: (pair["A"], pair["B"]) for name, pair in found.items()}


def _merged(base: Path, hparams: dict[str, Any], step: MergedStep) -> None:
    """Write the base model with an adapter merged into its 16-bit weights, in float32."""
    from peft import PeftModel

    _tell(progress={"doing": "merging the adapter into the model"})
    model = PeftModel.from_pretrained(load_reference(base), step.folder)
    merged = model.merge_and_unload(safe_merge=True)
    tied = set(merged.all_tied_weights_keys) if merged.config.tie_word_embeddings else set()
    tensors = {name: value for name, value in merged.state_dict().items() if name not in tied}
    _write_base(base, hparams, step.form, step.target, tensors)


def _write(file: Any) -> None:
    file.prepare_tensors()
    file.prepare_metadata(vocab_only=False)
    file.gguf_writer.write_header_to_file(path=file.fname_out)
    file.gguf_writer.write_kv_data_to_file()
    file.gguf_writer.write_tensors_to_file()
    file.gguf_writer.close()


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


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """Give a file's path to write to; it bears its name once it is whole and on disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".tmp")  # the next try overwrites a killed one's
    try:
        yield partial
        handle = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        partial.rename(target)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _model_class(hparams: Mapping[str, Any]) -> Any:
    from conversion import get_model_class

    try:
        return get_model_class(hparams["architectures"][0])
    except NotImplementedError:
        raise Unusable(f"llama.cpp does not know {hparams['model_type']} models.") from None


def _hparams(base: Path) -> dict[str, Any]:
    """Return a model's settings as llama.cpp's converter wants them.

    Raises:
        Unusable: llama.cpp would compute something else.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    hparams: dict[str, Any] = config.to_dict()
    hparams["architectures"] = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]]
    for key, period in (("layer_types", _WINDOW_PERIODS), ("no_rope_layers", _NO_ROPE_PERIODS)):
        every = period.get(config.model_type)
        if every is None or not hparams.get(key):
            continue
        is_last = [(layer + 1) % every == 0 for layer in range(config.num_hidden_layers)]
        if [value in ("full_attention", 0) for value in hparams[key]] != is_last:
            raise Unusable("llama.cpp does not know this model's order of layers.")
    return hparams


# llama.cpp knows by heart which layers see the whole text, or have no angles: one in so many.
_WINDOW_PERIODS = {"gemma2": 2, "gemma3_text": 6}
_NO_ROPE_PERIODS = {"smollm3": 4}
# Of these it wants a matrix for the scores, also where a model has one for words and scores.
_NEVER_TIED = ("olmo2",)


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
