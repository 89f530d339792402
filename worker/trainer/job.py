"""One job from its folder to its adapter; here torch is loaded already."""

import gc
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, LlamaConfig

from app.training.chat import ChatError, ChatFormat
from app.training.config import TrainerSpec
from app.training.events import NoteEvent, PhaseEvent, PlanEvent
from app.training.plan import choose
from app.training.plan.choose import Plan
from app.training.plan.machine import DeviceInfo, share_cpu, this_cpu
from app.training.plan.shape import context_tokens, count_parameters, most_tokens
from worker.trainer import (
    base_model,
    checkpoint,
    data,
    failures,
    launch,
    loop,
    memory,
    model,
    optimizers,
    start,
    threads,
)
from worker.trainer import group as groups
from worker.trainer.checkpoint import Progress
from worker.trainer.events import EventLog
from worker.trainer.group import ALONE, Group
from worker.trainer.probe import probe
from worker.trainer.state import TrainingState


def run(
    job_dir: Path,
    spec: TrainerSpec,
    log: EventLog,
    asked_to_stop: Callable[[], bool],
    group: Group = ALONE,
) -> None:
    """Train a job.

    Raises:
        Stopped: somebody asked; a checkpoint is on disk.
        Failure: training cannot go on.
    """
    state = prepare(job_dir, spec, log, asked_to_stop, group=group)
    if spec.device == "cpu" and group is ALONE:
        threads.keep_apart()  # not before: what turns examples into tokens has threads of its own
    loop.train(state)


