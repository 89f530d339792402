"""A child that answers for a worker: whole batches, no queue, nobody else.

It is `python -m worker.inference`, as `etude answer` has it, without its slots and neighbours that
come and go: the same batch is to bring the same words.
"""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from app.adapters.answering import WantedAdapter, WantedBase
from app.core import settings
from app.core.child import BrokeOff, Child
from app.core.models import Json
from app.training.answers import Event
from worker.answering import conversion
from worker.answering.child import ChildFailed, environment, note_hashes, step_back
from worker.inference import commands
from worker.leased import LeaseHolder

_log = structlog.get_logger()

TIMEOUT_SECONDS = 24 * 3600
# Behind training and behind answers, for which somebody waits.
_NICENESS = 5
_LAST_KINDS = ("done", "scores", "refused")


class Ended(Exception):
    """The child ended amid what it was asked."""

    def __init__(self, code: int, *, is_late: bool = False) -> None:
        super().__init__(f"code {code}")
        self.code, self.is_late = code, is_late


class BatchChild:
    """A model in a child of its own, from `with` to the end of it."""

    def __init__(
        self,
        opening: commands.Open,
        *,
        physical_device: str | None = None,
        locks: Sequence[int] = (),
    ) -> None:
        """
        Args:
            opening: Which model, with which engine, in how much memory.
            physical_device: The GPU that it is shown, by its driver's name; none: it sees none.
            locks: What it holds for as long as it lives.
        """
        self.opening = opening
        self.child = Child(
            settings.get().answer_module,
            opening.model_dump_json(),
            timeout_seconds=TIMEOUT_SECONDS,
            environment=environment(physical_device),
            pass_fds=locks,
        )
        self._replies = self._heard()
        self._heard_at = time.monotonic()
        self._is_asked = True  # to open its model
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._watch_silence, name="batch-child", daemon=True)

    def __enter__(self) -> "BatchChild":
        note_hashes(self.opening.base, self.opening.cache_dir)
        self.child.__enter__()
        step_back(self.child.pid, _NICENESS)
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.child.__exit__(None, None, None)

    def open(self) -> None:
        """Wait until the model is in memory.

        Raises:
            ChildFailed: it cannot be loaded.
            Ended: the child ended meanwhile.
        """
        self._expect()

    def add_adapter(self, name: str, path: Path) -> None:
        """Have an adapter loaded: PEFT's folder, or llama.cpp's file.

        Raises:
            ChildFailed: it cannot be used.
            Ended: the child ended meanwhile.
        """
        self._say(commands.AddAdapter(name=name, path=path))
        self._expect()

    def ask(self, asks: Sequence[commands.Ask], *, afresh: bool) -> Iterator[tuple[int, Event]]:
        """Ask several at once, and yield what is said, with each one's number, until all is.

        Args:
            afresh: Whether all of it is read anew: only llama.cpp computes the same otherwise.

        Raises:
            Ended: the child ended before that.
        """
        self._say(commands.AskAll(asks=list(asks), afresh=afresh))
        num_open = len(asks)
        while num_open:
            reply = self._next()
            if isinstance(reply, commands.Said):
                num_open -= reply.event.kind in _LAST_KINDS
                yield reply.id, reply.event
        self._is_asked = False

    def _say(self, command: commands.AddAdapter | commands.AskAll) -> None:
        self._heard_at, self._is_asked = time.monotonic(), True
        with suppress(OSError):  # that it has gone is heard
            self.child.say(command.model_dump_json())

    def _expect(self) -> None:
        reply = self._next()
        self._is_asked = False
        if isinstance(reply, commands.Failed):
            raise ChildFailed(reply.message)

    def _next(self) -> commands.Reply:
        reply = next(self._replies, None)
        if reply is None:  # it ended as it does when nobody wants more
            raise Ended(0)
        return reply

    def _heard(self) -> Iterator[commands.Reply]:
        try:
            for line in self.child.lines():
                self._heard_at = time.monotonic()
                if line.startswith(b"{"):  # libraries print, too
                    yield commands.REPLY.validate_json(line)
        except BrokeOff as error:
            # The end of what it printed may hold words of people.
            _log.error("batch_child.broke_off", code=error.code)
            raise Ended(error.code, is_late=error.is_late) from None

    def _watch_silence(self) -> None:
        """End it where it says nothing for too long while it is to say something."""
        limits = settings.get()
        is_open = False
        while not self._over.wait(min(1.0, limits.stall_seconds / 4)):
            is_open |= not self._is_asked
            patience = limits.stall_seconds if is_open else limits.load_timeout_seconds
            if self._is_asked and time.monotonic() - self._heard_at > patience:
                _log.error("batch_child.stuck")
                self.child.kill()
                return


def make_file(
    holder: LeaseHolder, base: WantedBase, adapter: WantedAdapter | None, target: Path
) -> None:
    """Have llama.cpp's form of a model, of an adapter on it, or of both, unless it is there.

    Raises:
        ChildFailed: it cannot be made, or says other words.
        Ended: making it broke off.
        LeaseLost, Draining: the work must not go on.
    """
    if conversion.is_made(base, target):
        return
    conversion.folder().mkdir(parents=True, exist_ok=True)
    with Child(
        settings.get().answer_convert_module,
        json.dumps(conversion.request(base, adapter, target)),
        ends=conversion.ENDS,
        timeout_seconds=TIMEOUT_SECONDS,
        environment=environment(None),
    ) as child:
        step_back(child.pid, _NICENESS)
        try:
            for line in holder.hear(child, child.lines()):
                if line.startswith(b"{"):  # libraries print, too
                    said: Json = json.loads(line)
                    if "error" in said:
                        raise ChildFailed(said["error"], is_passing=bool(said.get("is_passing")))
        except BrokeOff as error:
            _log.error("batch_child.not_converted", code=error.code, tail=error.tail[-2000:])
            if error.code > 0 and not error.is_late:  # it met what nobody has thought of
                raise ChildFailed(
                    f"Converting {base.label} ended with code {error.code}."
                ) from None
            raise Ended(error.code, is_late=error.is_late) from None
