"""A vLLM of the site's own answers: told token ids, streamed from, given adapters by a folder.

It is asked for what it serves; a starting model that it does not is answered by a child of ours.
Its own words, addresses and paths reach nobody: what goes wrong is a sentence of ours.
"""

import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

import httpx2
import structlog

from app.adapters import answering
from app.adapters.answering import LoadedModel, Wanted, WantedAdapter, WantedBase
from app.core import db, settings
from app.training import manifests
from app.training.answers import (
    AnswerRequest,
    Begun,
    Done,
    Ended,
    Event,
    Likelihood,
    Piece,
    Request,
    ScoreRequest,
    Scores,
    TokenLogprob,
)
from app.training.clock import boot_seconds
from worker.answering.asked import Asked, Refusal
from worker.answering.child import environment, note_hashes, step_back

# It batches as it likes; so many of ours at once are enough to keep it busy.
_AT_ONCE = 64
_LOOK_SECONDS = 30.0
_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 120.0
_LOAD_SECONDS = 120.0
_NAME = re.compile(r"etude-(\d+)-[0-9a-f]{16}")
_AWAY = "The site's model server does not answer; please ask again in a moment."

_log = structlog.get_logger()


@dataclass(eq=False)
class SiteModel:
    """A starting model that the vLLM serves."""

    base: WantedBase
    site: "Site"
    served_as: str
    max_tokens: int  # question and answer together
    running: set[Asked] = field(default_factory=set)
    used_at: float = field(default_factory=boot_seconds)
    doing: str = ""
    why_leaving: str = ""
    is_open: bool = True

    def has_room(self, asked: Asked) -> bool:
        return sum(each.weight for each in self.running) + asked.weight <= _AT_ONCE

    def has_answered(self) -> None:
        pass

    def ask(self, wanted: Wanted, request: Request) -> AsyncGenerator[Event, None]:
        if isinstance(request, ScoreRequest):
            return self.site.score(self, wanted, request)
        return self.site.answer(self, wanted, request)

    def shown(self) -> LoadedModel:
        return LoadedModel(
            base_model_id=self.base.id,
            label=self.base.label,
            engine="vllm",
            device="vLLM",
            num_running=len(self.running),
            adapter_ids=sorted(self.site.loaded),
        )


