"""Looking answers up: which rows stand in a prompt, what is made, and what has no weights."""

from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.adapters import answering, conversations, lessons, registry
from app.base_models import registry as base_models
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.models import (
    Adapter,
    AdapterKind,
    Arm,
    Beside,
    Conversation,
    DatasetVersion,
    ExampleKind,
    Role,
    Standing,
    VersionStatus,
)
from app.datasets import deletion, examples
from app.evaluation import evaluations, lookups, reading, releasing, verdict, words
from app.jobs import start
from app.ops.backup import file_holds
from app.training.answers import AnswerRequest
from app.training.chat import ChatFormat
from app.training.config import TrainConfig
from tests.app.web.datasets.test_pages import make_chat_model
from tests.factories import (
    make_adapter,
    make_base_model,
    make_dataset_version,
    make_department,
    make_evaluation,
    make_lookup,
    make_user,
)


def asking(*said: str, adapter: Adapter | None = None, base_model_id: int = 1) -> AnswerRequest:
    """A conversation whose turns are the person's and the model's, one after the other."""
    roles = ("user", "assistant")
    turns = [{"role": roles[number % 2], "content": words} for number, words in enumerate(said)]
    return AnswerRequest(
        base_model_id=adapter.base_model_id if adapter else base_model_id,
        adapter_id=adapter.id if adapter else None,
        account="user-1",
        messages=turns,
    )


def places(sources: list[dict[str, Any]] | None) -> list[int]:
    return [one["index"] for one in sources or () if "index" in one]


# --- asking ----------------------------------------------------------------------------------


def test_the_most_alike_rows_stand_before_the_question(db: Session) -> None:
    adapter = make_lookup(db)
    looked = lookups.look_up(db, adapter, asking("What is rule 7?", adapter=adapter))
    (turn,) = looked.request.messages
    # The most alike is the nearest to the question.
    before, _, asked = turn["content"].partition("Now answer this question:")
    assert asked.strip() == "What is rule 7?"
    assert before.rstrip().endswith(
        "Question: What is rule 7?\nAnswer: Rule 7 says: wash your hands."
    )
    assert before.count("Question: ") == 4
    assert places(looked.sources)[0] == 7
    assert len(places(looked.sources)) == 4
    assert looked.sources is not None
    assert {one["version"] for one in looked.sources} == {adapter.lookup_version_id}


def test_test_rows_are_never_shown(db: Session) -> None:
    adapter = make_lookup(db)
    looked = lookups.look_up(db, adapter, asking("What is rule 22?", adapter=adapter))
    assert 22 not in places(looked.sources)
    assert "Rule 22" not in looked.request.messages[0]["content"]


def test_of_a_conversation_the_last_question_is_looked_up(db: Session) -> None:
    adapter = make_lookup(db)
    request = asking("What is rule 3?", "Wash your hands.", "And rule 12?", adapter=adapter)
    looked = lookups.look_up(db, adapter, request)
    assert places(looked.sources)[0] == 12
    first, second, last = looked.request.messages
    assert first["content"] == "What is rule 3?"
    assert second["content"] == "Wash your hands."
    assert last["content"].endswith("And rule 12?")


def test_no_row_like_the_question_is_said(db: Session) -> None:
    adapter = make_lookup(db)
    request = asking("Quantum chromodynamics!", adapter=adapter)
    looked = lookups.look_up(db, adapter, request)
    assert looked.request.messages == request.messages
    assert looked.sources == [{"note": "No row of your data is like this question."}]
    assert lookups.note(looked.sources) == "No row of your data is like this question."


def test_rows_take_at_most_half_of_what_the_model_reads(db: Session) -> None:
    make_base_model(db, config={"max_position_embeddings": 128})
    adapter = make_lookup(db)
    looked = lookups.look_up(db, adapter, asking("What is rule 7?", adapter=adapter))
    found = places(looked.sources)
    assert 1 <= len(found) < 4
    assert found[0] == 7
    assert "of the 4 most alike rows fit into the prompt" in lookups.note(looked.sources)


