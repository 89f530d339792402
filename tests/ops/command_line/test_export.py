"""`etude export`: asked for, waited for, fetched whole and unpacked."""

import io
import json
import subprocess
import zipfile
from pathlib import Path

from sqlalchemy.orm import Session

from app.adapters import exports
from app.core import leases, storage
from app.core.models import Adapter
from tests import patience, warm
from tests.ops.command_line.conftest import Etude, command

AGREEMENT = {
    **{"program": "transformers 5", "quantization": "bf16", "num_rows": 20, "rows": "test rows"},
    **{"num_positions": 412, "same_share": 0.99, "loss": 2.7, "reference_loss": 2.7, "bound": None},
    "endings": {"num_asked": 20, "num_ended": 17, "reference_ended": 18, "max_tokens": 96},
}


def make(db: Session, adapter: Adapter) -> None:
    """Make it as a worker does, at once."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("ward-merged/README.md", "# Ward\n")
        archive.writestr("ward-merged/base/config.json", "{}")
    stored = storage.put("exports", [body.getvalue()])
    lease = leases.claim(db, leases.EXPORTS, "cpu-0@here")
    assert lease is not None
    notes = ["One row is kept in 8 bits."]
    exports.finish(
        db, lease, adapter, stored, name="ward-merged.zip", agreement=[AGREEMENT], notes=notes
    )
    db.commit()


def test_it_waits_fetches_and_says_how_near_it_is(
    environment: dict[str, str], etude: Etude, db: Session, adapter: Adapter, tmp_path: Path
) -> None:
    out = tmp_path / "taken"
    wish = ("export", "Ward questions", "--format", "merged", "--out")
    with warm.Popen(
        command(*wish, str(out)),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "Waiting for its turn." in process.stderr.readline()
        make(db, adapter)
        printed, errors = process.communicate(timeout=patience.seconds(60))
        assert process.returncode == 0, errors
    assert "99.0 % of the likeliest words are the same" in printed
    assert "17 of 20 answers come to an end by themselves" in printed
    assert "One row is kept in 8 bits." in printed
    assert (out / "base" / "config.json").read_text() == "{}"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("taken")] == ["taken"]
    # Nobody's files are written over.
    again = etude(*wish, str(out))
    assert (again.returncode, "is not empty" in again.stderr) == (1, True)
    other = etude(*wish, str(tmp_path / "other"), "--json")
    assert json.loads(other.stdout)["filename"] == "ward-merged.zip"


def test_what_is_refused_is_a_sentence(etude: Etude, adapter: Adapter, tmp_path: Path) -> None:
    out = str(tmp_path / "taken")
    wish = ("export", "Ward questions", "--format", "merged", "--quantization", "q8_0", "--out")
    refused = etude(*wish, out)
    assert refused.returncode == 1
    assert "Merged model can be had as bf16" in refused.stderr
    assert not Path(out).exists()
