"""The log of web and workers: one line an event, in one form for our own log and for libraries'.

What a line is about stands on it by itself: `request_id` while a request is answered, `job` and
`attempt` while a job is held (structlog's context variables). No traceback shows values of people.
"""

import logging
import sys
import time
from collections.abc import Iterable
from typing import IO, Literal

import structlog
from structlog.typing import Processor

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.format_exc_info,
    structlog.processors.TimeStamper(fmt="iso"),
)
# While something is away every thread that wants it meets that, again and again.
_OUTAGES = frozenset(
    {
        "answering.database_away",
        "answering.not_renewed",
        "bell.not_listening",
        "database.away",
        "outbox.database_away",
        "queue.hint_lost",
        "rate_limit.broker_away",
        "streams.not_listening",
        "sweep.database_away",
    }
)
_OUTAGE_SECONDS = 60.0
# So many characters of an error tell it from another, which may name a port or a process later on.
_TOLD_APART, _MOST_KINDS = 32, 100


def configure(
    level: str, form: Literal["logfmt", "json"] = "logfmt", stream: IO[str] | None = None
) -> None:
    """Send our own log and the libraries' to standard error."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, _with_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderer(form),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=number, force=True)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(number),
        # Through the same handler as the libraries: two writers would tear each other's lines.
        logger_factory=structlog.stdlib.LoggerFactory(),
        processors=[
            _Seldom(_OUTAGES, _OUTAGE_SECONDS),
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
    )


class _Seldom:
    """Lets a line of some kinds through once in a while; the next says how many it stands for.

    Lines of one kind that give another error are another thing: a deadlock amid an outage is said.
    """

    def __init__(self, events: frozenset[str], seconds: float) -> None:
        self._events, self._seconds = events, seconds
        self._written_at: dict[tuple[str, str], float] = {}
        self._left_out: dict[tuple[str, str], int] = {}

    def __call__(
        self, _: object, __: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        now = time.monotonic()
        if event["event"] not in self._events:
            return event
        name = (event["event"], str(event.get("error", ""))[:_TOLD_APART])
        if now - self._written_at.get(name, float("-inf")) < self._seconds:
            self._left_out[name] = self._left_out.get(name, 0) + 1
            raise structlog.DropEvent
        if len(self._written_at) >= _MOST_KINDS:  # errors with a number in them, say
            self._written_at.clear()
            self._left_out.clear()
        self._written_at[name] = now
        if left_out := self._left_out.pop(name, 0):
            event["left_out"] = left_out  # lines like this one since the last
        return event


def _renderer(form: Literal["logfmt", "json"]) -> Iterable[Processor]:
    if form == "json":
        return [structlog.processors.JSONRenderer(ensure_ascii=False, default=str)]
    return [
        structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "event"], sort_keys=True
        )
    ]


def _with_logger_name(
    _: object, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["logger"] = record.name
    return event