def test_words_are_counted_by_the_models_own_tokenizer(db: Session) -> None:
    base = make_chat_model(db, "smollm2", config={"max_position_embeddings": 128})
    chat = ChatFormat.load(base_models.folder(base))
    assert make_lookup(db).base_model_id == base.id
    adapter = make_lookup(db)
    looked = lookups.look_up(db, adapter, asking("What is rule 7?", adapter=adapter))
    (turn,) = looked.request.messages
    num_tokens = len(chat.tokenizer.encode(turn["content"], add_special_tokens=False).ids)
    assert num_tokens <= 128 // 2
    assert places(looked.sources)[:1] in ([7], [])


def test_a_tuned_adapter_looks_up_only_where_it_has_a_version(db: Session) -> None:
    adapter = make_adapter(db)
    request = asking("What is rule 7?", adapter=adapter)
    assert lookups.look_up(db, adapter, request) == (request, None)
    assert lookups.look_up(db, None, request) == (request, None)
    assert adapter.job is not None
    adapter.lookup_version_id = adapter.job.version_id
    db.commit()
    db.refresh(adapter)
    assert places(lookups.look_up(db, adapter, request).sources)[0] == 7


def test_sources_are_read_again_as_long_as_the_data_is_there(db: Session) -> None:
    adapter = make_lookup(db)
    kept = lookups.look_up(db, adapter, asking("What is rule 7?", adapter=adapter)).sources
    first = lookups.sources(db, kept)[0]
    assert (first.question, first.answer) == ("What is rule 7?", "Rule 7 says: wash your hands.")
    assert lookups.sources(db, [{"version": 10**6, "index": 0}]) == []
    assert lookups.sources(db, None) == []


def test_the_words_of_deleted_data_are_forgotten(db: Session) -> None:
    user = make_user(db)
    adapter = make_lookup(db, user=user)
    version = db.get_one(DatasetVersion, adapter.lookup_version_id)
    lookups.with_rows(db, version, adapter.base_model, asking("What is rule 7?"))
    assert version.id in {key[0] for key in lookups._indexes._kept}
    deletion.delete_dataset(db, user, version.dataset)
    db.commit()
    other = make_lookup(db, user=user, version=make_dataset_version(db, user=user))
    lookups.look_up(db, other, asking("What is rule 7?", adapter=other))
    assert [key[0] for key in lookups._indexes._kept] == [other.lookup_version_id]


# --- making one ------------------------------------------------------------------------------


def test_one_is_made_once_for_a_version_and_a_model(db: Session) -> None:
    user = make_user(db)
    version, base = make_dataset_version(db, user=user), make_base_model(db)
    made = lookups.use(db, user, version, base)
    assert (made.kind, made.name) == (AdapterKind.LOOKUP, "Ward questions, looked up")
    assert made.public_name.startswith(f"ft:{base.name}:")
    assert made.public_name.split(":")[3] == "lookup"
    assert lookups.use(db, user, version, base).id == made.id
    other = make_base_model(db, name="house/other", folder="other")
    assert lookups.use(db, user, version, other).id != made.id


def test_who_may_make_one_and_of_what(db: Session) -> None:
    user, base = make_user(db), make_base_model(db)
    version = make_dataset_version(db, user=user)
    with pytest.raises(Forbidden):
        lookups.use(db, make_user(db, role=Role.VIEWER), version, base)
    with pytest.raises(NotFound):
        lookups.use(db, make_user(db, department=make_department(db)), version, base)
    text = make_dataset_version(db, user=user, kind=ExampleKind.TEXT)
    with pytest.raises(Invalid, match="no answers to look up"):
        lookups.use(db, user, text, base)
    unread = make_dataset_version(db, user=user, status=VersionStatus.UPLOADED)
    with pytest.raises(Conflict, match="not ready"):
        lookups.use(db, user, unread, base)


def test_it_dies_with_its_data_and_a_tuned_one_goes_on(db: Session) -> None:
    user = make_user(db)
    adapter = make_lookup(db, user=user)
    version = db.get_one(DatasetVersion, adapter.lookup_version_id)
    tuned = make_adapter(db, user=user, lookup_version_id=version.id)
    wish = conversations.Wish(Beside.NOBODY, None, "", 0)
    columns = conversations.columns(db, user, adapter, wish)
    conversations.add_turn(db, user, adapter, None, wish, "What is rule 7?", columns)
    db.commit()
    deletion.delete_dataset(db, user, version.dataset)
    db.commit()
    db.expire_all()
    assert db.get(Adapter, adapter.id) is None
    assert db.scalar(select(func.count()).select_from(Conversation)) == 0
    assert db.get_one(Adapter, tuned.id).lookup_version_id is None


