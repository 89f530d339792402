"""How fast a model answers: our engine beside llama.cpp's own server, first tokens, and a crowd.

    python -m bench.ask [--rounds N] [--threads N] [--only PART]

1. One chat and eight chats with one adapter, in turns with llama.cpp's own server over the same
   files: the ratio of the rates (aim: 0.9).
2. The first token of a process that is not running, its GGUF being there (aim: 5 s), and of the
   second question of a conversation, of which at most 64 tokens are new (aim: 1 s).
3. `crowd`: 2,000 requests within ten seconds at a whole Etude: each is answered or told 429, and
   the pages stay below 500 ms at the median.
4. `beside_training`: answers one after the other while a job trains: their first tokens (aim: 3 s),
   and the share of its speed that the trainer keeps (aim: 0.4).

Everything is real: the starter model, an adapter on all its layers, and Etude's own processes.
"""

import argparse
import asyncio
import datetime
import fcntl
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from app.training import manifests
from app.training.chat import ChatFormat
from bench import comparison, live, start, workload
from worker.inference import gguf_files

ROOT = Path(__file__).resolve().parents[1]
CONTEXT_TOKENS = 1024
NUM_TOKENS = 96
AIMS = {
    "one_chat": 0.9,
    "eight_chats": 0.9,
    "cold_seconds": 5.0,
    "warm_seconds": 1.0,
    "page_ms": 500,
    "first_seconds_beside_training": 3.0,
    "training_speed_kept": 0.4,
}
NUM_REQUESTS, CROWD_SECONDS = 2000, 10.0
# Of a job: read as many steps' speeds without answers as with them, in turns.
NUM_TURNS, STEPS_A_TURN = 4, 8


