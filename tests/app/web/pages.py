"""What tests of pages share: a browser that is signed in, and what its forms send along."""

from pathlib import Path

from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.models import User
from app.people import auth

ORIGIN = {"Origin": "http://127.0.0.1"}
READS_HTML = {"Accept": "text/html"}
TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def sign_in(client: TestClient, db: Session, user: User) -> TestClient:
    """Give the browser the person's session, and the Origin that a form of ours has."""
    client.cookies.set(auth.COOKIE, auth.open_session(db, user))
    db.commit()
    client.headers.update({**ORIGIN, **READS_HTML})
    return client
