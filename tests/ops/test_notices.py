"""Notices from what happens to screen, mailbox and the site's program; with real receivers."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import openai
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app import notices
from app.core import audit, settings
from app.core.errors import Invalid
from app.core.models import (
    Attempt,
    AuditEvent,
    Job,
    Notice,
    Outgoing,
    PrivacyFinding,
    PrivacyReview,
    ReviewStatus,
    Role,
    User,
    Webhook,
    Worker,
)
from app.datasets.privacy import reviews
from app.datasets.privacy.reviews import Decision
from app.jobs import protocol
from app.jobs.protocol import WorkerInfo
from app.notices import inbox, outbox, receivers, webhooks
from app.ops.doctor import examine
from tests import patience
from tests.app.web.pages import sign_in
from tests.factories import make_dataset_version, make_job, make_user
from tests.ops.receivers import Calls, Mailbox, dripping_receiver, mail_server, receiver
from tests.worker.conftest import WorkerProcess, until_final, wait_for
from worker.cpu.outbox import send_due

WORKER = WorkerInfo("gpu-0@here", "here", "boot", 1, 1, ("cpu",))


@pytest.fixture
def mailbox(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """The site has a mail server, and tries again at once, twice."""
    with mail_server() as box:
        for name, value in {
            "ETUDE_SMTP_HOST": "127.0.0.1",
            "ETUDE_SMTP_PORT": str(box.port),
            "ETUDE_SMTP_TLS": "none",
            "ETUDE_MAIL_FROM": "Etude <etude@house.example>",
            "ETUDE_PUBLIC_URL": "https://etude.house.example",
            "ETUDE_OUTBOX_RETRY_SECONDS": "[0, 0]",
            "ETUDE_WEBHOOK_HOSTS": '["127.0.0.0/8"]',
        }.items():
            monkeypatch.setenv(name, value)
        settings.get.cache_clear()
        yield box


def allow(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    monkeypatch.setenv("ETUDE_WEBHOOK_HOSTS", json.dumps(hosts))
    settings.get.cache_clear()


@pytest.fixture
def program(db: Session, mailbox: Mailbox) -> Iterator[Calls]:
    """A program of the site that an administrator has registered."""
    admin = make_user(db, role=Role.ADMIN, email="root@house.example")
    with receiver() as there:
        webhooks.add(db, admin, "Ward board", there.url)
        db.commit()
        yield there


def end(db: Session, job: Job, *, reason: str = "") -> None:
    claim = protocol.claim(db, WORKER)
    assert claim is not None
    if reason:
        protocol.fail(db, claim, code="dataset_invalid", reason=reason)
    else:
        protocol.succeed(db, claim, measured={})
        notices.job_ended(db, job.id)  # as once its adapter has answered test questions
    db.commit()
    db.refresh(job)


def titles(db: Session, user: User) -> list[str]:
    query = select(Notice.title).where(Notice.user_id == user.id).order_by(Notice.id)
    return list(db.scalars(query))


def check(call: bytes, headers: dict[str, str], secret: str) -> object:
    """Have OpenAI's client judge the signature."""
    client = openai.OpenAI(api_key="-", webhook_secret=secret)
    return client.webhooks.unwrap(call, headers)


# --- from the deed to who is told ----------------------------------------------------------


