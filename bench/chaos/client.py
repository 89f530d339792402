"""A program of the house that wants jobs done: submits, changes its mind, never loses patience.

It speaks to `/v1` over HTTP as any client would. A request without an answer is sent again with the
same Idempotency-Key until there is one; what was promised is written down before it goes on.
"""

import http.client
import json
import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.chaos.viewer import Viewer

MODEL = "house/tiny"
FINAL = frozenset({"succeeded", "failed", "cancelled"})
_KEEP = {"decision": "keep", "reason": "Invented for the chaos run; nobody is meant."}


class NoAnswer(Exception):
    """Nobody listened, the connection broke, or the server said that it could not."""


class Refused(Exception):
    """The server said no, and would again."""


@dataclass
class Api:
    """`/v1` at one address."""

    port: int
    token: str
    timeout_seconds: float = 15.0

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Ask once.

        Raises:
            NoAnswer: it may or may not have been carried out.
            Refused: it was not, and never will be.
        """
        sent = {"Authorization": f"Bearer {self.token}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=self.timeout_seconds
        )
        try:
            connection.request(method, f"/v1{path}", body, sent)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(repr(error)) from None
        finally:
            connection.close()
        if response.status >= 500 or response.status in (408, 429):
            raise NoAnswer(f"{response.status}: {answer[:200]!r}")
        if response.status >= 400:
            raise Refused(f"{method} {path}: {response.status} {answer[:300]!r}")
        if path.endswith("/content"):
            return answer
        return json.loads(answer)

    def insist(
        self, stop: threading.Event, method: str, path: str, body: Any, **headers: str
    ) -> Any:
        """Ask until there is an answer; nothing if told to stop before.

        Raises:
            Refused: the server said no.
        """
        for count in range(10**6):
            try:
                repeat = {"x_stainless_retry_count": str(count)}
                return self.call(method, path, body, **headers, **repeat)
            except NoAnswer:
                if stop.wait(min(0.1 * 2**count, 1.0)):
                    return None
        return None

    def patiently(self, path: str) -> Any:
        """Read something from a web that nothing disturbs but that may still be starting."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.call("GET", path)
            except NoAnswer:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def upload(self, stop: threading.Event, filename: str, content: bytes) -> str | None:
        """Send a training file; returns its id."""
        edge = secrets.token_hex(16)
        head = (
            f'--{edge}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            f'--{edge}\r\nContent-Disposition: form-data; name="x_privacy"\r\n\r\n'
            f"{json.dumps(_KEEP)}\r\n"
            f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        )
        body = head.encode() + content + f"\r\n--{edge}--\r\n".encode()
        kind = f"multipart/form-data; boundary={edge}"
        answer = self.insist(stop, "POST", "/files", body, Content_Type=kind)
        return answer["id"] if answer else None


@dataclass
class Wishes:
    """What the client will want of a job that it has made: (at, what), soonest first."""

    job: str
    due: list[tuple[float, str]] = field(default_factory=list)


class Client(threading.Thread):
    """Keeps so many jobs under way, and now and then cancels one or lets one wait."""

    def __init__(
        self,
        api: Api,
        log: Path,
        recipes: tuple[str, ...],
        examples: bytes,
        at_once: int,
        seed: str,
        viewer: Viewer,
    ) -> None:
        super().__init__(name="client", daemon=True)
        self.api = api
        self.log = log
        self.recipes = recipes
        self.at_once = at_once
        self.viewer = viewer
        self.draw = random.Random(seed)
        self.stop = threading.Event()
        self.examples = examples
        self.file: str | None = None
        self.open: dict[str, Wishes] = {}
        for line in read(log):
            if line["kind"] == "accepted":
                self.open[line["job"]] = Wishes(line["job"])
            elif line["kind"] == "over":
                self.open.pop(line["job"], None)
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self._look()
                if len(self.open) < self.at_once:
                    self.submit(self.draw.choice(self.recipes), with_wishes=self.at_once > 1)
                else:
                    self.stop.wait(0.2)
                self._wish()
        except BaseException as error:  # told by whoever waits for us
            self.error = error
            raise

    def submit(self, recipe: str, with_wishes: bool = True) -> str | None:
        """Make one job; returns its id, or nothing if told to stop before the answer."""
        file = self.file
        if file is None or self.draw.random() < 0.1:
            # For this job alone: what has to be read first must not hold the others up.
            file = self.api.upload(self.stop, "rooms.jsonl", self.examples)
            if file is None:
                return None
            self.file = self.file or file
        key = secrets.token_hex(16)
        self._note("wanted", key=key, recipe=recipe)
        body = {
            "model": MODEL,
            "training_file": file,
            "x_etude": {"name": recipe},
            "x_privacy": _KEEP,
        }
        answer = self.api.insist(self.stop, "POST", "/fine_tuning/jobs", body, Idempotency_Key=key)
        if answer is None:
            return None
        self._note("accepted", key=key, job=answer["id"], recipe=recipe)
        wishes = Wishes(answer["id"])
        if with_wishes:
            self._draw_wishes(wishes)
        self.open[wishes.job] = wishes
        self.viewer.offer(answer["x_job_id"], wishes.job)
        return wishes.job

    def _draw_wishes(self, wishes: Wishes) -> None:
        now, lot = time.monotonic(), self.draw.random()
        if lot < 0.12:
            wishes.due = [(now + self.draw.uniform(0, 12), "cancel")]
        elif lot < 0.27:
            at = now + self.draw.uniform(0, 8)
            wishes.due = [(at, "pause"), (at + self.draw.uniform(0.2, 6), "resume")]

    def _look(self) -> None:
        """See which jobs are over; one that an earlier part of the run left paused goes on."""
        with suppress(NoAnswer):
            for job in self.api.call("GET", "/fine_tuning/jobs?limit=100")["data"]:
                wishes = self.open.get(job["id"])
                if wishes is None:
                    continue
                if job["status"] in FINAL:
                    self.over(job["id"], job["status"])
                elif job["x_state"] == "paused" and not wishes.due:
                    wishes.due = [(time.monotonic(), "resume")]

    def over(self, job: str, status: str) -> None:
        """Note how a job ended; it must never be told otherwise later."""
        self._note("over", job=job, status=status)
        del self.open[job]

    def _wish(self) -> None:
        for wishes in list(self.open.values()):
            while wishes.due and wishes.due[0][0] <= time.monotonic():
                _, what = wishes.due.pop(0)
                self.wish(wishes.job, what)

    def wish(self, job: str, what: str) -> bool:
        """Cancel, pause or resume; says whether the server agreed."""
        path = f"/fine_tuning/jobs/{job}/{what}"
        try:
            answer = self.api.insist(self.stop, "POST", path, {})
        except Refused as refused:
            # It is over by now; or this is the repeat of a wish that was granted unheard.
            self._note("refused", job=job, what=what, why=str(refused))
            return False
        if answer is not None:
            self._note(what, job=job)
        return answer is not None

    def _note(self, kind: str, **fields: Any) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps({"kind": kind, **fields}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def read(log: Path) -> Iterator[dict[str, Any]]:
    """Read what a client has written down; the last line may have been cut off."""
    if log.exists():
        for line in log.read_text().splitlines():
            with suppress(ValueError):
                yield json.loads(line)
