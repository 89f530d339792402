"""The pictures of the guides: one page of each step, with the clinic's sample and invented people.

    python -m bench.screenshots [NAME ...]

Real servers, web, cpu worker and Chromium read, check and search the sample; jobs, answers and a
talk are rows. Chromium writes the pictures as WebP to docs/guide/pictures/. Names choose some.
"""

import base64
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.live import ROOT, etude

PICTURES = ROOT / "docs" / "guide" / "pictures"
WIDTH, MOST_HEIGHT = 1100, 760
QUALITY = 0.82
TO_WEBP = """async ([png, quality]) => {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.toDataURL("image/webp", quality).split(",")[1];
}"""
# Invented: the sample itself has no personal details to decide about.
LETTERS = """question,answer
Who calls back about the X-ray?,"Mrs. Helena Brandt calls back, phone 0171 5550143."
Where do I send the form?,"To Peter Lindqvist, 14 Harbour Street, or peter.lindqvist@mail.example."
When is the wound looked at again?,"In ten days; Dr. Amina Yusuf will do it in room 7."
May I take the tablets with milk?,"Better with water, half an hour before breakfast."
Is there a lift to the second floor?,"Yes, beside the pharmacy."
How long may visitors stay?,"Until eight in the evening."
Do I need to bring my insurance card?,"Yes, once in every quarter."
Where can I leave my bicycle?,"In the yard behind the house."
Can somebody translate for me?,"Ask at the desk a day before; many languages are possible."
When are the results there?,"Two working days after the test."
Who may visit on the first day?,"Two people at a time, from three o'clock on."
What do I do with old tablets?,"Bring them back to the pharmacy."
"""
SECONDS_TO_READ = 300


def main() -> None:
    from playwright.sync_api import sync_playwright

    wanted = set(sys.argv[1:])
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="etude-s") as folder:
        Path(folder).chmod(0o711)
        with etude(Path(folder), queues=("cpu",)) as address, sync_playwright() as player:
            browser = player.chromium.launch(
                executable_path="/usr/bin/chromium",
                args=["--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"],
            )
            size = {"width": WIDTH, "height": MOST_HEIGHT}
            context = browser.new_context(locale="en-US", viewport=size)  # type: ignore[arg-type]
            house = _House(context, address)
            for name, take in house.pictures().items():
                if not wanted or name in wanted:
                    shot = take()
                    (PICTURES / f"{name}.webp").write_bytes(_as_webp(context, shot))
                    print(f"{name}.webp", (PICTURES / f"{name}.webp").stat().st_size)
            browser.close()


def _as_webp(context: Any, shot: bytes) -> bytes:
    page = context.new_page()
    try:
        encoded = page.evaluate(TO_WEBP, [base64.b64encode(shot).decode(), QUALITY])
    finally:
        page.close()
    return base64.b64decode(encoded)


