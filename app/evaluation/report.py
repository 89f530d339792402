"""One page to file: data, decisions, settings, verdict, vote, limits, hashes, who approved.

Counts only: no row of the data stands in it. The same parts make the page and the PDF, which typst
(Apache-2.0) sets from a template of ours; people's words reach it as data and never as markup.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import typst
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import clock, site_time
from app.core.models import (
    Adapter,
    AuditEvent,
    DatasetVersion,
    Evaluation,
    Release,
    User,
)
from app.datasets import parts
from app.evaluation import judging, verdict, votes, words
from app.evaluation.verdict import Figures
from app.evaluation.votes import Result
from app.training.config import TrainConfig

_TEMPLATE = Path(__file__).with_name("report.typ")
_RELEASES = {
    Release.PRIVATE: "for those who train models",
    Release.RELEASED: "released to colleagues",
    Release.WITHDRAWN: "withdrawn everywhere",
}


@dataclass(frozen=True)
class Part:
    """A heading, and lines of a name and what is to be said of it."""

    heading: str
    lines: list[tuple[str, str]]


@dataclass(frozen=True)
class Count:
    """One line of the table: who answers, and how many answers got which mark."""

    who: str
    right: int
    partly: int
    unsure: int
    wrong: int


@dataclass(frozen=True)
class Report:
    title: str
    made: datetime
    headline: str
    summary: str
    counts: list[Count]
    parts: list[Part]


def write(db: Session, evaluation: Evaluation) -> Report:
    """Gather the report of an evaluation that is done."""
    figures = verdict.figures_of(evaluation)
    adapter = evaluation.adapter
    name = adapter.name if adapter is not None else evaluation.base_model.label
    return Report(
        title=f"Report on “{name}”",
        made=clock.read(db),
        headline=words.headline(evaluation, figures),
        summary=words.summary(evaluation, figures),
        counts=[
            Count(words.ARMS[arm], one.right, one.partly, one.unsure, one.wrong)
            for arm in words.ARMS
            if (one := figures.arms.get(arm)) is not None
        ],
        parts=[
            part
            for part in (
                _result(db, evaluation, figures),
                _vote(db, evaluation),
                _model(evaluation),
                *(_data(db, version) for version in _versions(evaluation)),
                _settings(adapter),
                _use(db, adapter),
            )
            if part.lines
        ],
    )


def pdf(report: Report) -> bytes:
    """Set a report as PDF, A4."""
    said = {
        "title": report.title,
        "made": f"{site_time.local(report.made):%-d %B %Y, %H:%M}",
        "headline": report.headline,
        "summary": report.summary,
        "counts": [
            [one.who, *map(str, (one.right, one.partly, one.unsure, one.wrong))]
            for one in report.counts
        ],
        "parts": [{"heading": part.heading, "lines": part.lines} for part in report.parts],
    }
    made = typst.compile(
        str(_TEMPLATE),
        root=str(_TEMPLATE.parent),
        format="pdf",
        sys_inputs={"report": json.dumps(said)},
        ignore_system_fonts=True,
    )
    assert isinstance(made, bytes)
    return made


def _who_marked(figures: Figures) -> str:
    by_judge = figures.judge.counting if figures.judge is not None else 0
    others = f"{by_judge:,} by another model, " if by_judge else ""
    return f"{figures.num_by_people:,} given or changed by people, {others}the others by rules"


def _judged(db: Session, evaluation: Evaluation, figures: Figures) -> str:
    newest = judging.newest(db, evaluation)
    if newest is None or figures.judge is None:
        return ""
    return words.judged(figures.judge, newest.base_model.label, newest)


def _result(db: Session, evaluation: Evaluation, figures: Figures) -> Part:
    lines = [
        ("Verdict", words.STANDINGS[evaluation.standing].word if evaluation.standing else ""),
        ("How sure", words.certainty(figures)),
        (
            "Questions",
            f"{evaluation.num_answered:,} of {evaluation.num_rows:,} test rows, answered once",
        ),
        ("Marks", _who_marked(figures)),
        ("Judged by another model", _judged(db, evaluation, figures)),
        ("Answered by", evaluation.engine or ""),
        ("Done", _moment(evaluation.finished_at)),
    ]
    return Part("Result", _kept(lines))


def _vote(db: Session, evaluation: Evaluation) -> Part:
    lines = []
    for one in votes.of_evaluation(db, evaluation.id):
        first, second = votes.names(one)
        lines.append((f"{first} against {second}", vote_sentence(votes.result(db, one), first)))
    return Part("Blind vote", lines)


def vote_sentence(result: Result, first: str) -> str:
    """Say how a vote stands."""
    if not result.num_votes:
        return "Nobody has voted yet."
    people = "1 person" if result.num_people == 1 else f"{result.num_people} people"
    said = [f"{result.num_votes} votes of {people}."]
    if result.first_share is not None and result.between is not None:
        low, high = (round(100 * bound) for bound in result.between)
        share = round(100 * result.first_share)
        said.append(
            f"Where one was preferred, it was {first} in {share}% of the votes; the true share "
            f"lies between {low} and {high}%."
        )
    if result.alpha is not None:
        how = "well" if result.alpha >= 0.667 else "somewhat" if result.alpha >= 0.4 else "little"
        said.append(f"People agree {how} (nominal alpha {result.alpha:.2f}).")
    return " ".join(said)


def _model(evaluation: Evaluation) -> Part:
    adapter, base = evaluation.adapter, evaluation.base_model
    lines = [
        ("Starting model", base.label),
        ("Its licence", base.licence or "not known"),
        ("SHA-256 of its manifest", base.manifest_sha256 or ""),
    ]
    if adapter is not None:
        lines += [
            ("Trained model", adapter.name),
            ("Its name for programs", adapter.public_name),
            ("SHA-256 of its manifest", adapter.manifest_sha256 or ""),
            ("Made", _moment(adapter.created_at)),
        ]
    return Part("Model", _kept(lines))


def _versions(evaluation: Evaluation) -> list[DatasetVersion]:
    found = [evaluation.practice_version, evaluation.version]
    return [one for place, one in enumerate(found) if one is not None and one not in found[:place]]


def _data(db: Session, version: DatasetVersion) -> Part:
    decided = db.execute(
        select(AuditEvent.at, AuditEvent.actor)
        .where(
            AuditEvent.subject == f"dataset version {version.id}",
            AuditEvent.action.like("privacy.%"),
        )
        .order_by(AuditEvent.id.desc())
        .limit(1)
    ).first()
    lines = [
        ("Data", f"{version.dataset.name}, version {version.number}"),
        *((f"Rows in the {one.name}", f"{one.num:,}") for one in parts.sets(version)),
        ("SHA-256 of the examples", version.examples_sha256 or ""),
        (
            "Personal details",
            f"decided by {decided.actor}, {_moment(decided.at)}" if decided else "",
        ),
    ]
    return Part("Data", _kept(lines))


def _settings(adapter: Adapter | None) -> Part:
    if adapter is None or adapter.job is None:
        return Part("Settings", [])
    config = TrainConfig.model_validate(adapter.job.config)
    usual = TrainConfig()
    changed = [
        (field.title or name, str(getattr(config, name)))
        for name, field in TrainConfig.model_fields.items()
        if getattr(config, name) != getattr(usual, name)
    ]
    return Part("Settings that are not the usual ones", changed)


def _use(db: Session, adapter: Adapter | None) -> Part:
    if adapter is None:
        return Part("Use", [])
    released = db.execute(
        select(AuditEvent.at, AuditEvent.actor)
        .where(
            AuditEvent.subject == f"adapter {adapter.id}", AuditEvent.action == "adapter.release"
        )
        .order_by(AuditEvent.id.desc())
        .limit(1)
    ).first()
    owner = db.get(User, adapter.owner_id)
    lines = [
        ("Trained by", (owner.name or owner.email) if owner else ""),
        ("Who may ask it", _RELEASES[adapter.release]),
        ("Released by", f"{released.actor}, {_moment(released.at)}" if released else ""),
        ("What it is for", adapter.purpose),
        ("Its limits", adapter.limits),
        ("Why it was released all the same", adapter.release_reason),
    ]
    return Part("Use and approval", _kept(lines))


def _kept(lines: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, said) for name, said in lines if said]


def _moment(at: datetime | None) -> str:
    return site_time.moment(at) if at is not None else ""
