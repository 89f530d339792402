"""`python -m worker.inference` as a child: one model in memory, questions in, events out.

It dies with us: standard input is a pipe whose other end only we hold. It gets an environment
without secrets, as a trainer does, and holds the GPU's lock for as long as it lives.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import structlog
from pydantic import BaseModel, ValidationError

from app.adapters.answering import FINAL, MAX_LINE_BYTES, LineTooLong, read_line
from app.core import settings
from app.training import manifests
from app.training.answers import Event, Request
from app.training.clock import boot_seconds
from worker.gpu import trainer_process
from worker.inference import commands

_GONE_SECONDS = 10.0
# Measured beside a trainer on two cores: its first word a tenth of a second later than without, and
# the trainer keeps more than half of its speed. Deeper, answers become slow for little.
_NICENESS = 3
_log = structlog.get_logger()


class ChildFailed(Exception):
    """It cannot do this; a sentence for a person.

    `is_passing`: the machine is to blame, its memory or its disk, and not the files.
    """

    def __init__(self, sentence: str, *, is_passing: bool = False) -> None:
        super().__init__(sentence)
        self.is_passing = is_passing


class ChildDied(Exception):
    """It ended amid what it was asked."""


class Child:
    """A child that has opened its model. Not before `open` has returned it."""

    num_slots: int
    context_tokens: int

    def __init__(self, process: asyncio.subprocess.Process, locks: Sequence[int]) -> None:
        self._process = process
        self._locks = locks
        self._numbers = count(1)
        self._said: dict[int, asyncio.Queue[Event | None]] = {}
        self._added: dict[str, asyncio.Future[None]] = {}
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._heard_at = boot_seconds()
        self.ended = asyncio.Event()
        self._hearing = asyncio.create_task(self._hear(), name="answering-child")

    @classmethod
    async def open(
        cls, opening: commands.Open, environment: dict[str, str], locks: Sequence[int] = ()
    ) -> "Child":
        """Start a child and have it load a model.

        Raises:
            ChildFailed: the model cannot be loaded.
            ChildDied: it ended, or took too long.
        """
        folder = settings.get().cache_dir
        folder.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", settings.get().answer_module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=folder,
            env=environment,
            start_new_session=True,
            pass_fds=locks,
            limit=MAX_LINE_BYTES,
        )
        step_back(process.pid)
        child = cls(process, locks)
        try:
            child._write(opening)
            async with asyncio.timeout(settings.get().load_timeout_seconds):
                await child._opened
        except TimeoutError:
            await child.kill()
            raise ChildDied from None
        except BaseException:
            await child.kill()
            raise
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return not self.ended.is_set()

    def is_stuck(self) -> bool:
        """Say whether it has been silent for too long while it was to say something."""
        silence = boot_seconds() - self._heard_at
        return bool(self._said) and silence > settings.get().stall_seconds

    async def add_adapter(self, adding: commands.AddAdapter) -> None:
        """Have it load an adapter.

        Raises:
            ChildFailed: the adapter cannot be used.
            ChildDied: it ended meanwhile.
        """
        answer = self._added[adding.name] = asyncio.get_running_loop().create_future()
        if self.ended.is_set():
            raise ChildDied
        self._write(adding)
        await answer

    def remove_adapter(self, name: str) -> None:
        self._write(commands.RemoveAdapter(name=name))

    async def ask(self, adapter: str | None, request: Request) -> AsyncGenerator[Event, None]:
        """Ask, and yield what is said until the last event; closed early, it says no more.

        Raises:
            ChildDied: it ended before that.
        """
        if self.ended.is_set():
            raise ChildDied
        number = next(self._numbers)
        said = self._said[number] = asyncio.Queue()
        if len(self._said) == 1:
            self._heard_at = boot_seconds()
        is_over = False
        try:
            self._write(commands.Ask(id=number, adapter=adapter, request=request))
            while not is_over:
                event = await said.get()
                if event is None:
                    raise ChildDied
                is_over = event.kind in FINAL
                yield event
        finally:
            self._said.pop(number, None)
            if not is_over:
                self._write(commands.Stop(id=number))

    async def close(self) -> None:
        """End it in order: the end of its input is the end of its work."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GONE_SECONDS):
                await self.ended.wait()
        await self.kill()

    async def kill(self) -> None:
        """End it and everything that it started, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._hearing.cancel()
        with suppress(asyncio.CancelledError):
            await self._hearing
        self._let_go()

    def _let_go(self) -> None:
        """Tell those who wait for it that it is gone, and free its device."""
        self.ended.set()
        for handle in self._locks:
            os.close(handle)
        self._locks = ()
        for said in self._said.values():
            said.put_nowait(None)
        for answer in (self._opened, *self._added.values()):
            if not answer.done():
                answer.set_exception(ChildDied())
            if not answer.cancelled():
                answer.exception()  # whoever waited may have gone, which is no error of its own

    def _write(self, command: BaseModel) -> None:
        # A question is small beside a pipe, and a child that does not read is killed as stuck.
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(command.model_dump_json().encode() + b"\n")

    async def _hear(self) -> None:
        assert self._process.stdout is not None
        try:
            while True:
                line = await read_line(self._process.stdout)
                if line.startswith(b"{"):  # libraries print, too
                    self._take(commands.REPLY.validate_json(line))
        except EOFError:
            pass
        except (LineTooLong, ValidationError) as error:
            # What it printed may hold people's words.
            _log.error("answering.child_garbled", error=type(error).__name__)
        # Whatever of its session is left holds memory, and perhaps the device.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = await self._process.wait()
        _log.info("answering.child_ended", pid=self._process.pid, code=code)
        self._let_go()

    def _take(self, reply: commands.Reply) -> None:
        self._heard_at = boot_seconds()
        match reply:
            case commands.Opened():
                self.num_slots, self.context_tokens = reply.num_slots, reply.context_tokens
                self._settle(self._opened)
            case commands.Added():
                self._settle(self._added.get(reply.name))
            case commands.Failed(name=None):
                self._settle(self._opened, reply.message)
            case commands.Failed():
                self._settle(self._added.get(reply.name or ""), reply.message)
            case commands.Said():
                if reply.id in self._said:  # else whoever asked has gone
                    self._said[reply.id].put_nowait(reply.event)

    def _settle(self, answer: asyncio.Future[None] | None, problem: str = "") -> None:
        if answer is None or answer.done():
            return
        if problem:
            answer.set_exception(ChildFailed(problem))
        else:
            answer.set_result(None)


def step_back(pid: int, niceness: int = _NICENESS) -> None:
    """Let a process that has just begun go behind a trainer where both want the same core.

    Where the kernel groups processes by session, the group's niceness counts and not theirs.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


def note_hashes(folder: Path, cache: Path | None) -> None:
    """Hash a model's files, once: a child reads the note of that and cannot write it.

    What is wrong with them the child finds out itself, and says so.
    """
    with suppress(OSError, ValueError):
        manifests.verify_once(folder, cache)


def environment(physical_device: str | None) -> dict[str, str]:
    """Return a child's environment: what it needs, no secret of ours, and one GPU or none."""
    kept = trainer_process.passed_on()
    kept["CUDA_VISIBLE_DEVICES"] = physical_device or ""
    if physical_device is not None:
        kept.setdefault("TRITON_CACHE_DIR", str(settings.get().cache_dir / "triton"))
    return kept