class _House:
    """A clinic with somebody who teaches a model, and the windows that look at it."""

    def __init__(self, context: Any, address: str) -> None:
        from app.core import db
        from app.core.models import Role
        from app.people import auth
        from tests import factories

        self._page = context.new_page()
        self._page.set_default_timeout(120_000)
        self._address = address
        self._db = db
        with db.session() as session:
            self._user = factories.make_user(session, role=Role.LEAD, email="ana@clinic.example")
            self._user.name = "Ana Moreno"
            self._model = factories.make_base_model(session, name="HuggingFaceTB/SmolLM2-135M")
            secret = auth.open_session(session, self._user)
            session.commit()
        context.add_cookies([{"name": auth.COOKIE, "value": secret, "url": address}])
        self._open("/")
        self._version_id = self._sample()

    def pictures(self) -> dict[str, Callable[[], bytes]]:
        """Return how each is taken; the last one puts another file beside the sample."""
        return {
            "data": lambda: self._take("/datasets/new"),
            "check": lambda: self._take(f"/versions/{self._version_id}/check", "#doctor, #topics"),
            "train": self._job,
            "queue": self._queue,
            "result": self._result,
            "ask": self._talk,
            "personal-details": self._letters,
        }

    def _open(self, path: str) -> None:
        from playwright.sync_api import Error

        for _ in range(300):
            try:
                answer = self._page.goto(self._address + path)
            except Error:
                time.sleep(0.1)  # the web process is still starting
            else:
                if answer is not None and not answer.ok:
                    raise SystemExit(f"{path} answers {answer.status}.")
                return
        raise SystemExit("The web did not start.")

    def _take(self, path: str, parts: str = "main") -> bytes:
        """Take a picture of some parts of a page, from the first's top to the last's end."""
        self._open(path)
        self._page.wait_for_load_state("networkidle")
        boxes = [part.bounding_box() for part in self._page.locator(parts).all()]
        found = [box for box in boxes if box]
        top = max(0, min(box["y"] for box in found) - 12)
        bottom = max(box["y"] + box["height"] for box in found) + 12
        height = min(bottom - top, MOST_HEIGHT)
        clip = {"x": 0, "y": top, "width": WIDTH, "height": height}
        shot: bytes = self._page.screenshot(full_page=True, clip=clip)
        return shot

    def _sample(self) -> int:
        self._open("/datasets/new")
        self._page.get_by_role("button", name="the clinic sample").click()
        return self._when_checked()

    def _when_checked(self) -> int:
        """Wait until the newest version is read, checked and searched."""
        from sqlalchemy import select

        from app.core.models import DatasetCheck, DatasetVersion, PrivacyReview

        deadline = time.monotonic() + SECONDS_TO_READ
        while time.monotonic() < deadline:
            with self._db.session() as session:
                newest = select(DatasetVersion).order_by(DatasetVersion.id.desc()).limit(1)
                version = session.scalars(newest).one()
                of_it = DatasetCheck.version_id == version.id
                check = session.scalars(select(DatasetCheck).where(of_it)).one_or_none()
                review = session.scalars(
                    select(PrivacyReview).where(PrivacyReview.version_id == version.id)
                ).one_or_none()
                is_read = check is not None and check.status.value == "done"
                if is_read and review is not None and review.found is not None:
                    return version.id
                if version.status.value == "mapping":
                    self._open(f"/versions/{version.id}")
                    self._page.get_by_role("button", name="Continue").click()
            time.sleep(1)
        raise SystemExit("The sample was not read in time.")

    def _letters(self) -> bytes:
        self._open("/datasets/new")
        file = {"name": "letters.csv", "mimeType": "text/csv", "buffer": LETTERS.encode()}
        self._page.set_input_files("#file", files=file)
        self._page.get_by_role("button", name="Upload").click()
        self._page.wait_for_url("**/versions/*")
        return self._take(f"/versions/{self._when_checked()}/privacy")

    def _job(self) -> bytes:
        from app.jobs import metrics
        from app.training.events import EvaluationEvent, PhaseEvent, StepEvent

        chosen = random.Random(3)
        with self._db.session() as session:
            job = self._training(session, "Front desk, first try", 160, 240)
            events: list[metrics.TrainerEvent] = [
                PhaseEvent(at=time.time() - 900, phase="training", message="Training.")
            ]
            for step in range(161):
                at, loss = time.time() - 5 * (160 - step), 0.7 + 1.9 * math.exp(-step / 45)
                if step:
                    told = {"learning_rate": 1e-4, "grad_norm": 1, "num_tokens": 900}
                    events.append(
                        StepEvent(
                            at=at,
                            step=step,
                            epoch=step / 60,
                            loss=loss + chosen.gauss(0, 0.12),
                            tokens_per_second=450,
                            **told,
                        )
                    )
                if step % 20 == 0:
                    events.append(EvaluationEvent(at=at, step=step, loss=loss + 0.12, is_best=True))
            metrics.ingest(session, job.id, 1, events, 160)
            session.commit()
            number = job.id
        return self._take(f"/jobs/{number}", ".job-state, .chart-card")

    def _queue(self) -> bytes:
        from tests import factories

        with self._db.session() as session:
            other = factories.make_user(session, email="jonas@clinic.example")
            other.name = "Jonas Weber"
            stranger = factories.make_user(
                session, department=factories.make_department(session, "Pharmacy")
            )
            self._training(session, "Night shift handover", 30, 200, minutes=150)
            for name, user, minutes in (
                ("Discharge letters", other, 120),
                ("Stock list", stranger, 90),
                ("Front desk, more thorough", None, 240),
            ):
                self._made_job(session, name, user=user, minutes=minutes)
            session.commit()
        return self._take("/queue", "main section:has(#timeline)")

    def _result(self) -> bytes:
        with self._db.session() as session:
            number = self._evaluated(session).id
            session.commit()
        return self._take(f"/evaluations/{number}")

    def _evaluated(self, session: Any) -> Any:
        """Return an evaluation whose answers are those of the sample, some of them wrong."""
        from sqlalchemy import select

        from app.core.models import Arm, EvaluationAnswer, EvaluationQuestion, Example, JobStatus
        from app.evaluation import verdict
        from tests import factories

        done = {"status": JobStatus.SUCCEEDED, "finished_at": datetime.now(UTC)}
        adapter = factories.make_adapter(session, job=self._made_job(session, "Front desk", **done))
        marks = {Arm.TUNED: "rrrprrrwrrrurrrrprrrrwrr", Arm.BASE: "w" * 22 + "pr"}
        evaluation = factories.make_evaluation(session, adapter=adapter, marks=marks)
        of_it = EvaluationAnswer.evaluation_id == evaluation.id
        tests = list(
            session.scalars(
                select(Example)
                .where(Example.version_id == self._version_id, Example.split == "test")
                .order_by(Example.index)
            )
        )
        for question in session.scalars(
            select(EvaluationQuestion).where(EvaluationQuestion.evaluation_id == evaluation.id)
        ):
            question.index = tests[question.position % len(tests)].index
        for answer in session.scalars(select(EvaluationAnswer).where(of_it)):
            right = tests[answer.position % len(tests)].messages[-1]["content"]
            is_wrong = answer.mark.value == "wrong"
            answer.text = "Please ask at the front desk." if is_wrong else right
        session.flush()
        verdict.count(session, evaluation)
        return evaluation

    def _talk(self) -> bytes:
        from app.core.models import (
            Beside,
            Conversation,
            ConversationAnswer,
            ConversationTurn,
            Finish,
        )
        from tests.answerer import standing_in

        asked = (
            ("Breakfast before the blood test?", "Please come without breakfast; water is fine."),
            ("Until when can I call?", "On weekdays until five in the afternoon."),
        )
        with self._db.session() as session:
            adapter = self._evaluated(session).adapter
            talk = Conversation(
                owner_id=self._user.id,
                adapter_id=adapter.id,
                beside=Beside.NOBODY,
                instruction="",
                temperature=0,
            )
            session.add(talk)
            session.flush()
            for question, text in asked:
                turn = ConversationTurn(conversation_id=talk.id, question=question)
                session.add(turn)
                session.flush()
                session.add(
                    ConversationAnswer(
                        turn_id=turn.id,
                        place=0,
                        is_base=False,
                        adapter_id=adapter.id,
                        label=adapter.name,
                        text=text,
                        finish=Finish.STOP,
                    )
                )
            session.commit()
            path = f"/adapters/{adapter.id}/ask/{talk.id}"
            with standing_in(session):  # a page says otherwise that nobody could answer
                return self._take(path)

    def _made_job(self, session: Any, name: str, **columns: Any) -> Any:
        from app.core.models import DatasetVersion, User
        from tests import factories

        return factories.make_job(
            session,
            user=columns.pop("user", None) or session.get(User, self._user.id),
            version=session.get(DatasetVersion, self._version_id),
            name=name,
            plan={
                "seconds": columns.pop("minutes", 40) * 60,
                "tokens_per_second": 450,
                "peak_bytes": 1_600_000_000,
            },
            **columns,
        )

    def _training(
        self, session: Any, name: str, step: int, total_steps: int, minutes: int = 40
    ) -> Any:
        """Return a job in training, on a machine of its own."""
        from app.core.models import Attempt, JobStatus, Worker
        from app.training.plan.machine import DeviceInfo

        number = session.query(Worker).filter_by(queue="gpu").count()
        worker = Worker(
            id=f"gpu-{number}@clinic",
            queue="gpu",
            host="clinic",
            boot_id="b",
            devices=[f"cuda:{number}"],
            version="1",
            hardware=DeviceInfo(kind="cuda", name="NVIDIA L4", free_bytes=23 * 10**9).model_dump(),
        )
        session.add(worker)
        job = self._made_job(session, name, minutes=minutes)
        job.status, job.attempt, job.worker_id = JobStatus.RUNNING, 1, worker.id
        job.lease_until = datetime.now(UTC) + timedelta(hours=1)
        job.step, job.total_steps = step, total_steps
        began = datetime.now(UTC) - timedelta(minutes=minutes * step / total_steps)
        session.add(
            Attempt(
                job_id=job.id,
                number=1,
                worker_id=worker.id,
                host="clinic",
                boot_id="b",
                supervisor_pid=1,
                supervisor_started=1,
                devices=worker.devices,
                resume_step=0,
                started_at=began,
            )
        )
        session.commit()
        return job


if __name__ == "__main__":
    main()