# --- what has no weights ----------------------------------------------------------------------


def test_who_answers_loads_the_starting_model_alone(db: Session) -> None:
    adapter = make_lookup(db)
    wanted = answering.look_up(db, asking("What is rule 7?", adapter=adapter))
    assert wanted.adapter is None
    assert wanted.base.id == adapter.base_model_id
    assert [(one.base.id, one.adapter) for one in answering.likely(db)] == [(wanted.base.id, None)]
    # Withdrawn it answers no more, though the model would.
    adapter.release = type(adapter.release).WITHDRAWN
    db.commit()
    with pytest.raises(NotFound, match="withdrawn"):
        answering.look_up(db, asking("What is rule 7?", adapter=adapter))


def test_it_is_neither_downloaded_nor_trained_further_nor_backed_up(db: Session) -> None:
    user = make_user(db)
    adapter = make_lookup(db, user=user)
    with pytest.raises(NotFound, match="no files to download"):
        registry.archive(db, user, adapter)
    assert registry.renew_card(db, adapter, "3 of 24 right.") is None
    with pytest.raises(Invalid, match="cannot be trained further"):
        start.inherited(adapter)
    with pytest.raises(Invalid, match="cannot be trained further"):
        start.require(db, user, adapter, adapter.base_model, TrainConfig())
    assert registry.purge(db) == 0
    held, _ = file_holds.wanted(db.connection(), with_models=False)
    assert all("None" not in one.name for one in held)
    registry.delete(db, user, adapter)
    db.commit()


def test_what_people_say_of_its_answers_becomes_data(db: Session) -> None:
    adapter = make_lookup(db)
    assert lessons.kinds(db, adapter) == ["examples", "pairs"]


# --- the count --------------------------------------------------------------------------------


def untrained(db: Session, lookup: str, base: str) -> Any:
    made = make_evaluation(db, marks={Arm.BASE: base, Arm.LOOKUP: lookup})
    made.adapter_id = None
    db.flush()
    verdict.count(db, made)
    db.commit()
    return made


def test_a_check_without_training_is_about_looking_up(db: Session) -> None:
    made = untrained(db, "r" * 22 + "pu", "w" * 24)
    assert verdict.main_arm(made) is Arm.LOOKUP
    assert made.standing is Standing.READY_FOR_TRIAL
    said = words.untrained(verdict.figures_of(made))
    assert said is not None
    assert said.headline == "22 of 24 answers are right by looking them up in your data"
    assert said.is_enough
    assert said.lead.startswith(
        "The starting model alone: 0 of 24. Training is not needed for this"
    )


@pytest.mark.parametrize(
    ("lookup", "base", "standing", "headline", "lead"),
    [
        ("rw" * 12, "w" * 24, Standing.BETTER, "12 of 24 answers are right by looking them up",
         "Training may still help."),
        ("w" * 24, "rw" * 12, Standing.NO_BETTER, "12 of 24 answers are right by the starting",
         "By looking them up: 0 of 24."),
        ("r" * 8, "w" * 8, Standing.TOO_FEW, "8 of 8 answers are right by looking them up",
         "too few to say"),
        ("w" * 24, "w" * 24, Standing.NO_BETTER, "Without training none of 24 answers is right",
         "Training may still help."),
    ],
)  # fmt: skip
def test_what_is_not_enough_says_that_training_may_help(
    db: Session, lookup: str, base: str, standing: Standing, headline: str, lead: str
) -> None:
    made = untrained(db, lookup, base)
    assert made.standing is standing
    said = words.untrained(verdict.figures_of(made))
    assert said is not None
    assert not said.is_enough
    assert said.headline.startswith(headline)
    assert lead in said.lead


def test_a_starting_model_that_is_good_alone_needs_no_training(db: Session) -> None:
    said = words.untrained(verdict.figures_of(untrained(db, "rw" * 12, "r" * 24)))
    assert said is not None
    assert (said.is_enough, said.is_lookup) == (True, False)


