"""What schemathesis makes of the description of `/v1`: no server error (make security).

It lives in an environment of its own, which TEST_SCHEMATHESIS names (the program `st`).
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.main import create_app
from app.people import auth
from tests.security.full_house import furnish

PROGRAM = os.environ.get("TEST_SCHEMATHESIS", "")
EXAMPLES = os.environ.get("TEST_SCHEMATHESIS_EXAMPLES", "250")  # an operation
# Without `etude answer` the first is 503, as it says; the other does not end.
LEFT_OUT = ("/chat/completions", "/fine_tuning/jobs/{job_id}/events")


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_no_server_error_is_found(port: int, db: Session, tmp_path: Path) -> None:
    assert PROGRAM, "TEST_SCHEMATHESIS names no program: make security sets it"
    token = auth.create_token(db, furnish(db), "schemathesis")
    db.commit()
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(create_app().state.v1.openapi()))
    command = [PROGRAM, "run", str(description), "--url", f"http://127.0.0.1:{port}/v1"]
    command += ["--header", f"Authorization: Bearer {token}", "--checks", "not_a_server_error"]
    command += ["--max-examples", EXAMPLES, "--seed", "1", "--continue-on-failure"]
    command += ["--suppress-health-check", "all", "--no-color", "--warnings", "off"]
    for path in LEFT_OUT:
        command += ["--exclude-path", path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
