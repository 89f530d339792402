"""One request from its arrival to its last event, and the queue in which it waits."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from app.adapters.answering import FINAL
from app.training.answers import AnswerRequest, Event, Refused, ScoreRequest, Waiting
from app.training.clock import boot_seconds

_number = count(1)


class Refusal(Exception):
    """It cannot be answered: what is said last."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 503,
        code: str = "unavailable",
        param: str | None = None,
        retry_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.event = Refused(
            status=status,
            code=code,
            message=message,
            param=param,
            retry_after_seconds=retry_seconds,
        )


@dataclass(eq=False)
class Asked:
    """What is said about one request goes into its outbox, in order, the last event last."""

    request: AnswerRequest | ScoreRequest
    outbox: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    number: int = field(default_factory=lambda: next(_number))
    model: Any = None  # the Model that it waits for, once that is known
    held: Any = None  # the same, once its turn has come
    began_at: float = 0.0
    is_ready: bool = False  # its model is in memory, with the adapter
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    _told: Waiting | None = None
    _is_over: bool = False

    @property
    def weight(self) -> int:
        """How many answers it takes up room for."""
        return self.request.num_answers if isinstance(self.request, AnswerRequest) else 1

    def tell(self, event: Event) -> None:
        """Say something; nothing follows the last event."""
        if not self._is_over:
            self._is_over = event.kind in FINAL
            self.outbox.put_nowait(event)

    def tell_waiting(self, place: int, doing: str) -> None:
        waiting = Waiting(place=place, doing=doing)
        if waiting != self._told:
            self._told = waiting
            self.tell(waiting)


class Queue:
    """Those who wait: accounts take turns, and within an account whoever came first goes first."""

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting = max_waiting
        self._waiting: list[Asked] = []
        self._running: Counter[str] = Counter()
        self._served: dict[str, int] = {}  # whose turn came when
        self._turns = count(1)
        # How long an answer takes, lately: when to come back.
        self._usual_seconds = 5.0

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, asked: Asked) -> None:
        """Wait for a turn.

        Raises:
            Refusal: too many wait.
        """
        if len(self._waiting) >= self.max_waiting:
            seconds = math.ceil(min(60, max(1, self._usual_seconds)))
            raise Refusal(
                f"{self.max_waiting} questions are waiting already; please ask again in about "
                f"{seconds} seconds.",
                status=429,
                code="rate_limit_exceeded",
                retry_seconds=seconds,
            )
        self._waiting.append(asked)

    def rejoin(self, asked: Asked) -> None:
        """Wait again, where one was: its model went away before a word was said."""
        asked.is_ready = False
        asked.turn.clear()
        self._waiting.append(asked)
        self._waiting.sort(key=lambda one: one.number)

    def leave(self, asked: Asked) -> None:
        if asked in self._waiting:
            self._waiting.remove(asked)

    def begin(self, asked: Asked) -> None:
        """Its turn has come."""
        self._waiting.remove(asked)
        self._running[asked.request.account] += 1
        known = {each.request.account for each in self._waiting} | self._running.keys()
        self._served[asked.request.account] = next(self._turns)
        self._served = {name: turn for name, turn in self._served.items() if name in known}
        asked.began_at = boot_seconds()
        asked.turn.set()

    def end(self, asked: Asked) -> None:
        seconds = boot_seconds() - asked.began_at
        self._running[asked.request.account] -= 1
        self._running += Counter()  # forget accounts of which nothing runs
        self._usual_seconds += 0.2 * (seconds - self._usual_seconds)

    def in_order(self) -> Iterator[Asked]:
        """Yield who waits, in the order of their turns."""
        before = self._running.copy()
        keyed = []
        for asked in self._waiting:
            account = asked.request.account
            key = (before[account], self._served.get(account, 0), asked.number)
            keyed.append((key, asked))
            before[account] += 1
        for _, asked in sorted(keyed, key=lambda pair: pair[0]):
            yield asked