def warm_up() -> None:
    """Do once, before there is a job, what libraries put off to their first use.

    transformers finds its classes then, and torch and bitsandbytes their kernels. No thread is left
    of it: the walls are raised before there is one.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    tiny = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    packed, state = quantize_4bit(torch.ones(64, 64), compress_statistics=True, quant_type="nf4")
    dequantize_4bit(packed, state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's, of which model.adapt has more to say
        peft = get_peft_model(tiny, LoraConfig(r=1, target_modules="all-linear"))
    logits = peft(torch.zeros(1, 8, dtype=torch.long)).logits
    if not torch.cuda.is_available():  # a backward pass begins a thread for each GPU
        logits.sum().backward()
    torch.set_num_threads(num_threads)


def prepare(
    job_dir: Path,
    spec: TrainerSpec,
    log: EventLog,
    asked_to_stop: Callable[[], bool],
    plan: Plan | None = None,
    group: Group = ALONE,
) -> TrainingState:
    """Load what the loop works with and go to where the last attempt ended.

    Args:
        job_dir: Where the examples lie and results go.
        spec: The job's config.json.
        log: Where events go.
        asked_to_stop: Asked before each step.
        plan: Instead of one made for this machine; for comparing machines' plans on one.
        group: The processes that train it together.

    Raises:
        Failure: data, model or checkpoint cannot be used.
    """
    config, folder = spec.config, Path(spec.base_model_dir)
    device = torch.device(spec.device)
    machine = describe_device(device, group)
    if device.type == "cpu":
        torch.set_num_threads(machine.num_cores)
    log.write(PhaseEvent, phase="preparing", message="Turning the examples into tokens.")
    judge_files = base_model.check_in_background(spec)
    try:
        chat = ChatFormat.load(folder)
    except ChatError as error:
        raise failures.model_rejected(str(error)) from error
    model_config = _model_config(folder)
    context = context_tokens(model_config)
    examples = data.prepare(job_dir / "examples.arrow", chat, config, spec.num_samples, context)
    if plan is None:
        mine = make_plan(folder, examples, spec, machine)
        plan = Plan.model_validate_json(group.first(mine.model_dump_json()))
    _tell(log, spec, plan, examples, model_config)
    log.write(PhaseEvent, phase="loading", message=f"Loading {spec.base_model_name}.")
    loaded = _load(folder, spec, plan, device, group)
    judge_files()
    progress = Progress(
        micro_batch_tokens=plan.micro_batch_tokens,
        checkpointing=plan.checkpointing,
        optimizer=plan.optimizer,
    )
    saved = _checkpoint(job_dir, spec, log, group)
    if saved is not None:
        with _usable(saved, group):
            known = checkpoint.read_progress(saved)
        progress.micro_batch_tokens = known.micro_batch_tokens
        progress.checkpointing = progress.checkpointing or known.checkpointing
        progress.optimizer = known.optimizer
    launch.use_less_memory(job_dir, spec, progress)
    if progress.checkpointing and not plan.checkpointing:
        model.enable_checkpointing(loaded.peft.get_base_model())
    weights = model.groups(loaded, config)
    optimizer = optimizers.make(progress.optimizer, weights, config.weight_decay)
    state = TrainingState(
        spec,
        job_dir,
        log,
        plan,
        chat,
        examples,
        loaded,
        optimizer,
        progress,
        lambda: group.any(asked_to_stop()),
        group=group,
    )
    # On a CPU with room to spare the first point on the chart would only come later.
    if device.type == "cuda" or plan.fits != "yes":
        probe(state)
    if saved is not None:
        go_on(state, saved)
    return state


def _tell(
    log: EventLog, spec: TrainerSpec, plan: Plan, examples: data.Data, model_config: dict[str, Any]
) -> None:
    """Say how it will be trained, and what of the examples was cut or left out."""
    config, context = spec.config, context_tokens(model_config)
    practised, checked = examples.cut["train"], examples.cut["validation"]
    log.write(
        PlanEvent,
        total_steps=plan.num_steps,
        num_train=len(examples.train),
        num_validation=len(examples.validation),
        num_truncated=practised.num_examples,
        num_cut_tokens=practised.num_tokens,
        num_cut_answers=practised.num_answers,
        num_checked_truncated=checked.num_examples,
        num_checked_cut_tokens=checked.num_tokens,
        num_checked_cut_answers=checked.num_answers,
        plan=plan.model_dump(mode="json"),
    )
    num_cut = practised.num_examples + checked.num_examples
    if num_cut and context is not None and context < config.max_length_tokens:
        log.write(
            NoteEvent,
            level="warn",
            message=f"{spec.base_model_name} reads at most {context} tokens at once: longer "
            "examples are cut there, at the beginning of their question, although "
            f"{config.max_length_tokens} were allowed.",
        )
    taught, asked = examples.unfit["train"], examples.unfit["validation"]
    if num_left_out := taught.left_out + asked.left_out:
        which = _apart(taught.left_out, asked.left_out, spec.checks_on)
        log.write(
            NoteEvent,
            level="warn",
            message=f"{which} was left out: nothing in it is an answer, or its answer was cut off."
            if num_left_out == 1
            else f"{which} were left out: nothing in them is an answer, or their answer was cut "
            "off.",
        )
    if taught.joined or taught.refused or asked.joined or asked.refused:
        log.write(
            NoteEvent,
            level="warn",
            message=f"{spec.base_model_name} does not take all chats as they are. Turns joined in: "
            f"{_apart(taught.joined, asked.joined, spec.checks_on)}. Left out: "
            f"{_apart(taught.refused, asked.refused, spec.checks_on)}. The first reason: "
            f"{examples.problem}",
        )
    if examples.num_cut_texts:
        most = f"{most_tokens(config, model_config):,}"
        log.write(
            NoteEvent,
            level="info",
            message=f"1 long text was cut into {examples.num_pieces} pieces of at most {most} "
            "tokens; nothing is lost."
            if examples.num_cut_texts == 1
            else f"{examples.num_cut_texts} long texts were cut into {examples.num_pieces} pieces "
            f"of at most {most} tokens; nothing is lost.",
        )


def _apart(num_practised: int, num_asked: int, asked: str) -> str:
    """Say how many rows are practised, and how many are those that losses are measured on."""
    parts = [
        f"1 {kind} example" if num == 1 else f"{num:,} {kind} examples"
        for num, kind in ((num_practised, "practice"), (num_asked, asked))
        if num
    ]
    return " and ".join(parts) or "none"


def go_on(state: TrainingState, saved: Path) -> None:
    """Put a whole checkpoint in place; what a probe has just learned about memory stays.

    Raises:
        Failure: it cannot be used, and is gone.
    """
    progress = state.progress
    with _usable(saved, state.group):
        restored = checkpoint.restore(saved, state.model, state.optimizer)
        state.best = checkpoint.best_adapter(saved, restored)
    state.progress = replace(
        restored,
        micro_batch_tokens=progress.micro_batch_tokens,
        checkpointing=progress.checkpointing,
        optimizer=progress.optimizer,
    )


@contextmanager
def _usable(saved: Path, group: Group) -> Iterator[None]:
    """Read a checkpoint that is whole by its manifest; where it cannot be used, remove it.

    What it holds may be half in place by then, so the attempt ends, and the next one goes on from
    the checkpoint before. A machine that has no room for it leaves it where it is.

    Raises:
        Failure: it belongs to another model or optimizer, or holds something else altogether.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if memory.is_out_of_memory(error) or "CUDA error" in str(error):
            raise
        group.wait()  # all have read
        if group.is_first:
            shutil.rmtree(saved)
        raise failures.checkpoint_unusable(checkpoint.step_of(saved.name)) from error