def test_a_job_that_ends_is_told_by_the_workers(
    program: Calls,
    mailbox: Mailbox,
    load: list[float],
    gpu_worker: WorkerProcess,
    tmp_path: Path,
    db: Session,
) -> None:
    """And measured, and each line of the log says what it is about."""
    owner = make_user(db, email="ada@house.example")
    job = make_job(db, user=owner)
    job.name = "steps=60 pause=0.08 Ward\r\nBcc: eve@evil.example"
    old = func.now() - timedelta(minutes=5)
    db.add(Worker(id="gpu-9@gone", queue="gpu", host="gone", boot_id="", devices=[], version="1",
                  last_seen=old))  # fmt: skip
    db.commit()
    sender = WorkerProcess("cpu", tmp_path)
    sender.start()
    try:
        until_final(db, job)
        wait_for(db, lambda: len(program.bodies) == 2 and len(mailbox.mails) == 2)
    finally:
        sender.end()
    mail = next(mail for mail in mailbox.mails if mail["To"] == "ada@house.example")
    assert mail["Subject"] == "Etude: “steps=60 pause=0.08 Ward Bcc: eve@evil.example” has finished"
    assert mail["Bcc"] is None
    assert mailbox.recipients.count("ada@house.example") == 1
    assert f"https://etude.house.example/jobs/{job.id}" in mail.get_content()
    silent = next(mail for mail in mailbox.mails if mail["To"] == "root@house.example")
    assert "gpu-9@gone has stopped responding" in silent["Subject"]
    bodies = [json.loads(body) for body in program.bodies]
    told = next(each for each in bodies if each["type"] == "fine_tuning.job.succeeded")
    assert told["data"] == {"id": job.public_id, "link": f"/jobs/{job.id}"}
    ill = next(each for each in bodies if each["type"] == "etude.machine.ill")
    assert ill["data"]["worker"] == "gpu-9@gone"
    hook = db.scalars(select(Webhook)).one()
    for body, headers in zip(program.bodies, program.headers, strict=True):
        check(body, headers, webhooks.secret(hook))
    assert program.paths[0] == "/etude?from=ward"
    attempt = db.scalars(select(Attempt)).one()
    assert attempt.energy_source == "cpu"
    assert attempt.energy_joules is not None
    assert 2 < attempt.energy_joules <= load[0]  # the counter ran full after the first joule
    # Before the log is set up, Python itself may warn, e.g. of root.
    held = gpu_worker.log.read_text().splitlines()
    held = held[next(n for n, line in enumerate(held) if line.startswith("timestamp=")) :]
    assert [line for line in held if not line.startswith("timestamp=")] == []
    about = next(line for line in held if "event=trainer.ended" in line)
    assert f"attempt=1 exit_code=0 job={job.id}" in about


def test_nothing_of_the_data_is_ever_told(program: Calls, mailbox: Mailbox, db: Session) -> None:
    owner = make_user(db)
    job = make_job(db, user=owner)
    end(db, job, reason="Line 14, “Ms Miller has a rash”, cannot be read.")
    assert titles(db, owner) == ["“Ward questions, first try” has failed"]
    assert send_due() == 2
    everything = program.bodies[0].decode() + mailbox.mails[0].as_string()
    assert "Miller" not in everything
    assert "Ward questions" not in program.bodies[0].decode()
    rows = db.scalars(select(Outgoing)).all()
    assert "Miller" not in repr([row.content for row in rows])


def test_a_deed_that_is_taken_back_is_not_told(program: Calls, db: Session) -> None:
    make_job(db)
    claim = protocol.claim(db, WORKER)
    assert claim is not None
    protocol.fail(db, claim, code="dataset_invalid", reason="It cannot be read.")
    db.rollback()
    assert db.scalars(select(Notice)).all() == []
    assert send_due() == 0


def test_owner_and_leads_hear_of_a_decision(mailbox: Mailbox, db: Session) -> None:
    owner, lead, other = make_user(db), make_user(db, role=Role.LEAD), make_user(db)
    version = make_dataset_version(db, user=owner, decided=False)
    review = PrivacyReview(version_id=version.id, status=ReviewStatus.SCANNING, worker_id="cpu-0",
                           lease_until=func.now())  # fmt: skip
    found = PrivacyFinding(version_id=version.id, index=0, text=0, start=0, end=4, kind="name",
                           key="k")  # fmt: skip
    db.add_all([review, found])
    db.flush()
    assert reviews.after_scan(db, version, review)["status"] is ReviewStatus.UNDECIDED
    db.commit()
    expected = "“Ward questions” needs a decision about personal details"
    assert titles(db, owner) == titles(db, lead) == [expected]
    assert titles(db, other) == []
    review.status, review.worker_id, review.lease_until = ReviewStatus.UNDECIDED, None, None
    assert inbox.num_unread(db, owner) == inbox.num_unread(db, lead) == 1
    reviews.decide(db, lead, version, Decision(default="keep", reason="All of it is invented."))
    assert inbox.num_unread(db, owner) == inbox.num_unread(db, lead) == 0


