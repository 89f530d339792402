"""An export in a house of faults: whole and proved, or not handed over."""

import hashlib
import json
import zipfile

from app.adapters import exports
from app.core.models import Export, ExportForm, ExportStatus, JobStatus
from tests.factories import make_dataset_version, make_job
from tests.faults.house import House
from tests.worker.answering.asking import a_model, an_adapter


def begin(house: House) -> Export:
    """Ask for the merged model of a new adapter, of a worker that does what people wait for."""
    house.start_cpu_worker()
    model = a_model(house.db, "", house.data_dir, num_parameters=1000)
    version = make_dataset_version(house.db, user=house.user, num_train=20, num_validation=4)
    job = make_job(
        house.db, user=house.user, version=version, base_model=model, status=JobStatus.SUCCEEDED
    )
    adapter = an_adapter(house.db, model, house.data_dir)
    adapter.job_id = job.id
    (house.data_dir / "storage" / str(adapter.storage_key) / "README.md").write_text("# A model\n")
    house.db.commit()
    row = exports.request(house.db, house.user, adapter, ExportForm.MERGED)
    house.db.commit()
    house.ring("cpu")
    return row


def finish(house: House, row: Export) -> None:
    """Wait for its end; what is handed over is whole, and nothing else lies there."""
    house.wait_for(lambda: row.status not in exports.OPEN)
    assert row.status is ExportStatus.READY, (row.reason, house.log())
    assert (row.worker_id, row.lease_until) == (None, None)
    path = house.data_dir / "storage" / str(row.storage_key)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        (manifest,) = (name for name in archive.namelist() if name.endswith("MANIFEST.json"))
        said = json.loads(archive.read(manifest))["files"]
        assert {"README.md", "model.safetensors"} == said.keys()
    # What it worked in goes a moment after it was offered.
    house.wait_for(lambda: not [*path.parent.glob(f".work-{row.id}-*")])
