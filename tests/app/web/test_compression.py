"""What goes out compressed, and what never does."""

import gzip
import re

from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.core.models import Role
from tests.app.web.pages import sign_in
from tests.factories import make_dataset_version, make_user

GZIP, PLAIN = {"Accept-Encoding": "gzip"}, {"Accept-Encoding": "identity"}


def test_a_page_and_its_files_are_a_third_of_their_size(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db))
    page = client.get("/", headers=PLAIN)
    assert "content-encoding" not in page.headers
    assert page.headers["vary"] == "Accept-Encoding"
    for path in ("/", *re.findall(r'="(/static/css/[^"]+)"', page.text)):
        plain = client.get(path, headers=PLAIN)
        with client.stream("GET", path, headers=GZIP) as packed:
            body = b"".join(packed.iter_raw())
        if len(plain.content) < 1000:
            continue
        assert packed.headers["content-encoding"] == "gzip", path
        assert int(packed.headers["content-length"]) == len(body) < len(plain.content) * 0.4, path
        assert gzip.decompress(body) == plain.content, path
        assert packed.headers["vary"] == "Accept-Encoding"


def test_a_file_that_the_browser_has_is_not_sent_again(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db))
    (path, *_) = re.findall(r'="(/static/css/[^"]+)"', client.get("/").text)
    first = client.get(path, headers=GZIP)
    again = client.get(path, headers=GZIP | {"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_page_with_a_secret_is_as_long_as_it_is(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    made = client.post("/account/tokens", data={"name": "ward"}, headers=GZIP)
    assert "etude-" in made.text
    assert "content-encoding" not in made.headers
    assert "no-transform" in made.headers["cache-control"]
    assert client.get("/account", headers=GZIP).headers["content-encoding"] == "gzip"


def test_downloads_pass_through(client: TestClient, db: Session) -> None:
    user = make_user(db)
    version = make_dataset_version(db, user=user, num_train=200)
    sign_in(client, db, user)
    got = client.get(f"/versions/{version.id}/download?form=jsonl", headers=GZIP)
    assert got.status_code == 200
    assert "content-encoding" not in got.headers
