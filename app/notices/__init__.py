"""What people and the site's programs are told: in the page, by mail, by webhook.

    events.py    writes notices, mails and calls in the transaction of what they tell of
    inbox.py     a person's own list
    webhooks.py  the addresses that an administrator set, and their secrets
    outbox.py    what is to leave: taken, sent, tried again (worker/cpu/outbox.py does it)
    mail.py      one mail over SMTP
    calls.py     one signed call
    mlflow.py    a job's figures and settings, for the house's own MLflow
    connections.py  one connection to a receiver, looked at before it is made and ended in time

Nothing of what is in people's data is ever in one: names that people gave to jobs and data are told
to people of the site alone, and programs get ids.
"""

from app.notices.events import (
    answer_reported,
    decision_made,
    decision_needed,
    evaluations_go,
    job_cancelled,
    job_ended,
    job_started,
    list_answered,
    machine_unhealthy,
    not_delivered,
    questions_ready,
    silent_workers,
)

__all__ = [
    "answer_reported",
    "decision_made",
    "decision_needed",
    "evaluations_go",
    "job_cancelled",
    "job_ended",
    "job_started",
    "list_answered",
    "machine_unhealthy",
    "not_delivered",
    "questions_ready",
    "silent_workers",
]
