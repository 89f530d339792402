"""What a job was told to do, as other programs list it: figures and settings alone.

No name of a person, of a job or of data is among them, and no row: what people typed may say more
than they meant to.
"""

from app.core.models import Job


def plain(job: Job) -> dict[str, str]:
    """Return a job's settings, each as a short text."""
    told = {
        "base_model": job.base_model.name,
        "base_model_parameters": str(job.base_model.num_parameters or ""),
        "dataset_version": str(job.version_id),
        "rows_percent": str(job.rows_percent),
    }
    return told | {name: str(value) for name, value in sorted(job.config.items())}
