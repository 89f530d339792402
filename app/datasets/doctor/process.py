"""Starting the process that looks at people's rows; what it may do is decided there (__main__)."""

from app.core import settings
from app.core.child import Child
from app.datasets.doctor.request import DoctorRequest


def start(request: DoctorRequest) -> Child:
    """Prepare the process for some examples; its lines are told in app/datasets/doctor/__main__."""
    return Child(
        "app.datasets.doctor",
        request.model_dump_json(),
        ends=['{"end"'],
        timeout_seconds=settings.get().reader_timeout_seconds,
        # Threads of a mathematics library would each take address space, and there are few cores.
        environment={
            "OPENBLAS_NUM_THREADS": "1",
            "RAYON_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        },
        pass_fds=[request.file],
    )
