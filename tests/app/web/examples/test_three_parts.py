"""Practice, check and test on the pages: what they are called, how many, moving, downloading."""

import csv
import io
import json
import re

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.models import DatasetVersion, JobStatus, Metric, Split, User
from app.datasets import examples, parts
from tests.app.web.pages import sign_in
from tests.factories import make_adapter, make_dataset_version, make_job, make_user


@pytest.fixture
def member(client: TestClient, db: Session, broker: str) -> User:
    user = make_user(db)
    sign_in(client, db, user)
    return user


def three(db: Session, user: User, num_validation: int = 5) -> DatasetVersion:
    return make_dataset_version(
        db, user=user, num_train=20, num_validation=num_validation, num_test=6
    )


def newest(db: Session) -> DatasetVersion:
    return db.scalars(select(DatasetVersion).order_by(DatasetVersion.id.desc()).limit(1)).one()


def figures(page: str) -> dict[str, str]:
    """The figures of a page, by the plain words above them."""
    found = re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", page, re.DOTALL)
    return {
        " ".join(re.sub("<[^>]*>", "", name).split()): " ".join(re.sub("<.*", "", value).split())
        for name, value in found
    }


def test_a_version_shows_its_three_sets_each_explained(
    client: TestClient, db: Session, member: User
) -> None:
    version = three(db, member)
    page = client.get(f"/versions/{version.id}").text
    shown = figures(page)
    assert (shown["Practice set"], shown["Check set"], shown["Test set"]) == ("20", "5", "6")
    assert "Its loss" not in page
    assert "Check set: The model never learns it. It shows during training how well" in page
    assert "Test set: The model never learns it, and nothing is chosen by it." in page
    assert "its test set also chose which step to keep" not in page


def test_a_version_from_before_says_that_its_test_set_chose(
    client: TestClient, db: Session, member: User
) -> None:
    version = make_dataset_version(db, user=member)
    page = client.get(f"/versions/{version.id}").text
    assert "Check set" not in figures(page)
    assert figures(page)["Test set"] == "4"
    assert "its test set also chose which step to keep" in page


def test_the_list_filters_by_set_and_rows_move_between_all_three(
    client: TestClient, db: Session, member: User
) -> None:
    version = three(db, member)
    here = f"/versions/{version.id}/examples"
    for split, first, num in (("train", 1, 20), ("validation", 21, 5), ("test", 26, 6)):
        listed = client.get(f"{here}?split={split}").text
        found = [int(one) for one in re.findall(r"Example (\d+) ·", listed)]
        assert found == list(range(first, first + num))
    client.post(here, data={"index": "0", "action": "test"})
    second = newest(db)
    client.post(f"/versions/{second.id}/examples", data={"index": "30", "action": "validation"})
    third = newest(db)
    assert (third.num_train, third.num_validation, third.num_test) == (19, 6, 6)
    assert (version.num_train, version.num_validation, version.num_test) == (20, 5, 6)
    compared = client.get(f"/versions/{third.id}/compare?base={version.id}").text
    assert "Moved from the practice set to the test set." in compared
    assert "Moved from the test set to the check set." in compared
    assert "was 5" in compared
    one = client.get(f"/versions/{third.id}/examples/30").text
    assert "In the check set of version 3." in one
    assert "Check set: The model never learns it." in one


def test_a_version_from_before_has_no_check_set_to_move_to(
    client: TestClient, db: Session, member: User
) -> None:
    version = make_dataset_version(db, user=member)
    here = f"/versions/{version.id}/examples"
    assert "Move to the check set" not in client.get(here).text
    refused = client.post(here, data={"index": "0", "action": "test"})
    assert refused.status_code == 422
    assert "This version has only a practice set and a test set." in refused.text
    assert newest(db).id == version.id