class Site:
    """The vLLM behind ETUDE_INFERENCE_URL."""

    rule = "Questions are answered by this site's own model server."

    def __init__(self) -> None:
        chosen = settings.get()
        headers = (
            {"Authorization": f"Bearer {chosen.inference_key}"} if chosen.inference_key else {}
        )
        self._http = httpx2.AsyncClient(
            base_url=chosen.inference_url.rstrip("/"),
            headers=headers,
            timeout=httpx2.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx2.Limits(max_connections=None),
            trust_env=False,
        )
        self.models: dict[int, SiteModel] = {}
        self.loaded: dict[int, str] = {}  # adapters, by what they are called there
        self._folder = Path(chosen.inference_adapters) if chosen.inference_adapters else None
        self._served: dict[str, dict[str, Any]] = {}
        self._looked_at = float("-inf")
        self._wordings: dict[int, Wording] = {}
        self._loading = asyncio.Lock()

    async def serves(self, base: WantedBase) -> bool:
        """Say whether it has a starting model.

        Raises:
            Refusal: it does not answer.
        """
        if boot_seconds() - self._looked_at > _LOOK_SECONDS:
            said = await self._call("GET", "/v1/models")
            self._served = {str(each["id"]): each for each in said["data"]}
            self._looked_at = boot_seconds()
        return self._name_of(base) is not None

    def _name_of(self, base: WantedBase) -> str | None:
        names = {base.name, str(base.folder)}
        for name, served in self._served.items():
            if not served.get("parent") and names & {name, str(served.get("root"))}:
                return name
        return None

    async def prepare(self, wanted: Wanted, asked: Asked) -> SiteModel:
        """Have an adapter loaded there.

        Raises:
            Refusal: it cannot be.
        """
        name = self._name_of(wanted.base)
        assert name is not None
        model = self.models.get(wanted.base.id)
        if model is None or model.base.manifest_sha256 != wanted.base.manifest_sha256:
            most = int(self._served[name].get("max_model_len") or 4096)
            model = self.models[wanted.base.id] = SiteModel(wanted.base, self, name, most)
        asked.model = model
        if wanted.adapter is not None:
            async with self._loading:
                await self._load(wanted.base, wanted.adapter)
        return model

    # --- adapters

    async def _load(self, base: WantedBase, adapter: WantedAdapter) -> None:
        name = adapter_name(adapter)
        if self.loaded.get(adapter.id) == name:
            return
        if self._folder is None:
            raise Refusal(
                "This site's model server answers for starting models alone: its administrator has "
                "not said in which folder it finds trained models (ETUDE_INFERENCE_ADAPTERS).",
                code="model_not_usable",
            )
        try:
            await asyncio.to_thread(_copy, adapter, self._folder / name)
        except (OSError, ValueError) as error:
            _log.warning("answering.adapter_not_copied", error=str(error))
            raise Refusal(
                "This trained model could not be copied to the site's model server; your "
                "administrator "
                "finds the reason in the log.",
                code="model_not_usable",
            ) from None
        served = {str(each["id"]) for each in (await self._call("GET", "/v1/models"))["data"]}
        if name not in served:
            body = {"lora_name": name, "lora_path": str(self._folder / name)}
            try:
                await self._call("POST", "/v1/load_lora_adapter", body)
            except _Declined:
                raise Refusal(
                    f"The site's model server cannot use this trained model of {base.label}; it "
                    "may not "
                    "allow its rank, or not know its kind.",
                    code="model_not_usable",
                ) from None
        self.loaded[adapter.id] = name

    async def watch(self) -> None:
        """Remove there what was deleted here, also what an earlier process had loaded."""
        if self._folder is None:
            return
        there = await asyncio.to_thread(_copies, self._folder)
        known = {*there, *self.loaded}
        for adapter_id in await asyncio.to_thread(_gone, known):
            name = self.loaded.pop(adapter_id, None) or there[adapter_id]
            for model in self.models.values():
                for asked in model.running:
                    if asked.request.adapter_id == adapter_id:
                        asked.tell(
                            Refusal(
                                "This trained model was deleted or withdrawn while it answered.",
                                status=404,
                                code="model_not_found",
                                param="model",
                            ).event
                        )
            with suppress(Refusal, _Declined):
                await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})
                await asyncio.to_thread(shutil.rmtree, self._folder / name, True)

    # --- questions

    async def answer(
        self, model: SiteModel, wanted: Wanted, request: AnswerRequest
    ) -> AsyncGenerator[Event, None]:
        """Ask it to go on from a prompt, and yield what it says."""
        wording = await self._wording(model.base)
        said = await wording.encode(request.messages, request.tools, is_score=False)
        ids, limits = said["token_ids"], request.limits
        room = model.max_tokens - len(ids)
        if room < (limits.max_new_tokens or 1):
            raise _too_long(len(ids), limits.max_new_tokens, model.max_tokens)
        body: dict[str, Any] = {
            "model": self._called(model, wanted),
            "prompt": ids,
            "max_tokens": min(room, limits.max_new_tokens or room),
            "temperature": limits.temperature,
            "top_p": limits.top_p,
            "n": request.num_answers,
            "stop": limits.stop,
            "stop_token_ids": wording.ends,
            "include_stop_str_in_output": limits.keeps_stop,
            "frequency_penalty": limits.frequency_penalty,
            "presence_penalty": limits.presence_penalty,
            "stream": True,
            "stream_options": {"include_usage": True},
            # Nobody else's words are read again for this one, nor does their being there show.
            "cache_salt": hashlib.sha256(request.account.encode()).hexdigest()[:32],
        }
        if limits.seed is not None:
            body["seed"] = limits.seed
        if limits.top_logprobs is not None:
            body["logprobs"] = limits.top_logprobs
        if limits.json_schema is not None:
            schema = {"name": "answer", "schema": limits.json_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        began = boot_seconds()
        reasons: dict[int, Literal["stop", "length"]] = {}
        counts = dict.fromkeys(range(request.num_answers), 0)
        told = [_Told(limits.top_logprobs or 0) for _ in range(request.num_answers)]
        num_tokens, has_begun = 0, False
        async for chunk in self._stream(body):
            if not has_begun:
                has_begun = True
                yield Begun(prompt_tokens=len(ids), cached_tokens=0)
            for choice in chunk.get("choices", ()):
                index = int(choice["index"])
                text, found = choice.get("text") or "", choice.get("logprobs")
                counts[index] += len((found or {}).get("tokens") or ()) or bool(text)
                is_over = bool(choice.get("finish_reason"))
                logprobs = told[index].with_text(text, found, is_over)
                if text or logprobs:
                    yield Piece(index=index, text=text, logprobs=logprobs)
                if is_over:
                    reasons[index] = "length" if choice["finish_reason"] == "length" else "stop"
            if chunk.get("usage"):
                num_tokens = int(chunk["usage"].get("completion_tokens") or 0)
        if len(reasons) < request.num_answers:
            raise Refusal("The answer broke off; please ask again.", retry_seconds=5)
        for index, reason in sorted(reasons.items()):
            # It tells how many tokens all answers have together; one answer's own is exact.
            own = num_tokens if request.num_answers == 1 else counts[index]
            yield Ended(index=index, reason=reason, completion_tokens=own)
        seconds = boot_seconds() - began
        rate = (num_tokens or sum(counts.values())) / max(seconds, 1e-9)
        yield Done(engine="vllm", seconds=seconds, tokens_per_second=rate)

    async def score(
        self, model: SiteModel, wanted: Wanted, request: ScoreRequest
    ) -> AsyncGenerator[Event, None]:
        """Ask it how likely it finds the tokens of an answer."""
        wording = await self._wording(model.base)
        said = await wording.encode(request.messages, request.tools, is_score=True)
        ids = said["token_ids"]
        if len(ids) >= model.max_tokens:
            raise _too_long(len(ids), None, model.max_tokens)
        body = {
            "model": self._called(model, wanted),
            "prompt": ids,
            "max_tokens": 1,  # it says no less
            "temperature": 0,
            "prompt_logprobs": 0,
            "cache_salt": hashlib.sha256(request.account.encode()).hexdigest()[:32],
        }
        try:
            answered = await self._call("POST", "/v1/completions", body)
            found = answered["choices"][0]["prompt_logprobs"]
            scores = [
                float(found[place][str(ids[place])]["logprob"])
                for place in range(said["num_prompt"], len(ids))
            ]
        except (_Declined, KeyError, IndexError, TypeError, ValueError):
            raise Refusal(
                "The site's model server cannot say how likely an answer is.",
                status=400,
                code="unsupported",
            ) from None
        yield Scores(logprobs=scores, num_prompt_tokens=said["num_prompt"])

    def _called(self, model: SiteModel, wanted: Wanted) -> str:
        return model.served_as if wanted.adapter is None else adapter_name(wanted.adapter)

    async def _wording(self, base: WantedBase) -> "Wording":
        wording = self._wordings.get(base.id)
        if wording is None or not wording.is_alive() or wording.base != base:
            if wording is not None:
                await wording.close()
            wording = self._wordings[base.id] = Wording(base)
        await wording.started()
        return wording

    # --- HTTP

    async def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Raises: Refusal: it does not answer. _Declined: it says no."""
        try:
            answer = await self._http.request(method, path, json=body, timeout=_LOAD_SECONDS)
        except httpx2.HTTPError as error:
            _log.warning("answering.site_away", error=type(error).__name__)
            raise Refusal(_AWAY, retry_seconds=5) from None
        self._judge(answer.status_code, answer.text)
        try:
            found = json.loads(answer.text)
        except ValueError:
            found = {}  # loading an adapter is answered in plain words
        return found if isinstance(found, dict) else {}

    async def _stream(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        try:
            async with self._http.stream("POST", "/v1/completions", json=body) as answer:
                if answer.status_code != httpx2.codes.OK:
                    text = (await answer.aread()).decode(errors="replace")
                    try:
                        self._judge(answer.status_code, text)
                    except _Declined:
                        raise Refusal(
                            "The site's model server refuses this question; it may not know one of "
                            "its settings.",
                            status=400,
                            code="unsupported",
                        ) from None
                async for line in answer.aiter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        chunk = json.loads(line.removeprefix("data: "))
                        if "error" in chunk:
                            raise Refusal(
                                "The answer broke off; please ask again.", retry_seconds=5
                            )
                        yield chunk
        except (httpx2.HTTPError, ValueError) as error:
            _log.warning("answering.site_broke_off", error=type(error).__name__)
            raise Refusal(_AWAY, retry_seconds=5) from None

    def _judge(self, status: int, text: str) -> None:
        if status < 400:
            return
        # What it says may quote the question.
        _log.warning("answering.site_declined", status=status, num_letters=len(text))
        if status in (401, 403):
            raise Refusal(
                "The site's model server does not know Etude's key; your administrator sets it "
                "(ETUDE_INFERENCE_KEY).",
            )
        if status >= 500 or status == 429:
            raise Refusal(_AWAY, retry_seconds=5)
        raise _Declined

    async def close(self) -> None:
        for wording in self._wordings.values():
            await wording.close()
        await self._http.aclose()


class _Declined(Exception):
    """It answered, and said no."""


class Wording:
    """The child that turns conversations into ids (worker/answering/wording.py)."""

    def __init__(self, base: WantedBase) -> None:
        self.base = base
        self.ends: list[int] = []
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._starting = asyncio.create_task(self._start())
        self._process: asyncio.subprocess.Process | None = None
        self._hearing: asyncio.Task[None] | None = None

    def is_alive(self) -> bool:
        if not self._starting.done():
            return True
        failed = self._starting.cancelled() or self._starting.exception() is not None
        return not failed and self._hearing is not None and not self._hearing.done()

    async def started(self) -> None:
        """Raises: Refusal: the model's files cannot be used."""
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        await asyncio.to_thread(note_hashes, self.base.folder, settings.get().cache_dir)
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "worker.answering.wording"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment(None),
            cwd=settings.get().data_dir,
            start_new_session=True,
            limit=answering.MAX_LINE_BYTES,
        )
        step_back(process.pid)
        self._write(
            base=str(self.base.folder),
            manifest_sha256=self.base.manifest_sha256,
            cache_dir=str(settings.get().cache_dir),
        )
        assert process.stdout is not None
        said = json.loads(await process.stdout.readline() or b"{}")
        if "ends" not in said:
            raise Refusal(
                said.get("error") or f"{self.base.label} cannot be used.", code="model_not_usable"
            )
        self.ends = said["ends"]
        self._hearing = asyncio.create_task(self._hear())

    async def encode(self, messages: Any, tools: Any, *, is_score: bool) -> dict[str, Any]:
        """Return a conversation's token ids, and how many of them are the question's.

        Raises:
            Refusal: the model's template does not take it.
        """
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._write(id=number, messages=messages, tools=tools, is_score=is_score)
            said: dict[str, Any] = await answer
        finally:
            del self._waiting[number]
        if "error" in said:
            raise Refusal(said["error"], status=400, code="invalid_messages", param="messages")
        return said

    def _write(self, **asked: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")

    async def _hear(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if said["id"] in self._waiting and not self._waiting[said["id"]].done():
                self._waiting[said["id"]].set_result(said)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Refusal("The answer broke off; please ask again."))

    async def close(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        for task in (self._starting, self._hearing):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def adapter_name(adapter: WantedAdapter) -> str:
    """Return what an adapter is called there: other files are another name."""
    return f"etude-{adapter.id}-{adapter.manifest_sha256[:16]}"


def _copy(adapter: WantedAdapter, target: Path) -> None:
    """Copy an adapter's files, whole or not at all."""
    if target.exists():
        return
    if manifests.verify_manifest(adapter.folder) != adapter.manifest_sha256:
        raise ValueError("its files are not those that were trained")
    with manifests.new_folder(target) as partial:
        for path in adapter.folder.iterdir():
            if path.name != manifests.NAME:
                shutil.copyfile(path, partial / path.name)
        shutil.copyfile(adapter.folder / manifests.NAME, partial / manifests.NAME)


def _copies(folder: Path) -> dict[int, str]:
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return {int(found[1]): name for name in names if (found := _NAME.fullmatch(name))}


def _gone(adapter_ids: set[int]) -> set[int]:
    with db.watching() as session:
        return answering.gone(session, adapter_ids)


def _too_long(num_prompt: int, max_new: int | None, most: int) -> Refusal:
    asked = f" and asks for {max_new} more" if max_new else ""
    return Refusal(
        f"This model reads {most} tokens, question and answer together; the question has "
        f"{num_prompt}{asked}. Shorten the question or the answer.",
        status=400,
        code="context_length_exceeded",
        param="messages",
    )


class _Told:
    """One answer's log-probabilities, given out with the text that they spell.

    A vLLM tells them at once, also where it holds text back that may begin a stop word, and those
    of the stop word itself.
    """

    def __init__(self, num_top: int) -> None:
        self._num_top = num_top
        self._waiting: deque[TokenLogprob] = deque()
        self._num_letters = 0  # of text that was given out without what spells it

    def with_text(
        self, text: str, found: dict[str, Any] | None, is_over: bool
    ) -> list[TokenLogprob] | None:
        """Take what came next; returns what goes along with its text."""
        self._waiting.extend(_logprobs(found, self._num_top) if found else ())
        self._num_letters += len(text)
        ready = []
        while self._waiting and len(self._waiting[0].token) <= self._num_letters:
            ready.append(self._waiting.popleft())
            self._num_letters -= len(ready[-1].token)
        if is_over and self._waiting and self._num_letters:
            cut = self._waiting.popleft()
            begins = cut.token[: self._num_letters]
            ready.append(cut.model_copy(update={"token": begins, "bytes": list(begins.encode())}))
        return ready or None


def _logprobs(found: dict[str, Any], num_top: int) -> list[TokenLogprob]:
    tops = found.get("top_logprobs") or [None] * len(found["tokens"])
    # What was drawn stands among the likeliest ones there, also where it is none of them.
    likeliest = [sorted((top or {}).items(), key=lambda each: -each[1])[:num_top] for top in tops]
    return [
        TokenLogprob(
            **_spelled(token, logprob),
            top=[Likelihood(**_spelled(other, value)) for other, value in top],
        )
        for token, logprob, top in zip(
            found["tokens"], found["token_logprobs"], likeliest, strict=True
        )
    ]


def _spelled(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "bytes": list(token.encode()), "logprob": logprob}
