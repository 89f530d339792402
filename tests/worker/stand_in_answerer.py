"""A small program that speaks the child's side of answering; `python -m` it as `worker.inference`.

What it says is ordered by the last message, e.g. "words=20 pause=0.05 long=10000 die=5": that many
pieces, each after a pause and of that length, and its own death before the fifth; with "until=go"
it waits for a file of that name beside the model's. What happens to it stands line by line in
`journal` there; `orders` hold for opening: "refuse" it, "die", "slow=2", "slots=1", and with "echo"
each answer depends on all that was asked, and on nothing else, and comes after "wait=0.1" seconds;
with "too_long" none comes, and with "says=…|…" it is one of these where it is held to a schema;
"lost=2" is a device that the first two processes lose.
"""

import os
import signal
import sys
import threading
import time
import zlib
from pathlib import Path

from app.training import answers
from worker.inference import commands

_lock = threading.Lock()


def main() -> None:
    opening = commands.COMMAND.validate_json(sys.stdin.readline())
    journal = opening.base / "journal"

    def note(words: str) -> None:
        with _lock, journal.open("a") as file:
            file.write(f"{os.getpid()} {words}\n")

    orders = read(opening.base / "orders")
    note(f"open {opening.engine} {opening.device} slots={opening.num_slots} {environment()}")
    time.sleep(float(orders.get("slow", 0)))
    if "die" in orders:
        die()
    if "refuse" in orders:
        say(commands.Failed(message="This model cannot be used; its files are not its own."))
        return
    slots = int(orders.get("slots", opening.num_slots))
    say(commands.Opened(num_slots=slots, context_tokens=opening.context_tokens))
    stopped: dict[int, threading.Event] = {}
    for line in sys.stdin:
        command = commands.COMMAND.validate_json(line)
        match command:
            case commands.AddAdapter():
                note(f"add {command.name} {command.path.name}")
                say(commands.Added(name=command.name))
            case commands.RemoveAdapter():
                note(f"remove {command.name}")
            case commands.Stop():
                note(f"stop {command.id}")
                stopped[command.id].set()
            case commands.Ask() | commands.AskAll():
                for ask in [command] if isinstance(command, commands.Ask) else command.asks:
                    said = str(ask.request.messages[-1]["content"]).replace("\n", " ")
                    note(f"ask {ask.id} {ask.adapter} {said}")
                    stop = stopped[ask.id] = threading.Event()
                    what = echo if "echo" in orders else answer
                    arguments = (ask, stop, opening.base)
                    threading.Thread(target=what, args=arguments, daemon=True).start()
    note("end")


def echo(command: commands.Ask, stop: threading.Event, folder: Path) -> None:
    """Answer a batch: what is said depends on the words and on who is asked alone."""
    orders = read(folder / "orders")
    stop.wait(float(orders.get("wait", 0)))
    if (folder / "journal").read_text().count(" open ") <= int(orders.get("lost", 0)):
        words = "The answer broke off: CUDA error: unspecified launch failure."
        tell(command.id, answers.Refused(status=503, code="engine_failed", message=words))
        return
    if "too_long" in orders:
        words = "This is longer than the model can read."
        code = "context_length_exceeded"
        tell(command.id, answers.Refused(status=400, code=code, message=words))
        return
    asked = zlib.crc32(command.request.model_dump_json().encode())
    tell(command.id, answers.Begun(prompt_tokens=5, cached_tokens=0))
    text = f"{command.adapter} {asked}"
    if isinstance(command.request, answers.AnswerRequest) and command.request.limits.json_schema:
        choices = orders.get("says", text).split("|")
        text = choices[asked % len(choices)]
    tell(command.id, answers.Piece(index=0, text=text))
    tell(command.id, answers.Ended(index=0, reason="stop", completion_tokens=2))
    tell(command.id, answers.Done(engine="llama.cpp", seconds=1, tokens_per_second=1))


def answer(command: commands.Ask, stop: threading.Event, folder: Path) -> None:
    request = command.request
    if isinstance(request, answers.ScoreRequest):
        tell(command.id, answers.Scores(logprobs=[-0.5, -1.5], num_prompt_tokens=3))
        return
    orders = words_of(str(request.messages[-1]["content"]))
    num_words = int(orders.get("words", 3))
    while "until" in orders and not (folder / orders["until"]).exists():
        time.sleep(0.01)
    tell(command.id, answers.Begun(prompt_tokens=5, cached_tokens=0))
    for number in range(num_words):
        if number == int(orders.get("die", -1)):
            die()
        if stop.wait(float(orders.get("pause", 0))):
            return
        text = f"{number} ".ljust(int(orders.get("long", 0)), ".")
        tell(command.id, answers.Piece(index=0, text=text))
    tell(command.id, answers.Ended(index=0, reason="stop", completion_tokens=num_words))
    tell(command.id, answers.Done(engine="llama.cpp", seconds=1, tokens_per_second=num_words))


def words_of(text: str) -> dict[str, str]:
    return dict((word + "=1").split("=")[:2] for word in text.split())


def read(path: Path) -> dict[str, str]:
    return words_of(path.read_text()) if path.exists() else {}


def environment() -> str:
    return " ".join(sorted(name for name in os.environ if "DATABASE" in name or "SECRET" in name))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def tell(number: int, event: answers.Event) -> None:
    say(commands.Said(id=number, event=event))


def say(reply: commands.Reply) -> None:
    with _lock:
        print(reply.model_dump_json(), flush=True)


if __name__ == "__main__":
    main()
