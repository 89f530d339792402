"""The way of an adapter: from its file to what came of it, as a picture and as a list."""

import re
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.models import Export, ExportForm, ExportStatus, Quantization
from app.web.adapters import way_page
from tests.app.web.pages import sign_in
from tests.factories import make_adapter, make_lookup, make_user


def section_of(page: str) -> str:
    found = re.search(r'<section class="sheet" aria-labelledby="way">.*?</section>', page, re.S)
    return found[0] if found else ""


def test_the_way_leads_from_the_file_to_exports_and_on(client: TestClient, db: Session) -> None:
    user = make_user(db)
    adapter = make_adapter(db, user=user, name="Ward <b>")
    later = make_adapter(db, user=user, name="Nights")
    later.start_adapter_id = adapter.id
    assert adapter.job is not None
    db.add(
        Export(
            department_id=user.department_id,
            owner_id=user.id,
            adapter_id=adapter.id,
            form=ExportForm.MERGED,
            quantization=Quantization.BF16,
            status=ExportStatus.READY,
            storage_key="exports/x",
            size_bytes=10,
            sha256="0" * 64,
            filename="x.zip",
            kept_until=datetime.now(UTC) + timedelta(days=7),
        )
    )
    db.commit()
    sign_in(client, db, user)
    shown = section_of(client.get(f"/adapters/{adapter.id}").text)
    svg, _, listed = shown.partition("<ol")
    version = adapter.job.version
    for part in (svg, listed):
        for address in (
            f"/versions/{version.id}",
            f"/jobs/{adapter.job.id}",
            f"/adapters/{adapter.id}#take-along",
            f"/adapters/{later.id}",
            "/models",
        ):
            assert f'href="{address}"' in part
        assert version.file.filename in part
    assert "Ward &lt;b&gt;" in svg
    assert svg.count("<line") == 6  # file, data, model and job, adapter and its two results
    assert "style=" not in svg


def test_a_deleted_job_leaves_its_place(db: Session) -> None:
    adapter = make_adapter(db, user=make_user(db))
    adapter.job = None
    way = way_page.draw(adapter, [], [], None)
    assert way is not None
    assert [(node.kind, node.words) for node in way.nodes if node.kind == "Job"] == [
        ("Job", "deleted")
    ]
    assert all(start.column < end.column for start, end in way.lines)


def test_many_results_are_counted(db: Session) -> None:
    user = make_user(db)
    adapter = make_adapter(db, user=user)
    way = way_page.draw(adapter, [], [make_adapter(db, user=user) for _ in range(8)], None)
    assert way is not None
    last = [node.words for node in way.nodes if node.column == 4]
    assert len(last) == 6
    assert last[-1] == "3 more"


def test_where_nothing_was_trained_there_is_no_way(db: Session) -> None:
    assert way_page.draw(make_lookup(db), [], [], None) is None
