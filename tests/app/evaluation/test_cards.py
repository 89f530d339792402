"""The card in the zip says how many answers are right, as people have marked them by now."""

import json
import zipfile

from sqlalchemy.orm import Session

from app.adapters import model_card, registry
from app.core import storage
from app.core.models import Adapter, Arm, Role, StoredFile, User
from app.evaluation import cards, marking
from app.training import manifests
from tests.factories import make_adapter, make_evaluation, make_user

CARD = f"# Ward\n\n## How well it did\n\n{model_card.NOT_COUNTED}\n\nThe loss …\n"


def with_zip(db: Session) -> Adapter:
    adapter = make_adapter(db)
    folder = registry.folder(adapter)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    manifests.write_manifest(folder, job="ftjob-1")
    stored = registry._zip(folder)
    file = StoredFile(
        department_id=adapter.department_id,
        owner_id=adapter.owner_id,
        filename="ward.zip",
        storage_key=stored.key,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
    )
    db.add(file)
    db.flush()
    adapter.archive_file_id = file.id
    db.commit()
    db.refresh(adapter)
    return adapter


def taken(db: Session, user: User, adapter: Adapter) -> StoredFile:
    cards.renew(db, adapter)
    return registry.archive(db, user, adapter)


def card_of(file: StoredFile) -> str:
    path = storage.path(file.storage_key)
    assert manifests.file_sha256(path) == file.sha256
    with zipfile.ZipFile(path) as pack:
        named = json.loads(pack.read("MANIFEST.json"))
        assert named["job"] == "ftjob-1"
        assert set(pack.namelist()) == {*named["files"], "MANIFEST.json"}
        return pack.read("README.md").decode()


def test_the_card_has_the_count_of_now(db: Session) -> None:
    adapter = with_zip(db)
    user = make_user(db, role=Role.MEMBER)
    pinned = manifests.verify_manifest(registry.folder(adapter))
    assert card_of(taken(db, user, adapter)) == CARD  # nobody has counted
    made = make_evaluation(db, adapter=adapter)
    first = taken(db, user, adapter)
    key = first.storage_key
    assert "6 of 24 right, 6 partly" in card_of(first)
    assert model_card.NOT_COUNTED not in card_of(first)
    # The same again is the same file.
    assert taken(db, user, adapter).storage_key == key
    marking.set_mark(db, user, made, 2, Arm.TUNED, "right")
    db.commit()
    renewed = card_of(taken(db, user, adapter))
    assert "7 of 24 right" in renewed
    assert "6 of 24 right" not in renewed
    assert not storage.path(key).exists()
    # What is asked is the folder, which is pinned.
    assert manifests.verify_manifest(registry.folder(adapter)) == pinned
    assert not list(registry.folder(adapter).parent.glob("card-*"))


def test_a_card_from_before_gets_the_count_too() -> None:
    card = model_card.with_count("# Ward\n\n## How well it did\n\nThe loss …\n", "3 of 24 right.")
    assert card == "# Ward\n\n## How well it did\n\n3 of 24 right.\n\nThe loss …\n"