def test_each_silence_is_told_once(db: Session, data_dir: Path) -> None:
    admin, member = make_user(db, role=Role.ADMIN), make_user(db)
    worker = Worker(id="gpu-0@here", queue="gpu", host="here", boot_id="", devices=[], version="1",
                    last_seen=func.now() - timedelta(minutes=5))  # fmt: skip
    db.add(worker)
    db.flush()
    for _ in range(3):
        notices.silent_workers(db)
    assert titles(db, admin) == ["The worker gpu-0@here has stopped responding"]
    worker.last_seen = func.now()
    db.flush()
    notices.silent_workers(db)
    worker.last_seen = func.now() - timedelta(minutes=4)
    db.flush()
    notices.silent_workers(db)
    assert len(titles(db, admin)) == 2
    assert titles(db, member) == []


# --- trying again --------------------------------------------------------------------------


def test_a_call_that_fails_is_made_again_and_given_up_at_last(
    program: Calls, mailbox: Mailbox, db: Session
) -> None:
    admin = db.scalars(select(User).where(User.role == Role.ADMIN)).one()
    mailbox.num_refusals = 1
    program.answers += [500, 302, 503]
    end(db, make_job(db, user=make_user(db)))
    assert send_due() == 5, "the mail twice, the call three times"
    assert len(mailbox.mails) == 1
    assert len({headers["webhook-id"] for headers in program.headers}) == 1
    assert program.paths == ["/etude?from=ward"] * 3, "a redirect is not followed"
    assert "A webhook could not be delivered" in titles(db, admin)
    db.rollback()
    assert [f.sentence for f in examine(settings.get()) if f.check == "notices"] == [
        "1 call to a webhook could not be delivered yet: it answered 503"
    ]
    assert send_due() == 0
    webhooks.try_again(db, admin)
    db.commit()
    assert send_due() == 1
    assert len({headers["webhook-id"] for headers in program.headers}) == 1
    row = db.scalars(select(Outgoing).where(Outgoing.webhook_id.is_not(None))).one()
    db.refresh(row)
    assert (row.sent_at is not None, row.last_error) == (True, None)


def test_a_sender_that_died_loses_nothing(program: Calls, db: Session) -> None:
    end(db, make_job(db, user=make_user(db, email="ada@house.example")))
    first, second = outbox.take(db), outbox.take(db)
    db.commit()  # and here it is killed
    assert first is not None
    assert second is not None
    assert send_due() == 0, "nobody else takes what is held"
    db.execute(update(Outgoing).values(send_after=func.now()))
    db.commit()
    assert send_due() == 2
    sent_id = program.headers[0]["webhook-id"]
    assert sent_id in (first.public_id, second.public_id)


