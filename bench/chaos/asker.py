"""Somebody who asks the models that came of finished jobs, and asks again where nobody answers.

What answers is a stand-in: what it says depends on who is asked and on the question alone. So the
same question to the same model has one answer, however often what answers was killed in between.
"""

import json
import random
import threading
import time
from contextlib import suppress
from pathlib import Path

from bench.chaos import client

_QUESTIONS = tuple(f"Where is room {number}?" for number in range(4))
_GAP_SECONDS = 0.5
_MOST_MODELS = 3  # the newest ones, so that questions come again


class Asker(threading.Thread):
    """Asks one question after the other, and notes what was said."""

    def __init__(self, api: client.Api, log: Path, seed: str) -> None:
        super().__init__(name="asker", daemon=True)
        self.api = api
        self.log = log
        self.draw = random.Random(seed)
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(_GAP_SECONDS):
            models = self._models()
            if models:
                self.ask(self.draw.choice(models), self.draw.choice(_QUESTIONS))

    def ask(self, model: str, question: str) -> bool:
        """Ask once; says whether there was an answer."""
        body = {"model": model, "messages": [{"role": "user", "content": question}], "seed": 1}
        try:
            answer = self.api.call("POST", "/chat/completions", body)
        except client.NoAnswer:
            self._note("unheard", model, question)
            return False
        except client.Refused as refused:
            self._note("refused", model, question, str(refused))
            return False
        self._note("answered", model, question, answer["choices"][0]["message"]["content"])
        return True

    def ask_all(self, seconds: float) -> None:
        """Once nothing is disturbed any more: each of the newest models has to answer."""
        deadline = time.monotonic() + seconds
        for model in self._models():
            while not self.ask(model, _QUESTIONS[0]):
                if time.monotonic() > deadline:
                    self._note("silent", model, _QUESTIONS[0])
                    break
                time.sleep(1)

    def _models(self) -> list[str]:
        with suppress(client.NoAnswer):
            jobs = self.api.call("GET", "/fine_tuning/jobs?limit=100")["data"]
            # A job says for ever what it made, also once that was deleted.
            there = {model["id"] for model in self.api.call("GET", "/models")["data"]}
            made = [job["fine_tuned_model"] for job in jobs]
            return [model for model in made if model in there][:_MOST_MODELS]
        return []

    def _note(self, kind: str, model: str, question: str, said: str = "") -> None:
        line = {"kind": kind, "model": model, "question": question, "said": said}
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")