def _checkpoint(job_dir: Path, spec: TrainerSpec, log: EventLog, group: Group) -> Path | None:
    """Find the checkpoint to go on from, and remove later ones: they are damaged."""
    if spec.resume_from is None:
        return None
    step = checkpoint.step_of(spec.resume_from)
    newest = checkpoint.newest(job_dir, step)
    begin = 0 if newest is None else checkpoint.step_of(newest.name)
    group.wait()  # all have read
    if group.is_first:
        checkpoint.forget_after(job_dir, begin)
    if begin != step:
        message = f"The checkpoint of step {step} is damaged; training goes on from step {begin}."
        log.write(NoteEvent, level="warn", message=message)
    return newest


def _load(
    folder: Path, spec: TrainerSpec, plan: Plan, device: torch.device, group: Group
) -> model.Model:
    name, packed = spec.base_model_name, base_model.packed_folder(spec, plan)
    if plan.strategy != "fsdp":
        loaded = model.load(folder, name, plan, spec.config, device, packed)
    else:
        mesh = groups.make_mesh(group, device.type)
        # No device holds the whole model, and the machine's memory hardly more than one.
        with group.one_by_one():
            cpu = torch.device("cpu")
            loaded = model.load(folder, name, plan, spec.config, cpu, packed)
            weights = list(loaded.adapter.values())
            groups.shard(loaded.peft.get_base_model(), weights, mesh, device)
            gc.collect()
    loaded = start.put(loaded, spec)
    for weight in loaded.adapter.values():
        group.same(weight)
    return loaded


def make_plan(folder: Path, examples: data.Data, spec: TrainerSpec, machine: DeviceInfo) -> Plan:
    """Plan with the lengths of the very examples."""
    return choose.plan(
        _model_config(folder),
        count_parameters(folder),
        examples.histogram(),
        spec.config,
        machine,
        from_adapter=spec.start is not None,
    )


def _model_config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise failures.model_rejected(
            "The starting model's file “config.json” cannot be read; ask your administrator to "
            "import the model again."
        ) from error
    return config


def describe_device(device: torch.device, group: Group = ALONE) -> DeviceInfo:
    """Describe the device that this job trains on, or each of its devices.

    Raises:
        Failure: there is no GPU that can be used.
    """
    cpu = this_cpu()
    if device.type == "cpu":
        return share_cpu(cpu, group.size)
    if not torch.cuda.is_available():
        # No driver, one too old for torch, or torch without CUDA.
        raise failures.no_device()
    free_bytes, _ = torch.cuda.mem_get_info(device)
    free_bytes = -int(group.most(-free_bytes))
    return DeviceInfo(
        kind="cuda",
        name=torch.cuda.get_device_name(device),
        free_bytes=free_bytes,
        num_devices=group.size,
        num_cores=cpu.num_cores,
        has_bfloat16=torch.cuda.is_bf16_supported(including_emulation=False),
    )
