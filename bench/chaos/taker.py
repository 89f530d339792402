"""Somebody who takes finished models along: asks for exports, changes his mind, fetches the zips.

Like the client he speaks to `/v1` alone, and writes down what he was promised before he goes on.
He fetches at any moment, also what is not ready: nothing half made may ever come of that. Now and
then he deletes a model while one of its exports is being made.
"""

import hashlib
import io
import json
import os
import random
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.chaos import client

FORMS = ("adapter", "merged", "gguf-merged", "ollama", "gguf", "vllm")
OPEN = frozenset({"waiting", "making"})
_GAP_SECONDS = 0.3
_AT_ONCE = 3  # one more than there are workers for it
_NEWEST = 8  # of these models; each can be had in every form
_NEEDED_MODELS = 3  # while there are fewer, none is deleted


@dataclass
class Wanted:
    """An export that he has asked for, and what he will want of it; `at` is of his own clock."""

    id: str
    job: str
    model: str
    wish: str = ""  # "cancel" or "delete"
    at: float = 0.0


class Taker(threading.Thread):
    """Keeps some exports under way."""

    def __init__(self, api: client.Api, log: Path, seed: str) -> None:
        super().__init__(name="taker", daemon=True)
        self.api = api
        self.log = log
        self.draw = random.Random(seed)
        self.stop = threading.Event()
        self.open: dict[str, Wanted] = {}
        self.deleting: dict[str, str] = {}  # job -> model; asked for, and not heard of yet
        self.deleted: set[str] = set()
        self.error: BaseException | None = None
        for line in client.read(log):
            if line["kind"] == "accepted":
                wanted = Wanted(line["export"], line["job"], line["model"])
                self.open[wanted.id] = wanted
            elif line["kind"] == "over":
                self.open.pop(line["export"], None)
            elif line["kind"] == "deleting":
                self.deleting[line["job"]] = line["model"]
            elif line["kind"] == "deleted":
                self.deleting.pop(line["job"], None)
                self.deleted.add(line["job"])

    def run(self) -> None:
        try:
            while not self.stop.wait(_GAP_SECONDS):
                self._follow_up_deletions()
                for wanted in list(self.open.values()):
                    self._wish(wanted)
                    if self.draw.random() < 0.3:
                        self._fetch(wanted.id)
                    self._look(wanted)
                if len(self.open) < _AT_ONCE:
                    self._ask()
        except BaseException as error:  # told by whoever waits for us
            self.error = error
            raise

    def finish(self, seconds: float) -> None:
        """Once nothing is disturbed: see all of them end, and ask for one more, which must work.

        Args:
            seconds: How long to wait for it.
        """
        self.stop.clear()
        deadline = time.monotonic() + seconds
        self._follow_up_deletions()
        self._see_the_end(deadline)
        for job, model in self._models():
            for form in FORMS:
                # One that is there already would say nothing.
                if self._request(job, model, form, last=True):
                    self._see_the_end(deadline)
                    return

    def _see_the_end(self, deadline: float) -> None:
        while self.open and time.monotonic() < deadline:
            for wanted in list(self.open.values()):
                self._look(wanted)
            time.sleep(_GAP_SECONDS)

    def _models(self) -> list[tuple[str, str]]:
        """Return (job, model) of the newest ones that are there."""
        try:
            jobs = self.api.call("GET", "/fine_tuning/jobs?limit=100")["data"]
        except client.NoAnswer:
            return []
        gone = self.deleted | self.deleting.keys()
        made = [(job["id"], job["fine_tuned_model"]) for job in jobs if job["fine_tuned_model"]]
        return [each for each in made if each[0] not in gone][:_NEWEST]

    def _ask(self) -> None:
        models = self._models()
        if not models:
            return
        job, model = self.draw.choice(models)
        wanted = self._request(job, model, self.draw.choice(FORMS))
        lot, now = self.draw.random(), time.monotonic()
        if wanted is None:
            return
        if lot < 0.2:
            wanted.wish, wanted.at = "cancel", now + self.draw.uniform(0, 10)
        elif lot < 0.3 and len(models) >= _NEEDED_MODELS:
            wanted.wish, wanted.at = "delete", now + self.draw.uniform(0, 10)

    def _request(self, job: str, model: str, form: str, last: bool = False) -> Wanted | None:
        """Ask for one; nothing if it is there, is under way or was refused."""
        body = {"model": model, "format": form}
        try:
            answer = self.api.insist(self.stop, "POST", "/x_exports", body)
        except client.Refused as refused:
            self._note("refused", job=job, what="export", why=str(refused))
            return None
        if answer is None or answer["status"] not in OPEN or answer["id"] in self.open:
            return None
        wanted = Wanted(answer["id"], job, model)
        self._note("accepted", export=wanted.id, job=job, model=model, form=form, last=last)
        self.open[wanted.id] = wanted
        return wanted

    def _wish(self, wanted: Wanted) -> None:
        if not wanted.wish or wanted.at > time.monotonic():
            return
        wish, wanted.wish = wanted.wish, ""
        if wish == "delete":
            self._note("deleting", job=wanted.job, model=wanted.model)
            self.deleting[wanted.job] = wanted.model
            self._follow_up_deletions()
            return
        try:
            if self.api.insist(self.stop, "POST", f"/x_exports/{wanted.id}/cancel", {}):
                self._note("cancel", export=wanted.id)
        except client.Refused as refused:
            # It is over by now; or this is the repeat of a wish that was granted unheard.
            self._note("refused", export=wanted.id, what="cancel", why=str(refused))

    def _follow_up_deletions(self) -> None:
        for job, model in list(self.deleting.items()):
            try:
                if self.api.insist(self.stop, "DELETE", f"/models/{model}", None) is None:
                    return
            except client.Refused as refused:
                if " 404 " not in str(refused):  # done unheard
                    raise
            self._note("deleted", job=job)
            self.deleted.add(job)
            del self.deleting[job]

    def _look(self, wanted: Wanted) -> None:
        """See whether it is over, and fetch it then."""
        try:
            status = self.api.call("GET", f"/x_exports/{wanted.id}")["status"]
        except client.NoAnswer:
            return
        except client.Refused:
            status = "not there"  # with its model, or else it is lost
        if status in OPEN:
            return
        if status == "ready":
            self._fetch(wanted.id)
        self._note("over", export=wanted.id, status=status)
        del self.open[wanted.id]

    def _fetch(self, export: str) -> None:
        """Fetch its zip, and note what came where any did."""
        try:
            body = self.api.call("GET", f"/x_exports/{export}/content")
        except (client.NoAnswer, client.Refused):
            return
        digest = hashlib.sha256(body).hexdigest()
        self._note("fetched", export=export, sha256=digest, is_whole=_opens(body))

    def _note(self, kind: str, **fields: Any) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps({"kind": kind, **fields}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _opens(body: bytes) -> bool:
    """Say whether a zip can be read from its first to its last byte."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, ValueError):
        return False
