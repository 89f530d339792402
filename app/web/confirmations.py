"""A short word after everything that a person does: “Renamed.” on the page that follows.

A form of ours is answered with a way to another page. What was done stands in a table by the form's
address, and goes along in a cookie as the table's key, so that the next whole page says it once,
with or without JavaScript. The cookie holds no words: nobody can put any before a person.
"""

import hashlib
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core import settings
from app.people import auth
from app.web.dependencies import cookie_of

_COOKIE = "etude_said"
# The browser follows at once; what comes later would puzzle.
_SECONDS = 60

SENTENCES = {
    "/account/notices": "Your choice is saved.",
    "/account/password": "Your password is changed. You are signed out everywhere else.",
    "/account/sessions/others/end": "You are signed out everywhere else.",
    "/account/sessions/{session_id}/end": "That browser is signed out.",
    "/account/tokens/{token_id}/revoke": "The token is revoked.",
    "/adapters/{adapter_id}/ask/{conversation_id}/delete": "The conversation is deleted.",
    "/adapters/{adapter_id}/evaluate": "It is being asked the test questions.",
    "/adapters/{adapter_id}/exports": "It is being made; this page says when it is ready.",
    "/adapters/{adapter_id}/exports/{export_id}/cancel": "Cancelled.",
    "/adapters/{adapter_id}/feedback": "A new version is made of the feedback.",
    "/adapters/{adapter_id}/lists": "Your sheet has arrived.",
    "/adapters/{adapter_id}/look-up": "Saved. It applies from the next question on.",
    "/adapters/{adapter_id}/rename": "Renamed.",
    "/adapters/{adapter_id}/sharing": "Saved. Everybody in the department can ask it.",
    "/adapters/{adapter_id}/sharing/private": "Now only those who train models can ask it.",
    "/adapters/{adapter_id}/sharing/reports/{report_id}/done": "Marked as done.",
    "/adapters/{adapter_id}/sharing/withdraw": "Withdrawn. Nobody can ask it.",
    "/bin/adapters/{adapter_id}/erase": "The trained model is erased.",
    "/bin/adapters/{adapter_id}/restore": "The trained model is back.",
    "/bin/jobs/{job_id}/erase": "The job is erased.",
    "/bin/jobs/{job_id}/restore": "The job is back.",
    "/datasets/sample/{sample}": "The sample is added.",
    "/datasets/upload": "Your file has arrived.",
    "/datasets/{dataset_id}/rename": "Renamed.",
    "/evaluations/{evaluation_id}/cancel": "Cancelled.",
    "/evaluations/{evaluation_id}/compare-earlier": "The earlier one is being asked, too.",
    "/evaluations/{evaluation_id}/judge": "The answers are being judged.",
    "/evaluations/{evaluation_id}/look-up": "Done. You can ask it now.",
    "/evaluations/{evaluation_id}/stop-judging": "Stopped.",
    "/evaluations/{evaluation_id}/use-alone": "Done. You can ask it now.",
    "/general-questions": "The question is added.",
    "/general-questions/{question_id}/delete": "The question is deleted.",
    "/jobs/new": "The job is in the queue. You can close this page.",
    "/jobs/{job_id}/cancel": "The job is cancelled.",
    "/jobs/{job_id}/learning-curve": "Three short jobs are in the queue.",
    "/jobs/{job_id}/pause": "The job is paused as soon as it has saved its place.",
    "/jobs/{job_id}/rename": "Renamed.",
    "/jobs/{job_id}/resume": "The job goes on when its turn comes.",
    "/jobs/{job_id}/retry": "The job is in the queue again.",
    "/lists/{list_id}/cancel": "Cancelled. The answers so far are kept.",
    "/lists/{list_id}/continue": "The remaining questions are being asked.",
    "/lists/{list_id}/delete": "The list is deleted.",
    "/lists/{list_id}/start": "The questions are being asked.",
    "/machines/{join_id}/forget": "The machine is removed from the list.",
    "/models": "The starting model is being imported.",
    "/models/catalog": "The starting model is being fetched.",
    "/models/hub": "The starting model is being fetched.",
    "/models/upload": "The files have arrived; the starting model is being imported.",
    "/models/{model_id}/cancel": "The import is cancelled.",
    "/models/{model_id}/delete": "The starting model is deleted.",
    "/models/{model_id}/import": "The starting model is being imported again.",
    "/notices/read": "All notices are marked as read.",
    "/patterns": "The pattern is added.",
    "/patterns/{pattern_id}/delete": "The pattern is deleted.",
    "/people/{user_id}/disable": "Deactivated. Their sessions and tokens have ended.",
    "/people/{user_id}/enable": "Active again.",
    "/people/{user_id}/role": "The role is changed.",
    "/queue/jobs/{job_id}/cancel": "The job is cancelled.",
    "/queue/jobs/{job_id}/{operation}": "The queue is changed.",
    "/queue/limits/departments/{department_id}": "The limits are saved.",
    "/queue/limits/people/{user_id}": "The limits are saved.",
    "/queue/machines/{host}/activate": "The machine takes jobs again.",
    "/queue/machines/{host}/drain": "The machine takes no more jobs.",
    "/queue/workers/{worker_id}/activate": "The worker takes jobs again.",
    "/queue/workers/{worker_id}/drain": "The worker takes no more jobs.",
    "/queue/workers/{worker_id}/quarantine": "The device is in quarantine.",
    "/queue/workers/{worker_id}/release": "The device may be used again.",
    "/sign-out": "You are signed out.",
    "/versions/{version_id}/check": "The check starts soon.",
    "/versions/{version_id}/check-without-training": "The test questions are being answered.",
    "/versions/{version_id}/confirm": "The columns are saved.",
    "/versions/{version_id}/learning-curve": "Three short jobs are in the queue.",
    "/versions/{version_id}/models": "It is being asked the same questions.",
    "/versions/{version_id}/privacy": "Your decision is saved.",
    "/versions/{version_id}/privacy/scan": "The search starts soon.",
    "/versions/{version_id}/questions": "Questions are being made up.",
    "/versions/{version_id}/questions/cancel": "Stopped. The questions so far are kept.",
    "/versions/{version_id}/questions/version": "A version is made of the accepted questions.",
    "/versions/{version_id}/read-again": "The file is read again.",
    "/versions/{version_id}/votes": "The vote is open.",
    "/votes/{round_id}/close": "The vote is over.",
    "/webhooks/again": "All of them are being sent again.",
    "/webhooks/{webhook_id}/remove": "The webhook is removed.",
    "/webhooks/{webhook_id}/test": "A test is on its way.",
}
# Where a form did something else than its sentence says; its route says so by `did`.
OTHERWISE = {
    ("/adapters/{adapter_id}/feedback", "left out"): "What you ticked is left out.",
    ("/jobs/{job_id}/cancel", "stopping"): "The job is being stopped.",
    ("/jobs/{job_id}/pause", "at once"): "The job is paused.",
    ("/queue/jobs/{job_id}/cancel", "stopping"): "The job is being stopped.",
}
# What follows these says by itself what was done, or nothing was: a test holds both lists complete.
SAY_IT_THEMSELVES = {
    "/account/tokens": "shows the new token",
    "/adapters/{adapter_id}/ask": "shows the answer",
    "/adapters/{adapter_id}/ask/answer": "shows the answer",
    "/adapters/{adapter_id}/ask/answers/{answer_id}": "shows the judgement",
    "/adapters/{adapter_id}/ask/look": "is part of a page",
    "/adapters/{adapter_id}/delete": "says where it is, with Undo",
    "/ask/{adapter_id}": "shows the answer",
    "/ask/{adapter_id}/answer": "shows the answer",
    "/ask/{adapter_id}/look": "is part of a page",
    "/ask/{adapter_id}/report": "says “Reported.”",
    "/datasets/{dataset_id}/delete": "says that it is erased",
    "/evaluations/{evaluation_id}/answers/{position}/{arm}": "shows the mark",
    "/jobs/new/estimate": "is part of a page",
    "/jobs/new/objective": "is part of a page",
    "/jobs/{job_id}/delete": "says where it is, with Undo",
    "/machines": "shows the new token",
    "/machines/join": "is asked by a machine",
    "/models/uploads": "is sent by a script, which shows how far it is",
    "/models/uploads/{upload_id}/cancel": "is sent by a script",
    "/models/uploads/{upload_id}/finish": "is sent by a script",
    "/models/uploads/{upload_id}/{number}": "is sent by a script",
    "/people": "shows the new link",
    "/people/{user_id}/link": "shows the new link",
    "/setup/{secret}": "leads in",
    "/sign-in": "leads in",
    "/uploads": "is sent by a script, which shows how far it is",
    "/uploads/{upload_id}": "is sent by a script",
    "/versions/{version_id}/add": "says which version was made",
    "/versions/{version_id}/add-dont-know": "says which version was made",
    "/versions/{version_id}/examples": "says which version was made",
    "/versions/{version_id}/examples/{index}": "says which version was made",
    "/versions/{version_id}/findings/{kind}": "says which version was made, or how far it is",
    "/versions/{version_id}/preview": "changes nothing",
    "/versions/{version_id}/questions/{pair_id}": "shows what was decided",
    "/votes/{round_id}": "leads to the next question",
    "/webhooks": "shows the new secret",
    "/webhooks/{webhook_id}/secret": "shows the new secret",
}
_ALL = {(path, ""): said for path, said in SENTENCES.items()} | OTHERWISE
_KEYS = {one: hashlib.sha256("".join(one).encode()).hexdigest()[:12] for one in _ALL}
_BY_KEY = {key: _ALL[one] for one, key in _KEYS.items()}