class Answerer:
    """`python -m worker.inference`, spoken to as its parent does."""

    def __init__(self, files: dict[str, Any], num_threads: int, num_slots: int) -> None:
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "worker.inference"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self._num_asked = 0
        self.tell(
            kind="open",
            engine="llama.cpp",
            base=files["base"],
            manifest_sha256=files["manifest_sha256"],
            cache_dir=files["cache"],
            gguf=files["gguf"],
            num_threads=num_threads,
            num_slots=num_slots,
            context_tokens=CONTEXT_TOKENS,
        )
        assert self.hear()["kind"] == "opened"
        self.tell(kind="add_adapter", name="a", path=files["adapter"])
        assert self.hear()["kind"] == "added"

    def tell(self, **line: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    def ask(self, conversations: list[list[dict[str, str]]], num: int) -> dict[str, Any]:
        """Ask side by side; gives seconds to the first word and to the end, and the tokens said."""
        began = time.monotonic()
        for messages in conversations:
            self._num_asked += 1
            request = {
                "kind": "answer",
                "base_model_id": 1,
                # One account keeps what it read; a crowd has nothing in common.
                "account": "one" if len(conversations) == 1 else str(self._num_asked),
                "messages": messages,
                "limits": {"max_new_tokens": num},
            }
            self.tell(kind="ask", id=self._num_asked, adapter="a", request=request)
        num_open, num_tokens, first, begun = len(conversations), 0, 0.0, {}
        texts: dict[int, str] = {}
        while num_open:
            said = self.hear()
            event = said["event"]
            if event["kind"] == "begun":
                begun = event
            elif event["kind"] == "piece":
                first = first or time.monotonic() - began
                texts[said["id"]] = texts.get(said["id"], "") + event["text"]
            elif event["kind"] == "ended":
                num_tokens += event["completion_tokens"]
            elif event["kind"] in ("done", "refused"):
                assert event["kind"] == "done", event
                num_open -= 1
        seconds = time.monotonic() - began
        return {
            "first_seconds": first,
            "seconds": seconds,
            "num_tokens": num_tokens,
            "begun": begun,
            "text": texts.get(self._num_asked, ""),
        }

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def llama_cpp(files: dict[str, Any], num_threads: int, num_slots: int) -> Iterator[Any]:
    """Start llama.cpp's own server on the same files; gives a function that asks it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.arms.llama_cpp_arm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def exchange(line: dict[str, Any]) -> dict[str, Any]:
        stdin.write(json.dumps(line).encode() + b"\n")
        stdin.flush()
        while not (said := stdout.readline()).startswith(b"{"):
            assert said, "llama.cpp's server ended"  # it writes its log here, too
        answer: dict[str, Any] = json.loads(said)
        return answer

    order = {
        "gguf": files["their_gguf"],
        "adapter": str(files["adapter"]),
        "num_threads": num_threads,
        "num_slots": num_slots,
        "context_tokens": CONTEXT_TOKENS,
    }
    exchange(order)
    try:
        yield lambda prompts: exchange({"prompts": prompts, "max_new_tokens": NUM_TOKENS})
    finally:
        stdin.close()
        process.wait()


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--only", help="one part alone, which is no result")
    chosen = options.parse_args()
    files = prepare()
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "one_chat": lambda: rates(files, 1, chosen.rounds, chosen.threads),
        "eight_chats": lambda: rates(files, 8, chosen.rounds, chosen.threads),
        "first_tokens": lambda: first_tokens(files, chosen.rounds, chosen.threads),
        "crowd": lambda: crowd(files),
        "beside_training": lambda: beside_training(files),
    }
    body: dict[str, Any] = {
        "command": "make bench-ask",
        "kind": "ask-cpu",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "revision": comparison.revision(),
        "machine": comparison.machine(),
        "model": workload.MODEL_NAME,
        "num_threads": chosen.threads,
        "aims": AIMS,
    }
    for name, measure in parts.items():
        if chosen.only in (None, name):
            body[name] = measure()
            print(f"{name}: {json.dumps(body[name])}", file=sys.stderr)
    if chosen.only is None:
        path = ROOT / "bench" / "results" / f"ask-cpu-{body['date']}.json"
        path.write_text(json.dumps(body, indent=1) + "\n")
    print(json.dumps(body))
    sys.exit(0 if chosen.only or _is_good(body) else 1)


def _is_good(body: dict[str, Any]) -> bool:
    ratios = all(body[name]["ratio"] >= AIMS[name] for name in ("one_chat", "eight_chats"))
    first, crowded, trained = body["first_tokens"], body["crowd"], body["beside_training"]
    return (
        ratios
        and all(first[name] <= AIMS[name] for name in ("cold_seconds", "warm_seconds"))
        and crowded["num_lost"] == 0
        and crowded["page_ms"] <= AIMS["page_ms"]
        and trained["first_seconds"] <= AIMS["first_seconds_beside_training"]
        and trained["ratio"] >= AIMS["training_speed_kept"]
    )


def prepare() -> dict[str, Any]:
    """Make the starter model's GGUF and that of an adapter on all its layers, once."""
    workload.CACHE.mkdir(parents=True, exist_ok=True)
    with (workload.CACHE / "ask.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        return _prepare()


def _prepare() -> dict[str, Any]:
    base = workload.starter_model()
    digest = manifests.read_manifest(base)[1]
    cache = workload.CACHE / "gguf"
    cache.mkdir(parents=True, exist_ok=True)
    adapter = workload.CACHE / "adapter"
    if not adapter.exists():
        make_adapter(base, adapter)
    adapter_digest = manifests.read_manifest(adapter)[1]
    gguf = gguf_files.base_gguf(cache, digest, "q8_0")
    files = {
        "base": str(base),
        "manifest_sha256": digest,
        "cache": str(cache),
        "gguf": str(gguf),
        "adapter_folder": str(adapter),
        "adapter": str(gguf_files.adapter_gguf(cache, digest, adapter_digest)),
        "their_gguf": str(cache / gguf.name.replace("base-", "their-")),
    }
    if gguf_files.read_agreement(gguf) is None or not Path(files["adapter"]).exists():
        _convert(files, adapter_digest)
    return files


def _convert(files: dict[str, Any], adapter_digest: str) -> None:
    """Have the files written as `etude answer` has them written."""
    steps = [
        {"kind": "base", "target": files["gguf"]},
        {
            "kind": "adapter",
            "target": files["adapter"],
            "folder": files["adapter_folder"],
            "manifest_sha256": adapter_digest,
        },
    ]
    request = {"base": files["base"], "manifest_sha256": files["manifest_sha256"], "steps": steps}
    last: dict[str, Any] = {}
    with subprocess.Popen(
        [sys.executable, "-m", "worker.inference.convert"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith(b"{"):
                last = json.loads(line)
    if "result" not in last:
        raise SystemExit(last.get("error", "the conversion broke off"))


def with_vocabulary(source: Path, base: Path, target: Path) -> None:
    """Copy a GGUF and give it words: ours has none, and llama.cpp's server writes text."""
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith(("GGUF.", "tokenizer.")) and name != "general.architecture":
            inner = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    words = {token_id: word for word, token_id in tokenizer["model"]["vocab"].items()}
    words |= {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([words[token_id] for token_id in range(len(words))])
    writer.add_token_merges(["a b"])  # it is given ids, and asks for one at least
    for tensor in reader.tensors:
        writer.add_tensor(
            tensor.name, tensor.data, raw_shape=tensor.data.shape, raw_dtype=tensor.tensor_type
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_adapter(base: Path, folder: Path) -> None:
    """Put small random numbers on all layers: what an adapter costs, not what it says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.001)
    with manifests.new_folder(folder) as partial:
        model.save_pretrained(partial)
        manifests.write_manifest(partial)


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def rates(files: dict[str, Any], num: int, num_rounds: int, num_threads: int) -> dict[str, Any]:
    """Measure tokens a second of so many chats, in turns with llama.cpp's own server."""
    chat = ChatFormat.load(files["base"])
    if not Path(files["their_gguf"]).exists():
        with_vocabulary(Path(files["gguf"]), Path(files["base"]), Path(files["their_gguf"]))
    ours, theirs, memory = [], [], 0
    answerer = Answerer(files, num_threads, num)
    with llama_cpp(files, num_threads, num) as their_server:
        for turn in range(num_rounds + 1):
            questions = [_story(index) for index in range(num)]
            said = their_server([chat.encode_prompt(question) for question in questions])
            answered = answerer.ask(questions, NUM_TOKENS)
            if turn:  # the first round warms up
                theirs.append(said["num_tokens"] / said["seconds"])
                ours.append(answered["num_tokens"] / answered["seconds"])
        memory = resident_bytes(answerer.process.pid)
    answerer.close()
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {
        "tokens_per_second": round(mine, 1),
        "llama_cpp_tokens_per_second": round(other, 1),
        "ratio": round(mine / other, 3),
        "memory_mb": round(memory / 1e6),
        "rounds": [
            [round(one, 1), round(other, 1)] for one, other in zip(ours, theirs, strict=True)
        ],
    }


def first_tokens(files: dict[str, Any], num_rounds: int, num_threads: int) -> dict[str, Any]:
    """Measure the first word of a process that begins, and of a second question."""
    cold, warm, new = [], [], 0
    for _ in range(num_rounds):
        answerer = Answerer(files, num_threads, 1)
        conversation = _story(1)
        opened = time.monotonic() - answerer.began
        said = answerer.ask([conversation], 48)
        cold.append(opened + said["first_seconds"])
        conversation += [
            {"role": "assistant", "content": said["text"]},
            {"role": "user", "content": "Go on."},
        ]
        said = answerer.ask([conversation], 8)
        warm.append(said["first_seconds"])
        new = said["begun"]["prompt_tokens"] - said["begun"]["cached_tokens"]
        answerer.close()
    return {
        "cold_seconds": round(statistics.median(cold), 2),
        "warm_seconds": round(statistics.median(warm), 2),
        "warm_new_tokens": new,
    }


@dataclass(frozen=True)
class House:
    """A whole Etude with the starter model, and one person of it."""

    host: str
    port: int
    token: str
    cookie: str
    version_id: int

    async def exchange(self, method: str, path: str, body: Any = None) -> tuple[int, bytes, float]:
        """Send one request; gives status, what came, and the seconds to its first piece of data.

        Plain sockets: the clients of a crowd should take little of the machine that they measure.
        """
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            content = b"" if body is None else json.dumps(body).encode()
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
                "Connection: close\r\n"
                f"Authorization: Bearer {self.token}\r\nCookie: etude_session={self.cookie}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            writer.write(head.encode() + content)
            said, first = b"", 0.0
            while piece := await reader.read(65536):
                said += piece
                if not first and b'"content":"' in said.replace(b'"content":""', b""):
                    first = time.monotonic() - began
            return int(said.split(b" ", 2)[1]), said, first
        finally:
            writer.close()

    async def ask(self, text: str, num_tokens: int) -> tuple[int, bytes, float]:
        body = {
            "model": workload.MODEL_NAME,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": num_tokens,
            "temperature": 0,
            "stream": True,
        }
        return await self.exchange("POST", "/v1/chat/completions", body)


@contextmanager
def house(files: dict[str, Any], *queues: str) -> Iterator[House]:
    """Start it with an answering process, and the starter model's GGUF as it was made before."""
    from app.core import db, settings
    from app.core.models import User
    from app.people import auth

    os.environ["ETUDE_PRIVACY_GATE"] = "off"  # the clinic is invented
    os.environ["ETUDE_V1_REQUESTS_PER_MINUTE"] = "0"  # as many as it can answer
    with tempfile.TemporaryDirectory(prefix="etude-a") as folder, ExitStack() as stack:
        Path(folder).chmod(0o711)
        address = stack.enter_context(
            live.etude(Path(folder), "worker.trainer", (*queues, "cpu", "answer"))
        )
        cookie, version_id = start.prepare()
        cache = settings.get().cache_dir / "gguf"
        cache.mkdir(parents=True, exist_ok=True)
        for path in (Path(files["gguf"]), Path(files["gguf"]).with_suffix(".json")):
            (cache / path.name).symlink_to(path)
        with db.session() as session:
            token = auth.create_token(session, session.query(User).one(), "bench")
            session.commit()
        host, _, port = address.removeprefix("http://").partition(":")
        made = House(host, int(port), token, cookie, version_id)
        asyncio.run(_until_answering(made))
        yield made


async def _until_answering(house: House) -> None:
    for _ in range(600):
        try:
            if (await house.ask("Hello.", 1))[0] == HTTPStatus.OK:
                return
        except OSError:
            pass
        await asyncio.sleep(0.2)
    raise SystemExit("Etude does not answer.")


def crowd(files: dict[str, Any]) -> dict[str, Any]:
    """Ask 2,000 times within ten seconds, and look at pages meanwhile."""
    with house(files) as made:
        return asyncio.run(_crowd(made))


async def _crowd(house: House) -> dict[str, Any]:
    statuses: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    pages: list[float] = []
    began = time.monotonic()
    num_open = NUM_REQUESTS

    async def one(index: int) -> None:
        nonlocal num_open
        try:
            await send(index)
        finally:
            num_open -= 1

    async def send(index: int) -> None:
        await asyncio.sleep(index * CROWD_SECONDS / NUM_REQUESTS)
        try:
            status, said, _ = await house.ask(f"Say the number {index}.", 8)
        except (OSError, ValueError, IndexError) as error:
            problems[type(error).__name__] += 1
            return
        statuses[str(status)] += 1
        if status == HTTPStatus.OK and b"data: [DONE]" not in said:
            problems["broke off"] += 1
        elif status == HTTPStatus.TOO_MANY_REQUESTS and b"retry-after" not in said.lower():
            problems["no Retry-After"] += 1
        elif status not in (HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS):
            problems[said[-300:].decode(errors="replace")] += 1

    async def look() -> None:
        for path in itertools.cycle(("/", "/jobs", "/datasets", "/adapters")):
            since = time.monotonic()
            status, _, _ = await house.exchange("GET", path)
            assert status == HTTPStatus.OK, path
            if num_open < NUM_REQUESTS // 20:
                return  # the crowd has gone; the last few only wait for their words
            pages.append(1000 * (time.monotonic() - since))
            await asyncio.sleep(0.2)

    looking = asyncio.create_task(look())
    await asyncio.gather(*(one(index) for index in range(NUM_REQUESTS)))
    seconds = time.monotonic() - began
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    return {
        "num_requests": NUM_REQUESTS,
        "asked_within_seconds": CROWD_SECONDS,
        "seconds": round(seconds, 1),
        "statuses": dict(statuses),
        "num_lost": NUM_REQUESTS - statuses["200"] - statuses["429"] + sum(problems.values()),
        "problems": dict(problems),
        "num_pages": len(pages),
        "page_ms": round(statistics.median(pages)),
        "page_max_ms": round(max(pages)),
    }


def beside_training(files: dict[str, Any]) -> dict[str, Any]:
    """Stream answers beside a job with the real trainer, in turns with leaving it alone."""
    with house(files, "gpu") as made:
        job_id = _start_job(made.version_id)
        return asyncio.run(_beside(made, job_id))


def _start_job(version_id: int) -> int:
    from app.core import db, wakeup
    from app.core.models import BaseModel, DatasetVersion
    from app.training.config import PRESETS
    from tests import factories

    with db.session() as session:
        version = session.get_one(DatasetVersion, version_id)
        num_steps = 3 * NUM_TURNS * STEPS_A_TURN
        config = PRESETS["quick"].config.model_copy(update={"num_steps": num_steps})
        job = factories.make_job(
            session,
            user=version.dataset.owner,
            version=version,
            base_model=session.query(BaseModel).one(),
            config=config,
        )
        wakeup.hint("gpu")
        return job.id


async def _beside(house: House, job_id: int) -> dict[str, Any]:
    firsts: list[float] = []
    speeds: dict[bool, list[float]] = {True: [], False: []}

    async def chat() -> None:
        for number in itertools.count():
            status, _, first = await house.ask(f"Tell me a long story about {number}.", 128)
            assert status == HTTPStatus.OK
            firsts.append(first)

    step = await _until_step(job_id, 3)
    for turn in range(2 * NUM_TURNS):
        chatting = asyncio.create_task(chat()) if turn % 2 else None
        await asyncio.sleep(0)
        # The first step of a turn is half the other's.
        end = await _until_step(job_id, step + 1 + STEPS_A_TURN)
        if chatting is not None:
            chatting.cancel()
            await asyncio.gather(chatting, return_exceptions=True)
        speeds[bool(turn % 2)] += _speeds(job_id, step + 2, end)
        step = end
    alone, beside = (statistics.median(speeds[kind]) for kind in (False, True))
    return {
        "ratio": round(beside / alone, 3),
        "train_tokens_per_second": [round(alone), round(beside)],
        "first_seconds": round(statistics.median(firsts), 2),
        "first_seconds_max": round(max(firsts), 2),
        "num_answers": len(firsts),
    }


async def _until_step(job_id: int, step: int) -> int:
    from app.core import db
    from app.core.models import Job

    for _ in range(3000):
        with db.session() as session:
            job = session.get_one(Job, job_id)
            if job.step >= step:
                return job.step
            assert not job.status.is_final, job.status
        await asyncio.sleep(0.2)
    raise SystemExit("The job does not go on.")


def _speeds(job_id: int, first: int, last: int) -> list[float]:
    """Return the trainer's tokens a second of some of its steps."""
    from sqlalchemy import select

    from app.core import db
    from app.core.models import Metric

    wanted = select(Metric.value).where(
        Metric.job_id == job_id,
        Metric.name == "tokens_per_second",
        Metric.step.between(first, last),
    )
    with db.session() as session:
        return [float(value) for value in session.scalars(wanted)]


def _story(index: int) -> list[dict[str, str]]:
    # Long enough an answer that nobody ends it before the limit.
    return [{"role": "user", "content": f"Tell me a long story about the number {index + 2}."}]


if __name__ == "__main__":
    main()
