"""`python -m worker.inference`: one base model in memory that answers, until standard input ends.

It stands within walls (app/training/isolation), without credentials; what it is asked comes down a
pipe and is never written anywhere (commands.py).
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from app.training import isolation, manifests
from app.training.answers import Event, Refused
from app.training.chat import ChatError, ChatFormat
from app.training.loading import loading
from app.training.plan.machine import total_memory
from worker.inference import commands, compiling
from worker.inference.engine import Engine, EngineError
from worker.inference.generation import Answering

# What it says of a fault goes to its worker's log.
_LOG_BYTES = 4 * 1024**3
_DAMAGED = (
    "This model's files on the server are damaged, or not those that were imported; ask your "
    "administrator to import it again."
)


def main() -> None:
    spec = commands.Open.model_validate_json(sys.stdin.buffer.readline())
    try:
        confine(spec)  # before the first thread
    except isolation.WallsMissing as error:
        _reply(commands.Failed(message=str(error)))
        return
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_hear, args=(heard,), daemon=True).start()
    try:
        _verify(spec)
        chat = ChatFormat.load(spec.base)
        engine = open_engine(spec)
    except EngineError as error:
        _reply(commands.Failed(message=str(error)))
    except MemoryError:
        _reply(commands.Failed(message="This machine has too little memory for this model."))
    except ChatError as error:
        said = str(error).splitlines()[0]
        _reply(commands.Failed(message=f"This model cannot be asked: {said}"))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)  # for the log alone: it names places on this machine
        _reply(commands.Failed(message=_DAMAGED))
    else:
        _reply(commands.Opened(num_slots=engine.num_slots, context_tokens=engine.context_tokens))
        answering = Answering(engine, spec.engine, chat, _say, _other_ends(spec.base))
        _Child(engine, answering).serve(heard)
        engine.close()


def confine(spec: commands.Open) -> None:
    """Keep the files of the model and of adapters, and a GPU with what compiles for it.

    Raises:
        WallsMissing: this machine cannot see to it.
    """
    is_on_gpu = spec.device.startswith("cuda")
    reads = [spec.base, *spec.adapters]
    reads += [path for path in (spec.cache_dir, spec.gguf) if path is not None]
    isolation.confine(
        isolation.Needs(
            reads=reads,
            writes=[compiling.own_folder()] if is_on_gpu else [],
            programs=is_on_gpu,
            gpu=is_on_gpu,
            limits=isolation.Limits(
                # A GPU's driver maps what it likes.
                data_bytes=None if is_on_gpu else total_memory(),
                open_files=1024,
                file_bytes=_LOG_BYTES,
            ),
        )
    )


def _verify(spec: commands.Open) -> None:
    if manifests.verify_once(spec.base, spec.cache_dir) != spec.manifest_sha256:
        raise ValueError("its files are not those that were imported")


def open_engine(spec: commands.Open) -> Engine:
    """Load the model with the engine that was asked for.

    Raises:
        EngineError, ValueError, OSError, MemoryError: it cannot be loaded.
    """
    if spec.engine == "llama.cpp":
        from worker.inference.llama_cpp import LlamaCpp

        if spec.gguf is None:
            raise ValueError("its file for llama.cpp is missing")
        return LlamaCpp(
            spec.gguf,
            num_slots=spec.num_slots,
            context_tokens=spec.context_tokens,
            num_threads=spec.num_threads,
        )
    with loading():
        from worker.inference.torch_engine import TorchEngine

    return TorchEngine.open(
        spec.base,
        spec.manifest_sha256,
        device=spec.device,
        num_slots=spec.num_slots,
        context_tokens=spec.context_tokens,
        num_threads=spec.num_threads,
    )


class _Child:
    """Carries out commands between the steps of answering."""

    def __init__(self, engine: Engine, answering: Answering) -> None:
        self._engine, self._answering = engine, answering
        self._adapters: set[str] = set()

    def serve(self, heard: queue.SimpleQueue[bytes]) -> None:
        is_busy = False
        while True:
            for line in _lines(heard, wait=not is_busy):
                self._obey(commands.COMMAND.validate_json(line))
            is_busy = self._answering.step()

    def _obey(self, command: object) -> None:
        match command:
            case commands.AddAdapter(name=name, path=path):
                try:
                    self._engine.add_adapter(name, path)
                except EngineError as error:
                    _reply(commands.Failed(message=str(error), name=name))
                else:
                    self._adapters.add(name)
                    _reply(commands.Added(name=name))
            case commands.RemoveAdapter(name=name):
                if name in self._adapters:
                    self._adapters.remove(name)
                    self._answering.forget_adapter(name)
                    self._engine.remove_adapter(name)
            case commands.Ask():
                self._ask(command)
            case commands.AskAll(asks=asks, afresh=afresh):
                if afresh:
                    self._answering.forget()
                for ask in asks:
                    self._ask(ask)
            case commands.Stop(id=request_id):
                self._answering.stop(request_id)

    def _ask(self, ask: commands.Ask) -> None:
        if ask.adapter is None or ask.adapter in self._adapters:
            self._answering.ask(ask.id, ask.adapter, ask.request)
        else:
            message = "This model was withdrawn."
            _say(ask.id, Refused(status=404, code="model_not_found", message=message))


def _hear(heard: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        heard.put(line)
    # The parent is gone, and so is everybody who waits for words.
    os._exit(0)


def _lines(heard: queue.SimpleQueue[bytes], wait: bool) -> Iterator[bytes]:
    with suppress(queue.Empty):
        yield heard.get(block=wait)
        while True:
            yield heard.get_nowait()


def _other_ends(base: Path) -> list[int]:
    """Return the ends of an answer that a model's own generation_config.json names."""
    try:
        ends = json.loads((base / "generation_config.json").read_text())["eos_token_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [end for end in (ends if isinstance(ends, list) else [ends]) if isinstance(end, int)]


def _say(request_id: int, event: Event) -> None:
    _reply(commands.Said(id=request_id, event=event))


def _reply(reply: commands.Opened | commands.Added | commands.Failed | commands.Said) -> None:
    try:
        sys.stdout.write(reply.model_dump_json() + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The parent is gone. Ending in order would be an abort, while another thread reads, and
        # what the system keeps of one holds people's words.
        os._exit(0)


if __name__ == "__main__":
    main()