@dataclass
class _Pending:
    """What the page that is being made may say, whether it did, and what the form did."""

    words: str
    is_said: bool = False
    did: str = ""


_pending: ContextVar[_Pending | None] = ContextVar("confirmation", default=None)


def take() -> str:
    """Return what was just done, once; empty: nothing was."""
    pending = _pending.get()
    if pending is None or pending.is_said or not pending.words:
        return ""
    pending.is_said = True
    return pending.words


def did(what: str) -> None:
    """Say that a form did what stands in OTHERWISE; empty: what its sentence says."""
    if pending := _pending.get():
        pending.did = what


class Confirmations:
    """Carries from a form's answer to the next page what was done."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(("/v1/", "/static/")):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        # A piece that a script fetches is no page; the next page says it.
        is_page = scope["method"] == "GET" and "hx-request" not in request.headers
        said = _BY_KEY.get(cookie_of(request, _COOKIE), "")
        pending = _Pending(said if is_page else "")
        _pending.set(pending)

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                if pending.is_said:
                    _set_cookie(message, "", 0)
                elif key := _key_of(scope, message, pending.did):
                    _set_cookie(message, key, _SECONDS)
            await send(message)

        await self.app(scope, receive, send_with_cookie)


def _key_of(scope: Scope, message: Message, did: str) -> str:
    """Return the key of what a form did; empty: it did nothing, or that is not to be said."""
    if scope["method"] != "POST" or message["status"] != 303:
        return ""
    path = getattr(scope.get("route"), "path", "")
    to_sign_in = MutableHeaders(scope=message).get("location", "").startswith("/sign-in")
    return "" if to_sign_in and path != "/sign-out" else _KEYS.get((path, did), "")


def _set_cookie(message: Message, value: str, seconds: int) -> None:
    made = Response()
    made.set_cookie(
        auth.cookie_name(_COOKIE),
        value,
        max_age=seconds,
        secure=settings.get().secure_cookies,
        httponly=True,
        samesite="lax",
    )
    MutableHeaders(scope=message).append("set-cookie", made.headers["set-cookie"])
