"""Starting models: each state's word, what may be done in it, and deleting one."""

from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.adapters import states as adapter_states
from app.base_models import registry, states
from app.base_models.states import State
from app.core import settings
from app.core.errors import Conflict, Forbidden, NotFound
from app.core.models import BaseModel, JobStatus, ModelStatus, Release, Role
from tests.factories import make_adapter, make_base_model, make_job, make_lookup, make_user


def test_each_state_has_its_words_and_rights() -> None:
    assert set(states.WORDS) == set(State) == set(states._MAY)
    met = set()
    for status in ModelStatus:
        for reason in (None, states.CANCELLED):
            met.add(states.of(BaseModel(label="Tiny", status=status, reason=reason)).state)
    assert met == set(State) - {State.DELETED}


@pytest.mark.parametrize("status", list(ModelStatus))
def test_what_is_offered_is_done_and_nothing_else(db: Session, status: ModelStatus) -> None:
    admin = make_user(db, role=Role.ADMIN)
    for operation, do in (
        ("cancel", registry.cancel_import),
        ("import again", registry.import_again),
        ("delete", registry.delete),
    ):
        columns = {"lease_until": db.connection().exec_driver_sql("SELECT now()").scalar()}
        held = columns if status is ModelStatus.IMPORTING else {}
        name = f"house/{operation.replace(' ', '-')}"
        model = make_base_model(db, name=name, status=status, **held)
        if operation in states.of(model).may:
            do(db, admin, model)
        else:
            with pytest.raises(Conflict):
                do(db, admin, model)


def test_a_model_that_something_needs_is_not_deleted(db: Session) -> None:
    admin, model = make_user(db, role=Role.ADMIN), make_base_model(db)
    job = make_job(db, base_model=model, name="Nights")
    with pytest.raises(Conflict, match="The job “Nights” still needs tiny"):
        registry.delete(db, admin, model)
    with pytest.raises(Forbidden):
        registry.delete(db, make_user(db), model)
    job.status = JobStatus.CANCELLED
    db.commit()
    registry.delete(db, admin, model)
    assert model not in registry.list_models(db)
    with pytest.raises(NotFound):
        registry.get_model(db, model.id)
    with pytest.raises(NotFound):
        registry.by_name(db, model.name)


def test_its_adapters_stay_and_say_why_they_rest(db: Session) -> None:
    adapter = make_adapter(db)
    folder = settings.get().models_dir / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    registry.delete(db, None, adapter.base_model)
    db.commit()
    registry.purge(db)
    assert not Path(folder).exists()
    how = adapter_states.of(adapter)
    assert how.state is adapter_states.State.MODEL_MISSING
    assert how.may == {"take home"}
    assert "can import the starting model again" in how.why_not
    with pytest.raises(NotFound, match="is no longer here"):
        adapter_states.require_askable(adapter)


def test_the_same_name_comes_back_as_the_same_model(db: Session) -> None:
    adapter = make_adapter(db)
    model = adapter.base_model
    registry.delete(db, None, model)
    again = registry.add(db, None, {"kind": "starter"}, model.name)
    assert again.id == model.id
    assert adapter_states.of(adapter).state is adapter_states.State.MODEL_COMING


def test_a_deleted_starter_stays_deleted(db: Session) -> None:
    starter = registry.add_starter(db)
    starter.status = ModelStatus.READY
    db.commit()
    registry.delete(db, None, starter)
    assert registry.add_starter(db).deleted_at is not None


@pytest.mark.parametrize("release", list(Release))
@pytest.mark.parametrize("status", list(ModelStatus))
def test_every_state_of_an_adapter(db: Session, release: Release, status: ModelStatus) -> None:
    adapter, plain = make_adapter(db), make_lookup(db)
    for one in (adapter, plain):
        one.release = release
    adapter.base_model.status = status
    how = adapter_states.of(adapter)
    can_ask = status is ModelStatus.READY and release is not Release.WITHDRAWN
    assert ("ask" in how.may) == can_ask
    assert bool(how.why_not) != can_ask
    assert (adapter_states.in_v1(adapter) == "ready") == can_ask
    assert ("take home" in how.may) == (release is not Release.WITHDRAWN)
    assert adapter_states.of(plain).may <= {"ask"}, "it has learned nothing"
    assert set(adapter_states.WORDS) == set(adapter_states.State)
