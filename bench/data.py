"""How fast a file becomes examples: seconds, and memory at most in each process; JSON last.

    python -m bench.data [ROWS] [CHARACTERS OF AN ANSWER]

Rows of the default length make 1 GB a million; `seconds` is reading plus building. Starts a
PostgreSQL of its own in a temporary folder and takes it away again.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def lines(num_rows: int, num_characters: int) -> Iterator[bytes]:
    words = "The ward answers every question with patience and a cup of tea, naïve or not. "
    answer = (words * (num_characters // len(words) + 1))[:num_characters]
    for row in range(num_rows):
        example = {"question": f"What is rule {row}?", "answer": f"{row}: {answer}"}
        yield (json.dumps(example, ensure_ascii=False) + "\n").encode()


def main() -> None:
    num_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    num_characters = int(sys.argv[2]) if len(sys.argv) > 2 else 900
    with tempfile.TemporaryDirectory(prefix="etude-b") as folder:
        from app.core import settings
        from app.ops.embedded.postgres import Postgres

        server = Postgres(settings.load(data_dir=Path(folder)))
        server.start()
        try:
            os.environ |= {"DATABASE_URL": server.url, "ETUDE_DATA_DIR": folder}
            print(json.dumps(measure(num_rows, num_characters)))
        finally:
            server.stop()


def measure(num_rows: int, num_characters: int) -> dict[str, float | int]:
    from app.core import db, migrations, storage
    from app.core.models import Role, VersionStatus
    from app.datasets import versions
    from app.people import auth
    from worker.cpu import reading

    migrations.upgrade(db.engine())
    with db.session() as session:
        user = auth.create_user(session, None, "bench@house.example", Role.MEMBER)
        stored = storage.put("uploads", lines(num_rows, num_characters))
        version = versions.add(session, user, stored, "bench.jsonl")
        session.commit()
        before = _cpu_seconds(resource.RUSAGE_CHILDREN), _cpu_seconds(resource.RUSAGE_SELF)
        started = time.perf_counter()
        assert reading.read_next("bench")
        read_seconds = time.perf_counter() - started
        session.refresh(version)
        mapping = versions.mapping_of(version)
        assert mapping is not None, version.reason
        versions.confirm(session, user, version, mapping)
        session.commit()
        started = time.perf_counter()
        assert reading.read_next("bench")
        build_seconds = time.perf_counter() - started
        session.refresh(version)
        assert version.status is VersionStatus.READY, version.reason
    db.engine().dispose()
    return {
        "rows": num_rows,
        "megabytes": round(stored.size_bytes / 1e6, 1),
        "read_seconds": round(read_seconds, 2),
        "build_seconds": round(build_seconds, 2),
        "seconds": round(read_seconds + build_seconds, 1),
        "rows_per_second": round(num_rows / (read_seconds + build_seconds)),
        # Of the processor alone: what other programs of this machine do does not count.
        "reader_cpu_seconds": round(_cpu_seconds(resource.RUSAGE_CHILDREN) - before[0], 1),
        "worker_cpu_seconds": round(_cpu_seconds(resource.RUSAGE_SELF) - before[1], 1),
        # The largest child is the reading process; the parent is the cpu worker.
        "reader_megabytes": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "worker_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _cpu_seconds(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