def test_another_version_of_its_file_is_shown_by_what_its_sets_mean(
    client: TestClient, db: Session, member: User
) -> None:
    """The test set of two parts is stored as the check set of three: that is no move."""
    old = make_dataset_version(db, user=member, num_train=20, num_validation=4)
    made = DatasetVersion(
        dataset=old.dataset, number=2, file_id=old.file_id, status=old.status, num_train=20,
        num_validation=0, num_test=4, base_version_id=old.id,
    )  # fmt: skip
    db.add(made)
    db.flush()
    for row in examples.page(db, old):
        same = {name: getattr(row, name) for name in ("index", "kind", "messages", "flags")}
        split = Split.TEST if row.split is Split.VALIDATION else row.split
        db.add(type(row)(version_id=made.id, split=split, **same))
    db.commit()
    compared = client.get(f"/versions/{made.id}/compare?base={old.id}").text
    assert "No differences." in compared
    assert figures(compared)["Test set"] == "4"


def test_downloads_say_in_which_part_a_row_is(
    client: TestClient, db: Session, member: User
) -> None:
    version = three(db, member)
    there = f"/versions/{version.id}/download"
    expected = ["practice"] * 20 + ["check"] * 5 + ["test"] * 6
    lines = client.get(f"{there}?form=jsonl").text.splitlines()
    assert [json.loads(line)["part"] for line in lines] == expected
    table = client.get(f"{there}?form=csv").content.decode("utf-8-sig")
    assert [row["part"] for row in csv.DictReader(io.StringIO(table, newline=""))] == expected
    only = client.get(f"{there}?form=csv&split=test").content.decode("utf-8-sig")
    assert [row["part"] for row in csv.DictReader(io.StringIO(only))] == ["test"] * 6


@pytest.mark.parametrize("asked", ["check", "test", "practice"])
def test_a_job_says_what_its_losses_are_measured_on_and_what_chose(
    client: TestClient, db: Session, member: User, asked: str
) -> None:
    if asked == "test":
        version = make_dataset_version(db, user=member, num_train=20, num_validation=4)
    else:
        version = three(db, member, num_validation=5 if asked == "check" else 0)
    job = make_job(db, user=member, version=version, status=JobStatus.SUCCEEDED, total_steps=20)
    for place, (step, value) in enumerate([(0, 3.0), (10, 1.0), (20, 2.0)], start=1):
        row = {"job_id": job.id, "attempt": 1, "seq": place, "name": "validation_loss"}
        db.add(Metric(**row, step=step, value=value, at=job.created_at))
    db.commit()
    adapter = make_adapter(db, job=job)
    page = client.get(f"/jobs/{job.id}").text
    assert f'data-asked="{asked} questions"' in page
    other = {"check", "test", "practice"} - {asked}
    assert not [one for one in other if f"Loss on {one} questions" in page]
    shown = client.get(f"/adapters/{adapter.id}").text
    told_of_tests = "its test set also chose which step to keep"
    if asked == "check":
        assert "its loss on the check questions fell from 3.00 to 1.00" in page
        assert "What it had learned by step 10 was kept." in page
        assert "(20 examples to practise, 5 to check, 6 to test)" in " ".join(page.split())
        assert told_of_tests not in page + shown
    elif asked == "test":
        assert "What it had learned by step 10 was kept." in page
        assert told_of_tests in page
        assert told_of_tests in shown
    else:
        assert "its loss on the practice questions fell from 3.00 to 2.00" in page
        assert "what it had learned at the last step was kept" in page
        assert "which says nothing about new questions" in shown
        assert "what was practised is not shown as if it were new" in page


def test_a_new_job_says_how_many_rows_practise_check_and_test(
    client: TestClient, db: Session, member: User
) -> None:
    three(db, member)
    page = " ".join(client.get("/jobs/new").text.split())
    assert "(20 to practise, 5 to check, 6 to test)" in page
    make_dataset_version(db, user=member, name="Old")
    page = " ".join(client.get("/jobs/new").text.split())
    assert "(20 to practise, 4 to test)" in page


def test_words_are_the_same_everywhere(db: Session, member: User) -> None:
    version = three(db, member)
    assert [one.name for one in parts.sets(version)] == ["practice set", "check set", "test set"]