def test_it_is_judged_by_what_tried_the_same_rows(db: Session) -> None:
    counted = make_evaluation(
        db, marks={Arm.TUNED: "w" * 24, Arm.BASE: "w" * 24, Arm.LOOKUP: "r" * 24}
    )
    user = make_user(db)
    assert counted.practice_version is not None
    adapter = lookups.use_counted(db, user, counted)
    assert adapter.lookup_version_id == counted.practice_version_id
    found = reading.of_adapter(db, adapter.id)
    assert found is not None
    assert found.id == counted.id
    arm = reading.arm_of(adapter)
    # The training is no better; looking up is ready for a trial.
    assert counted.standing is Standing.NO_BETTER
    assert verdict.standing_as(found, arm) is Standing.READY_FOR_TRIAL
    assert releasing.objection(db, adapter) == ""
    figures = verdict.figures_of(found)
    assert words.headline(found, figures, arm) == "24 of 24 answers are right"
    assert "The starting model alone: 0 of 24." in words.summary(found, figures, arm)
    assert counted.adapter is not None
    assert releasing.objection(db, counted.adapter) != ""


def test_evaluating_it_is_a_check_without_training(db: Session) -> None:
    user = make_user(db)
    adapter = make_lookup(db, user=user)
    assert reading.of_adapter(db, adapter.id) is None
    assert releasing.objection(db, adapter).startswith("Nobody has counted yet")
    made = evaluations.request(db, user, adapter)
    assert (made.adapter_id, made.practice_version_id) == (None, adapter.lookup_version_id)
    found = reading.of_adapter(db, adapter.id)
    assert found is not None
    assert found.id == made.id


def test_its_test_questions_are_those_of_its_data(db: Session) -> None:
    user = make_user(db)
    adapter = make_lookup(db, user=user)
    known = conversations.source(db, user, adapter)
    assert [one.index for one in conversations.held_out(db, known, -1, 10)] == [20, 21, 22, 23]
    assert conversations.nearest_index(db, known, "What is rule 7?") is None
    assert adapter.lookup_version is not None
    assert examples.kind(db, adapter.lookup_version) is known.kind


def test_a_starting_model_alone_is_asked_without_rows(db: Session) -> None:
    counted = make_evaluation(
        db, marks={Arm.TUNED: "w" * 24, Arm.BASE: "r" * 24, Arm.LOOKUP: "w" * 24}
    )
    user = make_user(db)
    adapter = lookups.use_counted(db, user, counted, AdapterKind.ALONE)
    assert lookups.use_counted(db, user, counted, AdapterKind.ALONE).id == adapter.id
    assert lookups.use_counted(db, user, counted).id != adapter.id  # one that looks up is another
    request = asking("What is rule 7?", adapter=adapter)
    assert lookups.look_up(db, adapter, request) == (request, None)
    assert lookups.newer_version(db, adapter) is None
    with pytest.raises(Conflict, match="without looking anything up"):
        lookups.look_in(db, user, adapter, counted.version)
    with pytest.raises(NotFound, match="no files to download"):
        registry.archive(db, user, adapter)
    with pytest.raises(Invalid, match="cannot be trained further"):
        start.inherited(adapter)
    # It is told what the data tells, is tried with its test questions, and answers by itself.
    known = conversations.source(db, user, adapter)
    assert (known.held_out, known.looks_up) == (counted.version, False)
    wish = conversations.Wish(Beside.BASE, None, "", 0.0)
    assert [one.adapter_id for one in conversations.columns(db, user, adapter, wish)] == [
        adapter.id
    ]
    # It is judged as the starting model alone, which was right.
    found = reading.of_adapter(db, adapter.id)
    assert found is not None
    assert found.id == counted.id
    assert verdict.standing_as(found, reading.arm_of(adapter)) is Standing.READY_FOR_TRIAL
    assert releasing.objection(db, adapter) == ""
    deletion.delete_dataset(db, user, counted.version.dataset)
    db.commit()
    assert db.get(Adapter, adapter.id) is None


def test_a_starting_model_that_gets_too_much_wrong_is_not_released_without_a_reason(
    db: Session,
) -> None:
    counted = make_evaluation(db, marks={Arm.TUNED: "w" * 24, Arm.BASE: "rw" * 12})
    adapter = lookups.use_counted(db, make_user(db), counted, AdapterKind.ALONE)
    assert "gets too much wrong" in releasing.objection(db, adapter)