def test_pauses_grow(db: Session, program: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_OUTBOX_RETRY_SECONDS", "[60, 600]")
    settings.get.cache_clear()
    program.answers += [500]
    webhooks.send_test(db, db.scalars(select(User)).one(), db.scalars(select(Webhook)).one())
    db.commit()
    assert send_due() == 1
    seconds = func.extract("epoch", Outgoing.send_after - func.now())
    assert 50 < float(db.scalars(select(seconds)).one()) < 61


# --- only where an administrator says ------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["", "ftp://a.example/", "https://", "https://user:word@a.example/", "https://a.example:99999",
     "file:///etc/passwd", "https://a.example/\r\nX: y", "https://ä.example/"],
)  # fmt: skip
def test_addresses_that_are_none(db: Session, url: str) -> None:
    admin = make_user(db, role=Role.ADMIN)
    with pytest.raises(Invalid):
        webhooks.add(db, admin, "x", url)


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822",
     "2002:5db8:d822::1"],
)  # fmt: skip
def test_public_addresses_are_called(data_dir: Path, address: str) -> None:
    assert receivers.may_call("board.example", address)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.7", "127.0.0.1", "172.31.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1", "192.0.0.8",
     "fd00::7", "::1", "::ffff:10.0.0.7", "::ffff:7f00:1", "64:ff9b::a00:7", "64:ff9b:1::a00:7",
     "2002:a00:7::", "2002:a9fe:a9fe::1", "2001:0:5ef5:79fb::1", "::10.0.0.7", "fec0::1",
     "100::1", "4000::1", "2001:db8::1"],
)  # fmt: skip
def test_addresses_inside_are_called_only_where_they_are_set(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    assert not receivers.may_call("board.example", address)
    allow(monkeypatch, "other.example")
    assert not receivers.may_call("board.example", address)
    allow(monkeypatch, "Board.Example.")
    is_link_local = address.startswith("2002:a9fe")
    assert receivers.may_call("board.example", address) is not is_link_local


@pytest.mark.parametrize(
    ("network", "address"),
    [("10.0.0.0/8", "10.0.0.7"), ("10.0.0.0/8", "::ffff:10.0.0.7"), ("fd00::/8", "fd00::7"),
     ("169.254.169.254", "169.254.169.254"), ("100.64.0.0/10", "64:ff9b::6440:1")],
)  # fmt: skip
def test_networks_can_be_set(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, network: str, address: str
) -> None:
    assert not receivers.may_call("board.example", address)
    allow(monkeypatch, network)
    assert receivers.may_call("board.example", address)
    assert not receivers.may_call("board.example", "192.168.0.1")


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "64:ff9b::a9fe:a9fe"],
)
def test_a_name_never_leads_to_a_clouds_credentials(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    allow(monkeypatch, "board.example")
    assert not receivers.may_call("board.example", address)
    assert not receivers.may_call("board.example", address, may_be_inside=True)


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"])
def test_nobodys_address_is_never_called(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    allow(monkeypatch, "board.example", "0.0.0.0/0", "::/0")
    assert not receivers.may_call("board.example", address, may_be_inside=True)


def test_a_receiver_from_before_goes_on_and_a_new_one_is_told_what_to_set(
    db: Session, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = make_user(db, role=Role.ADMIN)
    allow(monkeypatch)
    with receiver() as there:
        with pytest.raises(Invalid, match="ETUDE_WEBHOOK_HOSTS") as raised:
            webhooks.add(db, admin, "Board", there.url)
        assert raised.value.field == "url"
        named = there.url.replace("127.0.0.1", "localhost")
        new = webhooks.add(db, admin, "Board", named)
        old = Webhook(name="Old board", url=named, may_be_inside=True)
        db.add(old)
        db.flush()
        for hook in (new, old):
            webhooks.send_test(db, admin, hook)
        db.commit()
        send_due()
        db.expire_all()
        assert "ETUDE_WEBHOOK_HOSTS" in str(new.last_answer)
        assert old.last_answer == "204"
        assert len(there.bodies) == 1


def test_who_answers_for_ever_is_cut_off_and_holds_nobody(
    db: Session, program: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_WEBHOOK_SECONDS", str(min(60, patience.seconds(5))))
    monkeypatch.setenv("ETUDE_OUTBOX_RETRY_SECONDS", "[]")
    settings.get.cache_clear()
    admin = db.scalars(select(User).where(User.role == Role.ADMIN)).one()
    good = db.scalars(select(Webhook)).one()
    with dripping_receiver() as address:
        slow = webhooks.add(db, admin, "Slow board", address)
        for hook in (slow, good, slow, good):
            webhooks.send_test(db, admin, hook)
        db.commit()
        sending = threading.Thread(target=send_due)
        sending.start()
        # Both calls to the other arrive while the first to the slow one still stands.
        wait_for(db, lambda: len(program.bodies) == 2)
        assert db.scalars(select(Outgoing.tries).where(Outgoing.webhook_id == slow.id)
                          .order_by(Outgoing.id)).all() == [1, 0]  # fmt: skip
        sending.join(patience.seconds(60))
        assert not sending.is_alive()
    db.expire_all()
    assert "did not answer within" in str(slow.last_answer)
    gave_up = select(func.count()).where(Outgoing.gave_up_at.is_not(None))
    assert db.scalar(gave_up) == 2


def test_the_metadata_service_of_a_cloud_is_never_called(
    db: Session, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = make_user(db, role=Role.ADMIN)
    for proxy in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    # From before: what a page lets somebody add is refused at once.
    hook = Webhook(name="cloud", url="http://169.254.169.254/latest/meta-data", may_be_inside=True)
    db.add(hook)
    db.flush()
    webhooks.send_test(db, admin, hook)
    db.commit()
    send_due()
    db.expire_all()
    assert "inside this network" in str(db.scalars(select(Webhook.last_answer)).one())


def test_a_new_secret_and_a_copied_database(db: Session, program: Calls) -> None:
    admin, hook = db.scalars(select(User)).one(), db.scalars(select(Webhook)).one()
    before = webhooks.secret(hook)
    webhooks.renew_secret(db, admin, hook)
    webhooks.send_test(db, admin, hook)
    db.commit()
    send_due()
    check(program.bodies[0], program.headers[0], webhooks.secret(hook))
    with pytest.raises(openai.InvalidWebhookSignatureError):
        check(program.bodies[0], program.headers[0], before)
    raw = webhooks.secret(hook).removeprefix("whsec_")
    assert raw not in repr(db.execute(select(Webhook.__table__)).all())
    (settings.get().secrets_dir / "webhook-key").unlink()
    assert webhooks.secret(hook) != before


# --- pages ---------------------------------------------------------------------------------


def test_where_the_house_sends_no_mail_none_is_offered(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db))
    shown = client.get("/notices").text
    assert "E-mail notifications are not set up." in shown
    assert "also come by e-mail" not in shown


def test_the_bell_the_list_and_the_choice(
    client: TestClient, db: Session, mailbox: Mailbox
) -> None:
    owner, other = make_user(db), make_user(db)
    job = make_job(db, user=owner)
    end(db, job)
    sign_in(client, db, owner)
    assert 'aria-label="Notices, 1 new"' in client.get("/").text
    assert 'aria-label="Notices, 1 new"' in client.get("/notices/bell").text
    shown = client.get("/notices").text
    assert "also come by e-mail" in shown
    link = re.search(r'href="(/notices/\d+)"', shown)
    assert link is not None
    sign_in(client, db, other)
    assert client.get(link[1]).status_code == 404
    assert 'aria-label="Notices"' in client.get("/").text
    sign_in(client, db, owner)
    assert client.get(link[1]).url.path == f"/jobs/{job.id}"
    assert 'aria-label="Notices"' in client.get("/").text
    assert "administrators" not in client.get("/account").text
    done = client.post("/account/notices", data={"kinds": ["job_failed"]})
    assert "Your choice has been saved" in done.text
    db.expire_all()
    again = make_job(db, user=owner)
    end(db, again)
    assert len(db.scalars(select(Outgoing)).all()) == 1, "the first; successes are mailed no more"
    assert client.post("/account/notices", data={"kinds": ["nonsense"]}).status_code == 422
    client.post("/notices/read")
    assert 'aria-label="Notices"' in client.get("/").text


def test_webhooks_are_for_administrators(client: TestClient, db: Session, mailbox: Mailbox) -> None:
    sign_in(client, db, make_user(db, role=Role.LEAD))
    for method, path in (("GET", "/webhooks"), ("POST", "/webhooks"), ("POST", "/webhooks/again")):
        assert client.request(method, path).status_code == 403
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    wrong = client.post("/webhooks", data={"name": "Board", "url": "ftp://x"})
    assert wrong.status_code == 422
    assert 'value="ftp://x"' in wrong.text
    with receiver() as there:
        added = client.post("/webhooks", data={"name": "Board", "url": there.url})
        assert "whsec_" in added.text
        number = db.scalars(select(Webhook.id)).one()
        assert "whsec_" not in client.get("/webhooks").text
        there.answers = [500, 500, 500]
        client.post(f"/webhooks/{number}/test")
        send_due()
        assert "it answered 500" in client.get("/webhooks").text
        client.post("/webhooks/again")
        send_due()
        assert "Not delivered yet" not in client.get("/webhooks").text
        client.post(f"/webhooks/{number}/remove")
    assert db.scalars(select(Webhook)).all() == []
    assert audit.first_break(db.scalars(select(AuditEvent).order_by(AuditEvent.id))) is None
