"""An update from 0.1.0 with a job in training, and the way back; newer data refused by older code.

The old version is its commit, taken out of this repository; it runs with today's libraries.
"""

import io
import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from app.core import data_format, migrations
from app.ops import upgrade_check
from tests.ops.test_up import wait_until
from tests.up import STAND_IN, Etude, still_there

ROOT = Path(__file__).parents[2]
OLD = "84f2a088f96f4dbabe30aedc17be8b13a95b6873"  # v0.1.0; a clone may have no tags
# The tables that 0.2.0 came with: what follows may only add, or says that it takes away.
BASELINE = "0031"
TAKES_AWAY: frozenset[str] = frozenset()
MAKE_JOB = """
import sys
from pathlib import Path
from tests.factories import make_job
from tests.up import Etude
with Etude(Path(sys.argv[1])).database() as db:
    job = make_job(db)
    job.name = "steps=120 every=20 pause=1"
    db.commit()
    print(job.id)
"""


@pytest.fixture(scope="module")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    taken = subprocess.run(["git", "-C", ROOT, "archive", OLD], capture_output=True)
    if taken.returncode:
        pytest.skip("this checkout has not the commit of 0.1.0")
    with tarfile.open(fileobj=io.BytesIO(taken.stdout)) as archive:
        archive.extractall(folder, filter="data")
    folder.chmod(0o755)
    return folder


@pytest.fixture
def running() -> Iterator[list[Etude]]:
    """Those that a test has started; none outlives it."""
    started: list[Etude] = []
    yield started
    for etude in started:
        if etude.process is not None and etude.process.poll() is None:
            family = etude.processes()
            etude.process.kill()
            etude.process.wait()
            assert still_there(family, 20) == {}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_job_goes_on_through_an_update_and_the_way_back(
    server_dir: Path, old_code: Path, running: list[Etude]
) -> None:
    place = server_dir / "upgrade"
    place.mkdir()
    theirs = STAND_IN | {"PYTHONPATH": str(old_code)}
    old = Etude(place / "var", environment=theirs, code=old_code)
    running.append(old)
    old.start()
    made = subprocess.run(
        [sys.executable, "-c", MAKE_JOB, old.data_dir],
        env=old.environment, cwd=old_code, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    job_id = int(made.stdout)
    assert not (old.data_dir / data_format.NAME).exists(), "this is not the old code"
    new = Etude(place / "var", environment=STAND_IN)
    running.append(new)
    wait_until(lambda: state(new, job_id)[1] >= 30, seconds=120)
    taken = old.command("backup", str(place / "before.tar"))
    assert taken.returncode == 0, taken.stderr

    foretold = new.command("upgrade-check", "--json")
    assert foretold.returncode == 0, foretold.stdout + foretold.stderr
    found = json.loads(foretold.stdout)
    assert found["ok"], found
    said = {each["check"]: each["sentence"] for each in found["findings"]}
    assert said["jobs"] == "1 job is training."
    assert "0.1.0" in said["workers"] or "runs" in said["workers"]

    assert old.end(signal.SIGTERM) == 0
    new.start()
    wait_until(lambda: state(new, job_id)[0] == "succeeded", seconds=300)
    with new.database() as db:
        steps = db.scalars(
            text("SELECT step FROM metric WHERE job_id = :id AND name = 'loss' ORDER BY step"),
            {"id": job_id},
        ).all()
        attempts = db.scalar(text("SELECT count(*) FROM attempt"))
        # Rows of the old version alone have been read, and the new one's tables are there.
        assert migrations.current(db.connection()) == migrations.head()
    assert (steps, attempts) == (list(range(1, 121)), 2)
    assert new.end(signal.SIGTERM) == 0

    refused = old.command("up", "--port", "1")
    assert refused.returncode == 1
    assert "newer Etude" in refused.stderr, refused.stderr

    back = Etude(place / "back", environment=theirs, code=old_code)
    running.append(back)
    restored = back.command("restore", str(place / "before.tar"))
    assert restored.returncode == 0, restored.stderr
    back.start()
    wait_until(lambda: state(back, job_id)[0] == "succeeded", seconds=300)
    assert back.end(signal.SIGTERM) == 0


def state(etude: Etude, job_id: int) -> tuple[str, int]:
    """Return a job's status and the step that it has reached, whatever version wrote the tables."""
    with etude.database() as db:
        query = text("SELECT status, step FROM job WHERE id = :id")
        status, step = db.execute(query, {"id": job_id}).one()
    return str(status), int(step)


def test_a_data_directory_of_a_newer_etude_is_refused(tmp_path: Path) -> None:
    etude = Etude(tmp_path / "var")
    etude.data_dir.mkdir()
    path = etude.data_dir / data_format.NAME
    path.write_text(json.dumps({"format": data_format.FORMAT + 1, "etude": "9.0.0"}))
    for command in ("up", "backup", "upgrade-check", "doctor"):
        refused = etude.command(command, *(["x.tar"] if command == "backup" else []))
        assert refused.returncode == 1, command
        assert "Etude 9.0.0 in a format that this version" in refused.stderr + refused.stdout
    assert [each.name for each in etude.data_dir.iterdir()] == [data_format.NAME]
    path.write_text("{")
    refused = etude.command("up")
    assert refused.returncode == 1
    assert "cannot be read" in refused.stderr


def test_the_format_is_written_once_and_kept(tmp_path: Path) -> None:
    assert data_format.read(tmp_path) is None
    data_format.mark(tmp_path)
    before = (tmp_path / data_format.NAME).stat()
    data_format.mark(tmp_path)
    assert (tmp_path / data_format.NAME).stat().st_ino == before.st_ino
    assert data_format.read(tmp_path) is not None
    assert list(tmp_path.iterdir()) == [tmp_path / data_format.NAME]


def test_changes_of_the_tables_only_add() -> None:
    """So that a worker of before writes down how far its job is beside a new web. What takes away
    comes a version later, when nothing uses it, and is listed here.
    """
    steps = migrations.steps_from(BASELINE)
    assert {step.revision for step in steps if upgrade_check.contracts(step.path)} == TAKES_AWAY
    everything = migrations.steps_from(None)
    assert everything[0].revision == "0001"
    assert everything[-1].revision == migrations.head()
    # What goes down takes away; only going up counts.
    assert "drop_table" in everything[0].path.read_text()
    assert not upgrade_check.contracts(everything[0].path)


@pytest.mark.parametrize(
    "step",
    [
        "op.drop_column('job', 'name')",
        "op.execute('ALTER TABLE job\\n  DROP COLUMN name')",
        "op.execute(sa.text('alter table job alter column name set not null'))",
        "op.add_column('job', sa.Column('ward', sa.Text(), nullable=False))",
    ],
)
def test_taking_away_is_seen(tmp_path: Path, step: str) -> None:
    path = tmp_path / "0099.py"
    path.write_text(f"def upgrade():\n    {step}\n")
    assert upgrade_check.contracts(path)


@pytest.mark.parametrize(
    "step",
    [
        "op.add_column('job', sa.Column('ward', sa.Text(), nullable=False, server_default=''))",
        "op.add_column('job', sa.Column('ward', sa.Text(), nullable=True))",
        "op.execute('UPDATE job SET name = 1')",
        "op.create_index('ix_job_name', 'job', ['name'])",
    ],
)
def test_adding_takes_nothing_away(tmp_path: Path, step: str) -> None:
    path = tmp_path / "0099.py"
    path.write_text(f"def upgrade():\n    {step}\n")
    assert not upgrade_check.contracts(path)
