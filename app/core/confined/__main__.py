"""`python -m app.core.confined`: a line of JSON in, a line of JSON out, until nobody asks.

What it is asked: {"do", "model": {"folder", "hash"}, …} about a model's words, or {"do", …} about
patterns. What it answers: {"said": …}, {"refused": "a sentence"}, or {"broken": what} where
something went wrong that has no sentence. Before it reads a model's files it says {"loading":
true}. Each request has its seconds of the processor; the kernel ends what takes more. Its arguments
are the folders that it may read.
"""

import gc
import json
import os
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import regex

from app.core.confined.kept import LOAD_SECONDS, REQUEST_SECONDS, Json
from app.core.confined.patterns import Verdict
from app.training import isolation
from app.training.chat import UNREADABLE, ChatError, ChatFormat
from app.training.fitting import drops_thoughts, fit

_MEMORY_BYTES = 1536 * 1024**2
_MAX_OPEN_FILES = 64
_MAX_FORMATS = 4
# A pattern has to answer on this at once: where it does not, it would not on people's texts.
_TRIAL = "".join(f"Patient {n} {'a' * 32} {'0' * 32} {'-' * 32}. " for n in range(40))
_TRIAL_SECONDS = 0.2


def main() -> None:
    confine([Path(name) for name in sys.argv[1:]])
    # Not `print`: what a library writes there would pass for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    formats = _Formats(lambda: answers.write(b'{"loading": true}\n'))
    for line in sys.stdin.buffer:
        _allow(REQUEST_SECONDS)
        answer = json.dumps(_answer(formats, json.loads(line))).encode() + b"\n"
        _allow(0)
        unsent = memoryview(answer)
        while unsent:
            unsent = unsent[answers.write(unsent) or 0 :]


def confine(folders: list[Path]) -> None:
    """Keep the folders of models.

    Raises:
        WallsMissing: this machine cannot see to it.
    """
    isolation.confine(
        isolation.Needs(
            reads=folders,
            limits=isolation.Limits(address_space_bytes=_MEMORY_BYTES, open_files=_MAX_OPEN_FILES),
        )
    )


def _allow(seconds: float) -> None:
    """Let the process compute for so long; then the kernel's SIGPROF ends it. 0: as it likes."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _answer(formats: "_Formats", request: Json) -> Json:
    try:
        if "model" in request:
            chat = formats.get(request["model"]["folder"], request["model"]["hash"], request)
            return {"said": _ABOUT_MODELS[request["do"]](chat, request)}
        return {"said": _ABOUT_PATTERNS[request["do"]](request)}
    except ChatError as error:
        return {"refused": str(error)}
    except MemoryError:
        formats.forget()
        return {"broken": "memory"}
    except BaseException as error:
        # A panic of Rust is no Exception; and sentences of libraries may quote what they read.
        return {"broken": type(error).__name__}


class _Formats:
    """The newest few chat formats."""

    def __init__(self, tell: Callable[[], object]) -> None:
        self._kept: OrderedDict[tuple[str, str | None], ChatFormat] = OrderedDict()
        self._tell = tell

    def get(self, folder: str, manifest_sha256: str | None, asked: Json) -> ChatFormat:
        key = (folder, manifest_sha256)
        chat = self._kept.get(key)
        if chat is None or chat.must_prepare(asked):
            self._tell()
            _allow(LOAD_SECONDS)
            chat = self._kept[key] = chat or self._load(folder)
            if chat.must_prepare(asked):
                chat.words.prepare()
            _allow(REQUEST_SECONDS)
            if len(self._kept) > _MAX_FORMATS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return chat

    def _load(self, folder: str) -> ChatFormat:
        try:
            try:
                return ChatFormat.load(folder)
            except MemoryError:
                self.forget()  # others may have taken it
                return ChatFormat.load(folder)
        except (ChatError, MemoryError):
            raise
        except BaseException:  # tokenizers raises nothing more special, or panics
            raise ChatError(UNREADABLE) from None

    def forget(self) -> None:
        self._kept.clear()
        gc.collect()


# --- models --------------------------------------------------------------------------------


def _segments(chat: ChatFormat, asked: Json) -> list[list[Any]]:
    return [list(piece) for piece in chat.segments(asked["messages"], asked["tools"])]


def _cut(chat: ChatFormat, asked: Json) -> Json:
    measured = chat.measure(asked["messages"], asked["tools"], asked["length"])
    return measured._asdict() | {"segments": [list(piece) for piece in measured.segments]}


def _lengths(chat: ChatFormat, asked: Json) -> Json:
    conversations, tools, length = asked["conversations"], asked["tools"], asked["length"]
    try:
        encoded = chat.encode_many(conversations, length, tools)
        return {"lengths": [len(one.token_ids) for one in encoded], "problem": ""}
    except ChatError as error:
        problem = str(error)
    lengths = []
    for messages, offered in zip(conversations, tools, strict=True):
        try:
            lengths.append(len(chat.encode(messages, length, offered).token_ids))
        except ChatError:
            continue
    return {"lengths": lengths, "problem": problem}


def _fits(chat: ChatFormat, asked: Json) -> list[Json]:
    said = []
    for messages, tools in zip(asked["conversations"], asked["tools"], strict=True):
        found = fit(chat, messages, tools, joins=True)
        drops = found.messages is not None and drops_thoughts(chat, found.messages, tools)
        said.append(
            {
                "is_taken": found.messages is not None and not found.is_joined,
                "is_joined": found.is_joined,
                "drops_thoughts": drops,
                "problem": found.problem,
            }
        )
    return said


def _num_tokens(chat: ChatFormat, asked: Json) -> list[int]:
    encodings = chat.tokenizer.encode_batch(asked["texts"], add_special_tokens=False)
    return [len(encoding.ids) for encoding in encodings]


_ABOUT_MODELS: dict[str, Callable[[ChatFormat, Json], Any]] = {
    "check": lambda _chat, _asked: True,
    "segments": _segments,
    "cut": _cut,
    "lengths": _lengths,
    "fits": _fits,
    "prompt": lambda chat, asked: len(chat.encode_prompt(asked["messages"], asked["tools"])),
    "texts": _num_tokens,
}


# --- patterns ------------------------------------------------------------------------------


def _try(asked: Json) -> Json:
    verdict, problem = Verdict.GOOD, ""
    try:
        compiled = regex.compile(asked["pattern"])
        if compiled.search("") is not None:
            verdict = Verdict.MATCHES_NOTHING
        else:
            compiled.search(_TRIAL, timeout=_TRIAL_SECONDS)
            if compiled.search(asked["sample"], timeout=_TRIAL_SECONDS) is None:
                verdict = Verdict.MISSES_SAMPLE
    except regex.error as error:
        verdict, problem = Verdict.NO_PATTERN, str(error)
    except TimeoutError:
        verdict = Verdict.SLOW
    return {"verdict": verdict, "problem": problem}


def _find(asked: Json) -> list[list[int]]:
    found = []
    for number, pattern in enumerate(asked["patterns"]):
        try:
            matches = list(_compiled(pattern).finditer(asked["text"], timeout=_TRIAL_SECONDS))
        except TimeoutError:
            continue
        found += [[one.start(), one.end(), number] for one in matches if one.end() > one.start()]
    return found


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> "regex.Pattern[str]":
    return regex.compile(pattern)


_ABOUT_PATTERNS: dict[str, Callable[[Json], Any]] = {"try": _try, "find": _find}


if __name__ == "__main__":
    main()
